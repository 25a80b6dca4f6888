//! What of its buffers a transfer uses.

use std::ops::Range;

use udmabuf::{Addressed, Buffer, DeviceOwned, Direction, DmaAddr, FromDevice, ToDevice};

use super::{Error, table::Part};

fn whole<D: Direction, M: Addressed>(buffer: &Buffer<DeviceOwned, D, M>) -> Part {
    Part { addr: buffer.dma_addr(), is_coherent: buffer.is_coherent() }
}

impl Part {
    fn slice(self, range: Range<u64>) -> Result<Self, udmabuf::Error> {
        Ok(Self { addr: self.addr.slice(range)?, ..self })
    }
}

/// A range of the source, and as much of the destination from `at` on.
pub(super) fn range(
    source: &Buffer<DeviceOwned, ToDevice>,
    range: Range<usize>,
    destination: &Buffer<DeviceOwned, FromDevice>,
    at: usize,
) -> Result<[Part; 2], Error> {
    let from = whole(source).slice(range.start as u64..range.end as u64)?;
    let len = from.addr.len();
    if len == 0 {
        return Err(Error::Empty);
    }
    let to = whole(destination);
    let to = to.slice(at as u64..to.addr.len())?;
    match to.addr.len() < len {
        true => Err(Error::TooSmall { source_len: len, destination_len: to.addr.len() }),
        false => Ok([from, to.slice(0..len)?]),
    }
}

/// All sources, and as much of the destinations.
pub(super) fn parts(
    sources: &[Buffer<DeviceOwned, ToDevice>],
    destinations: &[Buffer<DeviceOwned, FromDevice>],
) -> Result<(Vec<Part>, Vec<Part>), Error> {
    let from: Vec<_> = sources.iter().map(whole).collect();
    let total = len(&from);
    if total == 0 {
        return Err(Error::Empty);
    }
    let all: Vec<_> = destinations.iter().map(whole).collect();
    if len(&all) < total {
        return Err(Error::TooSmall { source_len: total, destination_len: len(&all) });
    }
    let mut to = Vec::with_capacity(all.len());
    let mut left = total;
    for part in all {
        let used = part.addr.len().min(left);
        if used != 0 {
            to.push(part.slice(0..used)?);
        }
        left -= used;
    }
    Ok((from, to))
}

fn len(parts: &[Part]) -> u64 {
    parts.iter().map(|part| part.addr).map(DmaAddr::len).fold(0, u64::saturating_add)
}
