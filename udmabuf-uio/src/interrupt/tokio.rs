//! The interrupt for tokio.
#![allow(unsafe_code, reason = "vouches for a descriptor")]

use std::{io, os::fd::AsFd};

use tokio::io::{Interest, unix::AsyncFd};

use super::Armed;
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
            self.readable().await.map_err(|error| self.interrupt.error(error))?;
            match self.try_wait() {
                Ok(0) | Err(Error::Interrupted { .. }) => {}
                result => return result,
            }
        }
    }

    async fn readable(&self) -> io::Result<()> {
        // SAFETY: it is one descriptor always, and stays open while it is
        // borrowed: longer than the registration, which ends with this function.
        let fd = unsafe { AsyncFd::register_with_interest(self.as_fd(), Interest::READABLE) }?;
        fd.readable().await.map(|_| ())
    }
}
