//! One function a command of the device file, ioctls and advice.
#![allow(unsafe_code, reason = "the one place where the ioctls are made")]

use std::{
    num::NonZeroU64,
    os::fd::{BorrowedFd, FromRawFd, OwnedFd},
    sync::atomic::{Ordering::SeqCst, compiler_fence},
};

use rustix::{
    fs::{Advice, OFlags},
    io::{Errno, Result},
    ioctl::{Opcode, Updater, ioctl},
};

use crate::abi::{
    self, Caps, ClaimRange, DevInfo, Direction, DrvInfo, ExportArgs, Parent, SyncArgs, SyncBatch,
    SyncRange,
};

/// Makes a command whose argument is one structure that the kernel reads or
/// fills.
///
/// Every command is an `Updater`, even where the kernel only reads the
/// argument: a sync changes what the CPU sees in the mapped buffer, so the
/// compiler must not carry loads of it over the call. rustix's `Setter` would
/// promise it that nothing changes.
#[inline]
fn call<const OPCODE: Opcode, T: Copy>(fd: BorrowedFd<'_>, mut argument: T) -> Result<T> {
    // SAFETY: each caller below pairs an opcode with the type that it was made
    // from, of which any bytes are a value.
    let command = unsafe { Updater::<OPCODE, T>::new(&mut argument) };
    // SAFETY: the kernel accesses that argument, reads the array that a
    // `SyncBatch` leads to (`sync_batch` borrows it) and, for a sync, accesses
    // the cache lines of the buffer behind the file. That the file is a u-dma-buf is not known
    // here; on another one, these numbers are no command (ENOTTY), which is
    // what the kernel's `Documentation/userspace-api/ioctl/ioctl-number.rst`
    // is kept for.
    unsafe { ioctl(fd, command) }?;
    Ok(argument)
}

/// What the driver is: its version and features.
///
/// # Errors
/// `NOTTY`: not a `u-dma-buf` file, or a driver older than 5.0. `NODEV`: the
/// device is gone.
pub fn driver_info(fd: BorrowedFd<'_>) -> Result<DrvInfo> {
    call::<{ abi::GET_DRV_INFO }, _>(fd, DrvInfo::default())
}

/// The size in bytes.
///
/// # Errors
/// As [`driver_info`].
pub fn size(fd: BorrowedFd<'_>) -> Result<u64> {
    call::<{ abi::GET_SIZE }, _>(fd, 0)
}

/// Where the device finds the first byte.
///
/// # Errors
/// As [`driver_info`].
pub fn dma_addr(fd: BorrowedFd<'_>) -> Result<u64> {
    call::<{ abi::GET_DMA_ADDR }, _>(fd, 0)
}

/// Who has the buffer, `abi::OWNER_*`.
///
/// # Errors
/// As [`driver_info`].
pub fn sync_owner(fd: BorrowedFd<'_>) -> Result<u32> {
    call::<{ abi::GET_SYNC_OWNER }, _>(fd, 0)
}

/// The stored range, direction and mode, and the owner.
///
/// # Errors
/// As [`driver_info`].
pub fn sync_settings(fd: BorrowedFd<'_>) -> Result<SyncArgs> {
    call::<{ abi::GET_SYNC }, _>(fd, SyncArgs::default())
}

/// What the driver offers for this buffer.
///
/// # Errors
/// As [`driver_info`]; a driver without capabilities gives `NOTTY`.
pub fn capabilities(fd: BorrowedFd<'_>) -> Result<Caps> {
    call::<{ abi::GET_CAPS }, _>(fd, Caps::default())
}

