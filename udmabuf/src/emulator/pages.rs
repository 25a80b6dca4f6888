//! An allocation that is reached by pointer, as a mapping is.
#![allow(
    unsafe_code,
    reason = "`Buffer` makes its references from a pointer, as it does a mapping's"
)]

use std::ptr::NonNull;

use crate::memory::ALIGN;

#[derive(Clone)]
#[repr(C, align(4096))]
struct Page([u8; ALIGN]);

/// Whole zeroed pages.
///
/// # Invariants
/// `pages` came from a `Box`, which is freed when `self` is dropped.
#[derive(Debug)]
pub(super) struct Pages {
    pages: NonNull<[Page]>,
}

// SAFETY: an owned allocation of plain bytes.
unsafe impl Send for Pages {}
// SAFETY: a shared `Pages` gives no access to the bytes by itself.
unsafe impl Sync for Pages {}

impl Pages {
    /// At least `len` bytes.
    pub(super) fn new(len: usize) -> Self {
        let pages = vec![Page([0; ALIGN]); len.div_ceil(ALIGN)].into_boxed_slice();
        Self { pages: NonNull::from(Box::leak(pages)) }
    }

    pub(super) fn start(&self) -> NonNull<u8> {
        self.pages.cast()
    }

    pub(super) fn len(&self) -> usize {
        self.pages.len() * ALIGN
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: by the invariant they came from a `Box`, and they are freed
        // only here.
        drop(unsafe { Box::from_raw(self.pages.as_ptr()) });
    }
}
