//! Copies between ordinary memory and a buffer's, by volatile accesses that are
//! aligned and as wide as the place allows, up to the CPU's word: no more is safe
//! on arm64's Device memory, where `memcpy`, `memset` (`DC ZVA`) and anything
//! unaligned end in a bus error.
#![allow(unsafe_code, reason = "accesses a buffer by pointer")]

use std::ptr::NonNull;

const WORD: usize = size_of::<usize>();

/// Of `len` bytes at `start`, how many come before the first whole word, and how
/// many are in whole words.
#[inline]
fn spans(start: NonNull<u8>, len: usize) -> (usize, usize) {
    let head = (start.addr().get().wrapping_neg() % WORD).min(len);
    (head, (len - head) / WORD * WORD)
}

/// The widest access that is aligned at `place` and within `left` bytes, which
/// are not 0.
#[inline]
fn width(place: *mut u8, left: usize) -> usize {
    let fits = left.checked_ilog2().unwrap_or(0);
    1 << place.addr().trailing_zeros().min(fits).min(WORD.ilog2())
}

macro_rules! load {
    ($word:ty, $place:expr, $into:expr) => {{
        // SAFETY: the callers found `$place` aligned for it, in a range that is
        // valid for reads.
        let word = unsafe { $place.cast::<$word>().read_volatile() };
        *$into = word.to_ne_bytes();
    }};
}

macro_rules! store {
    ($word:ty, $place:expr, $from:expr) => {{
        let word = <$word>::from_ne_bytes(*$from);
        // SAFETY: as in `load`, for writes.
        unsafe { $place.cast::<$word>().write_volatile(word) };
    }};
}

/// Loads what is not in whole words, or not known to be.
#[inline]
fn load_ends(mut place: *mut u8, mut into: &mut [u8]) {
    macro_rules! step {
        ($word:ty) => {{
            let Some((now, later)) = into.split_first_chunk_mut() else { return };
            load!($word, place, now);
            (place, into) = (place.wrapping_add(size_of::<$word>()), later);
        }};
    }
    while !into.is_empty() {
        match width(place, into.len()) {
            1 => step!(u8),
            2 => step!(u16),
            4 => step!(u32),
            _ => step!(usize),
        }
    }
}

/// As [`load_ends`], the other way.
#[inline]
fn store_ends(mut place: *mut u8, mut from: &[u8]) {
    macro_rules! step {
        ($word:ty) => {{
            let Some((now, later)) = from.split_first_chunk() else { return };
            store!($word, place, now);
            (place, from) = (place.wrapping_add(size_of::<$word>()), later);
        }};
    }
    while !from.is_empty() {
        match width(place, from.len()) {
            1 => step!(u8),
            2 => step!(u16),
            4 => step!(u32),
            _ => step!(usize),
        }
    }
}

/// # Safety
/// `from` is valid for volatile reads of `into.len()` bytes.
#[inline]
pub(crate) unsafe fn load(from: NonNull<u8>, into: &mut [u8]) {
    let (head, words) = spans(from, into.len());
    let from = from.as_ptr();
    let (first, rest) = into.split_at_mut(head);
    let (middle, last) = rest.split_at_mut(words);
    load_ends(from, first);
    let mut place = from.wrapping_add(head);
    let mut words = middle;
    while let Some((word, later)) = words.split_first_chunk_mut() {
        load!(usize, place, word);
        (place, words) = (place.wrapping_add(WORD), later);
    }
    load_ends(place, last);
}

/// # Safety
/// `into` is valid for volatile writes of `from.len()` bytes.
#[inline]
pub(crate) unsafe fn store(into: NonNull<u8>, from: &[u8]) {
    let (head, words) = spans(into, from.len());
    let into = into.as_ptr();
    let (first, rest) = from.split_at(head);
    let (middle, last) = rest.split_at(words);
    store_ends(into, first);
    let mut place = into.wrapping_add(head);
    let mut words = middle;
    while let Some((word, later)) = words.split_first_chunk() {
        store!(usize, place, word);
        (place, words) = (place.wrapping_add(WORD), later);
    }
    store_ends(place, last);
}

