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
//! | to do what | there is |
//! |---|---|
//! | open a buffer | [`Buffer::open`]; [`OpenOptions`] for other mappings, sizes, and the existing driver without claims; [`devices`] lists them |
//! | make one at run time | [`CreateOptions`] |
//! | work on parts of it | [`split_at`](Buffer::split_at), [`into_chunks`](Buffer::into_chunks), [`join`](Buffer::join) |
//! | read and write | slices and typed views of what the CPU owns; [access by value](Buffer#access-by-value) to what is shared or uncached |
//! | share it with a running device | [`into_shared`](Buffer::into_shared) |
//! | hand over many at once | [`CpuParts`], [`Parts`] |
//! | write a driver | [`Engine`], [`Slot`], [`Transfer`], which can be [awaited](Completion); [`Stream`] and [`Ring`] |
//! | work with other drivers | [`export`](Buffer::export), [`import`](Buffer::import), [`from_heap`](Buffer::from_heap) |
//! | have no hardware | [`emulator`]: buffers in which a missing sync shows |
//! | know what does not compile | [`promises`] |
//!
//! # The first driver
//! 1. Without hardware: an [`Engine`] whose device is a function on the
//!    [emulated bus](emulator::Bus), as in its example, in a [`Slot`].
//! 2. A safe function around [`Slot::start`], which takes device-owned buffers in
//!    the directions that the device needs and returns the [`Transfer`].
//! 3. A test, on an [`Emulator`](emulator::Emulator) with an adversary:
//!    the bytes are right under every seed, the device
//!    [tried nothing that it must not](emulator::Emulator::violations), and
//!    [syncs that fail](emulator::SyncFault) leave the driver usable.
//! 4. The registers and the interrupt, with the crate `udmabuf-uio`, in place of
//!    that function: the emulator's devices have both, so the test stays.
//! 5. On a board, [`Buffer::open`] in place of
//!    [`Emulator::buffer`](emulator::Emulator::buffer), and nothing else changes.
//!
//! # Other drivers than this project's
//! The existing `u-dma-buf` from 5.0 on has no claims, so
//! [`open_unclaimed`](OpenOptions::open_unclaimed) takes a promise instead; where
//! a handover takes a system call, it takes one for each part, and what a program
//! that died had lent is forgotten. Older ones, and their predecessor in
//! `/sys/class/udmabuf`, are [listed](devices) and not opened.
//!
//! # What a handover costs
//! On a coherent device, and in a mapping without cache, a barrier. On arm64, with
//! this project's kernel module, the cache instructions for the lines of the part:
//! no system call either. Elsewhere one system call, for many parts too. None of
//! them allocates. If the program dies, what it had handed over is remembered in
//! each case, but for buffers that were opened
//! [without a claim](OpenOptions::open_unclaimed).

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
#[doc = include_str!("promises.md")]
pub mod promises {}
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
