//! The buffer's memory in this process.

use std::{io, os::fd::BorrowedFd, ptr::NonNull};

use memmap2::{Advice, MmapOptions, MmapRaw};

/// A shared, writable mapping of a whole buffer, unmapped on drop and not
/// inherited over `fork`.
///
/// It gives a pointer and no reference: who may access the bytes, and when, is
/// for the crate above to know.
///
/// # Invariants
/// [`Mapping::start`] is page-aligned and valid for reads and writes of
/// [`Mapping::len`] bytes while `self` lives.
#[derive(Debug)]
pub struct Mapping(MmapRaw);

impl Mapping {
    /// Maps the first `len` bytes.
    ///
    /// # Errors
    /// `EINVAL` if `len` is 0 or beyond the buffer; `EACCES` if the file is
    /// not open for reading and writing; `ENOMEM`.
    pub fn new(fd: BorrowedFd<'_>, len: usize) -> io::Result<Self> {
        // memmap2 would map one byte for an empty request.
        if len == 0 {
            return Err(rustix::io::Errno::INVAL.into());
        }
        let map = MmapOptions::new().len(len).map_raw(&fd)?;
        // A child that shared the pages could write them while the device owns
        // them. The module in `kmod/` refuses the inheritance itself; the older
        // driver does not.
        map.advise(Advice::DontFork)?;
        Ok(Self(map))
    }

    /// The first byte.
    #[must_use]
    pub fn start(&self) -> NonNull<u8> {
        // `map_raw` never gives address 0: the fallback cannot happen, and a
        // dangling pointer would fault rather than go wrong silently.
        NonNull::new(self.0.as_mut_ptr()).unwrap_or(NonNull::dangling())
    }

    /// Bytes mapped.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}
