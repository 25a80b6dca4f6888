//! An interrupt that VFIO counts in an eventfd.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use rustix::{
    event::{EventfdFlags, epoll, eventfd},
    io::{Errno, Result, read, retry_on_intr},
};

use super::{
    Vfio,
    ioctl::{self, Irq},
};
use crate::{Error, handle::Handle, pci::Config};

/// The first interrupt of one kind. INTx is masked by the kernel when it fires, as
/// UIO does; a message has no mask, and is counted until somebody waits.
#[derive(Debug)]
pub(crate) struct VfioLine {
    pub(crate) handle: Arc<Handle>,
    irq: Irq,
    event: OwnedFd,
    /// Readable once the kernel wants the device back: it is being removed, or
    /// taken from its driver, and the kernel waits for its user.
    request: OwnedFd,
    /// Readable when one of the two is.
    either: OwnedFd,
    /// Restored with the last user of the device.
    pub(crate) config: Arc<Config>,
}

impl VfioLine {
    /// `irqs`: the first of these that the device has.
    pub(crate) fn new(
        vfio: &Vfio,
        config: Arc<Config>,
        irqs: &[Irq],
    ) -> std::result::Result<Self, Error> {
        let handle = vfio.handle().clone();
        let made = || -> Result<Option<Self>> {
            let device = handle.uio.as_fd();
            let mut found = None;
            for &irq in irqs {
                if found.is_none() && ioctl::irqs(device, irq)? > 0 {
                    found = Some(irq);
                }
            }
            let Some(irq) = found else { return Ok(None) };
            let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
            let (event, request) = (eventfd(0, flags)?, eventfd(0, flags)?);
            let either = epoll::create(epoll::CreateFlags::CLOEXEC)?;
            for fd in [&event, &request] {
                epoll::add(&either, fd, epoll::EventData::new_u64(0), epoll::EventFlags::IN)?;
            }
            if ioctl::irqs(device, Irq::Request)? > 0 {
                ioctl::trigger(device, Irq::Request, request.as_fd())?;
            }
            ioctl::trigger(device, irq, event.as_fd())?;
            Ok(Some(Self { handle: handle.clone(), irq, event, request, either, config }))
        };
        match made() {
            Ok(Some(line)) => Ok(line),
            Ok(None) => Err(Error::NoInterrupt { device: handle.label.clone() }),
            Err(errno) => Err(handle.error("setting up the interrupt")(errno.into())),
        }
    }

    pub(crate) fn set_masked(&self, masked: bool) -> io::Result<()> {
        self.check()?;
        match self.irq {
            Irq::Intx => Ok(ioctl::set_masked(self.handle.uio.as_fd(), self.irq, masked)?),
            _ => Ok(()),
        }
    }

    /// How often it fired since the last call.
    ///
    /// # Errors
    /// `AGAIN`: not at all; `NODEV`.
    pub(crate) fn take(&self) -> Result<u32> {
        self.check()?;
        let mut count = [0; 8];
        read(&self.event, &mut count)?;
        // Of a card that is out the kernel reads all ones, and so that it asks for
        // an interrupt: each time that this is unmasked, for ever.
        if self.irq == Irq::Intx {
            self.config
                .check()
                .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        }
        Ok(u32::try_from(u64::from_ne_bytes(count)).unwrap_or(u32::MAX))
    }

    /// Whether the kernel wants the device back; then it stays so.
    ///
    /// # Errors
    /// `NODEV`: it does.
    pub(crate) fn check(&self) -> Result<()> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut fds = [PollFd::new(&self.request, PollFlags::IN)];
        match retry_on_intr(|| poll(&mut fds, Some(&now)))? {
            0 => Ok(()),
            _ => Err(Errno::NODEV),
        }
    }
}

impl AsFd for VfioLine {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.either.as_fd()
    }
}
