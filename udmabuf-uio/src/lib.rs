//! Registers and interrupts of a device, for a driver in userspace.
//!
//! A driver declares the registers of its device once, with offset, width and
//! access, and finds the device by name:
//!
//! ```no_run
//! use std::time::{Duration, Instant};
//! use udmabuf_uio::Uio;
//!
//! udmabuf_uio::block! {
//!     struct Adder: 0x10 bytes {
//!         0x0 => SUMMAND: WriteOnly<u32>,
//!         0x8 => SUM: ReadOnly<u32>,
//!     }
//! }
//!
//! let uio = Uio::open("adder")?;
//! // SAFETY: the adder's registers are as above, and it accesses no memory.
//! let registers = unsafe { uio.registers::<Adder>(0)? };
//! let mut interrupt = uio.into_interrupt()?;
//!
//! registers.write(Adder::SUMMAND, 42);
//! interrupt.wait(Instant::now() + Duration::from_millis(10))?;
//! println!("{}", registers.read(Adder::SUM));
//! # Ok::<(), udmabuf_uio::Error>(())
//! ```
//!
//! | for | see |
//! |---|---|
//! | finding the device: by name, address, device-tree node | [`Uio::open`], [`By`], [`Uio::list`] |
//! | the same for PCI, bound to `uio_pci_generic` or `vfio-pci`; letting it access memory | [`Pci`], [`BusMaster`] |
//! | declaring registers, arrays of them, inner blocks | [`block!`] |
//! | bit fields with names | [`bits!`] |
//! | accessing them; doorbells and status reads with their barriers | [`Registers`] |
//! | waiting: blocking, with a deadline, in an executor | [`Interrupt`], [`Armed`] |
//! | all of this without hardware | [`emulator`] |
//!
//! The feature `tokio` adds `Armed::fired`, which awaits an interrupt, and
//! `Interrupt::watch`, which wakes who awaits a transfer.
//!
//! # One driver for one device
//! An open device is locked (`flock` on its files, of PCI devices too; of `vfio-pci`
//! by the kernel, with all of its IOMMU group), until its registers, its interrupt and
//! its bus-master guard are dropped. Another program that uses this crate is told
//! [`Error::Busy`]; one that does not is not kept out.
//!
//! # A device that goes away
//! A wait, [`Interrupt::check`], or whatever else asks the kernel, then fails with
//! [`Error::Removed`]. From then on the registers read as all ones, or as what was
//! written since. What they read as before that:
//!
//! | a PCI card | its registers |
//! |---|---|
//! | is out, and the kernel does not know yet | read as all ones; writes go nowhere; no interrupt comes. The next wait says [`Error::Removed`], and so do [`Interrupt::check`] and [`BusMaster`] |
//! | was removed by the kernel, from `uio_pci_generic` | are SIGBUS, which ends the program, or whatever has their addresses by then: that depends on the kernel |
//! | is being removed by the kernel, from `vfio-pci` | are as before: the kernel waits until the driver has dropped all that it has of the device |
//!
//! So a driver of a card that can be removed waits for interrupts, with a deadline,
//! rather than polls: a wait that is under way ends before the mapping goes. Where it
//! comes from elsewhere (a call of its user, an executor), it asks
//! [`Interrupt::check`] first; transfers of `udmabuf` do, by `Engine::check`. What
//! remains with `uio_pci_generic` is a card that is removed between the question and
//! the access. Nothing in a program can exclude that; `vfio-pci` does.
//!
//! # Why registers are constants
//! A block could be a struct of volatile fields, mapped by a reference, as the
//! crate `volatile` derives it. A reference promises memory that the compiler
//! may read when it likes, which a FIFO does not survive; padding has to be
//! counted by hand; and where there is no memory, in the [`emulator`], there is
//! nothing to refer to. A constant knows its offset, checks it when it is
//! compiled, and works on anything that can load and store.
//!
//! The model of the crate `safe-mmio`, a pointer to such a struct that is handed on
//! field by field, is free of the first of these faults and has the other two.

mod barrier;
mod devices;
pub mod emulator;
mod error;
#[cfg(test)]
mod fake;
mod field;
mod handle;
mod interrupt;
mod mmio;
mod pci;
mod register;
mod registers;
mod sysfs;
mod uio;
mod vfio;

pub use devices::{By, Map, Port, UioDevice};
pub use error::Error;
pub use field::{Field, FieldValue, TooWide};
pub use interrupt::{Armed, Interrupt};
pub use mmio::Mmio;
pub use pci::{Bar, BusMaster, Pci, PciDevice};
pub use register::{
    Array, Blocks, Inner, Modifiable, ReadEffect, ReadEffectWrite, ReadOnly, ReadWrite, Readable,
    Register, Takable, Writable, WriteEffect, WriteOnly,
};
pub use registers::{Block, Io, Registers, Value, Word};
pub use uio::{MapId, Uio};
