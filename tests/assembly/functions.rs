//! What a driver does most often, by name, for `tests/tests/assembly.rs`.
#![allow(unsafe_code, reason = "names functions, and takes buffers back by hand")]
#![allow(missing_docs, reason = "each is one call")]

use std::os::fd::BorrowedFd;

use udmabuf::{
    Bidirectional, Buffer, CpuOwned, CpuParts, DeviceOwned, Error, Handoff, Parts, Shared,
    Uncached, WriteCombined,
};
use udmabuf_sys::ioctl;

type Given = Result<Buffer<DeviceOwned>, Handoff<Buffer<CpuOwned>>>;
type Taken = Result<Buffer<CpuOwned>, Handoff<Buffer<DeviceOwned>>>;

#[unsafe(no_mangle)]
pub fn looked_at_give(buffer: Buffer<CpuOwned>) -> Given {
    buffer.into_device()
}

/// # Safety
/// No device accesses the buffer.
#[unsafe(no_mangle)]
pub unsafe fn looked_at_take(buffer: Buffer<DeviceOwned>) -> Taken {
    // SAFETY: the caller's.
    unsafe { buffer.into_cpu() }
}

#[unsafe(no_mangle)]
pub fn looked_at_all_given(
    buffers: Vec<Buffer>,
) -> Result<Vec<Buffer<DeviceOwned>>, Handoff<Vec<Buffer>>> {
    buffers.into_device()
}

/// # Safety
/// No device accesses the buffers.
#[unsafe(no_mangle)]
pub unsafe fn looked_at_all_taken(
    buffers: Vec<Buffer<DeviceOwned>>,
) -> Result<Vec<Buffer>, Handoff<Vec<Buffer<DeviceOwned>>>> {
    // SAFETY: the caller's.
    unsafe { buffers.into_cpu() }
}

#[unsafe(no_mangle)]
pub fn looked_at_slice(buffer: &Buffer<CpuOwned>) -> &[u8] {
    buffer.as_slice()
}

#[unsafe(no_mangle)]
pub fn looked_at_view(buffer: &Buffer<CpuOwned>) -> Result<&[u32; 16], Error> {
    buffer.view(64)
}

#[unsafe(no_mangle)]
pub fn looked_at_values(buffer: &Buffer<CpuOwned>, count: usize) -> Result<&[u32], Error> {
    buffer.slice_of(64, count)
}

#[unsafe(no_mangle)]
pub fn looked_at_read(ring: &Buffer<Shared>) -> Result<u32, Error> {
    ring.read(64)
}

#[unsafe(no_mangle)]
pub fn looked_at_write(ring: &mut Buffer<Shared>, value: u64) -> Result<(), Error> {
    ring.write(64, value)
}

#[unsafe(no_mangle)]
pub fn looked_at_publish(ring: &Buffer<Shared>) {
    ring.publish();
}

#[unsafe(no_mangle)]
pub fn looked_at_drain(ring: &Buffer<Shared, Bidirectional, WriteCombined>) {
    ring.publish();
}

#[unsafe(no_mangle)]
pub fn looked_at_observe(ring: &Buffer<Shared>) {
    ring.observe();
}

#[unsafe(no_mangle)]
pub fn looked_at_fill(buffer: &mut Buffer<CpuOwned, Bidirectional, Uncached>) -> Result<(), Error> {
    buffer.fill(0..4096, 0)
}

#[unsafe(no_mangle)]
pub fn looked_at_copy(
    buffer: &mut Buffer<CpuOwned, Bidirectional, Uncached>,
    from: &[u8],
) -> Result<(), Error> {
    buffer.copy_from(0, from)
}

/// What changed while the kernel had the buffer.
///
/// # Safety
/// `word` is valid for reads.
#[unsafe(no_mangle)]
pub unsafe fn looked_at_advised(fd: BorrowedFd<'_>, word: *const u32) -> u32 {
    // SAFETY: the caller's.
    let before = unsafe { *word };
    let done = ioctl::advise_for_cpu(fd, 0, 64);
    // SAFETY: the caller's.
    let after = unsafe { *word };
    if done.is_ok() { before ^ after } else { 0 }
}
