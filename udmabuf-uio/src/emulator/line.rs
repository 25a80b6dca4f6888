//! A level interrupt line with a mask, as the kernel's UIO drivers keep it.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{Mutex, MutexGuard, PoisonError},
};

use rustix::{
    event::{EventfdFlags, eventfd},
    io::{Result, read, write},
};

use super::Faults;

#[derive(Debug)]
pub(crate) struct Line {
    state: Mutex<State>,
    /// Counts how often it fired.
    event: OwnedFd,
    faults: Faults,
}

#[derive(Debug)]
struct State {
    level: bool,
    masked: bool,
}

impl Line {
    pub(crate) fn new(faults: &Faults) -> io::Result<Self> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self {
            state: Mutex::new(State { level: false, masked: true }),
            event,
            faults: faults.clone(),
        })
    }

    pub(crate) fn set(&self, level: bool) {
        let mut state = self.lock();
        state.level = level;
        self.fire(state);
    }

    pub(crate) fn set_masked(&self, masked: bool) {
        let mut state = self.lock();
        state.masked = masked;
        self.fire(state);
    }

    fn fire(&self, mut state: MutexGuard<'_, State>) {
        if state.level && !state.masked {
            state.masked = true;
            if self.faults.loses_interrupt() {
                return;
            }
            // It fails only where the counter would pass 2^64.
            let _ = write(&self.event, &1_u64.to_ne_bytes());
        }
    }

    /// How often it fired since the last call.
    pub(crate) fn take(&self) -> Result<u32> {
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
