//! The CPU's side of an emulated buffer: the two syncs of its parts.

use std::{ops::Range, ptr::NonNull, sync::Arc};

use super::{
    Bus, MissingSync,
    owners::Access,
    region::{Region, Store},
};
use crate::{Error, direction::Kind};

/// An emulated buffer, as the CPU has it.
///
/// Its parts are handed over on their own: each starts at a multiple of
/// [`cache_line`](CpuSide::cache_line) and ends at one or at the end of the
/// buffer.
///
/// # Invariants
/// While a part is synced, shared, or the device's, no reference to its bytes
/// exists (invariant 1 of [`Buffer`](crate::Buffer)).
#[derive(Debug)]
pub(crate) struct CpuSide {
    region: Arc<Region>,
    bus: Bus,
    line: usize,
    missing: MissingSync,
}

impl CpuSide {
    pub(super) fn new(bus: &Bus, region: Arc<Region>, line: usize, missing: MissingSync) -> Self {
        Self { region, bus: bus.clone(), line, missing }
    }

    /// Where the CPU finds the bytes: aligned to a page and valid while `self`
    /// lives, for volatile accesses of shared parts too.
    pub(crate) fn start(&self) -> NonNull<u8> {
        self.region.start()
    }

    pub(crate) fn len(&self) -> usize {
        self.region.len()
    }

    pub(crate) fn bus(&self) -> &Bus {
        &self.bus
    }

    pub(crate) fn dma_addr(&self) -> u64 {
        self.region.addr()
    }

    /// Whether CPU and device see one memory. Parts can be shared only then.
    pub(crate) fn is_coherent(&self) -> bool {
        !matches!(self.region.lock().store, Store::Cached(..))
    }

    /// What parts are aligned to, in bytes.
    pub(crate) fn cache_line(&self) -> usize {
        self.line
    }

    /// Cleans the part's lines and lets the device in.
    ///
    /// # Errors
    /// Nothing has changed.
    pub(crate) fn sync_for_device(
        &self,
        offset: usize,
        len: usize,
        direction: Kind,
    ) -> Result<(), Error> {
        let part = self.part(offset, len)?;
        let state = &mut *self.region.lock();
        if let Store::Cached(cache, memory) = &mut state.store {
            if !self.missing.for_device {
                cache.lines(&part).for_each(|line| cache.write_back(line, memory));
            }
        }
        state.owners.set(part, Some(Access::Device(direction)));
        Ok(())
    }

    /// Locks the device out and invalidates the part's lines.
    ///
    /// # Errors
    /// The device is locked out, and the CPU must not access the part before
    /// this has succeeded.
    pub(crate) fn sync_for_cpu(
        &self,
        offset: usize,
        len: usize,
        direction: Kind,
    ) -> Result<(), Error> {
        let part = self.part(offset, len)?;
        let state = &mut *self.region.lock();
        state.owners.set(part.clone(), None);
        if let Store::Cached(cache, memory) = &mut state.store {
            if direction != Kind::ToDevice && !self.missing.for_cpu {
                cache.lines(&part).for_each(|line| cache.refill(line, memory));
            }
        }
        Ok(())
    }

    /// Lets the device access the part beside the CPU, which from now on does
    /// so only by volatile accesses, until [`end_shared`](CpuSide::end_shared).
    ///
    /// # Errors
    /// [`Error::Unsupported`] if there is a cache between them.
    pub(crate) fn set_shared(&self, offset: usize, len: usize) -> Result<(), Error> {
        let part = self.part(offset, len)?;
        let state = &mut *self.region.lock();
        if let Store::Cached(..) = state.store {
            let what = "behind a cache, so CPU and device cannot share it: `Emulator::coherent`";
            return Err(Error::Unsupported { name: "emulated".into(), what });
        }
        state.owners.set(part, Some(Access::Shared));
        Ok(())
    }

    /// Locks the device out of a part that was shared.
    pub(crate) fn end_shared(&self, offset: usize, len: usize) -> Result<(), Error> {
        let part = self.part(offset, len)?;
        self.region.lock().owners.set(part, None);
        Ok(())
    }

    /// The one check of what comes from outside.
    fn part(&self, offset: usize, len: usize) -> Result<Range<usize>, Error> {
        let size = self.len();
        let end = offset.checked_add(len).filter(|&end| end <= size).ok_or(Error::OutOfRange {
            offset: offset as u64,
            len: len as u64,
            size: size as u64,
        })?;
        let ends = [offset, if end == size { 0 } else { end }];
        match ends.into_iter().find(|end| end % self.line != 0) {
            Some(end) => Err(Error::Misaligned { offset: end as u64, align: self.line as u64 }),
            None => Ok(offset..end),
        }
    }
}
