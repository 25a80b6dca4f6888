//! The interrupt for tokio.
#![allow(unsafe_code, reason = "vouches for a descriptor")]

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    task::{Context, Poll, Waker},
};

use tokio::{
    io::{Interest, unix::AsyncFd},
    runtime::{Handle, Id},
};

use super::{Armed, Interrupt};
use crate::Error;

impl Armed<'_> {
    /// Waits until the interrupt fires, and says how often it did since the last
    /// wait. Cancelled, it masks the interrupt, and nothing is lost.
    ///
    /// ```
    /// # use udmabuf_uio::emulator::{Device, emulate};
    /// # struct Timer;
    /// # impl Device for Timer {
    /// #     fn read(&mut self, _: usize) -> u64 { 0 }
    /// #     fn write(&mut self, _: usize, _: u64) {}
    /// #     fn step(&mut self) -> bool { false }
    /// #     fn interrupt(&self) -> bool { true }
    /// # }
    /// # udmabuf_uio::block! { struct Regs: 4 bytes { 0 => STATUS: ReadOnly<u32> } }
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// # let (registers, mut interrupt) = emulate::<Regs>(Timer)?;
    /// assert_eq!(interrupt.arm()?.fired().await?, 1);
    /// # Ok::<(), udmabuf_uio::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Removed`]
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O, as everything of tokio's.
    pub async fn fired(mut self) -> Result<u32, Error> {
        loop {
            match self.try_wait() {
                Ok(0) => {}
                result => return result,
            }
            self.readable().await.map_err(|error| self.interrupt.error(error))?;
        }
    }

    async fn readable(&self) -> io::Result<()> {
        // SAFETY: it is one descriptor always, and stays open while it is
        // borrowed: longer than the registration, which ends with this function.
        let fd = unsafe { AsyncFd::register_with_interest(self.as_fd(), Interest::READABLE) }?;
        fd.readable().await.map(|_| ())
    }
}

/// A copy of an interrupt's descriptor, and which runtime watches it.
#[derive(Debug)]
pub(super) struct Watched {
    runtime: Id,
    fd: AsyncFd<OwnedFd>,
}

impl Interrupt {
    /// Unmasks the interrupt and has `waker` woken when it fires: what an engine
    /// needs for transfers that are awaited (`Engine::register` of `udmabuf`).
    /// Says how often it fired since the last wait, without blocking.
    ///
    /// It stays unmasked until it fires. The runtime that this is called in watches
    /// it, and no longer one that it was called in before. Outside a tokio runtime
    /// nobody watches it: the waker is woken at once, so that the caller goes on
    /// asking.
    ///
    /// # Errors
    /// [`Error::Removed`], [`Error::Os`]
    ///
    /// # Panics
    /// In a tokio runtime without I/O.
    pub fn watch(&mut self, waker: &Waker) -> Result<u32, Error> {
        let fired = self.count()?;
        self.set_masked(false)?;
        self.answers()?;
        let Ok(current) = Handle::try_current() else {
            waker.wake_by_ref();
            return Ok(fired);
        };
        let runtime = current.id();
        let watched = match self.watched.take() {
            Some(watched) if watched.runtime == runtime => watched,
            _ => self.start_watching(runtime).map_err(|error| self.error(error))?,
        };
        let mut context = Context::from_waker(waker);
        while let Poll::Ready(ready) = watched.fd.poll_read_ready(&mut context) {
            let mut ready = ready.map_err(|error| self.error(error))?;
            if self.has_fired().map_err(|error| self.error(error))? {
                // It has fired meanwhile: there is nothing to be woken for later.
                waker.wake_by_ref();
                break;
            }
            ready.clear_ready();
        }
        self.watched = Some(watched);
        Ok(fired)
    }

    fn start_watching(&self, runtime: Id) -> io::Result<Watched> {
        let fd = self.fd().try_clone_to_owned()?;
        // SAFETY: it is one descriptor, which nobody else owns.
        let watched = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
        Ok(Watched { runtime, fd: watched? })
    }
}
