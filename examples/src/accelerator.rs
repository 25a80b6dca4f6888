#![doc = include_str!("../accelerator.md")]
#![allow(unsafe_code, reason = "vouches for the core and for its registers")]

mod model;

use std::{
    task::Waker,
    time::{Duration, Instant},
};

pub use model::Model;
use udmabuf::{
    Buffer, Busy, DeviceOwned, Engine, FromDevice, Progress, Slot, Started, ToDevice,
    emulator::{Bus, Emulator},
};
use udmabuf_uio::{
    Io, Mmio, Uio, block,
    emulator::{Emulated, Faults, emulate_with},
};

use crate::ap_ctrl_hs::{ApCtrlHs, Core, NotIdle, Pointer};

block! {
    /// The registers of `vadd`, as in its `xvadd_hw.h`.
    pub struct Vadd: 0x3c bytes, align 4 {
        /// What every core has.
        0x00 => CONTROL: ApCtrlHs,
        /// Where the first summand is.
        0x10 => A: Pointer,
        /// Where the second one is.
        0x1c => B: Pointer,
        /// Where the sum goes.
        0x28 => OUT: Pointer,
        /// Elements to add.
        0x34 => SIZE: ReadWrite<u32>,
    }
}

/// Bytes of an element.
const ELEMENT: usize = size_of::<u32>();
/// The size is an `int`.
const MAX_SIZE: usize = i32::MAX as usize;
/// Vitis HLS gives `m_axi` interfaces 64 bits of address.
const ADDR_BITS: u32 = 64;
/// Longer than the longest addition takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// What goes wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The device cannot be opened, or its interrupt not waited for.
    #[error(transparent)]
    Uio(#[from] udmabuf_uio::Error),
    /// A buffer is out of the core's reach.
    #[error(transparent)]
    Buffer(#[from] udmabuf::Error),
    /// The core does not come to rest.
    #[error(transparent)]
    NotIdle(#[from] NotIdle),
    /// The summands differ in length, or have no whole number of elements that
    /// the core can count, or the sum is shorter than they are.
    #[error("{a} and {b} bytes cannot be added into {out}")]
    Lengths {
        /// Bytes of the first summand.
        a: usize,
        /// Bytes of the second.
        b: usize,
        /// Bytes for the sum.
        out: usize,
    },
}

/// What the core reads.
pub type Summand = Buffer<DeviceOwned, ToDevice>;
/// What it writes.
pub type Sum = Buffer<DeviceOwned, FromDevice>;
/// The buffers of an addition.
pub type Vectors = ((Summand, Summand), Sum);

/// A `vadd` core that this process drives alone.
#[derive(Debug)]
pub struct Accelerator<I: Io = Mmio>(Slot<Adder<I>>);

/// The core itself: what a transfer holds while it runs.
#[derive(Debug)]
pub struct Adder<I> {
    core: Core<Vadd, I>,
    /// The emulated bus that the core masters; none for hardware.
    bus: Option<Bus>,
    interrupts: u64,
    /// How long stopping waits for the core to end by itself.
    patience: Duration,
}

impl Accelerator {
    /// Opens the first free core that is a UIO device called `name`, and waits
    /// until it is idle.
    ///
    /// # Errors
    /// [`Error::Uio`], [`Error::NotIdle`]
    pub fn open(name: &str) -> Result<Self, Error> {
        let uio = Uio::open(name)?;
        // SAFETY: the registers are those of `vadd`, and the core is started
        // only by `Adder::program`, with the addresses of a transfer's buffers.
        let registers = unsafe { uio.registers(0)? };
        let interrupt = uio.into_interrupt()?;
        Ok(Self::new(Core::new(registers, Vadd::CONTROL, interrupt, PATIENCE)?, None))
    }
}

impl Accelerator<Emulated> {
    /// Starts a model of the core on the emulator's bus, in which things may go
    /// wrong.
    ///
    /// # Errors
    /// [`Error::Uio`]
    pub fn emulated(emulator: &Emulator, faults: &Faults) -> Result<Self, Error> {
        let bus = emulator.bus();
        let (registers, interrupt) = emulate_with(Model::new(bus.clone()), faults)?;
        Ok(Self::new(Core::new(registers, Vadd::CONTROL, interrupt, PATIENCE)?, Some(bus)))
    }
}

impl<I: Io> Accelerator<I> {
    fn new(core: Core<Vadd, I>, bus: Option<Bus>) -> Self {
        Self(Slot::new(Adder { core, bus, interrupts: 0, patience: PATIENCE }))
    }

    /// Adds two vectors of `u32`, element by element, into the start of `out`.
    ///
    /// # Errors
    /// [`Busy`] while an addition is running; [`Error::Lengths`],
    /// [`Error::Buffer`]. The buffers are in the error.
    pub fn add(&self, a: Summand, b: Summand, out: Sum) -> Started<Adder<I>, Vectors> {
        self.0.start(((a, b), out), Adder::program)
    }

    /// How long stopping an addition waits for the core to end it: 30 seconds, if
    /// not said otherwise. After that the buffers are out of use.
    ///
    /// # Errors
    /// [`Busy`]
    pub fn set_patience(&self, patience: Duration) -> Result<(), Busy> {
        self.0.with(|adder| adder.patience = patience)
    }

    /// How many interrupts the core has raised.
    ///
    /// # Errors
    /// [`Busy`]
    pub fn interrupts(&self) -> Result<u64, Busy> {
        self.0.with(|adder| adder.interrupts)
    }
}

impl<I: Io> Adder<I> {
    fn program(&mut self, ((a, b), out): &Vectors) -> Result<(), Error> {
        let elements = a.len() / ELEMENT;
        let fits = a.len() == b.len() && a.len() <= out.len() && a.len() % ELEMENT == 0;
        let Some(size) = u32::try_from(elements).ok().filter(|_| fits && elements <= MAX_SIZE)
        else {
            return Err(Error::Lengths { a: a.len(), b: b.len(), out: out.len() });
        };
        self.core.set_pointer(Vadd::A, a.dma_addr(), ADDR_BITS)?;
        self.core.set_pointer(Vadd::B, b.dma_addr(), ADDR_BITS)?;
        self.core.set_pointer(Vadd::OUT, out.dma_addr(), ADDR_BITS)?;
        self.core.registers().write(Vadd::SIZE, size);
        self.core.start();
        Ok(())
    }
}

// SAFETY: the core accesses memory only between `start`, the last in `program`,
// and its "done", which it says after its last write was answered; and only the
// elements that `program` found in all three buffers. `stop` waits for "idle".
// `Uio` keeps other drivers out that heed locks; the model is this process's own.
unsafe impl<I: Io> Engine for Adder<I> {
    type Error = Error;

    fn bus(&self) -> Option<&Bus> {
        self.bus.as_ref()
    }

    fn poll(&mut self) -> Progress<Error> {
        self.core.acknowledge();
        if self.core.is_done() { Progress::Finished } else { Progress::Running }
    }

    fn park(&mut self, deadline: Instant) -> Result<(), Error> {
        self.interrupts += u64::from(self.core.wait(deadline)?);
        Ok(())
    }

    fn register(&mut self, waker: &Waker) -> Result<(), Error> {
        self.interrupts += u64::from(self.core.watch(waker)?);
        Ok(())
    }

    /// The core cannot be broken off; it ends by itself.
    fn stop(&mut self) -> Result<(), Error> {
        self.core.stop(self.patience)?;
        self.core.acknowledge();
        Ok(())
    }
}
