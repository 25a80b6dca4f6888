//! The device's accesses to memory that the CPU may be accessing too: each in
//! the widest words that fit, so that neither side sees half of one.
#![allow(unsafe_code, reason = "copies through pointers")]

use std::{
    ptr::NonNull,
    sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed},
};

/// # Safety
/// `from` is valid for reads of `into.len()` bytes, and meanwhile others access
/// those only by atomic or volatile accesses.
pub(super) unsafe fn load(from: NonNull<u8>, into: &mut [u8]) {
    let mut at = 0;
    while at < into.len() {
        // SAFETY: inside the range.
        let place = unsafe { from.add(at) }.as_ptr();
        let into = &mut into[at..];
        macro_rules! load {
            ($word:ty) => {{
                // SAFETY: `width` says that it is aligned and inside the range;
                // the caller, who else accesses it.
                let word = unsafe { <$word>::from_ptr(place.cast()) };
                into[..size_of::<$word>()].copy_from_slice(&word.load(Relaxed).to_ne_bytes());
            }};
        }
        let width = width(place, into.len());
        match width {
            8 => load!(AtomicU64),
            4 => load!(AtomicU32),
            2 => load!(AtomicU16),
            _ => load!(AtomicU8),
        }
        at += width;
    }
}

/// # Safety
/// As [`load`], for writes.
pub(super) unsafe fn store(into: NonNull<u8>, from: &[u8]) {
    let mut at = 0;
    while at < from.len() {
        // SAFETY: inside the range.
        let place = unsafe { into.add(at) }.as_ptr();
        let from = &from[at..];
        macro_rules! store {
            ($word:ty, $value:ty) => {{
                let mut bytes = [0; size_of::<$word>()];
                bytes.copy_from_slice(&from[..size_of::<$word>()]);
                // SAFETY: as in `load`.
                let word = unsafe { <$word>::from_ptr(place.cast()) };
                word.store(<$value>::from_ne_bytes(bytes), Relaxed);
            }};
        }
        let width = width(place, from.len());
        match width {
            8 => store!(AtomicU64, u64),
            4 => store!(AtomicU32, u32),
            2 => store!(AtomicU16, u16),
            _ => store!(AtomicU8, u8),
        }
        at += width;
    }
}

/// The widest word that is aligned at `place` and not longer than `left` bytes.
fn width(place: *const u8, left: usize) -> usize {
    [8, 4, 2].into_iter().find(|&width| left >= width && place.addr() % width == 0).unwrap_or(1)
}
