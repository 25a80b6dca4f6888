//! Awaiting a transfer.

use std::{
    fmt,
    future::{Future, IntoFuture},
    pin::Pin,
    task::{Context, Poll},
};

use crate::{Engine, Parts, Transfer, WaitError};

/// The future of a transfer: what awaiting one makes of it, for any executor.
///
/// ```
/// # use std::{convert::Infallible, future::Future, pin::pin, task::{Context, Poll, Waker}, time::Instant};
/// # use udmabuf::{Engine, Progress, Slot, emulator::{Bus, Emulator}};
/// # struct Idle(Bus);
/// # // SAFETY: it accesses nothing.
/// # unsafe impl Engine for Idle {
/// #     type Error = Infallible;
/// #     fn bus(&self) -> Option<&Bus> { Some(&self.0) }
/// #     fn poll(&mut self) -> Progress<Infallible> { Progress::Finished }
/// #     fn park(&mut self, _: Instant) -> Result<(), Infallible> { Ok(()) }
/// #     fn stop(&mut self) -> Result<(), Infallible> { Ok(()) }
/// # }
/// # let emulator = Emulator::new();
/// # let engine = Slot::new(Idle(emulator.bus()));
/// let program = async {
///     let buffer = emulator.buffer(64).into_device()?;
///     let transfer = engine.start(buffer, |_, _| Ok(()))?; // a driver's function
///     let buffer = transfer.await?;
///     Ok::<_, Box<dyn std::error::Error>>(buffer.len())
/// };
/// # let Poll::Ready(len) = pin!(program).poll(&mut Context::from_waker(Waker::noop())) else { panic!() };
/// # assert_eq!(len?, 64);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Dropping it stops the transfer, as dropping the transfer does. A timeout that
/// is to leave it running polls it by reference, and then asks for
/// [`into_transfer`](Completion::into_transfer).
#[must_use = "a future does nothing unless it is awaited; dropped, it stops the transfer"]
pub struct Completion<E: Engine, P: Parts> {
    /// `None` once it was ready.
    transfer: Option<Transfer<E, P>>,
}

// Nothing in it is pinned: the transfer moves out when it is ready.
impl<E: Engine, P: Parts> Unpin for Completion<E, P> {}

impl<E: Engine, P: Parts> Completion<E, P> {
    /// The transfer, still in flight; `None` if the future was ready.
    pub fn into_transfer(self) -> Option<Transfer<E, P>> {
        self.transfer
    }
}

impl<E: Engine, P: Parts> IntoFuture for Transfer<E, P> {
    type Output = Result<P::Cpu, WaitError<E, P>>;
    type IntoFuture = Completion<E, P>;

    fn into_future(self) -> Completion<E, P> {
        Completion { transfer: Some(self) }
    }
}

impl<E: Engine, P: Parts> Future for Completion<E, P> {
    type Output = Result<P::Cpu, WaitError<E, P>>;

    /// Never ready again once it was.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(mut transfer) = self.transfer.take() else {
            return Poll::Pending;
        };
        match transfer.look() {
            Ok(Some(outcome)) => return Poll::Ready(transfer.finish(outcome)),
            Ok(None) => {}
            Err(error) => return Poll::Ready(Err(WaitError::Unknown { error, transfer })),
        }
        let registered = transfer.engine().register(context.waker());
        // It may have finished before it was registered.
        if let Some(outcome) = transfer.outcome() {
            return Poll::Ready(transfer.finish(outcome));
        }
        if let Err(error) = registered {
            return Poll::Ready(Err(WaitError::Unknown { error, transfer }));
        }
        self.transfer = Some(transfer);
        Poll::Pending
    }
}

impl<E: Engine, P: Parts> fmt::Debug for Completion<E, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Completion").field(&self.transfer).finish()
    }
}
