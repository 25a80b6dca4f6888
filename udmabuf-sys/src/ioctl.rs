//! One function a command of the device file.
#![allow(unsafe_code, reason = "the one place where the ioctls are made")]

use std::{ffi::c_void, os::fd::BorrowedFd};

use rustix::{
    io::Result,
    ioctl::{Ioctl, IoctlOutput, Opcode},
};

use crate::abi::{self, DevInfo, Direction, SetSync};

/// A command whose argument is one structure that the kernel reads or fills.
///
/// # Invariants
/// `OPCODE` encodes the size of `T`, and the kernel accesses no memory but
/// that `T` and, for a sync, the buffer behind the file.
struct Command<const OPCODE: Opcode, T>(T);

// SAFETY: by the invariant, `as_ptr` gives the memory that the kernel expects,
// and it stays a valid `T`: every `T` here is made of integers.
unsafe impl<const OPCODE: Opcode, T: Copy> Ioctl for Command<OPCODE, T> {
    type Output = T;

    // True even where the kernel only reads the argument: a sync changes what
    // the CPU sees in the mapped buffer, so the compiler must not carry loads
    // of it over the call. rustix's own `Setter` says false.
    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        OPCODE
    }

    fn as_ptr(&mut self) -> *mut c_void {
        (&raw mut self.0).cast()
    }

    unsafe fn output_from_ptr(_: IoctlOutput, argument: *mut c_void) -> Result<T> {
        // SAFETY: the trait's contract: this is the pointer of `as_ptr`, after the call.
        Ok(unsafe { argument.cast::<T>().read() })
    }
}

fn call<const OPCODE: Opcode, T: Copy>(fd: BorrowedFd<'_>, argument: T) -> Result<T> {
    // SAFETY: `Command`'s invariant, which each caller below establishes by
    // pairing an opcode with the type it was made from. On a file that is not
    // a u-dma-buf, type 'U' with these sizes is unknown and gives ENOTTY.
    unsafe { rustix::ioctl::ioctl(fd, Command::<OPCODE, T>(argument)) }
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
