//! Bus addresses.

use std::{fmt, ops::Range};

use crate::Error;

/// Where a device sees a range of memory: a bus address, which behind an IOMMU
/// or a bridge is not the physical one.
///
/// It is turned into numbers only by functions that check that the whole range
/// can be reached through the registers they are meant for.
///
/// ```
/// let buffer = udmabuf::emulator::Emulator::new().buffer(4096).into_device()?;
/// let addr = buffer.dma_addr();
/// let descriptor = addr.to_u64(); // 64 bits
/// let register = addr.to_u32()?; // an error if any of the bytes is beyond 32 bits
/// let (low, high) = addr.to_words(40)?; // two registers, 40 address lines
/// assert_eq!((u64::from(register), low, high), (descriptor, register, 0));
/// assert_eq!(addr.offset(1024)?.len(), 3072);
/// assert!(addr.to_words(16).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Invariants
/// `first + len` does not wrap, as it does not for the memory that it is of.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DmaAddr {
    first: u64,
    len: u64,
}

impl DmaAddr {
    pub(crate) const fn new(first: u64, len: usize) -> Self {
        Self { first, len: len as u64 }
    }

    /// How many bytes the device may access from here on.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "a range of it can be, and it has no use then")]
    pub const fn len(self) -> u64 {
        self.len
    }

    /// Some of the range: `range` is in bytes from its start.
    ///
    /// ```
    /// # let buffer = udmabuf::emulator::Emulator::new().buffer(4096).into_device()?;
    /// let second = buffer.dma_addr().slice(1024..2048)?;
    /// assert_eq!(second.to_u64(), buffer.dma_addr().to_u64() + 1024);
    /// assert!(second.slice(0..1025).is_err()); // beyond what it is a slice of
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::OutOfRange`]
    pub fn slice(self, range: Range<u64>) -> Result<Self, Error> {
        let Range { start, end } = range;
        match end.checked_sub(start) {
            // It was inside the address space, and so is what is inside it.
            Some(len) if end <= self.len => Ok(Self { first: self.first + start, len }),
            len => {
                let len = len.unwrap_or(0);
                Err(Error::OutOfRange { offset: start, len, size: self.len })
            }
        }
    }

    /// What is left of the range after `bytes`.
    ///
    /// # Errors
    /// [`Error::OutOfRange`]
    pub fn offset(self, bytes: u64) -> Result<Self, Error> {
        self.slice(bytes..self.len.max(bytes))
    }

    /// The first byte's address for a 64-bit register or descriptor field.
    #[must_use]
    pub const fn to_u64(self) -> u64 {
        self.first
    }

    /// The first byte's address for a 32-bit register.
    ///
    /// # Errors
    /// [`Error::AddressTooWide`]
    pub fn to_u32(self) -> Result<u32, Error> {
        self.to_words(32).map(|(low, _)| low)
    }

    /// The low and the high word of the first byte's address, for an engine that
    /// drives `bits` address lines.
    ///
    /// # Errors
    /// [`Error::AddressTooWide`]
    pub fn to_words(self, bits: u32) -> Result<(u32, u32), Error> {
        // A buffer does not wrap around the end of the address space.
        let last = self.first + self.len.saturating_sub(1);
        if last.checked_shr(bits).unwrap_or(0) != 0 {
            return Err(Error::AddressTooWide { addr: self, len: self.len, bits });
        }
        #[allow(clippy::cast_possible_truncation, reason = "the halves are what is asked for")]
        Ok((self.first as u32, (self.first >> 32) as u32))
    }
}

impl fmt::Display for DmaAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.first)
    }
}

impl fmt::Debug for DmaAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DmaAddr({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_only_where_the_lines_reach_the_last_byte() {
        let addr = DmaAddr::new(0x1_2345_6789_abcd, 1);
        assert_eq!(addr.to_words(49).unwrap(), (0x6789_abcd, 0x0001_2345));
        assert_eq!(addr.to_words(64).unwrap(), addr.to_words(49).unwrap());
        assert!(matches!(addr.to_words(48), Err(Error::AddressTooWide { bits: 48, .. })));
        assert!(addr.to_u32().is_err());
        assert_eq!(DmaAddr::new(0xffff_fffc, 4).to_u32().unwrap(), 0xffff_fffc);
        assert!(DmaAddr::new(0xffff_fffc, 5).to_u32().is_err());
        assert_eq!(DmaAddr::new(u64::MAX - 1, 1).to_words(64).unwrap(), (u32::MAX - 1, u32::MAX));
    }
}
