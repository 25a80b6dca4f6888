//! Waiting for a device's interrupt.

#[cfg(feature = "tokio")]
mod tokio;

use std::{
    io::{self, Write},
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
    time::Instant,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::{Errno, retry_on_intr},
};

use crate::{Error, emulator::Line, handle::Handle, pci::Config, vfio::VfioLine};

/// A device's interrupt, masked unless somebody waits for it.
///
/// The kernel masks it when it fires, because it cannot know how to silence the
/// device; the wait unmasks it. So this order loses nothing, and wakes once for
/// each event, with a level interrupt too:
///
/// 1. start the device;
/// 2. [`wait`](Self::wait);
/// 3. read the device's status, clear it, do what it asks for;
/// 4. again from 2. What happened since 3 fires at once.
///
/// A wait may also end for what an earlier one has seen: the device's status
/// decides. To clear the status after the wait has begun again loses events.
///
/// ```
/// # use udmabuf_uio::emulator::{Device, emulate};
/// # struct Timer { late: bool }
/// # impl Device for Timer {
/// #     fn read(&mut self, _: usize) -> u64 { self.late.into() }
/// #     fn write(&mut self, _: usize, _: u64) { self.late = false }
/// #     fn step(&mut self) -> bool { false }
/// #     fn interrupt(&self) -> bool { self.late }
/// # }
/// # udmabuf_uio::block! { struct Regs: 4 bytes { 0 => STATUS: WriteEffect<u32> } }
/// # let (registers, mut interrupt) = emulate::<Regs>(Timer { late: true })?;
/// use std::time::{Duration, Instant};
///
/// let deadline = Instant::now() + Duration::from_millis(100);
/// match interrupt.wait(deadline)? {
///     0 => println!("nothing has happened"),
///     _ => {
///         let status = registers.read(Regs::STATUS);
///         registers.write(Regs::STATUS, status); // writing a 1 clears it
///     }
/// }
/// # Ok::<(), udmabuf_uio::Error>(())
/// ```
///
/// Without blocking, or in an executor, [`arm`](Self::arm) it.
#[derive(Debug)]
pub struct Interrupt {
    /// Dropped before the device's lock, as every descriptor of it.
    #[cfg(feature = "tokio")]
    watched: Option<tokio::Watched>,
    source: Source,
    missed: u64,
    /// It fired under a guard that did not ask: it is masked, and still to be counted.
    is_pending: bool,
}

#[derive(Debug)]
enum Source {
    Kernel {
        handle: Arc<Handle>,
        /// `uio_pci_generic` masks in the device's configuration space, and
        /// leaves the rest to its user. Other drivers mask when told to.
        pci: Option<Arc<Config>>,
        /// The kernel's count of interrupts, as last seen.
        seen: u32,
    },
    Vfio(VfioLine),
    Emulated(Arc<Line>),
}

impl Interrupt {
    pub(crate) fn new(handle: Arc<Handle>, pci: Option<Arc<Config>>) -> Result<Self, Error> {
        let seen = handle.interrupts().map_err(handle.error("counting interrupts"))?;
        let mut interrupt = Self::from_source(Source::Kernel { handle, pci, seen });
        interrupt.pass_over().map_err(|error| match &interrupt.source {
            // As after its removal, but it is there.
            Source::Kernel { handle, .. } if interrupt.is_hung_up() && handle.is_there() => {
                Error::NoInterrupt { device: handle.label.clone() }
            }
            _ => interrupt.error(error),
        })?;
        Ok(interrupt)
    }

    pub(crate) fn vfio(line: VfioLine) -> Result<Self, Error> {
        let mut interrupt = Self::from_source(Source::Vfio(line));
        interrupt.pass_over().map_err(|error| interrupt.error(error))?;
        Ok(interrupt)
    }

    /// Masks it, and forgets what was before.
    fn pass_over(&mut self) -> io::Result<()> {
        self.try_set_masked(true)?;
        self.try_count().map(drop)
    }

    pub(crate) fn emulated(line: Arc<Line>) -> Self {
        Self::from_source(Source::Emulated(line))
    }

    fn from_source(source: Source) -> Self {
        Self {
            #[cfg(feature = "tokio")]
            watched: None,
            source,
            missed: 0,
            is_pending: false,
        }
    }

    /// Unmasks the interrupt and waits until it fires or the deadline passes, if
    /// there is one. Says how often it fired since the last wait: 0 only if the
    /// deadline passed, more than 1 only if the kernel does not mask it.
    ///
    /// # Errors
    /// [`Error::Interrupted`], [`Error::Removed`]
    pub fn wait(&mut self, deadline: impl Into<Option<Instant>>) -> Result<u32, Error> {
        self.arm()?.wait(deadline)
    }