/// The device that the buffer was made for, whose address
/// [`device_info`] gives.
///
/// # Errors
/// As [`driver_info`]; `NAMETOOLONG`: there is no room for its name. A driver
/// that does not tell gives `NOTTY`.
pub fn parent(fd: BorrowedFd<'_>) -> Result<Parent> {
    call::<{ abi::GET_PARENT }, _>(fd, Parent::NONE)
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

/// Makes this open file the only user of `size` bytes at `offset`, whole pages,
/// until it is closed and its mappings are gone. With `adopt` the caller vouches
/// that no device accesses the buffer.
///
/// # Errors
/// Those of [`claim`], where `BUSY` is another file's claim, mapping or export of
/// any of it. `INVAL`: empty, not whole pages, or not inside the buffer. `NOSPC`:
/// the buffer has [`abi::CLAIM_RANGES_MAX`] claimed ranges.
pub fn claim_range(fd: BorrowedFd<'_>, offset: u64, size: u64, adopt: bool) -> Result<()> {
    let flags = if adopt { abi::CLAIM_ADOPT } else { 0 };
    call::<{ abi::CLAIM_RANGE }, _>(fd, ClaimRange { offset, size, flags }).map(drop)
}

/// Makes a dma-buf of `size` bytes at `offset`, whole pages, and says where the
/// device finds its first byte. Of `flags` `CLOEXEC`, `SYNC` and the access mode
/// are known.
///
/// # Errors
/// `INVAL`: the range is empty, not whole pages or not inside the buffer; other
/// flags. `BADF`: writing is asked for, and the file is not open for it. `BUSY`:
/// another file has claimed the range. `NXIO`: a kernel without dma-buf.
pub fn export(fd: BorrowedFd<'_>, flags: OFlags, offset: u64, size: u64) -> Result<(OwnedFd, u64)> {
    let flags = flags.bits().into();
    let args = ExportArgs { flags, size, offset, dma_addr: 0, fd: -1 };
    let args = call::<{ abi::EXPORT }, _>(fd, args)?;
    if args.fd < 0 {
        return Err(Errno::BADF);
    }
    // SAFETY: the call succeeded, so the kernel has just put this descriptor
    // into the table, for the caller alone.
    let dma_buf = unsafe { OwnedFd::from_raw_fd(args.fd) };
    Ok((dma_buf, args.dma_addr))
}

/// Syncs many ranges, in order; all are checked before the first is done.
///
/// ```no_run
/// use std::{fs::File, os::fd::AsFd};
/// use udmabuf_sys::{abi::{self, Direction, SyncRange}, ioctl};
///
/// let file = File::options().read(true).write(true).open("/dev/udmabuf0")?;
/// let range = |offset, command, direction: Direction| {
///     SyncRange { offset, size: 4096, command: command as u32, direction: direction as u32 }
/// };
/// ioctl::sync_batch(file.as_fd(), &[
///     range(0, abi::SYNC_FOR_DEVICE, Direction::ToDevice),
///     range(4096, abi::SYNC_FOR_CPU, Direction::FromDevice),
/// ])?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// `INVAL`: an unknown command or direction, more than [`abi::SYNC_BATCH_MAX`]
/// ranges, or one that is not inside the buffer. `BUSY`: another file has
/// claimed one of them. `NOTTY`: a driver without batches.
#[inline]
pub fn sync_batch(fd: BorrowedFd<'_>, ranges: &[SyncRange]) -> Result<()> {
    let count = u32::try_from(ranges.len()).map_err(|_| Errno::INVAL)?;
    let address = ranges.as_ptr().expose_provenance();
    let ranges = u64::try_from(address).map_err(|_| Errno::INVAL)?;
    call::<{ abi::SYNC_BATCH }, _>(fd, SyncBatch { ranges, count, flags: 0 }).map(drop)
}

/// How mappings made through this file from now on reach memory, `abi::MAP_*`.
///
/// # Errors
/// `INVAL`: not one of them. `OPNOTSUPP`: this memory cannot be mapped so.
/// `NOTTY`: a driver without map modes.
pub fn set_map_mode(fd: BorrowedFd<'_>, mode: u64) -> Result<()> {
    call::<{ abi::SET_MAP_MODE }, _>(fd, mode).map(drop)
}

/// Hands memory to the device by a sync value, as existing programs have it:
/// 0 nothing, 1 the stored range, else a range of its own.
///
/// # Errors
/// `INVAL`: the range is not inside the buffer.
#[inline]
pub fn sync_value_for_device(fd: BorrowedFd<'_>, value: u64) -> Result<()> {
    call::<{ abi::SET_SYNC_FOR_DEVICE }, _>(fd, value).map(drop)
}

/// Hands memory to the CPU by a sync value; see [`sync_value_for_device`].
///
/// # Errors
/// `INVAL`: the range is not inside the buffer.
#[inline]
pub fn sync_value_for_cpu(fd: BorrowedFd<'_>, value: u64) -> Result<()> {
    call::<{ abi::SET_SYNC_FOR_CPU }, _>(fd, value).map(drop)
}

/// Hands `size` bytes at `offset` to the device: what the CPU wrote reaches
/// memory, and no cache line of the range is left dirty. A driver without batches
/// stores a range beyond 32 bits, or of a size that is no multiple of 16, as the
/// settings of the whole buffer.
///
/// # Errors
/// `INVAL`: the range is not inside the buffer. `BUSY`: another file has claimed
/// some of it.
#[inline]
pub fn sync_for_device(
    fd: BorrowedFd<'_>,
    direction: Direction,
    offset: u64,
    size: u64,
) -> Result<()> {
    match sync_value(direction, offset, size) {
        Some(value) => sync_value_for_device(fd, value),
        None => sync_any(fd, abi::SYNC_FOR_DEVICE, direction, offset, size),
    }
}

/// Hands `size` bytes at `offset` to the CPU: what the device wrote becomes
/// visible to it. The rest is as for [`sync_for_device`].
///
/// # Errors
/// As [`sync_for_device`].
#[inline]
pub fn sync_for_cpu(
    fd: BorrowedFd<'_>,
    direction: Direction,
    offset: u64,
    size: u64,
) -> Result<()> {
    match sync_value(direction, offset, size) {
        Some(value) => sync_value_for_cpu(fd, value),
        None => sync_any(fd, abi::SYNC_FOR_CPU, direction, offset, size),
    }
}

/// The sync value of a range that has one: a third of the argument, and the stored
/// range stays as it is.
#[inline]
fn sync_value(direction: Direction, offset: u64, size: u64) -> Option<u64> {
    let is_small = offset | size <= u64::from(u32::MAX);
    // A value without a size would be the stored range.
    let has_value = is_small && size != 0 && size % 16 == 0;
    has_value.then_some(offset << 32 | size | (direction as u64) << 2 | 1)
}

/// Syncs a range that no value can name, as a batch of one: everybody's stored
/// settings stay as they are, whatever others have claimed. The existing driver has
/// no batches, and only `SET_SYNC` for such a range, which stores it.
fn sync_any(
    fd: BorrowedFd<'_>,
    command: u64,
    direction: Direction,
    offset: u64,
    size: u64,
) -> Result<()> {
    let of_range = u32::try_from(command).map_err(|_| Errno::INVAL)?;
    let range = SyncRange { offset, size, command: of_range, direction: direction as u32 };
    match sync_batch(fd, &[range]) {
        Err(Errno::NOTTY) => {
            let flags = command | (direction as u64) << abi::SYNC_DIRECTION_SHIFT;
            set_sync_settings(fd, SyncArgs { flags, size, offset })
        }
        done => done,
    }
}

/// Hands `size` bytes at `offset` to the device as [`sync_for_device`] does for
/// [`Direction::Bidirectional`], by the cheapest call that there is. Only for the
/// claimant of the range, where the driver has [`abi::CAP_ADVICE`]: otherwise it
/// succeeds, and syncs nothing.
///
/// ```no_run
/// use std::{fs::File, os::fd::AsFd};
/// use udmabuf_sys::{abi, ioctl};
///
/// let file = File::options().read(true).write(true).open("/dev/udmabuf0")?;
/// ioctl::claim(file.as_fd(), false)?;
/// if ioctl::capabilities(file.as_fd())?.flags & abi::CAP_ADVICE != 0 {
///     ioctl::advise_for_device(file.as_fd(), 0, 4096)?;
///     ioctl::advise_for_cpu(file.as_fd(), 0, 4096)?;
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// `INVAL`: the range is empty, or not inside the buffer. `BUSY`: another file has
/// claimed some of it.
#[inline]
pub fn advise_for_device(fd: BorrowedFd<'_>, offset: u64, size: u64) -> Result<()> {
    advise(fd, Advice::DontNeed, offset, size)
}

/// Hands `size` bytes at `offset` to the CPU, see [`advise_for_device`].
///
/// # Errors
/// As [`advise_for_device`].
#[inline]
pub fn advise_for_cpu(fd: BorrowedFd<'_>, offset: u64, size: u64) -> Result<()> {
    advise(fd, Advice::NoReuse, offset, size)
}

/// rustix tells the compiler that this call changes no memory. Here it does, as the
/// ioctls do; so the compiler must carry no load of the buffer over it.
#[inline]
fn advise(fd: BorrowedFd<'_>, advice: Advice, offset: u64, size: u64) -> Result<()> {
    // Without a size it would be up to the end.
    let size = NonZeroU64::new(size).ok_or(Errno::INVAL)?;
    compiler_fence(SeqCst);
    let done = rustix::fs::fadvise(fd, offset, Some(size), advice);
    compiler_fence(SeqCst);
    done
}

/// Stores settings for the whole buffer and, if there is a command, syncs.
///
/// # Errors
/// `INVAL`, with nothing stored: a mode above 7, or a command for a range that
/// is not inside the buffer.
pub fn set_sync_settings(fd: BorrowedFd<'_>, args: SyncArgs) -> Result<()> {
    call::<{ abi::SET_SYNC }, _>(fd, args).map(drop)
}

#[cfg(test)]
mod tests {
    use super::{Direction, sync_value};

    #[test]
    fn a_sync_value_is_the_range_or_there_is_none() {
        // As the kernel module takes it apart.
        let range = |value: u64| (value >> 2 & 3, value >> 32, value & 0xffff_fff0);
        let edges = |most: u64| {
            let powers = (0..64).map(|bit| 1 << bit);
            powers.flat_map(|at: u64| [at - 1, at, at | 16]).chain([most, most + 1, most & !15])
        };
        let most = u64::from(u32::MAX);
        for direction in [Direction::Bidirectional, Direction::ToDevice, Direction::FromDevice] {
            for (offset, size) in
                edges(most).flat_map(|offset| edges(most).map(move |size| (offset, size)))
            {
                let fits = offset <= most && size <= most && size % 16 == 0 && size != 0;
                let value = sync_value(direction, offset, size);
                assert_eq!(value.is_some(), fits, "{size:#x} bytes at {offset:#x}");
                if let Some(value) = value {
                    assert_eq!(range(value), (direction as u64, offset, size));
                    assert!(value > 1, "neither nothing nor the stored range");
                }
            }
        }
    }
}
