//! DMA buffers whose owner is a type.
//!
//! A driver for an accelerator runs in userspace; its data is in physically
//! contiguous memory from the kernel module `u-dma-buf`. The bug that this
//! crate makes impossible is the CPU touching that memory while the device
//! owns it, or without the cache maintenance in between: it does not compile.
//!
//! ```
//! use udmabuf::{Buffer, DeviceOwned, FromDevice, ToDevice, emulator::Emulator};
//!
//! # let emulator = Emulator::new();
//! # let [source, destination] = [0, 1].map(|_| emulator.buffer(4096));
//! // On a board: Buffer::open("udmabuf0")?
//! let mut source = source.for_direction::<ToDevice>();
//! let destination = destination.for_direction::<FromDevice>();
//!
//! source.as_mut_slice().fill(7); // the CPU owns it: bytes, no address
//! let source = source.into_device()?; // synced; the device owns it: an address, no bytes
//! println!("the engine reads from {}", source.dma_addr());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The way back is [`Transfer::wait`]: a driver implements [`Engine`], its
//! start function returns a [`Transfer`] that owns the buffers, and waiting for
//! it returns them, synced, as [`Buffer<CpuOwned>`].
//!
//! | module | what it is for |
//! |---|---|
//! | [`Buffer`] | the buffer, its handovers, slices and typed views |
//! | [`Engine`], [`Slot`], [`Transfer`] | how a driver starts the device and waits for it |
//! | [`devices`] | which buffers there are |
//! | [`emulator`] | buffers without hardware, in which a missing sync shows |

mod addr;
mod barrier;
mod batch;
mod buffer;
mod completion;
mod create;
mod devices;
mod direction;
pub mod emulator;
mod engine;
mod error;
mod export;
mod import;
mod maintenance;
mod memory;
mod mode;
mod open;
mod owner;
mod part;
mod parts;
mod ring;
mod split;
mod transfer;
mod value;
mod view;
mod words;

pub use addr::DmaAddr;
pub use buffer::Buffer;
pub use completion::Completion;
pub use create::{CreateOptions, Created};
pub use devices::{Device, devices};
pub use direction::{Bidirectional, CpuWrites, Direction, FromDevice, ToDevice};
pub use engine::{Busy, Engine, Progress, Slot, StartError, Started};
pub use error::{Error, Handoff};
pub use export::Exported;
pub use mode::{Addressed, CacheMode, Cached, Foreign, Mapped, Slices, Uncached, WriteCombined};
pub use open::OpenOptions;
pub use owner::{ByValue, CpuAccess, CpuOwned, DeviceAccess, DeviceOwned, Owner, Shared};
pub use parts::{CpuParts, Parts};
pub use ring::{NotStopped, Ring, RingError, Stopped, Stream};
pub use transfer::{Transfer, WaitError};
pub use value::Values;