    /// Unmasks the interrupt, for as long as the guard lives. If the device asks
    /// for it already, it fires at once. That nothing answers any more, the wait
    /// finds out, before it sleeps.
    ///
    /// # Errors
    /// [`Error::Removed`]
    #[inline]
    pub fn arm(&mut self) -> Result<Armed<'_>, Error> {
        // A level would fire a second time.
        if !self.is_pending {
            self.set_masked(false)?;
        }
        Ok(Armed { interrupt: self, fired: false })
    }

    /// How many interrupts no wait has ended for, since another one was there
    /// before them: of messages, which nothing masks, all but the first between two
    /// waits ([an example](crate::emulator::Device::sends_messages)). Of a level that
    /// the kernel masks there are none.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.missed
    }

    /// Whether the device is still there, without blocking: what a driver asks
    /// before it accesses registers on somebody's behalf, and does not come from a
    /// wait. If it is not, they read as all ones from now on, and access to them
    /// does no harm.
    ///
    /// ```
    /// # use udmabuf_uio::emulator::{Device, Faults, emulate_with};
    /// # struct Idle;
    /// # impl Device for Idle {
    /// #     fn read(&mut self, _: usize) -> u64 { 0 }
    /// #     fn write(&mut self, _: usize, _: u64) {}
    /// #     fn step(&mut self) -> bool { false }
    /// #     fn interrupt(&self) -> bool { false }
    /// # }
    /// # udmabuf_uio::block! { struct Regs: 4 bytes { 0 => STATUS: ReadOnly<u32> } }
    /// # let faults = Faults::default();
    /// # let (registers, interrupt) = emulate_with::<Regs>(Idle, &faults)?;
    /// interrupt.check()?;
    /// println!("{}", registers.read(Regs::STATUS));
    /// faults.unplug();
    /// assert!(matches!(interrupt.check(), Err(udmabuf_uio::Error::Removed { .. })));
    /// # Ok::<(), udmabuf_uio::Error>(())
    /// ```
    ///
    /// It costs one system call, and for a PCI device a second, which reads from its
    /// configuration space. A device that is removed after this was asked is found
    /// out by the next call: [what that leaves](crate#a-device-that-goes-away).
    ///
    /// # Errors
    /// [`Error::Removed`]
    pub fn check(&self) -> Result<(), Error> {
        let there = match &self.source {
            Source::Kernel { .. } if self.is_hung_up() => Err(Errno::NODEV),
            Source::Kernel { .. } => Ok(()),
            Source::Vfio(line) => line.check(),
            Source::Emulated(line) => line.check(),
        };
        there.map_err(|errno| self.error(errno.into()))?;
        self.answers()
    }

    #[inline]
    fn set_masked(&self, masked: bool) -> Result<(), Error> {
        self.try_set_masked(masked).map_err(|error| self.error(error))
    }

    #[inline]
    fn try_set_masked(&self, masked: bool) -> io::Result<()> {
        match &self.source {
            Source::Kernel { pci: Some(config), .. } => config.set_intx_disable(masked),
            Source::Kernel { handle, .. } => {
                match (&handle.uio).write_all(&u32::from(!masked).to_ne_bytes()) {
                    // Its kernel driver silences the device by itself.
                    Err(error) if Errno::from_io_error(&error) == Some(Errno::NOSYS) => Ok(()),
                    result => result,
                }
            }
            Source::Vfio(line) => line.set_masked(masked),
            Source::Emulated(line) => line.set_masked(masked).map_err(Into::into),
        }
    }

    /// It was armed, and did not fire for who armed it.
    #[cold]
    fn mask_again(&mut self) {
        // It fails on a device that is gone, and then raises none.
        let _ = self.set_masked(true);
        self.is_pending = self.has_fired().unwrap_or(false);
    }

    /// What a wait that would sleep does first: where nothing answers any more, no
    /// interrupt comes, and the kernel may not know it yet.
    fn answers(&self) -> Result<(), Error> {
        match &self.source {
            Source::Kernel { pci: Some(config), .. } | Source::Vfio(VfioLine { config, .. }) => {
                config.check().map_err(|error| self.error(error))
            }
            Source::Kernel { pci: None, .. } | Source::Emulated(_) => Ok(()),
        }
    }

    /// Whether there is something to count before the deadline.
    fn ready(&self, deadline: Option<Instant>) -> Result<bool, Error> {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        // Too long for the kernel's clock is as good as for ever.
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        let polled = poll(&mut [PollFd::new(&self.fd(), PollFlags::IN)], left.as_ref());
        Ok(polled.map_err(|errno| self.error(errno.into()))? > 0)
    }

    /// Whether there is something to count by now. It is no wait that a signal
    /// could end.
    fn has_fired(&self) -> io::Result<bool> {
        Ok(self.events()?.intersects(PollFlags::IN | PollFlags::ERR | PollFlags::HUP))
    }

    /// What there is to know of the descriptor by now.
    fn events(&self) -> rustix::io::Result<PollFlags> {
        let fd = self.fd();
        let mut fds = [PollFd::new(&fd, PollFlags::IN)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        retry_on_intr(|| poll(&mut fds, Some(&now)))?;
        Ok(fds[0].revents())
    }

    /// How often it fired since the last call.
    #[inline]
    fn count(&mut self) -> Result<u32, Error> {
        let count = self.try_count().map_err(|error| self.error(error))?;
        self.missed += u64::from(count.saturating_sub(1));
        self.is_pending = false;
        Ok(count)
    }

    #[inline]
    fn try_count(&mut self) -> io::Result<u32> {
        let counted = match &mut self.source {
            Source::Kernel { handle, seen, .. } => {
                let mut count = [0; 4];
                retry_on_intr(|| rustix::io::read(&handle.uio, &mut count)).map(|_| {
                    let count = u32::from_ne_bytes(count);
                    count.wrapping_sub(std::mem::replace(seen, count))
                })
            }
            Source::Vfio(line) => line.take(),
            Source::Emulated(line) => line.take(),
        };
        match counted {
            Err(Errno::AGAIN) => Ok(0),
            counted => Ok(counted?),
        }
    }

    fn fd(&self) -> BorrowedFd<'_> {
        match &self.source {
            Source::Kernel { handle, .. } => handle.uio.as_fd(),
            Source::Vfio(line) => line.as_fd(),
            Source::Emulated(line) => line.as_fd(),
        }
    }

    #[cold]
    fn error(&self, error: io::Error) -> Error {
        let device = match &self.source {
            Source::Kernel { handle, .. } | Source::Vfio(VfioLine { handle, .. }) => {
                handle.label.clone()
            }
            Source::Emulated(_) => "emulated device".to_owned(),
        };
        match (Errno::from_io_error(&error), &self.source) {
            (Some(Errno::INTR), _) => Error::Interrupted { device },
            (Some(Errno::NODEV), Source::Emulated(_)) => Error::Removed { device },
            // Of its sysfs files; UIO has other errors, as have its drivers.
            (
                Some(Errno::NODEV),
                Source::Kernel { handle, .. } | Source::Vfio(VfioLine { handle, .. }),
            ) => handle.removed(),
            (_, Source::Kernel { handle, .. }) if self.is_hung_up() => handle.removed(),
            _ => Error::os(device, "waiting for the interrupt")(error),
        }
    }

    /// Whether UIO says that there is nothing to wait for, ever.
    fn is_hung_up(&self) -> bool {
        self.events().is_ok_and(|events| events.intersects(PollFlags::ERR | PollFlags::HUP))
    }
}

