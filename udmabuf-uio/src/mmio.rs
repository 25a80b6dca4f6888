//! Registers of real hardware, mapped into the process.
#![allow(unsafe_code, reason = "the one place that loads from and stores to hardware")]

use std::{fs::File, io, process, ptr::NonNull, sync::Arc};

use memmap2::{Advice, MmapMut, MmapOptions, MmapRaw};
use rustix::{
    io::Errno,
    mm::{MapFlags, MremapFlags, ProtFlags, mmap_anonymous, mremap_fixed},
};

use crate::{Block, Io, Registers, Word, handle::Handle, registers::sealed::InBlock};

/// Mapped registers.
///
/// # Invariants
/// `start` is aligned as the block needs that `self` is used for, and valid for
/// volatile access of as many bytes as it has, while `map` lives.
#[derive(Debug)]
pub struct Mmio {
    start: NonNull<u8>,
    _map: Arc<MmapRaw>,
    /// Keeps the device open, and locked, while its registers are mapped.
    _handle: Arc<Handle>,
}

// SAFETY: the mapping is valid from any thread.
unsafe impl Send for Mmio {}
// SAFETY: registers are not memory that the compiler reasons about; each access
// is one volatile load or store, which the bus keeps whole and puts in an order.
unsafe impl Sync for Mmio {}

impl Mmio {
    /// Maps a block that is `offset` bytes into the mapping that starts at
    /// `file_offset` of `file`.
    pub(crate) fn map<K: Block>(
        file: &File,
        file_offset: u64,
        offset: usize,
        handle: &Arc<Handle>,
    ) -> io::Result<Registers<K>> {
        let refused = |why: String| io::Error::new(io::ErrorKind::InvalidInput, why);
        const { assert!(K::ALIGN.is_power_of_two(), "the alignment of a block is a power of two") };
        // A page is aligned to any register.
        if offset % K::ALIGN != 0 {
            let align = K::ALIGN;
            return Err(refused(format!(
                "registers at {offset:#x}, which need alignment to {align}"
            )));
        }
        let len = offset.checked_add(K::SIZE).ok_or_else(|| refused("too large".into()))?;
        let map = Arc::new(MmapOptions::new().offset(file_offset).len(len).map_raw(file)?);
        map.advise(Advice::DontFork)?;
        handle.mapped(Arc::downgrade(&map));
        // SAFETY: `offset` is at most `len`, the mapping's length.
        let start = unsafe { map.as_mut_ptr().add(offset) };
        let start = NonNull::new(start).ok_or_else(|| refused("mapped at address 0".into()))?;
        Ok(Registers::new(Self { start, _map: map, _handle: handle.clone() }))
    }
}

/// Replaces the registers of a device that was removed, access to which may
/// raise SIGBUS by now, with what a bus without a device gives: all ones.
pub(crate) fn unplug(map: &MmapRaw) {
    let Ok(mut ones) = MmapMut::map_anon(map.len()) else {
        return; // without memory, it stays as it is
    };
    ones.fill(0xff);
    let flags = MremapFlags::MAYMOVE;
    // SAFETY: both ranges are whole mappings of this process of the same length,
    // up to the page. The old one stays a mapping that `MmapRaw` may unmap, and
    // is accessed as registers only, for which any bytes will do.
    let moved = unsafe {
        mremap_fixed(
            ones.as_mut_ptr().cast(),
            ones.len(),
            map.len(),
            flags,
            map.as_mut_ptr().cast(),
        )
    };
    match moved {
        // What was moved away is no longer there to be unmapped.
        Ok(_) => std::mem::forget(ones),
        // For want of memory the kernel may have unmapped the old one, and moved nothing:
        // the next mapping of anybody could be there, and be taken for registers.
        Err(Errno::NOMEM) => {
            if !fills_hole(map.as_mut_ptr(), map.len()) {
                process::abort();
            }
        }
        // It has done nothing.
        Err(_) => {}
    }
}

/// Maps memory there that is all ones, if nothing is; it stays for good.
fn fills_hole(start: *mut u8, len: usize) -> bool {
    let (access, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
    // SAFETY: it replaces nothing.
    let filled =
        unsafe { mmap_anonymous(start.cast(), len, access, flags | MapFlags::FIXED_NOREPLACE) };
    let Ok(filled) = filled else { return false };
    if filled.cast() != start {
        // A kernel before 4.17 takes the address for a hint.
        return false;
    }
    // SAFETY: mapped just now, for reading and writing; the compiler knows of no
    // reference into it.
    unsafe { start.write_bytes(0xff, len) };
    true
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

#[cfg(test)]
mod tests {
    use memmap2::MmapMut;
    use rustix::mm::munmap;

    use super::*;

    #[test]
    fn a_hole_is_filled_and_nothing_else() {
        let len = 3 * rustix::param::page_size();
        let mut around = MmapMut::map_anon(len).unwrap();
        around.fill(7);
        let page = len / 3;
        let middle = around.as_mut_ptr().wrapping_add(page);
        assert!(!fills_hole(middle, page), "something is there");
        assert!(around.iter().all(|&byte| byte == 7));
        // SAFETY: the page is this test's; nobody looks at it before it is back.
        unsafe { munmap(middle.cast(), page).unwrap() };
        assert!(fills_hole(middle, page));
        assert!(around[..page].iter().chain(&around[2 * page..]).all(|&byte| byte == 7));
        assert!(around[page..2 * page].iter().all(|&byte| byte == 0xff));
    }
}
