//! QEMU's edu device, through its example driver.
#![allow(unsafe_code, reason = "recovers a buffer after its engine was stopped")]

use std::{
    fs,
    process::{Command, ExitCode},
    sync::{
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};
use rustix::{
    mm::MapFlags,
    process::{Signal, getpid, kill_process},
};
use tokio::signal::unix::{SignalKind, signal};
use udmabuf::{Buffer, FromDevice, StartError, ToDevice, WaitError, emulator::Emulator};
use udmabuf_examples::edu::{Edu, Error, MEMORY_LEN};

use super::{Pair, errors::says, map::Map, module::CLASS, parent, random::Random, soak};

const TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) fn open() -> Result<Edu, Error> {
    // SAFETY: the boards' machines have `-device edu,dma_mask=0xffffffff`.
    unsafe { Edu::open_with_32_bits() }
}

/// All of a buffer into the device and out into the other, a piece at a time.
pub(crate) fn moves_data([source, destination]: Pair) -> Result<String> {
    let edu = open()?;
    let mut source = Buffer::open(source)?.for_direction::<ToDevice>();
    let mut destination = Buffer::open(destination)?.for_direction::<FromDevice>();
    let len = source.len();
    let (mut random, seed) = Random::new();
    random.fill(source.as_mut_slice());

    let mut transfers = 0;
    for start in (0..len).step_by(MEMORY_LEN) {
        let range = start..len.min(start + MEMORY_LEN);
        source = edu.upload(source.into_device()?, range.clone(), 0)?.wait(TIMEOUT)?;
        destination = edu.download(destination.into_device()?, range, 0)?.wait(TIMEOUT)?;
        transfers += 2;
    }
    for (at, (sent, received)) in source.as_slice().iter().zip(destination.as_slice()).enumerate() {
        ensure!(sent == received, "byte {at} differs; seed {seed}");
    }
    let interrupts = edu.interrupts()?;
    ensure!(interrupts == transfers, "{interrupts} interrupts for {transfers} transfers");
    for (n, product) in [(0, 1), (12, 479_001_600), (13, 1_932_053_504)] {
        let computed = edu.factorial(n, Instant::now() + TIMEOUT)??;
        ensure!(computed == Some(product), "the product of 1 to {n} is {computed:?}");
    }
    Ok(format!(
        "{len} bytes there and back, {transfers} transfers, {interrupts} interrupts, seed {seed}"
    ))
}

/// Transfers of random sizes, offsets and directions; every byte is compared, of
/// the device's memory, which is tracked, and of all of the buffer.
pub(crate) fn soak([source, destination]: Pair) -> Result<String> {
    let edu = open()?;
    let mut source = Buffer::open(source)?.for_direction::<ToDevice>();
    let mut destination = Buffer::open(destination)?.for_direction::<FromDevice>();
    let (mut random, seed) = Random::new();
    random.fill(source.as_mut_slice());
    let mut received = destination.as_slice().to_vec();
    // Its memory, so that all of it is known.
    source = edu.upload(source.into_device()?, 0..MEMORY_LEN, 0)?.wait(TIMEOUT)?;
    let mut memory = source.as_slice()[..MEMORY_LEN].to_vec();

    let count = soak::count();
    let (mut bytes, mut uploads) = (0, 0);
    for number in 0..count {
        let len = 1 + random.index(MEMORY_LEN);
        let at = random.index(MEMORY_LEN - len + 1);
        let start = random.index(source.len() - len + 1);
        let range = start..start + len;
        if random.index(2) == 0 {
            random.fill(&mut source.as_mut_slice()[range.clone()]);
            source = edu.upload(source.into_device()?, range.clone(), at)?.wait(TIMEOUT)?;
            memory[at..at + len].copy_from_slice(&source.as_slice()[range]);
            uploads += 1;
        } else {
            destination =
                edu.download(destination.into_device()?, range.clone(), at)?.wait(TIMEOUT)?;
            received[range].copy_from_slice(&memory[at..at + len]);
            let differs = received.iter().zip(destination.as_slice()).position(|(a, b)| a != b);
            ensure!(differs.is_none(), "transfer {number}: byte {differs:?} differs; seed {seed}");
        }
        bytes += len;
    }
    // What no download has fetched since.
    destination = edu.download(destination.into_device()?, 0..MEMORY_LEN, 0)?.wait(TIMEOUT)?;
    ensure!(destination.as_slice()[..MEMORY_LEN] == memory, "the end differs; seed {seed}");
    let (interrupts, missed) = (edu.interrupts()?, edu.missed_interrupts()?);
    ensure!(interrupts == count + 2, "{interrupts} interrupts for {} transfers", count + 2);
    ensure!(missed == 0, "{missed} interrupts were missed");
    Ok(format!(
        "{count} transfers of {bytes} bytes, {uploads} of them to the device, each with its \
         interrupt, seed {seed}"
    ))
}

