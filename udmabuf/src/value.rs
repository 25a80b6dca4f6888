//! Access by value: how the CPU reaches memory that it shares with the device,
//! or has mapped without cache.
#![allow(unsafe_code, reason = "gives copies of a buffer's bytes, by pointer")]

use std::{fmt, marker::PhantomData, ops::Range, ptr::NonNull};

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::{
    Buffer, ByValue, CacheMode, CpuWrites, Direction, Error, Owner,
    view::{misaligned, place},
    words,
};

/// # Access by value
///
/// What a device may be writing, or what is mapped [`Uncached`](crate::Uncached),
/// is copied and not referred to, by volatile accesses that are never unaligned
/// and never wider than the CPU's word. A value of 1, 2, 4 or (on 64-bit CPUs) 8
/// bytes at an offset that is a multiple of its size is exactly one access, so
/// neither side sees half of it; anything else can be.
///
/// Between two accesses whose order matters to the device, there is
/// [`publish`](Buffer::publish) or [`observe`](Buffer::observe).
///
/// A field of a structure is at `offset + offset_of!(Structure, field)`.
///
/// All fail with [`Error::OutOfRange`] outside the buffer, and those of a type
/// with [`Error::Misaligned`].
impl<O: Owner, D: Direction, M: CacheMode> Buffer<O, D, M> {
    /// The `T` at `offset` bytes.
    ///
    /// ```
    /// use std::mem::offset_of;
    /// use udmabuf::emulator::Emulator;
    ///
    /// #[repr(C)]
    /// struct Descriptor { addr: u64, len: u32, status: u32 }
    /// const LEN: usize = size_of::<Descriptor>();
    ///
    /// let mut ring = Emulator::new().coherent().buffer(16 * LEN).into_shared()?;
    /// ring.write(3 * LEN + offset_of!(Descriptor, len), 1500_u32)?;
    /// let status: u32 = ring.read(3 * LEN + offset_of!(Descriptor, status))?;
    /// assert_eq!(status, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::OutOfRange`], [`Error::Misaligned`]
    #[inline]
    pub fn read<T>(&self, offset: usize) -> Result<T, Error>
    where
        O: ByValue,
        T: FromBytes + IntoBytes,
    {
        let from = self.value_at::<T>(offset, 1)?;
        // SAFETY: `value_at` says that it is in the buffer.
        Ok(unsafe { load(from) })
    }

    /// Writes a `T` at `offset` bytes.
    ///
    /// # Errors
    /// [`Error::OutOfRange`], [`Error::Misaligned`]
    #[inline]
    pub fn write<T>(&mut self, offset: usize, value: T) -> Result<(), Error>
    where
        O: ByValue,
        D: CpuWrites,
        T: IntoBytes + Immutable,
    {
        let into = self.value_at::<T>(offset, 1)?;
        // SAFETY: as in `read`.
        unsafe { words::store_value(into.cast(), value.as_bytes(), align_of::<T>()) };
        Ok(())
    }

    /// `count` values of `T` from `offset` bytes on, checked once.
    ///
    /// # Errors
    /// [`Error::OutOfRange`], [`Error::Misaligned`]
    pub fn values<T>(&self, offset: usize, count: usize) -> Result<Values<'_, T>, Error>
    where
        O: ByValue,
        T: FromBytes + IntoBytes,
    {
        let start = self.value_at::<T>(offset, count)?;
        Ok(Values { start, count, buffer: PhantomData })
    }

    /// Copies from the buffer, starting at `offset` bytes, into all of `into`.
    ///
    /// ```
    /// let mut buffer = udmabuf::emulator::Emulator::new().buffer(4096);
    /// buffer.fill(3..5, 0x5a)?;
    /// let mut bytes = [0; 4];
    /// buffer.copy_to(2, &mut bytes)?;
    /// assert_eq!(bytes, [0, 0x5a, 0x5a, 0]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::OutOfRange`]
    pub fn copy_to(&self, offset: usize, into: &mut [u8]) -> Result<(), Error>
    where
        O: ByValue,
    {
        let from = self.value_at::<u8>(offset, into.len())?;
        // SAFETY: as in `read`.
        unsafe { words::load(from, into) };
        Ok(())
    }

