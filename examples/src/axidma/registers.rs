//! The registers and the descriptors, as PG021 has them: chapters "Register
//! Space" and "Scatter Gather Descriptor".

use udmabuf_uio::{bits, block};

block! {
    /// The core: MM2S from 0x00, S2MM from 0x30.
    pub(super) struct Regs: 0x60 bytes, align 4 {
        0x00 => CHANNELS: [ChannelRegs; 2 step 0x30],
    }
}

block! {
    /// A channel. The pointers to descriptors are there in scatter-gather mode,
    /// address and length in direct register mode.
    pub(super) struct ChannelRegs: 0x30 bytes, align 4 {
        /// `DMACR`
        0x00 => CONTROL: ReadWrite<Control>,
        /// `DMASR`; writing a 1 clears an interrupt.
        0x04 => STATUS: WriteEffect<Status>,
        /// Can be written only while the channel is halted.
        0x08 => CURDESC: ReadWrite<u32>,
        0x0c => CURDESC_MSB: ReadWrite<u32>,
        /// The last descriptor to process. Writing it starts the channel; in a
        /// core with more than 32 address bits, writing the upper half does.
        0x10 => TAILDESC: ReadWrite<u32>,
        0x14 => TAILDESC_MSB: ReadWrite<u32>,
        /// `MM2S_SA`, `S2MM_DA`
        0x18 => ADDRESS: ReadWrite<u32>,
        0x1c => ADDRESS_MSB: ReadWrite<u32>,
        /// Writing it starts the transfer. After that, S2MM has here what it
        /// has received.
        0x28 => LENGTH: WriteEffect<u32>,
    }
}

bits! {
    /// `MM2S_DMACR`, `S2MM_DMACR`.
    pub(super) struct Control(u32) {
        0 => RUN: bool,
        /// Resets the whole core; reads as 1 until that is done.
        2 => RESET: bool,
        /// The ring goes round for ever.
        4 => CYCLIC: bool,
        12 => COMPLETE_ENABLE: bool,
        13 => DELAY_ENABLE: bool,
        14 => ERROR_ENABLE: bool,
        /// Packets to an interrupt; writing 0 does nothing.
        16..=23 => THRESHOLD: u8,
        /// How long after a packet to interrupt below the threshold, in 125
        /// cycles of the descriptors' clock; 0 is never.
        24..=31 => DELAY: u8,
    }
}

bits! {
    /// `MM2S_DMASR`, `S2MM_DMASR`.
    pub(super) struct Status(u32) {
        0 => HALTED: bool,
        1 => IDLE: bool,
        3 => SCATTER_GATHER: bool,
        4 => DMA_INTERNAL: bool,
        5 => DMA_SLAVE: bool,
        6 => DMA_DECODE: bool,
        8 => SG_INTERNAL: bool,
        9 => SG_SLAVE: bool,
        10 => SG_DECODE: bool,
        12 => COMPLETE: bool,
        13 => DELAY: bool,
        14 => ERROR: bool,
    }
}

impl Control {
    /// Without the bit that always reads as 1.
    pub(super) fn settings(self) -> Self {
        Self(self.0 & !(1 << 1))
    }
}

impl Status {
    pub(super) const INTERRUPTS: u32 = 0b111 << 12;
    pub(super) const ERRORS: u32 = 0b111 << 8 | 0b111 << 4;
    /// Always 0 on a core that is there.
    const RESERVED: u32 = 1 << 15 | 1 << 11 | 1 << 7 | 1 << 2;

    pub(super) fn has_errors(self) -> bool {
        self.0 & Self::ERRORS != 0
    }

    /// Whether this is what a core says, and not what a bus reads as that has
    /// nothing at the address.
    pub(super) fn is_plausible(self) -> bool {
        self.0 & Self::RESERVED == 0
    }

    pub(super) fn interrupts(self) -> Self {
        Self(self.0 & Self::INTERRUPTS)
    }
}

/// Bytes from one descriptor to the next, which is also their alignment.
pub const DESCRIPTOR_LEN: usize = 64;

/// Where the words of a descriptor are, in bytes.
pub(super) mod descriptor {
    pub(in super::super) const NEXT: usize = 0x00;
    pub(in super::super) const NEXT_MSB: usize = 0x04;
    pub(in super::super) const ADDRESS: usize = 0x08;
    pub(in super::super) const ADDRESS_MSB: usize = 0x0c;
    pub(in super::super) const CONTROL: usize = 0x18;
    pub(in super::super) const STATUS: usize = 0x1c;
}

bits! {
    /// `MM2S_CONTROL`, `S2MM_CONTROL`; without the length, which has up to 26
    /// bits from 0.
    pub(super) struct DescriptorControl(u32) {
        /// The packet ends here (`TXEOF`).
        26 => END: bool,
        /// It starts here (`TXSOF`).
        27 => START: bool,
    }
}

bits! {
    /// `MM2S_STATUS`, `S2MM_STATUS`.
    pub(super) struct DescriptorStatus(u32) {
        0..=25 => LEN: u32,
        26 => END: bool,
        27 => START: bool,
        28 => INTERNAL: bool,
        29 => SLAVE: bool,
        30 => DECODE: bool,
        31 => COMPLETE: bool,
    }
}

impl DescriptorStatus {
    pub(super) fn has_errors(self) -> bool {
        self.get(Self::INTERNAL) || self.get(Self::SLAVE) || self.get(Self::DECODE)
    }
}
