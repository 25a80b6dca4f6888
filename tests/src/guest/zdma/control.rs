//! Lists that are paused, stopped, waited for in vain, or left by a crash.
#![allow(unsafe_code, reason = "recovers buffers after their engine was stopped")]

use std::{
    future::IntoFuture,
    process::{Command, ExitCode},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use anyhow::{Result, bail, ensure};
use rustix::process::{Signal, getpid, kill_process};
use tokio::signal::unix::{SignalKind, signal};
use udmabuf::{Buffer, Cached, CpuParts, Transfer, WaitError};
use udmabuf_examples::zdma::{Channel, Error, Lists, Zdma};

use super::{Destination, Source, TIMEOUT, open, open_with_table, same, whole};
use crate::{
    Pair, Tests,
    awaited::{once, run, woken},
};

pub(super) const PARTS: usize = 8;
pub(super) const SHORT: Duration = Duration::from_millis(50);

pub(super) fn tests(run: &mut Tests, pair: Pair, table: &'static str) {
    run.test("zdma paused", || paused(pair, table));
    run.test("zdma awaited", || awaited(pair, table));
    run.test("zdma stopped", || stopped(pair, table));
    run.test("zdma signalled", || signalled(pair, table));
    run.test("zdma crashed", || crashed(pair, table));
}

/// Starts a list that stops after its first part.
pub(super) fn start_paused(
    zdma: &Zdma,
    [source, destination]: Pair,
    value: u8,
) -> Result<Transfer<Channel, Lists>> {
    let mut source = Buffer::open(source)?;
    source.as_mut_slice().fill(value);
    let mut destination = Buffer::open(destination)?;
    destination.as_mut_slice().fill(0);
    let len = source.len() / PARTS;
    // What the CPU wrote there is in memory only after this.
    let destination = cleaned(destination)?;
    let sources: Vec<Source> = source.for_direction().into_chunks(len)?;
    let destinations: Vec<Destination> = vec![destination.for_direction()];
    zdma.pause()?;
    let transfer = zdma.copy_list(sources.into_device()?, destinations.into_device()?)?;
    ensure!(zdma.is_paused(), "the list does not stop");
    Ok(transfer)
}

/// Writes a buffer back to memory.
fn cleaned(buffer: Buffer) -> Result<Buffer> {
    // SAFETY: no device is given its address.
    Ok(unsafe { buffer.into_device()?.into_cpu() }?)
}

/// How many parts have arrived; the rest is as it was.
pub(super) fn arrived(
    (sources, destinations): (Vec<Source>, Vec<Destination>),
    value: u8,
) -> Result<usize> {
    let (source, destination) = (whole(sources)?, whole(destinations)?);
    let len = destination.as_slice().iter().take_while(|&&byte| byte == value).count();
    same(&source.as_slice()[..len], &destination.as_slice()[..len])?;
    ensure!(destination.as_slice()[len..].iter().all(|&byte| byte == 0), "beyond {len}");
    ensure!(len % (source.len() / PARTS) == 0, "{len} bytes are half a part");
    Ok(len * PARTS / source.len())
}

fn paused(pair: Pair, table: &str) -> Result<String> {
    let zdma = open_with_table::<Cached>(table)?;
    let transfer = start_paused(&zdma, pair, 1)?;
    let Err(WaitError::Timeout { transfer, .. }) = transfer.wait(SHORT) else {
        bail!("a paused list is done");
    };
    ensure!(zdma.is_paused(), "after a wait it is not paused any more");
    zdma.resume()?;
    ensure!(arrived(transfer.wait(TIMEOUT)?, 1)? == PARTS, "not all of it has arrived");
    ensure!(!zdma.is_paused(), "done, and paused");
    // One that QEMU raises when a channel pauses, and one at the end.
    let interrupts = zdma.interrupts()?;
    ensure!((1..=2).contains(&interrupts), "{interrupts} interrupts");
    Ok(format!("after 1 of {PARTS} parts, {interrupts} interrupts"))
}

/// Lists that go on only after they are awaited: the interrupt wakes who does.
fn awaited(pair: Pair, table: &str) -> Result<String> {
    let zdma = open_with_table::<Cached>(table)?;
    run(async {
        for value in 1..=20 {
            let mut list = start_paused(&zdma, pair, value)?.into_future();
            ensure!(once(&mut list).await.is_pending(), "a paused list is done");
            zdma.resume()?;
            ensure!(arrived(woken(list).await??, value)? == PARTS, "not all of it has arrived");
        }
        Ok(())
    })?;
    Ok(format!("20 lists, {} interrupts", zdma.interrupts()?))
}

fn stopped(pair: Pair, table: &str) -> Result<String> {
    let zdma = open_with_table::<Cached>(table)?;
    for value in 1..=10 {
        let transfer = start_paused(&zdma, pair, value)?;
        ensure!(arrived(transfer.stop()?, value)? == 1, "more than the first part");
        drop(start_paused(&zdma, pair, value)?);
        ensure!(!zdma.is_paused(), "dropped, and paused");
    }
    zdma.resume()?;
    let transfer = start_paused(&zdma, pair, 11)?;
    zdma.resume()?;
    ensure!(arrived(transfer.wait(TIMEOUT)?, 11)? == PARTS, "the next is not whole");
    Ok("stopped and dropped, and the channel works on".into())
}

/// A signal that is caught ends a wait; the transfer is in the error, in flight.
fn signalled(pair: Pair, table: &str) -> Result<String> {
    let zdma = open_with_table::<Cached>(table)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let _entered = runtime.enter();
    let _caught = signal(SignalKind::user_defined1())?;
    let transfer = start_paused(&zdma, pair, 1)?;
    let (done, is_done) = mpsc::channel::<()>();
    let sender = thread::spawn(move || {
        while is_done.recv_timeout(Duration::from_millis(10)) == Err(RecvTimeoutError::Timeout) {
            let _ = kill_process(getpid(), Signal::USR1); // to its first thread: this one
        }
    });
    let ended = transfer.wait(TIMEOUT);
    drop(done);
    let _ = sender.join();
    let Err(WaitError::Unknown { error, transfer }) = ended else { bail!("{ended:?}") };
    let Error::Uio(udmabuf_uio::Error::Interrupted { .. }) = error else { bail!("{error}") };
    zdma.resume()?;
    ensure!(arrived(transfer.wait(TIMEOUT)?, 1)? == PARTS, "not all of it has arrived");
    Ok(error.to_string())
}

/// In another process: ends with a list that is paused.
pub(crate) fn leave_paused(name: &str) -> ExitCode {
    let leave = || -> Result<()> {
        let zdma = open_with_table::<Cached>(name)?;
        let pair = crate::PAIR;
        std::mem::forget(start_paused(&zdma, pair, 1)?);
        ensure!(open().is_err(), "the channel was opened again");
        ensure!(Buffer::open(pair[0]).is_err(), "its buffer was");
        Ok(())
    };
    match leave() {
        Ok(()) => println!("left"),
        Err(error) => println!("{error:#}"),
    }
    ExitCode::SUCCESS
}

/// A driver that dies while a list is paused: the next one ends it.
fn crashed(pair: Pair, table: &'static str) -> Result<String> {
    let output = Command::new("/proc/self/exe").args(["leave-paused", table]).output()?;
    let said = String::from_utf8(output.stdout)?;
    ensure!(said == "left\n", "{said}");
    for name in [pair[0], pair[1], table] {
        let refused = Buffer::open(name);
        ensure!(matches!(refused, Err(udmabuf::Error::StillDeviceOwned { .. })), "{refused:?}");
    }
    let zdma = open()?;
    ensure!(!zdma.is_paused(), "opened, and still paused");
    for name in [pair[0], pair[1], table] {
        // SAFETY: opening the channel has stopped it, and nobody else can start it.
        drop(unsafe { Buffer::recover(name) }?);
    }
    drop(zdma);
    let zdma = open_with_table::<Cached>(table)?;
    let transfer = start_paused(&zdma, pair, 2)?;
    zdma.resume()?;
    ensure!(arrived(transfer.wait(TIMEOUT)?, 2)? == PARTS, "not all of it has arrived");
    Ok("the next driver ends what is paused".into())
}
