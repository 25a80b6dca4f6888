//! Bus addresses.

use std::fmt;

use crate::Error;

/// Where a device sees a byte: a bus address, which behind an IOMMU or a bridge
/// is not the physical one.
///
/// It is turned into numbers only by functions that check that they fit the
/// registers they are meant for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DmaAddr(pub(crate) u64);

impl DmaAddr {
    /// The address for a 64-bit register or descriptor field.
    #[must_use]
    pub const fn to_u64(self) -> u64 {
        self.0
    }

    /// The address for a 32-bit register.
    ///
    /// # Errors
    /// [`Error::AddressTooWide`]
    pub fn to_u32(self) -> Result<u32, Error> {
        self.to_words(32).map(|(low, _)| low)
    }

    /// The low and the high word, for an engine that drives `bits` address lines.
    ///
    /// # Errors
    /// [`Error::AddressTooWide`]
    pub fn to_words(self, bits: u32) -> Result<(u32, u32), Error> {
        if self.0.checked_shr(bits).unwrap_or(0) != 0 {
            return Err(Error::AddressTooWide { addr: self, bits });
        }
        #[allow(clippy::cast_possible_truncation, reason = "the halves are what is asked for")]
        Ok((self.0 as u32, (self.0 >> 32) as u32))
    }
}

impl fmt::Display for DmaAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
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
    fn words_only_where_the_lines_reach() {
        let addr = DmaAddr(0x1_2345_6789_abcd);
        assert_eq!(addr.to_words(49).unwrap(), (0x6789_abcd, 0x0001_2345));
        assert_eq!(addr.to_words(64).unwrap(), addr.to_words(49).unwrap());
        assert!(matches!(addr.to_words(48), Err(Error::AddressTooWide { bits: 48, .. })));
        assert!(addr.to_u32().is_err());
        assert_eq!(DmaAddr(u64::from(u32::MAX)).to_u32().unwrap(), u32::MAX);
    }
}
