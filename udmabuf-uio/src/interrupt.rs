//! Waiting for a device's interrupt.

use std::{fs::File, io::Write, os::fd::AsFd, os::unix::fs::FileExt, sync::Arc, time::Instant};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::{Errno, retry_on_intr},
};

use crate::{Error, emulator::Line, handle::Handle};

/// A device's interrupt.
///
/// The kernel masks it when it fires, because it cannot know how to silence
/// the device. So the order that loses nothing, for a level interrupt too, is:
/// start the device; [`rearm`](Self::rearm); [`wait`](Self::wait); read and
/// clear the device's status; again from `rearm`.
#[derive(Debug)]
pub struct Interrupt {
    device: String,
    source: Source,
    /// The kernel's count of interrupts at the last wait.
    seen: Option<u32>,
}

#[derive(Debug)]
enum Source {
    Uio(Arc<Handle>),
    /// `uio_pci_generic` masks in the device's configuration space, and leaves
    /// the unmasking to its user.
    Pci {
        handle: Arc<Handle>,
        config: File,
    },
    Emulated(Arc<Line>),
}

impl Interrupt {
    pub(crate) fn uio(device: String, handle: Arc<Handle>) -> Self {
        Self { device, source: Source::Uio(handle), seen: None }
    }

    pub(crate) fn pci(device: String, handle: Arc<Handle>, config: File) -> Self {
        Self { device, source: Source::Pci { handle, config }, seen: None }
    }

    pub(crate) fn emulated(line: Arc<Line>) -> Self {
        Self { device: "emulated device".into(), source: Source::Emulated(line), seen: None }
    }

    /// Lets the interrupt through again. If the device still asks for it, it
    /// fires at once.
    ///
    /// # Errors
    /// [`Error::Os`]
    pub fn rearm(&self) -> Result<(), Error> {
        match &self.source {
            Source::Uio(handle) => match (&handle.uio).write_all(&1_u32.to_ne_bytes()) {
                // Its kernel driver does not mask it.
                Err(error) if Errno::from_io_error(&error) == Some(Errno::NOSYS) => Ok(()),
                result => result,
            },
            Source::Pci { config, .. } => unmask_intx(config),
            Source::Emulated(line) => {
                line.arm();
                Ok(())
            }
        }
        .map_err(Error::os(&*self.device, "unmasking the interrupt"))
    }

    /// Waits until the interrupt fires or `deadline` passes, and says how often
    /// it fired since the last wait: 0 only if the deadline passed.
    ///
    /// # Errors
    /// [`Error::Os`]: the device has no interrupt, or was removed.
    pub fn wait(&mut self, deadline: Instant) -> Result<u32, Error> {
        let failed =
            |errno: Errno| Error::os(&*self.device, "waiting for the interrupt")(errno.into());
        let fd = match &self.source {
            Source::Uio(handle) | Source::Pci { handle, .. } => handle.uio.as_fd(),
            Source::Emulated(line) => line.as_fd(),
        };
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            // Too long for the kernel's clock is as good as for ever.
            let left = Timespec::try_from(left).ok();
            match poll(&mut [PollFd::new(&fd, PollFlags::IN)], left.as_ref()) {
                Ok(0) => return Ok(0),
                Ok(_) => break,
                Err(Errno::INTR) => {} // a signal is not the interrupt
                Err(errno) => return Err(failed(errno)),
            }
        }
        if let Source::Emulated(line) = &self.source {
            return line.take().map_err(failed);
        }
        let mut count = [0; 4];
        retry_on_intr(|| rustix::io::read(fd, &mut count)).map_err(failed)?;
        let count = u32::from_ne_bytes(count);
        let fired = self.seen.map_or(1, |seen| count.wrapping_sub(seen));
        self.seen = Some(count);
        Ok(fired)
    }
}

/// Clears "interrupt disable", bit 10 of the command register at 0x04 (PCI
/// Local Bus Specification 3.0, 6.2.2), of which only this half is written.
fn unmask_intx(config: &File) -> std::io::Result<()> {
    let mut high = [0];
    config.read_exact_at(&mut high, 0x05)?;
    config.write_all_at(&[high[0] & !0x04], 0x05)
}
