//! The CPU's access to a buffer that it owns: slices and typed views.
//!
//! What the device wrote is untrusted bytes, so views are of types for which
//! any bytes are valid: [`FromBytes`].
#![allow(
    unsafe_code,
    reason = "makes the references to a buffer's bytes, the only place that does"
)]

use std::{any::type_name, ops::Range};

use zerocopy::{ConvertError, FromBytes, Immutable, IntoBytes, KnownLayout, TryFromBytes};

use crate::{Buffer, CacheMode, CpuAccess, CpuWrites, Direction, Error, Owner, Slices};

/// Access to the bytes, while the CPU owns them.
impl<O: Owner, D: Direction, M: CacheMode> Buffer<O, D, M> {
    /// All bytes.
    #[must_use]
    #[inline]
    pub fn as_slice(&self) -> &[u8]
    where
        O: CpuAccess,
        M: Slices,
    {
        let part = self.part();
        // SAFETY: invariants 1 of `Part` and `Memory`: valid and initialized (the
        // kernel zeroes it) for `len`. Nobody writes while this borrow of a
        // CPU-owned buffer lives: invariant 2 of `Memory`, no other part has
        // these bytes (invariant 2 of `Part`), and writing through this one
        // takes `&mut self` or `self`.
        unsafe { std::slice::from_raw_parts(part.start().as_ptr(), part.len()) }
    }

