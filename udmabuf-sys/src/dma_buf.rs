//! The kernel's own interface of dma-bufs and of the heaps that make them:
//! `linux/dma-buf.h` and `linux/dma-heap.h`.
#![allow(unsafe_code, reason = "makes the ioctls of dma-bufs and heaps")]

use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};

use rustix::{
    fs::{OFlags, SeekFrom, seek},
    io::{Errno, Result, retry_on_intr},
    ioctl::{Opcode, Updater, ioctl, opcode},
};

/// Where the heaps are.
pub const HEAPS: &str = "/dev/dma_heap";

/// `DMA_BUF_IOCTL_SYNC`: the CPU's accesses begin or end.
pub const SYNC: Opcode = opcode::write::<u64>(b'b', 0);
/// [`SYNC`]: for reading and writing.
pub const SYNC_RW: u64 = 3;
/// [`SYNC`]: they end; otherwise they begin.
pub const SYNC_END: u64 = 1 << 2;

/// `DMA_HEAP_IOCTL_ALLOC`: makes a dma-buf.
pub const HEAP_ALLOC: Opcode = opcode::read_write::<HeapAllocation>(b'H', 0);

/// The argument of [`HEAP_ALLOC`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct HeapAllocation {
    /// Bytes.
    pub len: u64,
    /// Answer: the dma-buf.
    pub fd: u32,
    /// Of the new descriptor: `O_CLOEXEC` and the access mode.
    pub fd_flags: u32,
    /// 0.
    pub heap_flags: u64,
}

const _: () = {
    assert!(SYNC == 0x4008_6200);
    assert!(HEAP_ALLOC == 0xc018_4800);
};

/// The size of a dma-buf in bytes.
///
/// # Errors
/// `SPIPE`, `INVAL`: not a dma-buf.
pub fn size(fd: BorrowedFd<'_>) -> Result<u64> {
    seek(fd, SeekFrom::End(0))
}

/// The CPU will read and write the mapped dma-buf: what devices wrote becomes
/// visible.
///
/// # Safety
/// There is no reference to any mapping of the dma-buf, in this process: its bytes
/// may change. A descriptor says nothing of that. Many lead to one dma-buf, and the
/// crate `udmabuf` gives one away of what it makes slices of.
///
/// # Errors
/// `NOTTY`: not a dma-buf. What its driver gives.
pub unsafe fn begin_cpu_access(fd: BorrowedFd<'_>) -> Result<()> {
    sync(fd, SYNC_RW)
}

/// The CPU has read and written the mapped dma-buf: what it wrote becomes
/// visible to devices.
///
/// # Safety
/// As [`begin_cpu_access`]: a driver that copies may do so both ways.
///
/// # Errors
/// As [`begin_cpu_access`].
pub unsafe fn end_cpu_access(fd: BorrowedFd<'_>) -> Result<()> {
    sync(fd, SYNC_RW | SYNC_END)
}

/// An `Updater`, though the kernel only reads the flags: it changes what the
/// CPU sees in the mapping, which the compiler has to know.
fn sync(fd: BorrowedFd<'_>, flags: u64) -> Result<()> {
    // The kernel says AGAIN and INTR where a fence was not waited out.
    loop {
        match retry_on_intr(|| call::<SYNC, _>(fd, flags)) {
            Err(Errno::AGAIN) => {}
            result => return result.map(drop),
        }
    }
}

/// Makes a dma-buf of `len` bytes from a heap (a file in [`HEAPS`]).
///
/// ```no_run
/// use std::{fs::File, os::fd::AsFd};
/// use udmabuf_sys::dma_buf;
///
/// let heap = File::options().read(true).write(true).open("/dev/dma_heap/system")?;
/// let frame = dma_buf::allocate(heap.as_fd(), 1 << 20)?;
/// // SAFETY: it is not mapped.
/// unsafe { dma_buf::begin_cpu_access(frame.as_fd()) }?;
/// // map it, read and write there, without references
/// // SAFETY: there are none.
/// unsafe { dma_buf::end_cpu_access(frame.as_fd()) }?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// `INVAL`: a length of 0. `NOMEM`. `NOTTY`: not a heap.
pub fn allocate(heap: BorrowedFd<'_>, len: u64) -> Result<OwnedFd> {
    let fd_flags = (OFlags::RDWR | OFlags::CLOEXEC).bits();
    let made = call::<HEAP_ALLOC, _>(heap, HeapAllocation { len, fd_flags, ..Default::default() })?;
    let fd = i32::try_from(made.fd).map_err(|_| Errno::BADF)?;
    // SAFETY: the call succeeded, so the kernel has just put this descriptor
    // into the table, for the caller alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn call<const OPCODE: Opcode, T: Copy>(fd: BorrowedFd<'_>, mut argument: T) -> Result<T> {
    // SAFETY: the callers pair an opcode with the type it was made from, of
    // which any bytes are a value.
    let command = unsafe { Updater::<OPCODE, T>::new(&mut argument) };
    // SAFETY: the kernel accesses that argument and the cache lines of the
    // dma-buf; another file knows none of these commands.
    unsafe { ioctl(fd, command) }?;
    Ok(argument)
}
