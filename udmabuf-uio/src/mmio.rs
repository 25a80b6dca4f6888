//! Registers of real hardware, mapped into the process.
#![allow(unsafe_code, reason = "the one place that loads from and stores to hardware")]

use std::{fs::File, io, ptr::NonNull, sync::Arc};

use memmap2::{Advice, MmapOptions, MmapRaw};

use crate::{Io, Word, handle::Handle, registers::sealed::InBlock};

/// Mapped registers.
///
/// # Invariants
/// `start` is page-aligned up to the offset that the device's description
/// gives, aligned to 8 bytes at least, and valid for volatile access of as many
/// bytes as the block has that `self` is used for, while `map` lives.
#[derive(Debug)]
pub struct Mmio {
    start: NonNull<u8>,
    _map: MmapRaw,
    /// Keeps the device open, and locked, while its registers are mapped.
    _handle: Arc<Handle>,
}

// SAFETY: the mapping is valid from any thread.
unsafe impl Send for Mmio {}
// SAFETY: registers are not memory that the compiler reasons about; each access
// is one volatile load or store, which the bus keeps whole and puts in an order.
unsafe impl Sync for Mmio {}

impl Mmio {
    /// Maps `size` bytes at `offset` bytes into the mapping that starts at
    /// `file_offset` of `file`.
    pub(crate) fn map(
        file: &File,
        file_offset: u64,
        offset: usize,
        size: usize,
        handle: Arc<Handle>,
    ) -> io::Result<Self> {
        let refused = |why| io::Error::new(io::ErrorKind::InvalidInput, why);
        if offset % 8 != 0 {
            return Err(refused("the registers start at an offset that is not a multiple of 8"));
        }
        let len = offset.checked_add(size).ok_or_else(|| refused("too large"))?;
        let map = MmapOptions::new().offset(file_offset).len(len).map_raw(file)?;
        map.advise(Advice::DontFork)?;
        // SAFETY: `offset` is at most `len`, the mapping's length.
        let start = unsafe { map.as_mut_ptr().add(offset) };
        let start = NonNull::new(start).ok_or_else(|| refused("mapped at address 0"))?;
        Ok(Self { start, _map: map, _handle: handle })
    }
}

impl Io for Mmio {
    #[inline]
    fn read<W: Word>(&self, offset: usize, _: InBlock) -> W {
        // SAFETY: the proof says that the offset is inside the block, and the
        // invariant that the block is mapped.
        let register = unsafe { self.start.add(offset) }.cast::<W>();
        // SAFETY: as above; a `Register` is aligned to its width, and any bits
        // are a valid integer.
        unsafe { register.read_volatile() }
    }

    #[inline]
    fn write<W: Word>(&self, offset: usize, word: W, _: InBlock) {
        // SAFETY: as in `read`.
        let register = unsafe { self.start.add(offset) }.cast::<W>();
        // SAFETY: as in `read`; what a write makes the device do is what the
        // creator of the registers vouched for.
        unsafe { register.write_volatile(word) }
    }
}
