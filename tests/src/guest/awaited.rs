//! Interrupts and transfers that nobody blocks for: in an executor, or by whatever
//! else polls descriptors.

use std::{
    future::{Future, IntoFuture, poll_fn},
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::{runtime, time::sleep};
use udmabuf::{Buffer, Engine, FromDevice, Parts, ToDevice, Transfer};
use udmabuf_examples::edu::MEMORY_LEN;
use udmabuf_uio::Interrupt;

use super::{Pair, edu, random::Random};

const PATIENCE: Duration = Duration::from_secs(20);

/// In an executor of this thread alone, which sleeps while nothing happens.
pub(crate) fn run<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    runtime::Builder::new_current_thread().enable_all().build()?.block_on(future)
}

/// Asks once.
pub(crate) async fn once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    poll_fn(|context| Poll::Ready(Pin::new(&mut *future).poll(context))).await
}

/// What is awaited, if it wakes its executor. Whoever asked once more when his
/// patience ends, as tokio's `timeout` does, would find it ready all the same.
pub(crate) async fn woken<F: Future>(future: F) -> Result<F::Output> {
    let (mut future, mut patience) = (pin!(future), pin!(sleep(PATIENCE)));
    poll_fn(|context| match patience.as_mut().poll(context) {
        Poll::Ready(()) => Poll::Ready(Err(anyhow!("nothing has woken it"))),
        Poll::Pending => future.as_mut().poll(context).map(Ok),
    })
    .await
}

/// Fires once for each time that it is raised: awaited; given up, and awaited anew;
/// and polled.
pub(crate) fn interrupts(
    interrupt: &mut Interrupt,
    raise: impl Fn(),
    clear: impl Fn() -> bool,
) -> Result<()> {
    run(async {
        for round in 0..100 {
            let mut fired = Box::pin(interrupt.arm()?.fired());
            let early = once(&mut fired).await;
            ensure!(early.is_pending(), "in round {round} it fires by itself: {early:?}");
            if round % 2 == 1 {
                drop(fired);
                raise();
                fired = Box::pin(interrupt.arm()?.fired());
            } else {
                raise();
            }
            let fired = woken(fired).await.with_context(|| format!("round {round}"))??;
            ensure!(fired == 1 && clear(), "in round {round} it fired {fired} times");
        }
        Ok(())
    })?;
    let mut armed = interrupt.arm()?;
    for (is_raised, patience) in [(false, Duration::ZERO), (true, PATIENCE)] {
        if is_raised {
            raise();
        }
        let patience = Timespec::try_from(patience)?;
        let ready = poll(&mut [PollFd::new(&armed, PollFlags::IN)], Some(&patience))? == 1;
        ensure!(ready == is_raised, "raised: {is_raised}, but readable: {ready}");
    }
    ensure!(armed.try_wait()? == 1 && clear(), "it did not fire");
    Ok(())
}

/// What a transfer ends with, and how often it was asked: the first time by itself,
/// then because something woke it.
async fn ended<E: Engine, P: Parts>(
    transfer: Transfer<E, P>,
    asked: &mut Vec<u64>,
) -> Result<P::Cpu> {
    let mut transfer = transfer.into_future();
    let mut times = 0;
    let counted = poll_fn(|context| {
        times += 1;
        Pin::new(&mut transfer).poll(context)
    });
    let ended = woken(counted).await?;
    asked.push(times);
    match ended {
        Ok(buffers) => Ok(buffers),
        Err(error) => bail!("{error}"),
    }
}

/// Transfers that interrupts wake, and nothing else.
pub(crate) fn transfers([source, destination]: Pair) -> Result<String> {
    const ROUNDS: u64 = 5;
    let edu = edu::open()?;
    let mut source = Buffer::open(source)?.for_direction::<ToDevice>();
    let mut destination = Buffer::open(destination)?.for_direction::<FromDevice>();
    let (mut random, seed) = Random::new();
    let mut asked = Vec::new();
    run(async {
        for _ in 0..ROUNDS {
            random.fill(source.as_mut_slice());
            let upload = edu.upload(source.into_device()?, 0..MEMORY_LEN, 0)?;
            source = ended(upload, &mut asked).await?;
            let download = edu.download(destination.into_device()?, 0..MEMORY_LEN, 0)?;
            destination = ended(download, &mut asked).await?;
            let same = destination.as_slice()[..MEMORY_LEN] == source.as_slice()[..MEMORY_LEN];
            ensure!(same, "other bytes came back; seed {seed}");
        }
        Ok(())
    })?;
    // One that ends a transfer is counted when the next is waited for. On a busy machine
    // some are done before anybody asks, and raise none.
    let (transfers, interrupts) = (2 * ROUNDS, edu.interrupts()?);
    let woken: u64 = asked.iter().map(|&times| u64::from(times > 1)).sum();
    let asked: u64 = asked.iter().sum();
    ensure!(woken > 0, "no transfer was waited for");
    ensure!(interrupts + 1 >= woken, "{interrupts} interrupts woke {woken} transfers");
    ensure!(asked <= 3 * transfers, "asked {asked} times for {transfers} transfers");
    Ok(format!(
        "{transfers} transfers, {woken} of them woken, {interrupts} interrupts, asked {asked} times"
    ))
}
