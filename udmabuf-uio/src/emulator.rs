//! Registers and an interrupt without hardware: a device model on a thread.
//!
//! A driver is generic over [`Io`] and is then the same source on
//! hardware and here.
//!
//! ```
//! use udmabuf_uio::emulator::{Device, emulate};
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
//! udmabuf_uio::block! {
//!     struct Doubling: 4 bytes { 0 => VALUE: ReadWrite<u32> }
//! }
//!
//! let (registers, mut interrupt) = emulate::<Doubling>(Doubler::default())?;
//! registers.write(Doubling::VALUE, 21);
//! assert_eq!(interrupt.wait(Instant::now() + Duration::from_secs(10))?, 1);
//! assert_eq!(registers.read(Doubling::VALUE), 42);
//! # Ok::<(), udmabuf_uio::Error>(())
//! ```

mod faults;
mod line;

use std::{
    fmt,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    thread::{self, JoinHandle},
};

pub use faults::Faults;
pub(crate) use line::Line;

use crate::{Block, BusMaster, Error, Interrupt, Io, Registers, Word, registers::sealed::InBlock};

/// A model of a device.
///
/// Register accesses come from the driver's thread, steps from the device's
/// own; never two at once.
///
/// An access is one of a whole register, whose width the model knows by its offset:
/// of what is read, the driver gets the low bits that fit, and what is written has
/// zeros above them.
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

    /// Whether each rise of that line is a message, as those of
    /// [`Pci::into_message_interrupt`](crate::Pci::into_message_interrupt), rather
    /// than the line a level that is masked once it has fired. Asked once, at the
    /// start.
    ///
    /// ```
    /// use udmabuf_uio::emulator::{Device, emulate};
    ///
    /// /// Sends a message each time that it is written to.
    /// struct Bell(bool);
    ///
    /// impl Device for Bell {
    ///     fn read(&mut self, _offset: usize) -> u64 { 0 }
    ///     fn write(&mut self, _offset: usize, value: u64) { self.0 = value != 0; }
    ///     fn step(&mut self) -> bool { false }
    ///     fn interrupt(&self) -> bool { self.0 }
    ///     fn sends_messages(&self) -> bool { true }
    /// }
    ///
    /// udmabuf_uio::block! { struct Regs: 4 bytes { 0 => RING: WriteOnly<u32> } }
    ///
    /// let (registers, mut interrupt) = emulate::<Regs>(Bell(false))?;
    /// for value in [1, 0, 1, 0, 1] {
    ///     registers.write(Regs::RING, value);
    /// }
    /// // Nothing masked them while nobody waited: this wait ends for all three.
    /// assert_eq!(interrupt.wait(None)?, 3);
    /// assert_eq!(interrupt.missed(), 2);
    /// # Ok::<(), udmabuf_uio::Error>(())
    /// ```
    fn sends_messages(&self) -> bool {
        false
    }

    /// The driver lets a PCI device access memory, or forbids it, as
    /// [`BusMaster`] does. A device that may not goes on, but what it reads and
    /// writes reaches no memory.
    fn set_bus_master(&mut self, allowed: bool) {
        let _ = allowed;
    }

    /// Whether the device is there: once it says no, it is unplugged for good,
    /// and waiting for its interrupt is [`Error::Removed`]. Its registers read
    /// as all ones, as on a bus with nothing at the address.
    fn is_present(&self) -> bool {
        true
    }
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
    let line = Arc::new(Line::new(faults, device.sends_messages()).map_err(failed("eventfd"))?);
    let shared = Arc::new(Shared {
        state: Mutex::new(State { device: Box::new(device), work: true, closed: false }),
        waiting: AtomicU32::new(0),
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

/// Nothing more comes from the device.
struct Gone<'a>(&'a Line);

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        self.0.set_gone();
    }
}

