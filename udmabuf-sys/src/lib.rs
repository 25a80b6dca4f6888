//! The kernel interface of the `u-dma-buf` module, and nothing else.
//!
//! One function a command, over a [`BorrowedFd`](std::os::fd::BorrowedFd); the
//! structures as the kernel lays them out; the text formats of sysfs; an owned
//! mapping. No ownership rules, no allocation, no panics: those who write a
//! driver want the crate `udmabuf`, which is built on this one.
//!
//! # What is `unsafe`
//! A sync changes the bytes of every mapping, so none may be made under a reference
//! to them. Where [`Mapping`](map::Mapping) is all that there is, whoever makes a
//! reference from its pointer sees to that, and the [syncs](ioctl) are safe functions:
//! who holds a claim has the only file by which the buffer can be synced. Of a
//! [dma-buf](dma_buf) there may be any number of descriptors, and slices that `udmabuf`
//! has made of it, which safe code holds both: its syncs are `unsafe`.
//!
//! ```no_run
//! use std::{fs::File, os::fd::AsFd};
//!
//! let file = File::options().read(true).write(true).open("/dev/udmabuf0")?;
//! udmabuf_sys::ioctl::claim(file.as_fd(), false)?;
//! let info = udmabuf_sys::ioctl::device_info(file.as_fd())?;
//! println!("{} bytes at {:#x} for the device", info.size, info.dma_addr);
//! # Ok::<(), std::io::Error>(())
//! ```

pub mod abi;
pub mod dma_buf;
pub mod ioctl;
pub mod manager;
pub mod map;
pub mod sysfs;
