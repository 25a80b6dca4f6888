//! Waiting for a device's interrupt.

use std::{
    fs::File,
    io::{self, Write},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::FileExt,
    },
    sync::Arc,
    time::Instant,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::{Errno, retry_on_intr},
};

use crate::{Error, emulator::Line, handle::Handle};

/// A device's interrupt, masked until [`rearm`](Self::rearm).
///
/// The kernel masks it when it fires, because it cannot know how to silence
/// the device. So the order that loses nothing and wakes once for each event,
/// for a level interrupt too, is: start the device; `rearm`;
/// [`wait`](Self::wait); read and clear the device's status; again from
/// `rearm`.
#[derive(Debug)]
pub struct Interrupt {
    device: String,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Kernel {
        handle: Arc<Handle>,
        /// `uio_pci_generic` masks in the device's configuration space, and
        /// leaves the rest to its user. Other drivers mask when told to.
        pci_config: Option<File>,
        /// The kernel's count of interrupts, as last seen.
        seen: u32,
    },
    Emulated(Arc<Line>),
}

impl Interrupt {
    pub(crate) fn new(
        device: String,
        handle: Arc<Handle>,
        pci_config: Option<File>,
    ) -> Result<Self, Error> {
        let seen = handle.interrupts().map_err(Error::os(&*device, "counting interrupts"))?;
        let interrupt = Self { device, source: Source::Kernel { handle, pci_config, seen } };
        interrupt
            .set_masked(true)
            .map_err(Error::os(&*interrupt.device, "masking the interrupt"))?;
        Ok(interrupt)
    }

    pub(crate) fn emulated(line: Arc<Line>) -> Self {
        Self { device: "emulated device".into(), source: Source::Emulated(line) }
    }

    /// Lets the interrupt through again. If the device asks for it already, it
    /// fires at once.
    ///
    /// # Errors
    /// [`Error::Os`]
    pub fn rearm(&self) -> Result<(), Error> {
        self.set_masked(false).map_err(Error::os(&*self.device, "unmasking the interrupt"))
    }

    fn set_masked(&self, masked: bool) -> io::Result<()> {
        match &self.source {
            Source::Kernel { pci_config: Some(config), .. } => set_intx_disable(config, masked),
            Source::Kernel { handle, .. } => {
                match (&handle.uio).write_all(&u32::from(!masked).to_ne_bytes()) {
                    // Its kernel driver silences the device by itself.
                    Err(error) if Errno::from_io_error(&error) == Some(Errno::NOSYS) => Ok(()),
                    result => result,
                }
            }
            Source::Emulated(line) => {
                line.set_masked(masked);
                Ok(())
            }
        }
    }

    /// Waits until the interrupt fires or `deadline` passes, and says how often
    /// it fired since the last wait: 0 only if the deadline passed.
    ///
    /// # Errors
    /// [`Error::Os`]: the device was removed.
    pub fn wait(&mut self, deadline: Instant) -> Result<u32, Error> {
        loop {
            let ready = match &self.source {
                Source::Kernel { handle, .. } => poll_until(handle.uio.as_fd(), deadline),
                Source::Emulated(line) => poll_until(line.as_fd(), deadline),
            };
            let fired = ready.and_then(|ready| if ready { self.count() } else { Ok(0) });
            match fired {
                // One from before this handle was opened.
                Ok(0) if Instant::now() < deadline => {}
                fired => {
                    return fired.map_err(|errno| {
                        Error::os(&*self.device, "waiting for the interrupt")(errno.into())
                    });
                }
            }
        }
    }

    /// How often it fired since the last call; there is something to read.
    fn count(&mut self) -> rustix::io::Result<u32> {
        match &mut self.source {
            Source::Kernel { handle, seen, .. } => {
                let mut count = [0; 4];
                retry_on_intr(|| rustix::io::read(&handle.uio, &mut count))?;
                let count = u32::from_ne_bytes(count);
                Ok(count.wrapping_sub(std::mem::replace(seen, count)))
            }
            Source::Emulated(line) => line.take(),
        }
    }
}

/// Whether there is something to read before the deadline.
fn poll_until(fd: BorrowedFd<'_>, deadline: Instant) -> rustix::io::Result<bool> {
    retry_on_intr(|| {
        let left = deadline.saturating_duration_since(Instant::now());
        // Too long for the kernel's clock is as good as for ever.
        let left = Timespec::try_from(left).ok();
        poll(&mut [PollFd::new(&fd, PollFlags::IN)], left.as_ref()).map(|ready| ready > 0)
    })
}

/// Writes "interrupt disable", bit 10 of the command register at 0x04 (PCI
/// Local Bus Specification 3.0, 6.2.2), of which only this half is written.
fn set_intx_disable(config: &File, disable: bool) -> io::Result<()> {
    let mut high = [0];
    config.read_exact_at(&mut high, 0x05)?;
    let command = if disable { high[0] | 0x04 } else { high[0] & !0x04 };
    config.write_all_at(&[command], 0x05)
}
