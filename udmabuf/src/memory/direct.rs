//! Handovers that take no system call: a barrier, or this program's own cache
//! maintenance, and the count of what is at the device.

use std::ptr::NonNull;

use super::Memory;
use crate::{barrier, direction::Kind, maintenance::Cpu};

/// How CPU and device come to see the same bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Direct {
    /// They do: a barrier is all.
    Barrier,
    /// This program maintains its cache.
    Cache(Cpu),
    /// Whoever made the memory does it.
    No,
}

impl Direct {
    /// So many bytes are handed over with no call.
    pub(super) fn short(self) -> usize {
        match self {
            Self::Barrier => usize::MAX,
            Self::Cache(cpu) => cpu.short(),
            Self::No => 0, // no part is empty
        }
    }
}

impl Memory {
    /// What the CPU wrote to so many parts reaches memory, if that takes no system
    /// call, is short, and nobody else has to be told of it.
    #[inline]
    pub(crate) fn quick_for_device(&self, start: NonNull<u8>, len: usize, parts: usize) -> bool {
        len <= self.short && self.direct_for_device(self.direct, start, len, parts, true)
    }

    /// The same, the other way.
    #[inline]
    pub(crate) fn quick_for_cpu(
        &self,
        start: NonNull<u8>,
        len: usize,
        parts: usize,
        direction: Kind,
    ) -> bool {
        len <= self.short && self.direct_for_cpu(self.direct, start, len, parts, true, direction)
    }

    /// `direct` is not `No`.
    #[inline]
    pub(super) fn direct_for_device(
        &self,
        direct: Direct,
        start: NonNull<u8>,
        len: usize,
        parts: usize,
        is_short: bool,
    ) -> bool {
        if self.lent.is_gone() {
            return false;
        }
        self.lent.add(parts);
        match direct {
            Direct::Cache(cpu) => cpu.sync_for_device(start, len, is_short),
            Direct::Barrier | Direct::No => barrier::before_device(),
        }
        true
    }

    /// `direct` is not `No`.
    #[inline]
    pub(super) fn direct_for_cpu(
        &self,
        direct: Direct,
        start: NonNull<u8>,
        len: usize,
        parts: usize,
        is_short: bool,
        direction: Kind,
    ) -> bool {
        // What is not mapped any more has no lines.
        if self.lent.is_gone() {
            return false;
        }
        match direct {
            Direct::Cache(cpu) => cpu.sync_for_cpu(start, len, is_short, direction),
            Direct::Barrier | Direct::No => barrier::after_device(),
        }
        self.lent.subtract(parts);
        true
    }

    /// Whether parts can be handed over many at once, by the functions below.
    #[inline]
    pub(crate) fn is_direct(&self) -> bool {
        !matches!(self.direct, Direct::No) && !self.lent.is_gone()
    }

    /// The lines of some parts, which are the device's when
    /// [`end_for_device`](Memory::end_for_device) has returned.
    #[inline]
    pub(crate) fn clean(&self, start: NonNull<u8>, len: usize) {
        if let Direct::Cache(cpu) = self.direct {
            cpu.clean_lines(start, len);
        }
    }

    /// So many parts are the device's from here on.
    #[inline]
    pub(crate) fn end_for_device(&self, parts: usize) {
        self.lent.add(parts);
        match self.direct {
            Direct::Cache(cpu) => cpu.wait_for_lines(),
            Direct::Barrier | Direct::No => barrier::before_device(),
        }
    }

    /// Parts are about to become the CPU's.
    #[inline]
    pub(crate) fn begin_for_cpu(&self) {
        match self.direct {
            Direct::Cache(cpu) => cpu.order_lines(),
            Direct::Barrier | Direct::No => barrier::after_device(),
        }
    }

    /// The lines of some parts, which are the CPU's when
    /// [`end_for_cpu`](Memory::end_for_cpu) has returned.
    #[inline]
    pub(crate) fn drop_lines(&self, start: NonNull<u8>, len: usize, direction: Kind) {
        if let (Direct::Cache(cpu), true) = (self.direct, direction != Kind::ToDevice) {
            cpu.drop_lines(start, len);
        }
    }

    /// So many parts are the CPU's from here on.
    #[inline]
    pub(crate) fn end_for_cpu(&self, parts: usize) {
        if let Direct::Cache(cpu) = self.direct {
            cpu.wait_for_lines();
        }
        self.lent.subtract(parts);
    }
}

#[cfg(all(test, not(target_arch = "aarch64")))]
impl Memory {
    /// As the kernel module's memory where a handover takes no system call; the
    /// counts.
    pub(crate) fn set_direct(&mut self, direct: Direct) -> &'static udmabuf_sys::abi::Lent {
        (self.direct, self.short) = (direct, direct.short());
        self.lent.leak()
    }
}
