//! One function a command of the device file.
#![allow(unsafe_code, reason = "the one place where the ioctls are made")]

use std::os::fd::BorrowedFd;

use rustix::{
    io::Result,
    ioctl::{Opcode, Updater, ioctl},
};

use crate::abi::{self, DevInfo, Direction, SetSync};

/// Makes a command whose argument is one structure that the kernel reads or
/// fills.
///
/// Every command is an `Updater`, even where the kernel only reads the
/// argument: a sync changes what the CPU sees in the mapped buffer, so the
/// compiler must not carry loads of it over the call. rustix's `Setter` would
/// promise it that nothing changes.
fn call<const OPCODE: Opcode, T: Copy>(fd: BorrowedFd<'_>, mut argument: T) -> Result<T> {
    // SAFETY: each caller below pairs an opcode with the type that it was made
    // from, of which any bytes are a value.
    let command = unsafe { Updater::<OPCODE, T>::new(&mut argument) };
    // SAFETY: the kernel accesses that argument and, for a sync, the cache lines
    // of the buffer behind the file. That the file is a u-dma-buf is not known
    // here; on another one, these numbers are no command (ENOTTY), which is
    // what the kernel's `Documentation/userspace-api/ioctl/ioctl-number.rst`
    // is kept for.
    unsafe { ioctl(fd, command) }?;
    Ok(argument)
}

/// What the buffer is: its size, bus address and coherence.
///
/// # Errors
/// `NOTTY`: not a `u-dma-buf` file, or a driver older than 5.0.
/// `NODEV`: the device is gone.
pub fn device_info(fd: BorrowedFd<'_>) -> Result<DevInfo> {
    call::<{ abi::GET_DEV_INFO }, _>(fd, DevInfo::default())
}

/// Makes this open file the only user of the buffer until it is closed and
/// its mappings are gone. With `adopt` the caller vouches that no device
/// accesses the buffer.
///
/// # Errors
/// `BUSY`: another file has it open. `OWNERDEAD`: it was handed to a device
/// and never taken back. `NOTTY`: a driver without the claim. `BADF`: not open
/// for reading and writing.
pub fn claim(fd: BorrowedFd<'_>, adopt: bool) -> Result<()> {
    let flags = if adopt { abi::CLAIM_ADOPT } else { 0 };
    call::<{ abi::CLAIM }, _>(fd, flags).map(drop)
}

/// Hands `size` bytes at `offset` to the device: what the CPU wrote reaches
/// memory, and no cache line of the range is left dirty.
///
/// # Errors
/// `INVAL`: the range is not inside the buffer.
pub fn sync_for_device(
    fd: BorrowedFd<'_>,
    direction: Direction,
    offset: u64,
    size: u64,
) -> Result<()> {
    set_sync(fd, abi::SYNC_FOR_DEVICE, direction, offset, size)
}

/// Hands `size` bytes at `offset` to the CPU: what the device wrote becomes
/// visible to it.
///
/// # Errors
/// `INVAL`: the range is not inside the buffer.
pub fn sync_for_cpu(
    fd: BorrowedFd<'_>,
    direction: Direction,
    offset: u64,
    size: u64,
) -> Result<()> {
    set_sync(fd, abi::SYNC_FOR_CPU, direction, offset, size)
}

fn set_sync(
    fd: BorrowedFd<'_>,
    command: u64,
    direction: Direction,
    offset: u64,
    size: u64,
) -> Result<()> {
    let flags = command | (direction as u64) << abi::SYNC_DIRECTION_SHIFT;
    call::<{ abi::SET_SYNC }, _>(fd, SetSync { flags, size, offset }).map(drop)
}