/// As [`load`], of a place that is a multiple of `align`: one access where that
/// can be seen at compile time, as for integers.
///
/// # Safety
/// As [`load`]; `from` is a multiple of `align`.
#[inline]
pub(crate) unsafe fn load_value(from: NonNull<u8>, into: &mut [u8], align: usize) {
    let place = from.as_ptr();
    macro_rules! once {
        ($word:ty) => {
            if let Some(into) = into.first_chunk_mut() {
                load!($word, place, into);
            }
        };
    }
    match into.len() {
        1 => once!(u8),
        2 if align >= 2 => once!(u16),
        4 if align >= 4 => once!(u32),
        WORD if align >= WORD => once!(usize),
        // SAFETY: the caller's.
        _ => unsafe { load(from, into) },
    }
}

/// As [`load_value`], the other way.
///
/// # Safety
/// As [`store`]; `into` is a multiple of `align`.
#[inline]
pub(crate) unsafe fn store_value(into: NonNull<u8>, from: &[u8], align: usize) {
    let place = into.as_ptr();
    macro_rules! once {
        ($word:ty) => {
            if let Some(from) = from.first_chunk() {
                store!($word, place, from);
            }
        };
    }
    match from.len() {
        1 => once!(u8),
        2 if align >= 2 => once!(u16),
        4 if align >= 4 => once!(u32),
        WORD if align >= WORD => once!(usize),
        // SAFETY: the caller's.
        _ => unsafe { store(into, from) },
    }
}

/// # Safety
/// `into` is valid for volatile writes of `len` bytes.
#[inline]
pub(crate) unsafe fn fill(into: NonNull<u8>, len: usize, byte: u8) {
    let (head, words) = spans(into, len);
    let into = into.as_ptr();
    let word = [byte; WORD];
    store_ends(into, &word[..head]);
    let mut place = into.wrapping_add(head);
    for _ in 0..words / WORD {
        store!(usize, place, &word);
        place = place.wrapping_add(WORD);
    }
    store_ends(place, &word[..len - head - words]);
}

/// Whether the bytes at `from` are those of `with`.
///
/// # Safety
/// As [`load`].
pub(crate) unsafe fn equal(from: NonNull<u8>, with: &[u8]) -> bool {
    let (head, words) = spans(from, with.len());
    let from = from.as_ptr();
    let mut bytes = [0; WORD];
    let mut at = 0;
    while at < with.len() {
        let len = match at {
            0 if head != 0 => head,
            at if at < head + words => WORD,
            _ => with.len() - at,
        };
        load_ends(from.wrapping_add(at), &mut bytes[..len]);
        if bytes[..len] != with[at..at + len] {
            return false;
        }
        at += len;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[repr(align(64))]
    struct Line([u8; 64]);

    /// Every start and length in three words: what is in the range, and nothing
    /// beside it.
    #[test]
    fn every_alignment_and_length() {
        let pattern: Vec<u8> = (1..=24).collect();
        for start in 0..=8 {
            for len in 0..=24 {
                let mut line = Line([0xee; 64]);
                let place = NonNull::from(&mut line.0).cast::<u8>();
                // SAFETY: in the line.
                let place = unsafe { place.add(start) };
                let mut expected = [0xee; 64];

                // SAFETY: as above, the line is the test's own.
                unsafe { store(place, &pattern[..len]) };
                expected[start..start + len].copy_from_slice(&pattern[..len]);
                assert_eq!(line.0, expected, "store {len} at {start}");

                let place = NonNull::from(&mut line.0).cast::<u8>();
                // SAFETY: in the line.
                let place = unsafe { place.add(start) };
                let mut back = vec![0; len];
                // SAFETY: as above.
                unsafe { load(place, &mut back) };
                assert_eq!(back, &pattern[..len], "load {len} at {start}");
                // SAFETY: as above.
                assert!(unsafe { equal(place, &back) });
                for other in 0..len {
                    back[other] ^= 1;
                    // SAFETY: as above.
                    assert!(!unsafe { equal(place, &back) }, "byte {other} of {len} at {start}");
                    back[other] ^= 1;
                }

                // SAFETY: as above.
                unsafe { fill(place, len, 0x77) };
                expected[start..start + len].fill(0x77);
                assert_eq!(line.0, expected, "fill {len} at {start}");
            }
        }
    }

    #[test]
    fn accesses_are_aligned_and_as_wide_as_they_can_be() {
        for addr in 1..64_usize {
            for left in 1..=24 {
                let width = width(std::ptr::without_provenance_mut(addr), left);
                assert!(width.is_power_of_two() && addr % width == 0 && width <= left.min(WORD));
                let wider = width * 2;
                assert!(wider > WORD || wider > left || addr % wider != 0);
            }
        }
    }
}
