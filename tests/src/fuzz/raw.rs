//! System calls with any number for an address, as a hostile program makes them.
#![allow(unsafe_code, reason = "gives the kernel every kind of address")]

use std::{
    ffi::{c_int, c_long, c_uint, c_ulong},
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    ptr::with_exposed_provenance_mut,
};

use rustix::io::Errno;

/// What a call gave: a number, or its error.
pub(crate) type Outcome = Result<usize, Errno>;

// SAFETY: the C library's, with addresses as numbers of the same size. None of the
// numbers that this program makes up is the address of an object of Rust's:
// `Arena` and `map` give memory that no other part of the program knows, other
// numbers are no memory of the program at all.
unsafe extern "C" {
    safe fn ioctl(fd: c_int, opcode: c_ulong, ...) -> c_int;
    safe fn read(fd: c_int, address: usize, len: usize) -> isize;
    safe fn write(fd: c_int, address: usize, len: usize) -> isize;
    safe fn pread64(fd: c_int, address: usize, len: usize, at: i64) -> isize;
    safe fn pwrite64(fd: c_int, address: usize, len: usize, at: i64) -> isize;
    safe fn mmap64(
        address: usize,
        len: usize,
        prot: c_int,
        flags: c_int,
        fd: c_int,
        at: i64,
    ) -> isize;
    safe fn lseek64(fd: c_int, offset: i64, whence: c_int) -> i64;
    safe fn fork() -> c_int;
    safe fn _exit(status: c_int) -> !;
    safe fn munmap(address: usize, len: usize) -> c_int;
    safe fn mprotect(address: usize, len: usize, prot: c_int) -> c_int;
    safe fn mremap(old: usize, len: usize, new_len: usize, flags: c_int, ...) -> isize;
    safe fn madvise(address: usize, len: usize, advice: c_int) -> c_int;
    safe fn posix_fadvise64(fd: c_int, offset: i64, len: i64, advice: c_int) -> c_int;
    safe fn mlock(address: usize, len: usize) -> c_int;
    safe fn msync(address: usize, len: usize, flags: c_int) -> c_int;
    safe fn signal(number: c_int, handler: extern "C" fn(c_int)) -> usize;
    safe fn siginterrupt(number: c_int, interrupts: c_int) -> c_int;
    safe fn ualarm(first: c_uint, interval: c_uint) -> c_uint;
    safe fn vmsplice(fd: c_int, iov: *const [usize; 2], count: c_ulong, flags: c_uint) -> isize;
}

/// Offsets are signed for some calls.
pub(crate) fn signed(value: u64) -> i64 {
    i64::from_ne_bytes(value.to_ne_bytes())
}

pub(crate) fn unsigned(value: i64) -> u64 {
    u64::from_ne_bytes(value.to_ne_bytes())
}

fn outcome(value: isize) -> Outcome {
    match usize::try_from(value) {
        Ok(value) => Ok(value),
        Err(_) => {
            let error = std::io::Error::last_os_error();
            Err(Errno::from_io_error(&error).unwrap_or(Errno::IO))
        }
    }
}

fn small(value: c_int) -> Outcome {
    outcome(isize::try_from(value).unwrap_or(-1))
}

pub(crate) fn control(fd: BorrowedFd<'_>, opcode: u32, address: usize) -> Outcome {
    small(ioctl(fd.as_raw_fd(), c_ulong::from(opcode), address))
}

/// Reads or writes at the file's position or at another.
pub(crate) fn transfer(
    fd: BorrowedFd<'_>,
    write_it: bool,
    at: Option<i64>,
    address: usize,
    len: usize,
) -> Outcome {
    let fd = fd.as_raw_fd();
    outcome(match (write_it, at) {
        (false, None) => read(fd, address, len),
        (true, None) => write(fd, address, len),
        (false, Some(at)) => pread64(fd, address, len, at),
        (true, Some(at)) => pwrite64(fd, address, len, at),
    })
}

