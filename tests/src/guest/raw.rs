//! System calls that no safe function makes: bad pointers, other layouts.
#![allow(unsafe_code, reason = "what a wrong program would do")]

use std::{
    ffi::c_void,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    ptr,
};

use memmap2::MmapOptions;
use rustix::{
    io::Result,
    ioctl::{Ioctl, IoctlOutput, Opcode, ioctl},
};
use udmabuf_sys::abi;

/// All that the device file takes.
pub(crate) const COMMANDS: [Opcode; 16] = [
    abi::GET_DRV_INFO,
    abi::GET_SIZE,
    abi::GET_DMA_ADDR,
    abi::GET_SYNC_OWNER,
    abi::SET_SYNC_FOR_CPU,
    abi::SET_SYNC_FOR_DEVICE,
    abi::GET_DEV_INFO,
    abi::GET_SYNC,
    abi::SET_SYNC,
    abi::EXPORT,
    abi::CLAIM,
    abi::GET_CAPS,
    abi::SYNC_BATCH,
    abi::CLAIM_RANGE,
    abi::SET_MAP_MODE,
    abi::GET_PARENT,
];

struct Raw {
    opcode: Opcode,
    argument: *mut c_void,
}

// SAFETY: says nothing about memory; see `call`.
unsafe impl Ioctl for Raw {
    type Output = ();
    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        self.opcode
    }

    fn as_ptr(&mut self) -> *mut c_void {
        self.argument
    }

    unsafe fn output_from_ptr(_: IoctlOutput, _: *mut c_void) -> Result<()> {
        Ok(())
    }
}

/// An ioctl with the address of any bytes: the kernel checks it.
pub(crate) fn call(fd: BorrowedFd<'_>, opcode: Opcode, argument: &mut [u8]) -> Result<()> {
    let argument = argument.as_mut_ptr().cast();
    // SAFETY: the commands used here access at most as many bytes as there are.
    unsafe { ioctl(fd, Raw { opcode, argument }) }
}

/// An ioctl whose argument is at an address where nothing is.
pub(crate) fn call_nowhere(fd: BorrowedFd<'_>, opcode: Opcode) -> Result<()> {
    // The first page is never mapped.
    call_kernel(fd, opcode, 8)
}

/// An ioctl whose argument is where the kernel lives, or nobody.
pub(crate) fn call_kernel(fd: BorrowedFd<'_>, opcode: Opcode, address: usize) -> Result<()> {
    let argument = ptr::without_provenance_mut(address);
    // SAFETY: nothing of this program is there.
    unsafe { ioctl(fd, Raw { opcode, argument }) }
}

/// An ioctl whose argument can be read and not written.
pub(crate) fn call_read_only<T: Sync>(
    fd: BorrowedFd<'_>,
    opcode: Opcode,
    argument: &'static T,
) -> Result<()> {
    let argument = ptr::from_ref(argument).cast_mut().cast();
    // SAFETY: a static without interior mutability is in read-only memory, or
    // the test that expects `EFAULT` fails.
    unsafe { ioctl(fd, Raw { opcode, argument }) }
}

/// A private mapping, at once unmapped.
pub(crate) fn map_privately(fd: BorrowedFd<'_>, len: usize) -> std::io::Result<()> {
    // SAFETY: nobody looks at the bytes.
    unsafe { MmapOptions::new().len(len).map_copy(fd.as_raw_fd()) }.map(drop)
}

/// A descriptor that a raw call gave to the caller alone.
pub(crate) fn own(fd: i32) -> OwnedFd {
    // SAFETY: nobody else knows the number.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
