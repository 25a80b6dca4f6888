//! How a core was built, and what it can transfer because of that.

use udmabuf::DmaAddr;

use super::Error;

/// The parameters with which a core was built, as Vivado shows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Build {
    /// "Width of Buffer Length Register": 8 to 26 bits.
    pub length_bits: u32,
    /// "Address Width": 32 to 64 bits.
    pub addr_bits: u32,
    /// The wider of "Memory Map Data Width" and "Stream Data Width", in bytes: 4
    /// to 128.
    pub data_bytes: u32,
    /// "Allow Unaligned Transfers": parts can start and end at any byte.
    pub realigns: bool,
}

impl Build {
    /// What every core can do whose length register is as Vivado proposes it: 14
    /// bits. No core drives fewer address bits, or has wider data.
    pub const LEAST: Self =
        Self { length_bits: 14, addr_bits: 32, data_bytes: 128, realigns: false };

    pub(super) fn check(self) -> Result<Self, Error> {
        let refused = |what, value| Err(Error::Build { what, value });
        match self {
            Self { length_bits: bits, .. } if !(8..=26).contains(&bits) => {
                refused("length bits", bits)
            }
            Self { addr_bits: bits, .. } if !(32..=64).contains(&bits) => {
                refused("address bits", bits)
            }
            Self { data_bytes: bytes, .. }
                if !bytes.is_power_of_two() || !(4..=128).contains(&bytes) =>
            {
                refused("data bytes", bytes)
            }
            _ => Ok(self),
        }
    }

    /// The most bytes that the length register holds.
    #[must_use]
    pub const fn max_len(self) -> u32 {
        (1 << self.length_bits) - 1
    }

    /// Whether addresses have upper halves.
    pub(super) fn is_wide(self) -> bool {
        self.addr_bits > 32
    }

    /// The words of a part's address, and its length.
    pub(super) fn part(self, part: DmaAddr, ends_packet: bool) -> Result<Part, Error> {
        let (len, max) = (part.len(), self.max_len());
        let length = u32::try_from(len).ok().filter(|&length| length <= max);
        let length = length.ok_or(Error::TooLong { len, max })?;
        if length == 0 {
            return Err(Error::Empty);
        }
        let align = u64::from(self.data_bytes);
        let misaligned = |what, value| Err(Error::Misaligned { what, value, align });
        if !self.realigns && part.to_u64() % align != 0 {
            return misaligned("address", part.to_u64());
        }
        if !self.realigns && !ends_packet && len % align != 0 {
            return misaligned("length", len);
        }
        let address = part.to_words(self.addr_bits)?;
        Ok(Part { address, length })
    }
}

/// A part as descriptors and registers hold it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    /// Low and high word.
    pub(super) address: (u32, u32),
    /// Bytes, at least one.
    pub(super) length: u32,
}