/// A descriptor that a call gave.
pub(crate) fn own(fd: c_int) -> OwnedFd {
    // SAFETY: the kernel has just made it for this program, and nobody else has
    // the number.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

pub(crate) fn seek(fd: BorrowedFd<'_>, offset: i64, whence: u8) -> Result<u64, Errno> {
    match lseek64(fd.as_raw_fd(), offset, whence.into()) {
        -1 => outcome(-1).map(|_| 0),
        position => Ok(unsigned(position)),
    }
}

/// A child, which does what it is told, and ends with that.
pub(crate) fn in_a_child(work: impl FnOnce() -> u8) -> Outcome {
    match fork() {
        0 => _exit(work().into()),
        child => small(child),
    }
}

extern "C" fn nothing(_: c_int) {}

/// From now on this process gets signals, which interrupt what lets itself be
/// interrupted, and are handled: nothing is done.
pub(crate) fn be_signalled() {
    const SIGALRM: c_int = 14;
    signal(SIGALRM, nothing);
    siginterrupt(SIGALRM, 1);
    ualarm(7000, 7000);
}

pub(crate) const PROT_READ: c_int = 1;
pub(crate) const PROT_WRITE: c_int = 2;
pub(crate) const PROT_EXEC: c_int = 4;
pub(crate) const MAP_SHARED: c_int = 1;
pub(crate) const MAP_PRIVATE: c_int = 2;
pub(crate) const MAP_FIXED: c_int = 0x10;

/// The address, which is the kernel's choice.
pub(crate) fn map(
    fd: BorrowedFd<'_>,
    prot: c_int,
    flags: c_int,
    at: i64,
    len: usize,
) -> Result<usize, Errno> {
    map_to(0, fd, prot, flags, at, len)
}

/// With MAP_FIXED instead of what is there.
pub(crate) fn map_to(
    address: usize,
    fd: BorrowedFd<'_>,
    prot: c_int,
    flags: c_int,
    at: i64,
    len: usize,
) -> Result<usize, Errno> {
    match mmap64(address, len, prot, flags, fd.as_raw_fd(), at) {
        -1 => outcome(-1),
        address => Ok(usize::from_ne_bytes(address.to_ne_bytes())),
    }
}

pub(crate) fn unmap(address: usize, len: usize) -> Outcome {
    small(munmap(address, len))
}

pub(crate) fn protect(address: usize, len: usize, prot: c_int) -> Outcome {
    small(mprotect(address, len, prot))
}

pub(crate) const MREMAP_MAYMOVE: c_int = 1;
pub(crate) const MREMAP_DONTUNMAP: c_int = 4;

/// Wherever the kernel likes.
pub(crate) fn remap_by(flags: c_int, address: usize, len: usize, new_len: usize) -> Outcome {
    match mremap(address, len, new_len, flags) {
        -1 => outcome(-1),
        address => Ok(usize::from_ne_bytes(address.to_ne_bytes())),
    }
}

/// With MREMAP_MAYMOVE; to a place of its own if there is one.
pub(crate) fn remap(address: usize, len: usize, new_len: usize, to: Option<usize>) -> Outcome {
    let moved = match to {
        None => return remap_by(MREMAP_MAYMOVE, address, len, new_len),
        Some(to) => mremap(address, len, new_len, 3, to),
    };
    match moved {
        -1 => outcome(-1),
        address => Ok(usize::from_ne_bytes(address.to_ne_bytes())),
    }
}

pub(crate) fn advise(address: usize, len: usize, advice: c_int) -> Outcome {
    small(madvise(address, len, advice))
}

/// This one returns its error.
pub(crate) fn file_advice(fd: BorrowedFd<'_>, offset: i64, len: i64, advice: c_int) -> Outcome {
    match posix_fadvise64(fd.as_raw_fd(), offset, len, advice) {
        0 => Ok(0),
        error => Err(Errno::from_raw_os_error(error)),
    }
}

pub(crate) fn lock(address: usize, len: usize) -> Outcome {
    small(mlock(address, len))
}

pub(crate) fn sync(address: usize, len: usize) -> Outcome {
    small(msync(address, len, 4))
}

/// Puts pages of the program into a pipe.
pub(crate) fn splice_pages(pipe: BorrowedFd<'_>, address: usize, len: usize) -> Outcome {
    let list = [[address, len]];
    outcome(vmsplice(pipe.as_raw_fd(), list.as_ptr(), 1, 2 /* SPLICE_F_NONBLOCK */))
}

/// A byte that the caller knows to be mapped and readable.
pub(crate) fn get(address: usize) -> u8 {
    // SAFETY: see `unsafe extern`; the caller has mapped it.
    unsafe { with_exposed_provenance_mut::<u8>(address).read_volatile() }
}

/// A byte that the caller knows to be mapped and writable.
pub(crate) fn set(address: usize, value: u8) {
    // SAFETY: as in `get`.
    unsafe { with_exposed_provenance_mut::<u8>(address).write_volatile(value) }
}

const _: () = assert!(size_of::<c_long>() == size_of::<usize>());