/// A second way to the interrupt that edu raises when it is told to.
fn raise_register() -> Result<(fs::File, Map)> {
    let file = fs::File::options()
        .read(true)
        .write(true)
        .open(format!("/sys/bus/pci/devices/{}/resource0", parent::edu()?))?;
    let map = Map::new(&file, 4096, MapFlags::empty())?;
    Ok((file, map))
}

/// Interrupts all the time, of which the transfers know nothing.
pub(crate) fn storm([source, destination]: Pair) -> Result<String> {
    let edu = open()?;
    let mut source = Buffer::open(source)?.for_direction::<ToDevice>();
    let mut destination = Buffer::open(destination)?.for_direction::<FromDevice>();
    let (mut random, seed) = Random::new();
    let registers = raise_register()?.1;
    let (ends, raised) = (AtomicBool::new(false), AtomicU64::new(0));
    let transfers = 10;
    thread::scope(|scope| -> Result<()> {
        scope.spawn(|| {
            while !ends.load(Ordering::Relaxed) {
                registers.set_word(0x60, 0x2);
                raised.fetch_add(1, Ordering::Relaxed);
                thread::yield_now();
            }
        });
        let run = || -> Result<()> {
            for _ in 0..transfers {
                random.fill(source.as_mut_slice());
                source = edu.upload(source.into_device()?, 0..MEMORY_LEN, 0)?.wait(TIMEOUT)?;
                destination =
                    edu.download(destination.into_device()?, 0..MEMORY_LEN, 0)?.wait(TIMEOUT)?;
                let same = destination.as_slice()[..MEMORY_LEN] == source.as_slice()[..MEMORY_LEN];
                ensure!(same, "other bytes came back; seed {seed}");
            }
            Ok(())
        };
        let ended = run();
        ends.store(true, Ordering::Relaxed);
        ended
    })?;
    let (raised, interrupts) = (raised.into_inner(), edu.interrupts()?);
    let missed = edu.missed_interrupts()?;
    ensure!(interrupts > 4 * transfers, "{interrupts} interrupts are no storm");
    ensure!(missed == 0, "{missed} interrupts were missed");
    Ok(format!(
        "{raised} times raised, {interrupts} interrupts, {} transfers, none missed",
        2 * transfers
    ))
}

/// A signal that is caught ends the wait, with the transfer in flight, which ends
/// as if nothing had been.
pub(crate) fn signalled([name, _]: Pair) -> Result<String> {
    let edu = open()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let _entered = runtime.enter();
    let _caught = signal(SignalKind::user_defined1())?;
    let mut buffer = Buffer::open(name)?.for_direction::<ToDevice>();
    let (done, is_done) = mpsc::channel::<()>();
    let sender = thread::spawn(move || {
        while is_done.recv_timeout(Duration::from_millis(20)) == Err(RecvTimeoutError::Timeout) {
            let _ = kill_process(getpid(), Signal::USR1); // to its first thread: this one
        }
    });
    let mut signals = 0;
    // A machine that stands still for a while may miss one.
    for _ in 0..20 {
        let mut transfer = edu.upload(buffer.into_device()?, 0..4, 0)?;
        buffer = loop {
            match transfer.wait(TIMEOUT) {
                Ok(back) => break back,
                Err(WaitError::Unknown {
                    error: Error::Uio(udmabuf_uio::Error::Interrupted { .. }),
                    transfer: back,
                }) => (transfer, signals) = (back, signals + 1),
                Err(error) => bail!("{error}"),
            }
        };
        if signals > 0 {
            break;
        }
    }
    drop(done);
    let _ = sender.join();
    ensure!(signals > 0, "no wait knew of a signal");
    Ok(format!("the transfer ended after {signals} signals"))
}

