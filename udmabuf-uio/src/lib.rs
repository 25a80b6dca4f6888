//! Registers and interrupts of a device, for a driver in userspace.
//!
//! A driver declares the registers of its device once, as constants with
//! offset, width and access, and finds the device by name:
//!
//! ```no_run
//! use std::time::{Duration, Instant};
//! use udmabuf_uio::{Block, Register, ReadOnly, Uio};
//!
//! struct Adder; // the register block
//! impl Block for Adder {
//!     const SIZE: usize = 0x10;
//! }
//! const SUMMAND: Register<Adder, u32> = Register::at(0x0);
//! const SUM: Register<Adder, u32, ReadOnly> = Register::at(0x8);
//!
//! let uio = Uio::open("adder")?;
//! // SAFETY: the adder's registers are as above, and it accesses no memory.
//! let registers = unsafe { uio.registers::<Adder>(0)? };
//! let mut interrupt = uio.into_interrupt()?;
//!
//! registers.write(SUMMAND, 42);
//! interrupt.rearm()?;
//! interrupt.wait(Instant::now() + Duration::from_millis(10))?;
//! println!("{}", registers.read(SUM));
//! # Ok::<(), udmabuf_uio::Error>(())
//! ```
//!
//! [`Pci`] is the same for a PCI device; [`emulator`] gives the same types for
//! a device model on a thread.

mod barrier;
pub mod emulator;
mod error;
mod field;
mod handle;
mod interrupt;
mod mmio;
mod pci;
mod register;
mod registers;
mod sysfs;
mod uio;

pub use error::Error;
pub use field::{Field, FieldValue, TooWide};
pub use interrupt::Interrupt;
pub use mmio::Mmio;
pub use pci::{BusMaster, Pci};
pub use register::{
    Array, Blocks, Inner, Modifiable, ReadEffect, ReadEffectWrite, ReadOnly, ReadWrite, Readable,
    Register, Takable, Writable, WriteEffect, WriteOnly,
};
pub use registers::{Block, Io, Registers, Value, Word};
pub use uio::Uio;