/// Registers of a device model.
pub struct Emulated {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

pub(crate) struct Shared {
    state: Mutex<State>,
    /// Threads that are about to lock the state, but for the device's own.
    waiting: AtomicU32,
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
        // Also if the model panics, which ends its thread.
        let _gone = Gone(&self.line);
        let mut state = self.lock();
        while !state.closed && !self.line.is_gone() {
            if state.work && !self.faults.is_stalled() {
                state.work = state.device.step();
                self.update(&state);
                // Lets a waiting register access in. Nobody else: on a busy machine, it
                // may be milliseconds until the thread runs again.
                if self.waiting.load(Ordering::Relaxed) != 0 {
                    drop(state);
                    thread::yield_now();
                    state = self.lock();
                }
            } else {
                state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    /// A register access of the driver, after which the device may have work;
    /// nothing once it is gone.
    fn access<R>(&self, access: impl FnOnce(&mut dyn Device) -> R) -> Option<R> {
        let mut state = self.lock_first();
        if self.line.is_gone() {
            return None;
        }
        let result = access(&mut *state.device);
        state.work = true;
        self.update(&state);
        self.wake.notify_one();
        Some(result)
    }

    /// After the device did something.
    fn update(&self, state: &State) {
        match state.device.is_present() && !self.faults.is_unplugged() {
            true => self.line.set(state.device.interrupt() || self.faults.holds_interrupt()),
            false => self.line.set_gone(),
        }
    }

    /// After a fault began or ended: the device's thread looks again whether there
    /// is something to do.
    fn look(&self) {
        // Not between its look and its sleep.
        let state = self.lock_first();
        self.update(&state);
        self.wake.notify_one();
    }

    pub(crate) fn set_bus_master(&self, allowed: bool) -> Result<(), Error> {
        self.access(|device| device.set_bus_master(allowed))
            .ok_or_else(|| Error::Removed { device: "emulated device".into() })
    }

    /// Has the device's thread make way.
    fn lock_first(&self) -> MutexGuard<'_, State> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let state = self.lock();
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        state
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Block> Registers<K, Emulated> {
    /// Whether the device may access memory, as [`Pci::bus_master`](crate::Pci::bus_master)
    /// of a real one: not, until [`BusMaster::allow`] says so. Its model is told
    /// by [`Device::set_bus_master`].
    ///
    /// ```
    /// # use udmabuf_uio::emulator::{Device, emulate};
    /// #[derive(Default)]
    /// struct Engine { may_access_memory: bool }
    ///
    /// impl Device for Engine {
    ///     fn read(&mut self, _offset: usize) -> u64 { self.may_access_memory.into() }
    ///     fn write(&mut self, _offset: usize, _value: u64) {}
    ///     fn step(&mut self) -> bool { false }
    ///     fn interrupt(&self) -> bool { false }
    ///     fn set_bus_master(&mut self, allowed: bool) { self.may_access_memory = allowed; }
    /// }
    ///
    /// udmabuf_uio::block! { struct Regs: 4 bytes { 0 => STATE: ReadOnly<u32> } }
    ///
    /// let (registers, _interrupt) = emulate::<Regs>(Engine::default())?;
    /// let bus_master = registers.bus_master()?;
    /// // SAFETY: the engine is idle.
    /// unsafe { bus_master.allow()? };
    /// assert_eq!(registers.read(Regs::STATE), 1);
    /// drop(bus_master);
    /// assert_eq!(registers.read(Regs::STATE), 0);
    /// # Ok::<(), udmabuf_uio::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Removed`]
    pub fn bus_master(&self) -> Result<BusMaster, Error> {
        BusMaster::emulated(self.io().shared.clone())
    }
}

impl Io for Emulated {
    fn read<W: Word>(&self, offset: usize, _: InBlock) -> W {
        W::from_u64(self.shared.access(|device| device.read(offset)).unwrap_or(u64::MAX))
    }

    fn write<W: Word>(&self, offset: usize, word: W, _: InBlock) {
        self.shared.access(|device| device.write(offset, word.to_u64()));
    }
}

impl Drop for Emulated {
    fn drop(&mut self) {
        self.shared.lock_first().closed = true;
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