/// A transfer takes 100 ms on this device: time to look at it in flight.
pub(crate) fn in_flight([name, other]: Pair) -> Result<String> {
    let edu = open()?;
    let mut buffer = Buffer::open(name)?.for_direction::<ToDevice>();
    buffer.as_mut_slice()[..4].copy_from_slice(b"edu!");

    // A timeout gives the transfer back, and it ends as if nothing had been.
    let mut tries = 0;
    let (started, transfer) = loop {
        let started = Instant::now();
        let transfer = edu.upload(buffer.into_device()?, 0..4, 0)?;
        match transfer.wait(Duration::from_millis(1)) {
            Err(WaitError::Timeout { transfer, .. }) => break (started, transfer),
            // The machine stood still meanwhile.
            Ok(back) if tries < 10 => (buffer, tries) = (back, tries + 1),
            Ok(_) => bail!("done before it could be"),
            Err(error) => bail!("{error}"),
        }
    };

    // Meanwhile nothing else can be started, and what was to be comes back.
    let second = Buffer::open(other)?.for_direction::<FromDevice>();
    let Err(refused) = edu.download(second.into_device()?, 0..4, 0) else {
        bail!("two transfers at once on one engine");
    };
    let StartError::Busy(_) = refused.error else { bail!("{refused}") };
    let mut second = refused.value;
    // Nor can the engine be opened again, and the attempt does not disturb it.
    ensure!(open().is_err(), "two drivers on one engine");
    buffer = transfer.wait(TIMEOUT)?;
    ensure!(started.elapsed() >= Duration::from_millis(50), "no real device is that fast");

    second = edu.download(second.into_device()?, 0..4, 0)?.wait(TIMEOUT)?;
    ensure!(second.as_slice()[..4] == *b"edu!", "finished, but no data was moved");

    // Stopped half way, the buffer comes back and the engine works on.
    buffer = edu.upload(buffer.into_device()?, 4..8, 4)?.stop()?;
    // Dropped in flight, the buffer is released and the engine works on.
    drop(edu.upload(buffer.into_device()?, 0..4, 8)?);
    Buffer::open(name)?;
    second = edu.download(second.into_device()?, 0..4, 0)?.wait(TIMEOUT)?;
    ensure!(second.as_slice()[..4] == *b"edu!", "what was uploaded before is gone");
    Ok("timeout, busy, stop and drop".into())
}

/// In another process: ends with a transfer in flight that was never dropped.
pub(crate) fn leak(name: &str) -> ExitCode {
    let leak = || {
        let edu = open()?;
        let buffer = Buffer::open(name)?.for_direction::<FromDevice>();
        std::mem::forget(edu.download(buffer.into_device()?, 0..MEMORY_LEN, 0)?);
        ensure!(Buffer::open(name).is_err(), "a leaked transfer's buffer was opened again");
        ensure!(edu.interrupts().is_err(), "a leaked transfer's engine is idle");
        ensure!(open().is_err(), "a leaked transfer's engine was opened again");
        Ok(())
    };
    match leak() {
        Ok(()) => println!("leaked"),
        Err(error) => println!("{error:#}"),
    }
    ExitCode::SUCCESS
}

/// A driver that dies with a transfer in flight: its buffer is not given out
/// before somebody has stopped the engine and says so.
pub(crate) fn crashed([name, _]: Pair) -> Result<String> {
    let output = Command::new("/proc/self/exe").args(["leak", name]).output()?;
    let said = String::from_utf8(output.stdout)?;
    ensure!(said == "leaked\n", "{said}");
    let Err(error @ udmabuf::Error::StillDeviceOwned { .. }) = Buffer::open(name) else {
        bail!("opened a buffer that the engine may still write");
    };
    let edu = open()?;
    // SAFETY: opening the engine has stopped it, and nobody else can start it.
    let buffer = unsafe { Buffer::recover(name) }?.for_direction::<FromDevice>();
    edu.download(buffer.into_device()?, 0..4, 0)?.wait(TIMEOUT)?;
    Ok(error.to_string())
}