    /// Copies all of `from` into the buffer, starting at `offset` bytes.
    ///
    /// ```
    /// use udmabuf::{Buffer, CpuOwned, Bidirectional, Uncached, emulator::Emulator};
    ///
    /// // On a board: OpenOptions::new().uncached().open("udmabuf0")?
    /// let mut buffer = Emulator::new().buffer_mapped::<Uncached>(4096);
    /// buffer.copy_from(3, b"any alignment")?;
    /// assert!(buffer.is_equal(3, b"any alignment")?);
    /// buffer.fill(0..4096, 0)?;
    /// # Ok::<(), udmabuf::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::OutOfRange`]
    pub fn copy_from(&mut self, offset: usize, from: &[u8]) -> Result<(), Error>
    where
        O: ByValue,
        D: CpuWrites,
    {
        let into = self.value_at::<u8>(offset, from.len())?;
        // SAFETY: as in `read`.
        unsafe { words::store(into, from) };
        Ok(())
    }

    /// Sets the bytes of `range` to `byte`.
    ///
    /// # Errors
    /// [`Error::OutOfRange`]
    pub fn fill(&mut self, range: Range<usize>, byte: u8) -> Result<(), Error>
    where
        O: ByValue,
        D: CpuWrites,
    {
        // A range that runs backwards has no bytes, and a start to be checked.
        let len = range.len();
        let into = self.value_at::<u8>(range.start, len)?;
        // SAFETY: as in `read`.
        unsafe { words::fill(into, len, byte) };
        Ok(())
    }

    /// Whether the bytes from `offset` on are those of `with`.
    ///
    /// # Errors
    /// [`Error::OutOfRange`]
    pub fn is_equal(&self, offset: usize, with: &[u8]) -> Result<bool, Error>
    where
        O: ByValue,
    {
        let from = self.value_at::<u8>(offset, with.len())?;
        // SAFETY: as in `read`.
        Ok(unsafe { words::equal(from, with) })
    }

    /// Where `count` values of `T` at `offset` bytes are, aligned, and valid for
    /// volatile reads and writes as long as the buffer is borrowed: by the
    /// invariants of `Part` and `Memory`. Nobody has a reference to them: the
    /// buffer is borrowed here, and those of others are to other bytes.
    #[inline]
    fn value_at<T>(&self, offset: usize, count: usize) -> Result<NonNull<T>, Error> {
        let part = self.part();
        let range = place::<T>(part.len(), offset, count)?;
        // SAFETY: `place` gives ranges inside the part.
        let start = unsafe { part.start().add(range.start) }.cast::<T>();
        match start.is_aligned() {
            true => Ok(start),
            false => Err(misaligned::<T>(offset)),
        }
    }
}

/// # Safety
/// `from` is aligned, and valid for volatile reads.
#[inline]
unsafe fn load<T: FromBytes + IntoBytes>(from: NonNull<T>) -> T {
    let mut value = T::new_zeroed();
    // SAFETY: the caller's.
    unsafe { words::load_value(from.cast(), value.as_mut_bytes(), align_of::<T>()) };
    value
}

/// Values of a buffer, each read when it is asked for.
///
/// ```
/// let mut buffer = udmabuf::emulator::Emulator::new().buffer(4096);
/// buffer.write(68, 7_u32)?;
/// let words = buffer.values::<u32>(64, 4)?;
/// assert_eq!((words.len(), words.get(1), words.get(4)), (4, Some(7), None));
/// assert_eq!(words.iter().sum::<u32>(), 7);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Invariants
/// As long as the buffer is borrowed, `count` values from `start` on are valid
/// for volatile reads.
pub struct Values<'a, T> {
    start: NonNull<T>,
    count: usize,
    buffer: PhantomData<&'a T>,
}

impl<T: FromBytes + IntoBytes> Values<'_, T> {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Reads the value at `index`, if there is one.
    #[must_use]
    #[inline]
    pub fn get(&self, index: usize) -> Option<T> {
        if index >= self.count {
            return None;
        }
        // SAFETY: one of the `count` values.
        let from = unsafe { self.start.add(index) };
        // SAFETY: by the invariant.
        Some(unsafe { load(from) })
    }

    /// Reads them all, in order.
    pub fn iter(&self) -> impl Iterator<Item = T> {
        (0..self.count).filter_map(|index| self.get(index))
    }
}

impl<T> fmt::Debug for Values<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Values({} of {})", self.count, std::any::type_name::<T>())
    }
}
