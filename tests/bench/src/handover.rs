//! What handovers cost: of parts of every size, at every offset, alone and
//! together, and of many buffers.
#![allow(unsafe_code, reason = "no device is there to vouch that it is done")]

use std::{fs::File, os::fd::AsFd};

use anyhow::{Result, ensure};
use udmabuf::{Buffer, CpuParts, CreateOptions, OpenOptions, Parts};
use udmabuf_sys::{
    abi::{Direction, SYNC_FOR_CPU, SYNC_FOR_DEVICE, SyncRange},
    ioctl,
};

use crate::{
    GIB, KIB, MIB, kind,
    meter::{X, cost, cost_with, row, sizes},
};

const PARTS_MAX: usize = 4096;
/// As many as the module has minor numbers, or those that are free.
const BUFFERS: [usize; 5] = [1, 4, 16, 64, 256];
const PAGE: usize = 4 * KIB;
/// Of buffers that are made here; the board may have larger ones.
const LARGEST: usize = 64 * MIB;

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

/// One part, by size, up to `most`.
fn by_size(mut buffer: Buffer, most: usize, title: &str) -> Result<Buffer> {
    let (alignment, len) = (buffer.part_alignment(), buffer.len());
    for size in sizes(64, most).filter(|size| size % alignment == 0 || *size == len) {
        let (cost, whole) = of_part(buffer, 0, size)?;
        row(title, X::Bytes(size), cost);
        buffer = whole;
    }
    Ok(buffer)
}

/// One part, by size and by offset.
pub(crate) fn alone(buffer: Buffer, title: &dyn Fn(&str) -> String) -> Result<Buffer> {
    let len = buffer.len();
    let mut buffer = by_size(buffer, len, &title("hand over and take back"))?;
    if len >= PAGE {
        buffer = of_whole(buffer, title)?;
    }
    by_offset(buffer, &title("hand over and take back 4 KiB, by offset"))
}

/// A page, by where it is.
fn by_offset(mut buffer: Buffer, title: &str) -> Result<Buffer> {
    for offset in offsets(buffer.len()) {
        let (cost, whole) = of_part(buffer, offset, PAGE)?;
        row(title, X::Offset(offset), cost);
        buffer = whole;
    }
    Ok(buffer)
}

/// A page of the buffer, by the size of the whole.
fn of_whole(buffer: Buffer, title: &dyn Fn(&str) -> String) -> Result<Buffer> {
    let len = buffer.len();
    let (cost, buffer) = of_part(buffer, 0, PAGE)?;
    row(&title("hand over and take back 4 KiB of a buffer"), X::Whole(len), cost);
    Ok(buffer)
}

/// The same for buffers of every size that can be made.
pub(crate) fn of_sizes() -> Result<()> {
    for size in sizes(PAGE, LARGEST) {
        let Ok(created) = CreateOptions::new("bench", size as u64).create() else { break };
        let buffer = created.open()?;
        let kind = kind(&buffer);
        of_whole(buffer, &|operation| format!("{operation}, {kind}"))?;
    }
    Ok(())
}

/// Where a page is handed over, in a buffer of `len` bytes.
fn offsets(len: usize) -> impl Iterator<Item = usize> {
    [PAGE, MIB, 16 * MIB, 256 * MIB, GIB, 2 * GIB, 4 * GIB, 4 * GIB + 64 * MIB]
        .into_iter()
        .filter(move |offset| offset + PAGE <= len)
}

/// Many parts at once.
pub(crate) fn together(name: &str, title: &dyn Fn(&str) -> String) -> Result<()> {
    by_count(&OpenOptions::new(), name, title, "together")
}

/// The smallest parts that there are: such as follow each other, and every second of
/// those, as a ring gets them back.
fn by_count(
    options: &OpenOptions,
    name: &str,
    title: &dyn Fn(&str) -> String,
    how: &str,
) -> Result<()> {
    for (what, step) in [("parts", 1), ("scattered parts", 2)] {
        let buffer = options.open(name)?;
        let part = buffer.part_alignment();
        let len = step * PARTS_MAX * part;
        if buffer.len() <= len {
            break;
        }
        let (head, _) = buffer.split_at(len)?;
        let mut parts: Vec<_> = head.into_chunks(part)?.into_iter().step_by(step).collect();
        let mut counts: Vec<_> = sizes(1, PARTS_MAX).collect();
        counts.reverse();
        let [sixteen, each] = ["16", "each of N"]
            .map(|count| title(&format!("{count} {what} of {part} bytes {how}")));
        for count in counts {
            parts.truncate(count);
            let (cost, back) = there_and_back(parts)?;
            parts = back;
            if count == 16 {
                row(&sixteen, X::None, cost);
            }
            row(&each, X::Count(count), cost / count as f64);
        }
    }
    Ok(())
}

/// Handovers for which the module maintains the cache, as it does where the CPU
/// lets programs do nothing to it.
pub(crate) fn by_kernel(name: &str, title: &dyn Fn(&str) -> String) -> Result<()> {
    let options = OpenOptions::new().with_kernel_cache_maintenance();
    let buffer = options.open(name)?;
    if buffer.is_coherent() {
        return Ok(());
    }
    let most = buffer.len().min(MIB);
    let buffer = by_size(buffer, most, &title("hand over and take back by the module"))?;
    by_offset(buffer, &title("hand over and take back 4 KiB by the module, by offset"))?;
    by_count(&options, name, title, "together by the module")
}

/// The same of many at once alone.
pub(crate) fn batches(name: &str, title: &dyn Fn(&str) -> String) -> Result<()> {
    together(name, title)?;
    let options = OpenOptions::new().with_kernel_cache_maintenance();
    by_count(&options, name, title, "together by the module")
}

/// One page each of many buffers.
pub(crate) fn of_many_buffers() -> Result<()> {
    let mut created = Vec::new();
    let mut buffers = Vec::new();
    for count in BUFFERS {
        while buffers.len() < count {
            let name = format!("bench{}", buffers.len());
            let Ok(one) = CreateOptions::new(&name, PAGE as u64).create() else { break };
            buffers.push(one.open()?);
            created.push(one);
        }
        let made = buffers.len();
        ensure!(made > 0, "no buffer can be made");
        if made < count {
            println!("only {made} of {count} buffers can be made here");
        }
        let count = made;
        let (cost, back) = there_and_back(buffers)?;
        buffers = back;
        row("each of N buffers of 4 KiB", X::Count(count), cost / count as f64);
    }
    Ok(())
}

/// The ioctls by which the module maintains the cache.
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
    let part = usize::try_from(ioctl::capabilities(fd)?.cache_alignment)?;
    for count in sizes(1, PARTS_MAX.min(len / part)) {
        let ranges = |command: u64| -> Result<Vec<_>> {
            let command = u32::try_from(command)?;
            let range = |i| SyncRange {
                offset: (i * part) as u64,
                size: part as u64,
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
            row(&title(&format!("16 parts of {part} bytes, by ioctl")), X::None, cost);
        }
        let each = title(&format!("each of N parts of {part} bytes, by ioctl"));
        row(&each, X::Count(count), cost / count as f64);
    }
    Ok(())
}