/// In another process: an administrator takes the buffer away under a transfer.
pub(crate) fn removed_under_a_transfer(name: &str) -> ExitCode {
    let run = || {
        let edu = open()?;
        let buffer = Buffer::open(name)?.for_direction::<ToDevice>();
        let transfer = edu.upload(buffer.into_device()?, 0..4, 0)?;
        fs::write(format!("{DRIVER}/unbind"), platform_device(name)?)?;
        // The device is done, but there is nothing to sync. That is no timeout.
        let Err(WaitError::Sync { transfer, .. }) = transfer.wait(TIMEOUT) else {
            bail!("the first wait found the buffer");
        };
        let again = Instant::now();
        let Err(error @ WaitError::Sync { .. }) = transfer.wait(TIMEOUT) else {
            bail!("the second wait found the buffer");
        };
        ensure!(again.elapsed() < TIMEOUT / 2, "waited again for what is done");
        Ok(error.to_string())
    };
    match run() {
        Ok(error) => println!("removed: {error}"),
        Err(error) => println!("{error:#}"),
    }
    ExitCode::SUCCESS
}

pub(crate) fn removed([name, _]: Pair) -> Result<String> {
    let device = platform_device(name)?;
    let output = Command::new("/proc/self/exe").args(["removed", name]).output()?;
    let said = String::from_utf8(output.stdout)?;
    ensure!(said.starts_with("removed: "), "{said}");
    ensure!(Buffer::open(name).is_err(), "the buffer is still there");
    fs::write(format!("{DRIVER}/bind"), device)?;
    Buffer::open(name)?;
    Ok(said.trim().to_owned())
}

const DRIVER: &str = "/sys/bus/platform/drivers/u-dma-buf";

/// The name of the buffer's device on the platform bus.
fn platform_device(name: &str) -> Result<String> {
    let link = fs::read_link(format!("{CLASS}/{name}/device"))?;
    Ok(link.file_name().unwrap_or_default().to_string_lossy().into_owned())
}

/// What the driver refuses comes back with the buffer, untouched.
pub(crate) fn refusals([name, _]: Pair) -> Result<String> {
    let edu = open()?;
    let Err(error) = open() else { bail!("two drivers on one device") };
    says(&error, &["in use"])?;

    let mut buffer = Buffer::open(name)?.for_direction::<ToDevice>();
    buffer.as_mut_slice().fill(0x5a);
    let len = buffer.len();
    for (range, at) in [(0..MEMORY_LEN, 1), (0..4, MEMORY_LEN), (0..0, 0), (0..4, usize::MAX)] {
        let Err(refused) = edu.upload(buffer.into_device()?, range.clone(), at) else {
            bail!("{range:?} went to {at}");
        };
        let StartError::Refused(Error::OutsideDevice { .. }) = refused.error else {
            bail!("{range:?} to {at}: {refused}");
        };
        buffer = refused.value;
    }
    for range in [len - 3..len + 1, len..len + 4, usize::MAX - 3..usize::MAX] {
        let Err(refused) = edu.upload(buffer.into_device()?, range.clone(), 0) else {
            bail!("{range:?} of {len} bytes went out");
        };
        let StartError::Refused(Error::Buffer(udmabuf::Error::OutOfRange { .. })) = refused.error
        else {
            bail!("{range:?} of {len}: {refused}");
        };
        buffer = refused.value;
    }
    ensure!(buffer.as_slice().iter().all(|&byte| byte == 0x5a), "a refusal changed the buffer");

    // The address of an emulated buffer means nothing to hardware.
    let emulated = Emulator::new().buffer(64).for_direction::<ToDevice>();
    let Err(refused) = edu.upload(emulated.into_device()?, 0..4, 0) else {
        bail!("an emulated address went to the hardware");
    };
    ensure!(matches!(refused.error, StartError::OtherBus { .. }), "{refused}");

    // Nor may a device with fewer address lines be given an address beyond them.
    drop(edu);
    let edu = Edu::open()?;
    let buffer = buffer.into_device()?;
    let beyond = buffer.dma_addr_of(len - 4..len)?.to_words(28).is_err();
    match edu.upload(buffer, len - 4..len, 0) {
        Err(refused) => ensure!(beyond, "{refused}"),
        Ok(_) => ensure!(!beyond, "an address beyond 28 bits went to the hardware"),
    }
    Ok("outside the device, outside the buffer, out of reach; the buffer is unchanged".into())
}
