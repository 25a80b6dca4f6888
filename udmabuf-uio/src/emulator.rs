//! Registers and an interrupt without hardware: a device model on a thread.
//!
//! A driver is generic over [`Io`] and is then the same source on
//! hardware and here.
//!
//! ```
//! use udmabuf_uio::{Block, Register, emulator::{Device, emulate}};
//! use std::time::{Duration, Instant};
//!
//! /// Doubles what is written to it, and raises its interrupt.
//! #[derive(Debug, Default)]
//! struct Doubler { value: u64, done: bool }
//!
//! impl Device for Doubler {
//!     fn read(&mut self, _offset: usize) -> u64 { self.value }
//!     fn write(&mut self, _offset: usize, value: u64) { self.value = value; self.done = false; }
//!     fn step(&mut self) -> bool {
//!         if !self.done { self.value *= 2; self.done = true; }
//!         false
//!     }
//!     fn interrupt(&self) -> bool { self.done && self.value != 0 }
//! }
//!
//! struct Registers;
//! impl Block for Registers { const SIZE: usize = 4; }
//! const VALUE: Register<Registers, u32> = Register::at(0);
//!
//! let (registers, mut interrupt) = emulate::<Registers>(Doubler::default())?;
//! registers.write(VALUE, 21);
//! interrupt.rearm()?;
//! assert_eq!(interrupt.wait(Instant::now() + Duration::from_secs(10))?, 1);
//! assert_eq!(registers.read(VALUE), 42);
//! # Ok::<(), udmabuf_uio::Error>(())
//! ```

mod faults;
mod line;

use std::{
    fmt,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
};

pub use faults::Faults;
pub(crate) use line::Line;

use crate::{Block, Error, Interrupt, Io, Registers, Word, registers::sealed::InBlock};

/// A model of a device.
///
/// Register accesses come from the driver's thread, steps from the device's
/// own; never two at once.
pub trait Device: Send + 'static {
    /// The driver reads the register at `offset` bytes.
    fn read(&mut self, offset: usize) -> u64;

    /// The driver writes the register at `offset` bytes.
    fn write(&mut self, offset: usize, value: u64);

    /// Does a piece of what the registers ask for, and says whether there is
    /// more. Between two steps the driver can access the registers.
    fn step(&mut self) -> bool;

    /// The level of the interrupt line.
    fn interrupt(&self) -> bool;
}

/// Starts `device` on a thread, which ends when the registers are dropped.
///
/// # Errors
/// [`Error::Os`]: no thread or no descriptor can be had.
pub fn emulate<K: Block>(
    device: impl Device,
) -> Result<(Registers<K, Emulated>, Interrupt), Error> {
    emulate_with(device, &Faults::default())
}

/// As [`emulate`], with a device in which something goes wrong now and then.
///
/// # Errors
/// As [`emulate`].
pub fn emulate_with<K: Block>(
    device: impl Device,
    faults: &Faults,
) -> Result<(Registers<K, Emulated>, Interrupt), Error> {
    let failed = |operation| Error::os("emulated device", operation);
    let line = Arc::new(Line::new(faults).map_err(failed("eventfd"))?);
    let shared = Arc::new(Shared {
        state: Mutex::new(State { device: Box::new(device), work: true, closed: false }),
        wake: Condvar::new(),
        line: line.clone(),
        faults: faults.clone(),
    });
    faults.add(&shared);
    let thread = thread::Builder::new()
        .name("emulated device".into())
        .spawn({
            let shared = shared.clone();
            move || shared.run()
        })
        .map_err(failed("starting the thread"))?;
    let io = Emulated { shared, thread: Some(thread) };
    Ok((Registers::new(io), Interrupt::emulated(line)))
}

/// Registers of a device model.
pub struct Emulated {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    line: Arc<Line>,
    faults: Faults,
}

struct State {
    device: Box<dyn Device>,
    /// Whether the device has something to do.
    work: bool,
    closed: bool,
}

impl Shared {
    /// The device's thread.
    fn run(&self) {
        let mut state = self.lock();
        while !state.closed {
            if state.work && !self.faults.is_stalled() {
                state.work = state.device.step();
                self.line.set(state.device.interrupt());
                // Lets a waiting register access in.
                drop(state);
                thread::yield_now();
                state = self.lock();
            } else {
                state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    /// A register access of the driver, after which the device may have work.
    fn access<R>(&self, access: impl FnOnce(&mut dyn Device) -> R) -> R {
        let mut state = self.lock();
        let result = access(&mut *state.device);
        state.work = true;
        self.line.set(state.device.interrupt());
        self.wake.notify_one();
        result
    }

    /// The device's thread looks again whether there is something to do.
    fn wake(&self) {
        // Not between its look and its sleep.
        let _state = self.lock();
        self.wake.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Io for Emulated {
    fn read<W: Word>(&self, offset: usize, _: InBlock) -> W {
        W::from_u64(self.shared.access(|device| device.read(offset)))
    }

    fn write<W: Word>(&self, offset: usize, word: W, _: InBlock) {
        self.shared.access(|device| device.write(offset, word.to_u64()));
    }
}

impl Drop for Emulated {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.take() {
            // A model that panicked has said so on its own thread.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl fmt::Debug for Emulated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Emulated").finish_non_exhaustive()
    }
}
