//! Mappings as other programs make them, with any flags, and what the kernel
//! made of them. Bytes are accessed one by one and volatile: no reference.
#![allow(unsafe_code, reason = "maps memory")]

use std::{ffi::c_void, fs, fs::File, ptr};

use anyhow::{Context, Result, bail};
use rustix::{
    io,
    mm::{
        MapFlags, MprotectFlags, MremapFlags, ProtFlags, mmap, mmap_anonymous, mprotect, mremap,
        munmap,
    },
};

use super::module::busybox;

/// The module that looks into page tables.
const PAGES: &str = "/sys/module/udb_pages/parameters/at";

/// # Invariants
/// `start` is page-aligned and mapped, if perhaps not accessible, for `len` bytes
/// while `self` lives.
pub(crate) struct Map {
    start: *mut c_void,
    len: usize,
}

// SAFETY: the mapping belongs to the process, not to a thread.
unsafe impl Send for Map {}
// SAFETY: as above; accesses are volatile and of single bytes.
unsafe impl Sync for Map {}

impl Map {
    pub(crate) fn new(file: &File, len: usize, flags: MapFlags) -> io::Result<Self> {
        map_with(file, len, MapFlags::SHARED | flags)
    }

    /// Ordinary memory.
    pub(crate) fn anonymous(len: usize) -> io::Result<Self> {
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping, at an address that the kernel chooses.
        let start = unsafe { mmap_anonymous(ptr::null_mut(), len, prot, MapFlags::PRIVATE) }?;
        Ok(Self { start, len })
    }

    /// Nobody can access it from `offset` on, a page boundary.
    pub(crate) fn forbid_from(&self, offset: usize) -> io::Result<()> {
        let len = self.len - offset;
        // SAFETY: by the type's invariant, within the mapping; no reference is into it.
        unsafe { mprotect(self.at(offset).cast(), len, MprotectFlags::empty()) }
    }

    /// Makes it longer, perhaps elsewhere.
    pub(crate) fn grow(&mut self, len: usize) -> io::Result<()> {
        // SAFETY: ours by the invariant, and nothing borrows from it.
        self.start = unsafe { mremap(self.start, self.len, len, MremapFlags::MAYMOVE) }?;
        self.len = len;
        Ok(())
    }

    fn at(&self, offset: usize) -> *mut u8 {
        assert!(offset < self.len);
        self.start.cast::<u8>().wrapping_add(offset)
    }

    pub(crate) fn address(&self) -> usize {
        self.start.addr()
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn get(&self, offset: usize) -> u8 {
        // SAFETY: `at` checked the offset; the invariant has it mapped.
        unsafe { self.at(offset).read_volatile() }
    }

    pub(crate) fn set(&self, offset: usize, value: u8) {
        // SAFETY: `at` checked the offset; the invariant has it mapped.
        unsafe { self.at(offset).write_volatile(value) }
    }

    /// A register.
    pub(crate) fn set_word(&self, offset: usize, value: u32) {
        assert!(offset % 4 == 0);
        // SAFETY: as in `set`; the mapping is page-aligned and so the word aligned.
        unsafe { self.at(offset).cast::<u32>().write_volatile(value) }
    }

    /// For system calls alone, which fault where this program must not look.
    pub(crate) fn for_system_calls(&mut self) -> &mut [u8] {
        // SAFETY: mapped by the invariant, borrowed as long as the slice lives,
        // and what the kernel is given it accesses as bytes.
        unsafe { std::slice::from_raw_parts_mut(self.start.cast(), self.len) }
    }

    /// The memory type of the page at `offset` and its size; `absent` if none.
    pub(crate) fn page(&self, offset: usize) -> Result<(String, usize)> {
        fs::write(PAGES, format!("{}", self.at(offset).addr())).context(PAGES)?;
        let said = fs::read_to_string(PAGES)?;
        match said.trim().split_once(' ') {
            Some((kind, size)) => Ok((kind.to_owned(), size.parse()?)),
            None => bail!("{PAGES} says {said:?}"),
        }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: by the invariant it is ours, and nothing borrows from it.
        let _ = unsafe { munmap(self.start, self.len) };
    }
}

/// Shared or private, as `flags` say, for reading and writing.
pub(crate) fn map_with(file: &File, len: usize, flags: MapFlags) -> io::Result<Map> {
    map_at(file, 0, len, flags)
}

/// As `map_with`, of what is at `offset`.
pub(crate) fn map_at(file: &File, offset: u64, len: usize, flags: MapFlags) -> io::Result<Map> {
    let prot = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping, at an address that the kernel chooses.
    let start = unsafe { mmap(ptr::null_mut(), len, prot, flags, file, offset) }?;
    Ok(Map { start, len })
}

/// Loads the module that looks into page tables.
pub(crate) fn load_pages() -> Result<String> {
    if !fs::exists(PAGES)? {
        busybox("insmod", &["/modules/udb-pages.ko"])?;
    }
    Ok("loaded".into())
}
