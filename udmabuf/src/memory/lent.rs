//! The count of the parts that are at the device, for whoever finds the buffer
//! after this process died.
#![allow(unsafe_code, reason = "counts in a mapped page, on arm64 by inline assembly")]

use std::{
    ptr::NonNull,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

use udmabuf_sys::{abi, map::LentPage};

/// The page that this process shares with the module; where there is none, counts
/// that nobody reads, so that every handover is the same few instructions.
///
/// # Invariants
/// `counts` is in `place`, where it stays while that lives.
#[derive(Debug)]
pub(crate) struct Lent {
    counts: NonNull<abi::Lent>,
    _place: Place,
}

#[derive(Debug)]
enum Place {
    Module(#[allow(dead_code, reason = "keeps it mapped")] LentPage),
    // No `Box`, which may be moved only if nothing else points into it.
    Nobody(#[allow(dead_code, reason = "keeps it allocated")] Arc<abi::Lent>),
}

// SAFETY: the counts are atomics.
unsafe impl Send for Lent {}
// SAFETY: as above.
unsafe impl Sync for Lent {}

impl Lent {
    pub(super) fn new(page: LentPage) -> Self {
        Self { counts: NonNull::from(page.lent()), _place: Place::Module(page) }
    }

    pub(super) fn unshared() -> Self {
        let counts = Arc::new(abi::Lent { parts: AtomicU32::new(0), gone: AtomicU32::new(0) });
        Self { counts: NonNull::from(&*counts), _place: Place::Nobody(counts) }
    }

    /// Whether the buffer was removed under its user.
    #[inline]
    pub(super) fn is_gone(&self) -> bool {
        self.counts().gone.load(Relaxed) != 0
    }

    /// So many parts more are at the device, once a barrier has followed.
    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "the module's count is of 32 bits, too")]
    pub(super) fn add(&self, parts: usize) {
        change(&self.counts().parts, parts as u32);
    }

    /// So many parts less are at the device.
    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "the module's count is of 32 bits, too")]
    pub(super) fn subtract(&self, parts: usize) {
        change(&self.counts().parts, (parts as u32).wrapping_neg());
    }

    #[inline]
    fn counts(&self) -> &abi::Lent {
        // SAFETY: by the invariant it is valid while `self` is borrowed.
        unsafe { self.counts.as_ref() }
    }
}

#[cfg(all(test, not(target_arch = "aarch64")))]
impl Lent {
    pub(super) fn leak(&mut self) -> &'static abi::Lent {
        let Self { counts, _place } = std::mem::replace(self, Self::unshared());
        std::mem::forget(_place);
        self.counts = counts;
        // SAFETY: it stays where it is, as `_place` is never dropped.
        unsafe { counts.as_ref() }
    }
}

/// Adds without an order to anything else, as `fetch_add` does. On arm64 that is
/// a function, which first finds out what the CPU can do: it would take as long
/// as the rest of a handover.
#[inline]
fn change(count: &AtomicU32, by: u32) {
    #[cfg(target_arch = "aarch64")]
    // SAFETY: an atomic addition to a word that is borrowed.
    unsafe {
        core::arch::asm!(
            "2: ldxr {value:w}, [{place}]",
            "add {value:w}, {value:w}, {by:w}",
            "stxr {failed:w}, {value:w}, [{place}]",
            "cbnz {failed:w}, 2b",
            place = in(reg) count.as_ptr(),
            by = in(reg) by,
            value = out(reg) _,
            failed = out(reg) _,
            options(nostack, preserves_flags),
        );
    }
    #[cfg(not(target_arch = "aarch64"))]
    count.fetch_add(by, Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_on_many_threads() {
        let count = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        change(&count, 1);
                        change(&count, 1);
                        change(&count, u32::MAX);
                    }
                });
            }
        });
        assert_eq!(count.into_inner(), 4000);
    }
}
