//! The CPU's side of an emulated buffer: what it sees through its cache.
#![allow(unsafe_code, reason = "`Buffer` reaches the bytes by pointer, as it does a mapping")]

use std::{ptr::NonNull, sync::Arc};

use super::{Bus, MissingSync, region::Region};
use crate::{direction::Kind, memory::ALIGN};

#[derive(Clone)]
#[repr(C, align(4096))]
struct Page([u8; ALIGN]);

/// # Invariants
/// `pages` came from a `Box` and holds at least `len` bytes; no reference to
/// them exists during a sync (rule of `Memory`, whose only users sync while
/// they move the buffer).
#[derive(Debug)]
pub(crate) struct CpuSide {
    pages: NonNull<[Page]>,
    len: usize,
    region: Arc<Region>,
    bus: Bus,
    missing: MissingSync,
}

// SAFETY: `pages` is an owned allocation of plain bytes.
unsafe impl Send for CpuSide {}
// SAFETY: a shared `CpuSide` gives its bytes only to a sync, during which
// nobody else accesses them (the invariant).
unsafe impl Sync for CpuSide {}

impl CpuSide {
    pub(crate) fn new(bus: &Bus, len: usize, missing: MissingSync) -> Self {
        let pages = vec![Page([0; ALIGN]); len.div_ceil(ALIGN)].into_boxed_slice();
        let region = bus.allocate(len);
        let pages = NonNull::from(Box::leak(pages));
        Self { pages, len, region, bus: bus.clone(), missing }
    }

    pub(crate) fn start(&self) -> NonNull<u8> {
        self.pages.cast()
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn bus(&self) -> &Bus {
        &self.bus
    }

    pub(crate) fn dma_addr(&self) -> u64 {
        self.region.addr()
    }

    /// Writes the cache back, unless the CPU had nothing to say.
    pub(crate) fn sync_for_device(&self, direction: Kind) {
        self.region.hand_over(direction, |memory| {
            if direction != Kind::FromDevice && !self.missing.for_device {
                // SAFETY: the invariant gives validity and that nobody writes.
                let cache = unsafe { std::slice::from_raw_parts(self.start().as_ptr(), self.len) };
                memory.copy_from_slice(cache);
            }
        });
    }

    /// Drops what the cache held and reads memory, unless the device wrote nothing.
    pub(crate) fn sync_for_cpu(&self, direction: Kind) {
        self.region.take_back(|memory| {
            if direction != Kind::ToDevice && !self.missing.for_cpu {
                // SAFETY: the invariant gives validity and exclusive access.
                let cache =
                    unsafe { std::slice::from_raw_parts_mut(self.start().as_ptr(), self.len) };
                cache.copy_from_slice(memory);
            }
        });
    }
}

impl Drop for CpuSide {
    fn drop(&mut self) {
        // SAFETY: by the invariant the pages came from a `Box`, and they are
        // freed only here.
        drop(unsafe { Box::from_raw(self.pages.as_ptr()) });
    }
}