/// An interrupt that is let through; dropping this masks it again.
///
/// Its descriptor ([`AsFd`]) is readable once it has fired, for any executor or
/// `poll` loop; [`try_wait`](Self::try_wait) then says how often. With the
/// feature `tokio`, `fired` awaits it.
///
/// ```
/// # use udmabuf_uio::emulator::{Device, emulate};
/// # struct Timer { late: bool }
/// # impl Device for Timer {
/// #     fn read(&mut self, _: usize) -> u64 { self.late.into() }
/// #     fn write(&mut self, _: usize, _: u64) { self.late = false }
/// #     fn step(&mut self) -> bool { false }
/// #     fn interrupt(&self) -> bool { self.late }
/// # }
/// # udmabuf_uio::block! { struct Regs: 4 bytes { 0 => STATUS: WriteEffect<u32> } }
/// # let (registers, mut interrupt) = emulate::<Regs>(Timer { late: true })?;
/// use rustix::event::{PollFd, PollFlags, poll};
///
/// let mut events = 0;
/// while events == 0 {
///     let mut armed = interrupt.arm()?;
///     // Beside whatever else the program has to wait for.
///     poll(&mut [PollFd::new(&armed, PollFlags::IN)], None)?;
///     // It may be readable for nothing, or because the device is gone.
///     events += armed.try_wait()?;
/// }
/// registers.write(Regs::STATUS, 1); // before it is armed again
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "dropping it masks the interrupt"]
pub struct Armed<'a> {
    interrupt: &'a mut Interrupt,
    /// It has, and is masked since.
    fired: bool,
}

impl Armed<'_> {
    /// As [`Interrupt::wait`].
    ///
    /// # Errors
    /// As [`Interrupt::wait`].
    pub fn wait(mut self, deadline: impl Into<Option<Instant>>) -> Result<u32, Error> {
        let deadline = deadline.into();
        // What has fired by now takes one system call, and what fires later is no
        // later for it.
        loop {
            match self.try_wait()? {
                0 if self.interrupt.ready(deadline)? => {}
                count => return Ok(count),
            }
        }
    }

    /// How often it fired since the last wait, without blocking. Once it has,
    /// it has to be armed again.
    ///
    /// # Errors
    /// As [`Interrupt::wait`].
    #[inline]
    pub fn try_wait(&mut self) -> Result<u32, Error> {
        let count = self.interrupt.count()?;
        self.fired |= count > 0;
        if count == 0 {
            self.interrupt.answers()?;
        }
        Ok(count)
    }
}

impl AsFd for Armed<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.interrupt.fd()
    }
}

impl Drop for Armed<'_> {
    #[inline]
    fn drop(&mut self) {
        if !self.fired {
            self.interrupt.mask_again();
        }
    }
}
