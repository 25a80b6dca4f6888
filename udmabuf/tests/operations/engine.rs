//! An engine that does as it is told.
#![allow(unsafe_code, reason = "vouches for an engine that is a script")]

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard},
    time::Instant,
};

use udmabuf::{Engine, Progress, emulator::Bus};

#[derive(Clone, Debug)]
pub struct Scripted {
    script: Arc<Mutex<Script>>,
    bus: Bus,
}

/// What the engine says next.
#[derive(Clone, Copy, Debug, Default)]
pub struct Script {
    pub state: State,
    pub park_fails: bool,
    pub stop_fails: bool,
    /// For a ring: a submitted part, and that data was lost.
    pub refuses: bool,
    pub overruns: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    #[default]
    Running,
    Finished,
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fault;

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("as the script says")
    }
}

impl std::error::Error for Fault {}

impl Scripted {
    pub fn new(bus: Bus) -> Self {
        Self { script: Arc::default(), bus }
    }

    pub fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }
}

// SAFETY: there is no device; the world accesses the bus for it, and only ranges
// that are the device's.
unsafe impl Engine for Scripted {
    type Error = Fault;

    fn bus(&self) -> Option<&Bus> {
        Some(&self.bus)
    }

    fn poll(&mut self) -> Progress<Fault> {
        match self.script().state {
            State::Running => Progress::Running,
            State::Finished => Progress::Finished,
            State::Failed => Progress::Failed(Fault),
        }
    }

    fn park(&mut self, _deadline: Instant) -> Result<(), Fault> {
        if self.script().park_fails { Err(Fault) } else { Ok(()) }
    }

    fn stop(&mut self) -> Result<(), Fault> {
        if self.script().stop_fails { Err(Fault) } else { Ok(()) }
    }
}
