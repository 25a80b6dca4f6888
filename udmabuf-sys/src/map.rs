//! The buffer's memory in this process, and the page by which a claimant counts
//! what is at the device.
#![allow(unsafe_code, reason = "makes a reference to a mapped page of atomics")]

use std::{io, os::fd::BorrowedFd, ptr::NonNull};

use memmap2::{Advice, MmapOptions, MmapRaw};

use crate::abi::Lent;

/// A shared, writable mapping of a whole buffer, unmapped on drop and not
/// inherited over `fork`.
///
/// It gives a pointer and no reference: who may access the bytes, and when, is
/// for the crate above to know.
///
/// ```no_run
/// use std::{fs::File, os::fd::AsFd};
/// use udmabuf_sys::map::Mapping;
///
/// let file = File::options().read(true).write(true).open("/dev/udmabuf0")?;
/// let mapping = Mapping::new(file.as_fd(), 4096)?;
/// println!("{} bytes at {:p}", mapping.len(), mapping.start());
/// # Ok::<(), std::io::Error>(())
/// ```
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
    #[inline]
    pub fn start(&self) -> NonNull<u8> {
        // `map_raw` never gives address 0: the fallback cannot happen, and a
        // dangling pointer would fault rather than go wrong silently.
        NonNull::new(self.0.as_mut_ptr()).unwrap_or(NonNull::dangling())
    }

    /// Bytes mapped.
    #[must_use]
    #[inline]
    #[allow(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

/// The mapped page of [`Lent`], for the claimant of a whole buffer. It stays
/// valid when the buffer is removed.
///
/// # Invariants
/// The mapping is page-aligned, valid for reads and writes of a [`Lent`], and
/// accessed only through atomics while `self` lives: the module, the one other
/// party, writes whole words.
#[derive(Debug)]
pub struct LentPage(MmapRaw);

impl LentPage {
    /// Maps it, for a buffer of `size` bytes.
    ///
    /// # Errors
    /// `EINVAL`: the file has not claimed the whole buffer, or a driver without
    /// that page.
    pub fn new(fd: BorrowedFd<'_>, size: u64) -> io::Result<Self> {
        let offset = size
            .checked_next_multiple_of(rustix::param::page_size() as u64)
            .ok_or(rustix::io::Errno::INVAL)?;
        // The kernel rounds the length up to its page.
        // The module, the only one with such a page, lets no child inherit it.
        Ok(Self(MmapOptions::new().offset(offset).len(size_of::<Lent>()).map_raw(&fd)?))
    }

    /// The counts.
    #[must_use]
    pub fn lent(&self) -> &Lent {
        // SAFETY: by the invariant, it is aligned, as long as a `Lent` and
        // mapped for as long as `self` is borrowed; any bytes are a `Lent`.
        unsafe { &*self.0.as_mut_ptr().cast::<Lent>() }
    }
}
