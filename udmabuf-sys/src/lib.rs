//! The kernel interface of the `u-dma-buf` module, and nothing else.
//!
//! One function a command, over a [`BorrowedFd`](std::os::fd::BorrowedFd); the
//! structures as the kernel lays them out; the text formats of sysfs; an owned
//! mapping. No ownership rules, no allocation, no panics: those who write a
//! driver want the crate `udmabuf`, which is built on this one.
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
