//! The memory that requests are put into, and the addresses at which the kernel
//! is told to find them.

use anyhow::Result;
use rustix::{
    fd::{AsFd, OwnedFd},
    fs::{MemfdFlags, ftruncate, memfd_create},
};

use super::raw;

pub(crate) const PAGE: usize = 4096;
/// What can be read and written; a hole follows. More than the module copies at once,
/// and than a batch of one range too many.
pub(crate) const USABLE: usize = 80 * PAGE;

/// Where a request lies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Place {
    /// In order; by that many bytes not aligned.
    Good(u8),
    /// Its first bytes, so many of them, and then nothing.
    Cut(u16),
    ReadOnly,
    Null,
    /// The kernel's.
    Kernel,
    /// The last bytes of the address space.
    Top,
    /// No canonical address.
    Nowhere,
}

/// # Invariants
/// From `base` on: `USABLE` bytes, a page that nobody may access, the same `USABLE`
/// bytes once more, which can only be read, and such a page again.
pub(crate) struct Arena {
    base: usize,
    file: OwnedFd,
}

impl Arena {
    pub(crate) fn new() -> Result<Self> {
        let file = memfd_create(c"arena", MemfdFlags::CLOEXEC)?;
        let len = 2 * (USABLE + PAGE);
        ftruncate(&file, len as u64)?;
        // One mapping, so that holes stay holes; what can be read only is a second
        // view of the same bytes, moved into its place.
        let both = raw::PROT_READ | raw::PROT_WRITE;
        let base = raw::map(file.as_fd(), both, raw::MAP_SHARED, 0, len)?;
        let second = raw::map(file.as_fd(), raw::PROT_READ, raw::MAP_SHARED, 0, USABLE)?;
        raw::protect(base + USABLE, PAGE, 0)?;
        raw::remap(second, USABLE, USABLE, Some(base + USABLE + PAGE))?;
        raw::protect(base + 2 * USABLE + PAGE, PAGE, 0)?;
        Ok(Self { base, file })
    }

    /// An address where so much can be mapped instead of what is there.
    pub(crate) fn spare(&self, len: usize) -> Result<usize> {
        Ok(raw::map(self.file.as_fd(), 0, raw::MAP_SHARED, 0, len)?)
    }

    pub(crate) fn file(&self) -> &OwnedFd {
        &self.file
    }

    pub(crate) fn address(&self, place: Place) -> usize {
        match place {
            Place::Good(off) => self.base + usize::from(off),
            Place::Cut(bytes) => self.base + USABLE - usize::from(bytes),
            Place::ReadOnly => self.base + USABLE + PAGE,
            Place::Null => 0,
            Place::Kernel => usize::MAX - (usize::MAX >> 17),
            Place::Top => usize::MAX - 7,
            Place::Nowhere => usize::MAX / 2 - 0xffff,
        }
    }

    /// How many bytes from there on can be read.
    pub(crate) fn readable(&self, place: Place) -> usize {
        match place {
            Place::Good(off) => USABLE - usize::from(off),
            Place::Cut(bytes) => usize::from(bytes),
            Place::ReadOnly => USABLE,
            _ => 0,
        }
    }

    /// How many can be written.
    pub(crate) fn writable(&self, place: Place) -> usize {
        if place == Place::ReadOnly { 0 } else { self.readable(place) }
    }

    /// Puts bytes there, as far as there is memory.
    pub(crate) fn put(&self, place: Place, bytes: impl IntoIterator<Item = u8>) {
        let start = if place == Place::ReadOnly { self.base } else { self.address(place) };
        for (offset, byte) in bytes.into_iter().take(self.readable(place)).enumerate() {
            raw::set(start + offset, byte);
        }
    }

    /// Puts a structure there, and gives its address.
    pub(crate) fn put_words(&self, place: Place, words: &[u64]) -> usize {
        self.put(place, words.iter().flat_map(|word| word.to_ne_bytes()));
        self.address(place)
    }

    pub(crate) fn bytes(&self, place: Place, len: usize) -> Vec<u8> {
        let start = self.address(place);
        (0..len.min(self.readable(place))).map(|offset| raw::get(start + offset)).collect()
    }

    pub(crate) fn words(&self, place: Place, count: usize) -> Vec<u64> {
        let bytes = self.bytes(place, count * 8);
        bytes
            .chunks_exact(8)
            .map(|c| c.iter().rev().fold(0, |w, &b| w << 8 | u64::from(b)))
            .collect()
    }
}
