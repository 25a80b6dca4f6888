//! What goes wrong on a core, and what helps.

use std::fmt;

use super::{Side, registers::Status};

/// What goes wrong on a core.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The device cannot be opened, or its interrupt not waited for.
    #[error(transparent)]
    Uio(#[from] udmabuf_uio::Error),
    /// A buffer is out of the core's reach, or the descriptors' memory cannot be
    /// used.
    #[error(transparent)]
    Buffer(#[from] udmabuf::Error),
    /// The core met errors, and the channel is halted. The next transfer resets
    /// the core.
    #[error("{side} stopped with {faults}")]
    Faults {
        /// The channel.
        side: Side,
        /// Which.
        faults: Faults,
    },
    /// The core was reset, because the other channel could not be stopped
    /// otherwise.
    #[error("the core was reset, which ended the transfer on {0}: start it again")]
    Reset(Side),
    /// The core has to be reset before this channel can go on, and the other has
    /// a transfer.
    #[error("{0} has to be reset, and the other channel with it: end its transfer first")]
    OtherRunning(Side),
    /// The core does not finish its reset: it may still access memory.
    #[error("the core is not reset after {:?}: is its clock running?", super::core::RESET_LIMIT)]
    NotReset,
    /// The channel does not start.
    #[error("{0} does not start: is the core's clock running?")]
    NotStarted(Side),
    /// The channel has a transfer or a ring already.
    #[error("{0} is busy: wait for its transfer, or stop it")]
    Busy(Side),
    /// A descriptor's status is one that no core writes.
    #[error("descriptor {index} of {side} has the impossible status {status:#010x}")]
    Descriptor {
        /// The channel.
        side: Side,
        /// Which of the transfer's parts.
        index: usize,
        /// What the device wrote.
        status: u32,
    },
    /// A register has a value that no core gives it.
    #[error("{side} has received {received} bytes into a buffer of {len}")]
    Received {
        /// The channel.
        side: Side,
        /// What the device says.
        received: u32,
        /// Length of the buffer.
        len: u32,
    },
    /// The transfer needs descriptors, and the core has none.
    #[error("{0} parts need a core with scatter-gather: it takes one at a time")]
    NoScatterGather(usize),
    /// No memory for descriptors was given to the channel.
    #[error("{0} has no memory for descriptors: give it some with `use_descriptors`")]
    NoDescriptors(Side),
    /// There are more parts than descriptors.
    #[error("{parts} parts need more than the {descriptors} descriptors that there are")]
    TooFewDescriptors {
        /// Parts of the transfer.
        parts: usize,
        /// Descriptors that the memory has room for.
        descriptors: usize,
    },
    /// There is nothing to transfer.
    #[error("a transfer needs a part, and each packet too")]
    Empty,
    /// The part is longer than the core's length register tells.
    #[error("{len} bytes are more than the {max} that the core's length register holds")]
    TooLong {
        /// Bytes of the part.
        len: u64,
        /// What it can hold.
        max: u32,
    },
    /// Without data realignment, each part starts, and each but a packet's last
    /// ends, at a multiple of the data width.
    #[error("{what} {value:#x} is no multiple of {align}: the core has no data realignment")]
    Misaligned {
        /// "address" or "length".
        what: &'static str,
        /// In bytes.
        value: u64,
        /// The data width, in bytes.
        align: u64,
    },
    /// What was said of the core cannot be.
    #[error("no core is built with {what} {value}")]
    Build {
        /// Which parameter.
        what: &'static str,
        /// Its value.
        value: u32,
    },
    /// A threshold of more than one packet can wait for ever without a delay.
    #[error("an interrupt for {0} packets needs a delay: fewer might come")]
    Coalescing(u8),
    /// What answers is no core, or none does any more: it may still access memory.
    #[error(
        "no AXI DMA answers: its status reads as {0:#010x}; is it the right device, and powered?"
    )]
    NotThere(u32),
}

/// Error bits of a channel's status (PG021, `DMASR` bits 4 to 10).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Faults(u32);

impl Faults {
    /// An error inside: a length of 0, or in direct register mode a packet longer
    /// than the buffer.
    pub const DMA_INTERNAL: Self = Self(1 << 4);
    /// Memory answered data with an error.
    pub const DMA_SLAVE: Self = Self(1 << 5);
    /// There is no memory at a part's address.
    pub const DMA_DECODE: Self = Self(1 << 6);
    /// A descriptor was complete before it was fetched.
    pub const SG_INTERNAL: Self = Self(1 << 8);
    /// Memory answered a descriptor with an error.
    pub const SG_SLAVE: Self = Self(1 << 9);
    /// There is no memory at a descriptor's address.
    pub const SG_DECODE: Self = Self(1 << 10);

    /// All there are, each with its name in PG021 and what it means.
    pub const ALL: [(Self, &'static str); 6] = [
        (Self::DMA_INTERNAL, "DMAIntErr (a length of 0, or a packet longer than its buffer)"),
        (Self::DMA_SLAVE, "DMASlvErr (memory refused the data)"),
        (Self::DMA_DECODE, "DMADecErr (no memory at a part's address)"),
        (Self::SG_INTERNAL, "SGIntErr (a stale descriptor)"),
        (Self::SG_SLAVE, "SGSlvErr (memory refused a descriptor)"),
        (Self::SG_DECODE, "SGDecErr (no memory at a descriptor's address)"),
    ];

    pub(super) fn of(status: Status) -> Self {
        Self(status.0 & Status::ERRORS)
    }

    /// Whether it has all of these.
    #[must_use]
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    pub(super) fn bits(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Self::ALL.iter().filter(|(fault, _)| self.contains(*fault));
        f.write_str(&names.map(|(_, name)| *name).collect::<Vec<_>>().join(" and "))
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Faults({self})")
    }
}