    /// All bytes, to write.
    #[must_use]
    #[inline]
    pub fn as_mut_slice(&mut self) -> &mut [u8]
    where
        O: CpuAccess,
        M: Slices,
        D: CpuWrites,
    {
        let part = self.part();
        // SAFETY: as in `as_slice`; `&mut self` makes it the only reference.
        unsafe { std::slice::from_raw_parts_mut(part.start().as_ptr(), part.len()) }
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
    #[inline]
    pub fn view<T>(&self, offset: usize) -> Result<&T, Error>
    where
        O: CpuAccess,
        M: Slices,
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
    #[inline]
    pub fn view_mut<T>(&mut self, offset: usize) -> Result<&mut T, Error>
    where
        O: CpuAccess,
        M: Slices,
        D: CpuWrites,
        T: FromBytes + IntoBytes + KnownLayout,
    {
        let bytes = self.as_mut_slice();
        let range = place::<T>(bytes.len(), offset, 1)?;
        T::mut_from_bytes(&mut bytes[range]).map_err(|_| misaligned::<T>(offset))
    }

    /// A `T` at `offset` bytes, if the bytes there are one: for types that not
    /// all bytes are values of, such as enums and `bool`.
    ///
    /// ```
    /// use udmabuf::Error;
    /// use zerocopy::{Immutable, IntoBytes, KnownLayout, TryFromBytes};
    ///
    /// #[derive(Debug, PartialEq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
    /// #[repr(u8)]
    /// enum Status { Empty = 0, Full = 1 }
    ///
    /// # let emulator = udmabuf::emulator::Emulator::new();
    /// let mut buffer = emulator.buffer(4096);
    /// assert_eq!(buffer.try_view::<Status>(8)?, &Status::Empty);
    /// buffer.as_mut_slice()[8] = 2; // or a device did
    /// assert!(matches!(buffer.try_view::<Status>(8), Err(Error::Invalid { offset: 8, .. })));
    /// # Ok::<(), udmabuf::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::OutOfRange`], [`Error::Misaligned`], [`Error::Invalid`]
    #[inline]
    pub fn try_view<T>(&self, offset: usize) -> Result<&T, Error>
    where
        O: CpuAccess,
        M: Slices,
        T: TryFromBytes + Immutable + KnownLayout,
    {
        let bytes = self.as_slice();
        let range = place::<T>(bytes.len(), offset, 1)?;
        T::try_ref_from_bytes(&bytes[range]).map_err(|error| refused::<_, _, _, T>(offset, &error))
    }

    /// A `T` at `offset` bytes, to write, if the bytes there are one.
    ///
    /// # Errors
    /// [`Error::OutOfRange`], [`Error::Misaligned`], [`Error::Invalid`]
    #[inline]
    pub fn try_view_mut<T>(&mut self, offset: usize) -> Result<&mut T, Error>
    where
        O: CpuAccess,
        M: Slices,
        D: CpuWrites,
        T: TryFromBytes + IntoBytes + KnownLayout,
    {
        let bytes = self.as_mut_slice();
        let range = place::<T>(bytes.len(), offset, 1)?;
        T::try_mut_from_bytes(&mut bytes[range])
            .map_err(|error| refused::<_, _, _, T>(offset, &error))
    }

    /// A header at `offset` bytes and the `count` elements that follow it: a
    /// structure whose last field is a slice.
    ///
    /// ```
    /// use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, big_endian::U16};
    ///
    /// #[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
    /// #[repr(C)]
    /// struct Packet {
    ///     kind: U16,
    ///     samples: [U16],
    /// }
    ///
    /// # let emulator = udmabuf::emulator::Emulator::new();
    /// let mut buffer = emulator.buffer(4096);
    /// let packet = buffer.view_with_elems_mut::<Packet>(64, 3)?;
    /// packet.kind = U16::new(7);
    /// packet.samples[2] = U16::new(1);
    /// assert_eq!(buffer.as_slice()[64..72], [0, 7, 0, 0, 0, 0, 0, 1]);
    /// # Ok::<(), udmabuf::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::OutOfRange`], [`Error::Misaligned`]
    #[inline]
    pub fn view_with_elems<T>(&self, offset: usize, count: usize) -> Result<&T, Error>
    where
        O: CpuAccess,
        M: Slices,
        T: FromBytes + Immutable + KnownLayout<PointerMetadata = usize> + ?Sized,
    {
        with_elems(self.as_slice(), offset, count).map(|(view, _)| view)
    }

    /// As [`view_with_elems`](Self::view_with_elems), to write.
    ///
    /// # Errors
    /// [`Error::OutOfRange`], [`Error::Misaligned`]
    #[inline]
    pub fn view_with_elems_mut<T>(&mut self, offset: usize, count: usize) -> Result<&mut T, Error>
    where
        O: CpuAccess,
        M: Slices,
        D: CpuWrites,
        T: FromBytes + IntoBytes + Immutable + KnownLayout<PointerMetadata = usize> + ?Sized,
    {
        let (_, range) = with_elems::<T>(self.as_slice(), offset, count)?;
        match T::mut_from_bytes_with_elems(&mut self.as_mut_slice()[range], count) {
            Ok(view) => Ok(view),
            Err(_) => unreachable!("there was a view of the same bytes"),
        }
    }

    /// `count` values of `T` from `offset` bytes on.
    ///
    /// # Errors
    /// [`Error::OutOfRange`], [`Error::Misaligned`]
    #[inline]
    pub fn slice_of<T>(&self, offset: usize, count: usize) -> Result<&[T], Error>
    where
        O: CpuAccess,
        M: Slices,
        T: FromBytes + Immutable,
    {
        let bytes = self.as_slice();
        let range = place::<T>(bytes.len(), offset, count)?;
        <[T]>::ref_from_bytes_with_elems(&bytes[range], count).map_err(|_| misaligned::<T>(offset))
    }

    /// `count` values of `T` from `offset` bytes on, to write.
    ///
    /// ```
    /// let mut buffer = udmabuf::emulator::Emulator::new().buffer(4096);
    /// buffer.slice_of_mut::<u32>(64, 16)?.fill(7);
    /// assert_eq!(buffer.slice_of::<u32>(64, 16)?, [7; 16]);
    /// assert!(buffer.slice_of::<u32>(64, 1024).is_err()); // not inside the buffer
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::OutOfRange`], [`Error::Misaligned`]
    #[inline]
    pub fn slice_of_mut<T>(&mut self, offset: usize, count: usize) -> Result<&mut [T], Error>
    where
        O: CpuAccess,
        M: Slices,
        D: CpuWrites,
        T: FromBytes + IntoBytes + Immutable,
    {
        let bytes = self.as_mut_slice();
        let range = place::<T>(bytes.len(), offset, count)?;
        <[T]>::mut_from_bytes_with_elems(&mut bytes[range], count)
            .map_err(|_| misaligned::<T>(offset))
    }
}

/// A header and `count` elements at `offset` of `bytes`, and where that is.
fn with_elems<T>(bytes: &[u8], offset: usize, count: usize) -> Result<(&T, Range<usize>), Error>
where
    T: FromBytes + Immutable + KnownLayout<PointerMetadata = usize> + ?Sized,
{
    let len = T::size_for_metadata(count);
    let range = place_bytes(bytes.len(), offset, len)?;
    match T::ref_from_bytes_with_elems(&bytes[range.clone()], count) {
        Ok(view) => Ok((view, range)),
        Err(_) => {
            // A buffer's start is aligned for all that its middle is.
            let first = T::ref_from_bytes_with_elems(&bytes[..range.len()], count);
            let align = first.map_or(bytes.len(), |first| align_of_val(first));
            Err(Error::Misaligned { offset: offset as u64, align: align as u64 })
        }
    }
}

/// Where `count` values of `T` at `offset` are in a buffer of `size` bytes.
#[inline]
pub(crate) fn place<T>(size: usize, offset: usize, count: usize) -> Result<Range<usize>, Error> {
    place_bytes(size, offset, size_of::<T>().checked_mul(count))
}

/// Where `len` bytes at `offset` are in a buffer of `size` bytes, the one place
/// that computes it; `None` is more than there can be.
#[inline]
fn place_bytes(size: usize, offset: usize, len: Option<usize>) -> Result<Range<usize>, Error> {
    match len.and_then(|len| offset.checked_add(len)) {
        Some(end) if end <= size => Ok(offset..end),
        _ => Err(out_of_range(size, offset, len)),
    }
}

#[inline]
fn out_of_range(size: usize, offset: usize, len: Option<usize>) -> Error {
    let len = len.map_or(u64::MAX, |len| len as u64);
    Error::OutOfRange { offset: offset as u64, len, size: size as u64 }
}

/// A range of the right length is refused only for its alignment.
#[inline]
pub(crate) fn misaligned<T>(offset: usize) -> Error {
    Error::Misaligned { offset: offset as u64, align: align_of::<T>() as u64 }
}

/// Why a range of the right length is no `T`.
fn refused<A, S, V, T>(offset: usize, error: &ConvertError<A, S, V>) -> Error {
    match error {
        ConvertError::Validity(_) => {
            Error::Invalid { offset: offset as u64, expected: type_name::<T>() }
        }
        ConvertError::Alignment(_) | ConvertError::Size(_) => misaligned::<T>(offset),
    }
}
