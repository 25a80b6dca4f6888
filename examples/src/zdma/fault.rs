//! What a channel can have to complain of.

use std::fmt;

/// A fault that a channel reports: a bit of its interrupt status, UG1087,
/// register `ZDMA_CH_ISR`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Somebody accessed a register that it does not have.
    Register = 0,
    /// Its count of bytes has wrapped around at 4 GiB. The data is right.
    ByteCount = 3,
    /// Its count of source descriptors has wrapped around. The data is right.
    SourceCount = 4,
    /// Its count of destination descriptors has. The data is right.
    DestinationCount = 5,
    /// A descriptor of the source is misaligned, or could not be read.
    SourceDescriptor = 6,
    /// A descriptor of the destination is, or could not.
    DestinationDescriptor = 7,
    /// The bus refused to read the source.
    Read = 8,
    /// The bus refused to write the destination.
    Write = 9,
}

/// The faults that a channel has reported.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Faults(u32);

impl Fault {
    const ALL: [Self; 8] = [
        Self::Register,
        Self::ByteCount,
        Self::SourceCount,
        Self::DestinationCount,
        Self::SourceDescriptor,
        Self::DestinationDescriptor,
        Self::Read,
        Self::Write,
    ];

    const fn bit(self) -> u32 {
        1 << self as u32
    }

    fn text(self) -> &'static str {
        match self {
            Self::Register => "access to a register that does not exist",
            Self::ByteCount => "its count of bytes overflowed",
            Self::SourceCount => "its count of source descriptors overflowed",
            Self::DestinationCount => "its count of destination descriptors overflowed",
            Self::SourceDescriptor => "it could not read a source descriptor",
            Self::DestinationDescriptor => "it could not read a destination descriptor",
            Self::Read => "it could not read the source",
            Self::Write => "it could not write the destination",
        }
    }
}

impl Faults {
    /// Those that end a transfer: UG1085, "Channel Disabled", 4.
    pub(super) const ENDING: Self = Self(
        Fault::SourceDescriptor.bit()
            | Fault::DestinationDescriptor.bit()
            | Fault::Read.bit()
            | Fault::Write.bit(),
    );
    /// Those after which a transfer's data is not to be relied on. Access to a
    /// register that does not exist ends nothing, but was none of the driver's.
    pub(super) const FATAL: Self = Self(Self::ENDING.0 | Fault::Register.bit());

    /// Those of an interrupt status.
    pub(super) fn of(status: u32) -> Self {
        let all = Fault::ALL.iter().fold(0, |all, fault| all | fault.bit());
        Self(status & all)
    }

    pub(super) const fn bits(self) -> u32 {
        self.0
    }

    pub(super) fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(super) fn insert(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// Whether this one has been reported.
    #[must_use]
    pub fn contains(self, fault: Fault) -> bool {
        self.0 & fault.bit() != 0
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = Fault> {
        Fault::ALL.into_iter().filter(move |&fault| self.contains(fault))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<_> = self.iter().map(Fault::text).collect();
        f.write_str(&texts.join("; "))
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}
