//! The CPU's access to a buffer that it owns: slices and typed views.
//!
//! What the device wrote is untrusted bytes, so views are of types for which
//! any bytes are valid: [`FromBytes`].
#![allow(
    unsafe_code,
    reason = "makes the references to a buffer's bytes, the only place that does"
)]

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{Buffer, CpuAccess, CpuWrites, Direction, Error, Owner};

/// Access to the bytes, while the CPU owns them.
impl<O: Owner, D: Direction> Buffer<O, D> {
    /// All bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8]
    where
        O: CpuAccess,
    {
        let memory = self.memory();
        // SAFETY: invariant 1 of `Memory`: valid and initialized (the kernel
        // zeroes it) for `len`. Nobody writes while this borrow of a CPU-owned
        // buffer lives: invariant 2 of `Memory`, and writing through this
        // buffer takes `&mut self` or `self`.
        unsafe { std::slice::from_raw_parts(memory.start.as_ptr(), memory.len) }
    }

    /// All bytes, to write.
    #[must_use]
    pub fn as_mut_slice(&mut self) -> &mut [u8]
    where
        O: CpuAccess,
        D: CpuWrites,
    {
        let memory = self.memory();
        // SAFETY: as in `as_slice`; `&mut self` makes it the only reference.
        unsafe { std::slice::from_raw_parts_mut(memory.start.as_ptr(), memory.len) }
    }

    /// A `T` at `offset` bytes.
    ///
    /// ```
    /// use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, little_endian::U32};
    ///
    /// #[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
    /// #[repr(C)]
    /// struct Header {
    ///     len: U32,
    ///     tag: [u8; 4],
    /// }
    ///
    /// # let emulator = udmabuf::emulator::Emulator::new();
    /// let mut buffer = emulator.buffer(4096);
    /// buffer.view_mut::<Header>(64)?.len = U32::new(1500);
    /// assert_eq!(buffer.view::<Header>(64)?.len.get(), 1500);
    /// # Ok::<(), udmabuf::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::OutOfRange`], [`Error::Misaligned`]
    pub fn view<T>(&self, offset: usize) -> Result<&T, Error>
    where
        O: CpuAccess,
        T: FromBytes + Immutable + KnownLayout,
    {
        let bytes = self.as_slice();
        let range = place::<T>(bytes.len(), offset, 1)?;
        T::ref_from_bytes(&bytes[range]).map_err(|_| misaligned::<T>(offset))
    }

    /// A `T` at `offset` bytes, to write.
    ///
    /// # Errors
    /// [`Error::OutOfRange`], [`Error::Misaligned`]
    pub fn view_mut<T>(&mut self, offset: usize) -> Result<&mut T, Error>
    where
        O: CpuAccess,
        D: CpuWrites,
        T: FromBytes + IntoBytes + KnownLayout,
    {
        let bytes = self.as_mut_slice();
        let range = place::<T>(bytes.len(), offset, 1)?;
        T::mut_from_bytes(&mut bytes[range]).map_err(|_| misaligned::<T>(offset))
    }

    /// `count` values of `T` from `offset` bytes on.
    ///
    /// # Errors
    /// [`Error::OutOfRange`], [`Error::Misaligned`]
    pub fn slice_of<T>(&self, offset: usize, count: usize) -> Result<&[T], Error>
    where
        O: CpuAccess,
        T: FromBytes + Immutable,
    {
        let bytes = self.as_slice();
        let range = place::<T>(bytes.len(), offset, count)?;
        <[T]>::ref_from_bytes_with_elems(&bytes[range], count).map_err(|_| misaligned::<T>(offset))
    }

    /// `count` values of `T` from `offset` bytes on, to write.
    ///
    /// # Errors
    /// [`Error::OutOfRange`], [`Error::Misaligned`]
    pub fn slice_of_mut<T>(&mut self, offset: usize, count: usize) -> Result<&mut [T], Error>
    where
        O: CpuAccess,
        D: CpuWrites,
        T: FromBytes + IntoBytes + Immutable,
    {
        let bytes = self.as_mut_slice();
        let range = place::<T>(bytes.len(), offset, count)?;
        <[T]>::mut_from_bytes_with_elems(&mut bytes[range], count)
            .map_err(|_| misaligned::<T>(offset))
    }
}

/// Where `count` values of `T` at `offset` are in a buffer of `size` bytes: the
/// one place that computes it.
fn place<T>(size: usize, offset: usize, count: usize) -> Result<std::ops::Range<usize>, Error> {
    let out_of_range =
        |len: u64| Error::OutOfRange { offset: offset as u64, len, size: size as u64 };
    let len = size_of::<T>().checked_mul(count).ok_or(out_of_range(u64::MAX))?;
    match offset.checked_add(len) {
        Some(end) if end <= size => Ok(offset..end),
        _ => Err(out_of_range(len as u64)),
    }
}

/// A range of the right length is refused only for its alignment.
fn misaligned<T>(offset: usize) -> Error {
    Error::Misaligned { offset: offset as u64, align: align_of::<T>() as u64 }
}
