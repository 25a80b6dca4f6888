//! An interrupt: a level with a mask, as the kernel's UIO drivers keep it, or
//! messages without one.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{Mutex, MutexGuard, PoisonError},
};

use rustix::{
    event::{EventfdFlags, eventfd},
    io::{Errno, Result, read, write},
};

use super::Faults;

#[derive(Debug)]
pub(crate) struct Line {
    state: Mutex<State>,
    /// Counts how often it fired.
    event: OwnedFd,
    faults: Faults,
    /// Each rise is a message.
    sends_messages: bool,
}

#[derive(Debug)]
struct State {
    level: bool,
    masked: bool,
    /// The device was removed.
    gone: bool,
}

impl Line {
    pub(crate) fn new(faults: &Faults, sends_messages: bool) -> io::Result<Self> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self {
            state: Mutex::new(State { level: false, masked: true, gone: false }),
            event,
            faults: faults.clone(),
            sends_messages,
        })
    }

    pub(crate) fn set(&self, level: bool) {
        let mut state = self.lock();
        let rises = level && !state.level;
        state.level = level;
        match self.sends_messages {
            true if rises => self.arrive(),
            true => {}
            false => self.fire(state),
        }
    }

    pub(crate) fn set_masked(&self, masked: bool) -> Result<()> {
        let mut state = self.lock();
        if state.gone {
            return Err(Errno::NODEV);
        }
        if !self.sends_messages {
            state.masked = masked;
            self.fire(state);
        }
        Ok(())
    }

    /// The device was removed: who waits is woken, now and from now on.
    pub(crate) fn set_gone(&self) {
        self.lock().gone = true;
        self.wake();
    }

    /// # Errors
    /// `NODEV`: it was removed.
    pub(crate) fn check(&self) -> Result<()> {
        if self.is_gone() { Err(Errno::NODEV) } else { Ok(()) }
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.lock().gone
    }

    fn fire(&self, mut state: MutexGuard<'_, State>) {
        if state.level && !state.masked {
            state.masked = true;
            self.arrive();
        }
    }

    fn arrive(&self) {
        if !self.faults.loses_interrupt() {
            self.wake();
        }
    }

    fn wake(&self) {
        // It fails only where the counter would pass 2^64.
        let _ = write(&self.event, &1_u64.to_ne_bytes());
    }

    /// How often it fired since the last call.
    pub(crate) fn take(&self) -> Result<u32> {
        self.check()?;
        let mut count = [0; 8];
        read(&self.event, &mut count)?;
        Ok(u32::try_from(u64::from_ne_bytes(count)).unwrap_or(u32::MAX))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsFd for Line {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}
