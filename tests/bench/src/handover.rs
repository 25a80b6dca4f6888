//! What handovers cost: of parts of every size, at every offset, alone and
//! together, and of many buffers.
#![allow(unsafe_code, reason = "no device is there to vouch that it is done")]

use std::{fs::File, os::fd::AsFd};

use anyhow::Result;
use udmabuf::{Buffer, CpuParts, CreateOptions, Parts};
use udmabuf_sys::{
    abi::{Direction, SYNC_FOR_CPU, SYNC_FOR_DEVICE, SyncRange},
    ioctl,
};

use crate::{
    GIB, KIB, MIB,
    meter::{X, cost, cost_with, row, sizes},
};

/// The size of each part where there are many: the smallest that Linux 6.1 lets
/// part from each other on arm64.
const PART: usize = 128;
const PARTS_MAX: usize = 4096;
/// Less than the module's 256 minor numbers: the board has buffers of its own.
const BUFFERS: [usize; 5] = [1, 4, 16, 64, 240];

/// What it costs to hand `parts` over and to take them back; and the parts.
fn there_and_back<P: CpuParts>(parts: P) -> Result<(f64, P)> {
    cost_with(parts, |parts| {
        let parts = parts.into_device().map_err(|refused| refused.error)?;
        // SAFETY: no device was given an address.
        unsafe { parts.into_cpu() }.map_err(|refused| refused.error.into())
    })
}

/// The cost of one part at `offset`, alone; and the buffer again.
fn of_part(buffer: Buffer, offset: usize, len: usize) -> Result<(f64, Buffer)> {
    let (before, rest) = match offset {
        0 => (None, buffer),
        _ => buffer.split_at(offset).map(|(before, rest)| (Some(before), rest))?,
    };
    let (part, after) = match rest.len() == len {
        true => (rest, None),
        false => rest.split_at(len).map(|(part, after)| (part, Some(after)))?,
    };
    let (cost, mut whole) = cost_with(part, |part| {
        // SAFETY: no device was given its address.
        anyhow::Ok(unsafe { part.into_device()?.into_cpu() }?)
    })?;
    if let Some(after) = after {
        whole = whole.join(after)?;
    }
    if let Some(before) = before {
        whole = before.join(whole)?;
    }
    Ok((cost, whole))
}

/// One part, by size and by offset.
pub(crate) fn alone(mut buffer: Buffer, title: &dyn Fn(&str) -> String) -> Result<Buffer> {
    let (alignment, len) = (buffer.part_alignment(), buffer.len());
    for size in sizes(64, len).filter(|size| size % alignment == 0 || *size == len) {
        let (cost, whole) = of_part(buffer, 0, size)?;
        row(&title("hand over and take back"), X::Bytes(size), cost);
        buffer = whole;
    }
    for offset in offsets(buffer.len()) {
        let (cost, whole) = of_part(buffer, offset, 4 * KIB)?;
        row(&title("hand over and take back 4 KiB, by offset"), X::Offset(offset), cost);
        buffer = whole;
    }
    Ok(buffer)
}

/// Where a page is handed over, in a buffer of `len` bytes.
fn offsets(len: usize) -> impl Iterator<Item = usize> {
    [4 * KIB, MIB, 16 * MIB, 256 * MIB, GIB, 2 * GIB, 4 * GIB, 4 * GIB + 64 * MIB]
        .into_iter()
        .filter(move |offset| offset + 4 * KIB <= len)
}

/// Many parts at once.
pub(crate) fn together(buffer: Buffer, title: &dyn Fn(&str) -> String) -> Result<()> {
    let (head, _) = buffer.split_at(PARTS_MAX * PART)?;
    let mut parts = head.into_chunks(PART)?;
    let mut counts: Vec<_> = sizes(1, PARTS_MAX).collect();
    counts.reverse();
    for count in counts {
        parts.truncate(count);
        let (cost, back) = there_and_back(parts)?;
        parts = back;
        if count == 16 {
            row(&title("16 parts of 128 bytes together"), X::None, cost);
        }
        row(&title("each of N parts of 128 bytes together"), X::Count(count), cost / count as f64);
    }
    Ok(())
}

/// One page each of many buffers.
pub(crate) fn of_many_buffers() -> Result<()> {
    let mut created = Vec::new();
    let mut buffers = Vec::new();
    for count in BUFFERS {
        while buffers.len() < count {
            let name = format!("bench{}", buffers.len());
            let one = CreateOptions::new(&name, 4096).create()?;
            buffers.push(one.open()?);
            created.push(one);
        }
        let (cost, back) = there_and_back(buffers)?;
        buffers = back;
        row("each of N buffers of 4 KiB", X::Count(count), cost / count as f64);
    }
    Ok(())
}

/// The same by the ioctls, which handovers make where the CPU lets programs do
/// no cache maintenance.
pub(crate) fn by_module(name: &str, title: &dyn Fn(&str) -> String) -> Result<()> {
    let file = File::options().read(true).write(true).open(format!("/dev/{name}"))?;
    let fd = file.as_fd();
    ioctl::claim(fd, false)?;
    let len = usize::try_from(ioctl::size(fd)?)?;
    for size in sizes(64, len) {
        let pair = cost(|| {
            ioctl::sync_for_device(fd, Direction::Bidirectional, 0, size as u64)?;
            ioctl::sync_for_cpu(fd, Direction::Bidirectional, 0, size as u64)
        })?;
        row(&title("sync for the device and back, by ioctl"), X::Bytes(size), pair);
    }
    for count in sizes(1, PARTS_MAX.min(len / PART)) {
        let ranges = |command: u64| -> Result<Vec<_>> {
            let command = u32::try_from(command)?;
            let range = |i| SyncRange {
                offset: (i * PART) as u64,
                size: PART as u64,
                command,
                direction: 0,
            };
            Ok((0..count).map(range).collect())
        };
        let [there, back] = [ranges(SYNC_FOR_DEVICE)?, ranges(SYNC_FOR_CPU)?];
        let cost = cost(|| {
            ioctl::sync_batch(fd, &there)?;
            ioctl::sync_batch(fd, &back)
        })?;
        if count == 16 {
            row(&title("16 parts of 128 bytes, by ioctl"), X::None, cost);
        }
        row(&title("each of N parts of 128 bytes, by ioctl"), X::Count(count), cost / count as f64);
    }
    Ok(())
}
