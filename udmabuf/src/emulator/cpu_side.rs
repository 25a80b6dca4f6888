//! The CPU's side of an emulated buffer: the two syncs of its parts.

use std::{ops::Range, ptr::NonNull, sync::Arc};

use rustix::io::Errno;

use super::{
    Bus, Emulator, MissingSync,
    adversary::Adversary,
    faults::Side,
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
    name: String,
    region: Arc<Region>,
    bus: Bus,
    line: usize,
    is_coherent: bool,
    missing: MissingSync,
}

impl CpuSide {
    /// A buffer of `len` bytes, which is not 0; the CPU's mapping has a cache,
    /// or not.
    pub(crate) fn new(emulator: &Emulator, len: usize, has_cache: bool) -> Self {
        let Emulator { bus, line, is_coherent, missing } = emulator.clone();
        let region = bus.allocate(len, |addr| match has_cache && !is_coherent {
            true => Region::cached(addr, len, line),
            false => Region::direct(addr, len),
        });
        let name = format!("emulated{}", bus.number());
        Self { name, region, bus, line, is_coherent, missing }
    }

    /// The name that faults are for: `emulated0` and so on.
    pub(crate) fn name(&self) -> &str {
        &self.name
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

    pub(crate) fn is_coherent(&self) -> bool {
        self.is_coherent
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
        if self.bus.fails(&self.name, Side::Device) {
            return Err(self.failed("device", len));
        }
        self.evict(&part);
        if !self.missing.for_device {
            self.clean(&part, direction);
        }
        self.admit(part, Access::Device(direction));
        self.bus.disturb();
        Ok(())
    }

    /// Locks the device out and invalidates the part's lines.
    ///
    /// # Errors
    /// The device is locked out all the same: whoever takes a part back knows
    /// that it is done.
    pub(crate) fn sync_for_cpu(
        &self,
        offset: usize,
        len: usize,
        direction: Kind,
    ) -> Result<(), Error> {
        let part = self.part(offset, len)?;
        self.bus.disturb();
        self.expel(part.clone());
        if self.bus.fails(&self.name, Side::Cpu) {
            return Err(self.failed("CPU", len));
        }
        if !self.missing.for_cpu {
            self.invalidate(&part, direction);
        }
        self.evict(&part);
        Ok(())
    }

    /// Cache maintenance before the device's access. Dirty lines of a
    /// `FromDevice` part are to be gone, by which instruction is the
    /// hardware's choice: kernels clean them, or invalidate them.
    fn clean(&self, part: &Range<usize>, direction: Kind) {
        let mut adversary = self.bus.adversary().filter(|_| direction == Kind::FromDevice);
        if let Store::Cached(cache, memory) = &mut self.region.lock().store {
            for line in cache.lines(part) {
                match adversary.as_mut().is_some_and(Adversary::coin) {
                    true => cache.refill(line, memory),
                    false => cache.write_back(line, memory),
                }
            }
        }
    }

    /// Cache maintenance after the device's access. Its lines are clean, so
    /// whether the instruction would write back dirty ones first is the
    /// hardware's choice, too.
    fn invalidate(&self, part: &Range<usize>, direction: Kind) {
        if direction == Kind::ToDevice {
            return;
        }
        let mut adversary = self.bus.adversary();
        if let Store::Cached(cache, memory) = &mut self.region.lock().store {
            for line in cache.lines(part) {
                if adversary.as_mut().is_some_and(Adversary::coin) {
                    cache.write_back(line.clone(), memory);
                }
                cache.refill(line, memory);
            }
        }
    }

    /// Lines of zeros, which a cache may evict at once. It does: whether they are dirty
    /// cannot be seen where they were zeros before.
    pub(crate) fn evict_zeros(&self, offset: usize, len: usize) {
        if let Store::Cached(cache, memory) = &mut self.region.lock().store {
            for zeros in cache.lines(&(offset..offset + len)) {
                memory[zeros.clone()].fill(0);
                cache.refill(zeros, memory);
            }
        }
    }

    /// The device may access the part.
    fn admit(&self, part: Range<usize>, access: Access) {
        self.region.lock().owners.set(part, Some(access));
    }

    /// The device may no longer access the part.
    fn expel(&self, part: Range<usize>) {
        self.region.lock().owners.set(part, None);
    }

    /// What the hardware may do to the lines of a part that is being synced.
    fn evict(&self, part: &Range<usize>) {
        if let Some(mut adversary) = self.bus.adversary() {
            adversary.disturb_range(part, &mut self.region.lock().store);
        }
    }

    fn failed(&self, whom: &str, len: usize) -> Error {
        Error::os(&self.name, format!("sync for the {whom} ({len:#x} bytes)"), Errno::IO)
    }

    /// Lets the device access the part beside the CPU, which from now on does
    /// so only by volatile accesses, until [`end_shared`](CpuSide::end_shared).
    ///
    /// # Errors
    /// [`Error::Unsupported`] if there is a cache between them.
    pub(crate) fn set_shared(&self, offset: usize, len: usize) -> Result<(), Error> {
        let part = self.part(offset, len)?;
        if let Store::Cached(..) = self.region.lock().store {
            let what = "CPU and device cannot share it: there is a cache between them";
            return Err(Error::Unsupported { name: self.name.as_str().into(), what });
        }
        self.admit(part, Access::Shared);
        Ok(())
    }

    /// Locks the device out of a part that was shared.
    pub(crate) fn end_shared(&self, offset: usize, len: usize) -> Result<(), Error> {
        let part = self.part(offset, len)?;
        self.expel(part);
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

#[cfg(test)]
mod mistakes;
