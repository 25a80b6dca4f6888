//! What a transfer or a ring holds while a channel works for it, and what is
//! vouched for.
#![allow(unsafe_code, reason = "vouches for the core")]

use std::{fmt, marker::PhantomData, sync::Arc, task::Waker, time::Instant};

use udmabuf::{DmaAddr, Engine, Progress, Stream, emulator::Bus};
use udmabuf_uio::Io;

use super::{Coalescing, Error, Side, core::Core, port::Way};

/// A channel's engine.
pub struct Channel<I: Io> {
    pub(super) core: Arc<Core<I>>,
    pub(super) side: Side,
}

/// A channel that takes parts one by one, for a ring.
#[derive(Debug)]
pub struct Queue<I: Io, D> {
    pub(super) channel: Channel<I>,
    pub(super) coalescing: Coalescing,
    pub(super) direction: PhantomData<fn() -> D>,
}

// SAFETY: a channel accesses memory only after the doorbell in `start`,
// `start_cyclic` or `submit`, the last thing they write, and only the parts whose
// addresses and lengths `Build` found that the core's registers hold, and its
// descriptors. It is done with a part once it has set its descriptor's completion
// bit (in direct register mode, the interrupt bit), after an error once it says
// that it is halted, and with all of them after a reset. `Uio` keeps other drivers
// out that heed locks; the model is this process's own.
unsafe impl<I: Io> Engine for Channel<I> {
    type Error = Error;

    fn bus(&self) -> Option<&Bus> {
        self.core.bus.as_ref()
    }

    fn poll(&mut self) -> Progress<Error> {
        self.core.poll(self.side)
    }

    fn park(&mut self, deadline: Instant) -> Result<(), Error> {
        self.core.park(self.side, deadline)
    }

    fn register(&mut self, waker: &Waker) -> Result<(), Error> {
        self.core.register(self.side, waker)
    }

    fn stop(&mut self) -> Result<(), Error> {
        self.core.stop(self.side)
    }
}

// SAFETY: as above; the descriptors are processed in order, and `poll` says so of
// each in turn.
unsafe impl<I: Io, D: Way> Stream for Queue<I, D> {
    type Error = Error;
    type Direction = D;

    fn bus(&self) -> Option<&Bus> {
        self.channel.bus()
    }

    unsafe fn submit(&mut self, part: DmaAddr) -> Result<(), Error> {
        self.channel.core.submit(self.channel.side, part, self.coalescing)
    }

    fn poll(&mut self) -> Progress<Error> {
        self.channel.poll()
    }

    fn park(&mut self, deadline: Instant) -> Result<(), Error> {
        self.channel.park(deadline)
    }

    fn stop(&mut self) -> Result<(), Error> {
        self.channel.stop()
    }
}

impl<I: Io> fmt::Debug for Channel<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Channel").field(&self.side).finish()
    }
}
