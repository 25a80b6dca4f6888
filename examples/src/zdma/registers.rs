//! A channel's registers and descriptors: UG1087, module ZDMA.

use udmabuf_uio::block;

block! {
    /// One channel's registers.
    pub(super) struct Regs: 0x204 bytes, align 4 {
        /// Interrupt status; writing a 1 clears the bit.
        0x100 => ISR: WriteEffect<u32>,
        0x104 => INTERRUPT_MASK: ReadOnly<u32>,
        0x108 => INTERRUPT_ENABLE: WriteOnly<u32>,
        0x10c => INTERRUPT_DISABLE: WriteOnly<u32>,
        0x110 => CTRL0: ReadWrite<u32>,
        0x11c => STATUS: ReadOnly<u32>,
        0x120 => DATA_ATTR: ReadWrite<u32>,
        0x124 => DESCRIPTOR_ATTR: ReadWrite<u32>,
        0x128 => SOURCE: Simple,
        0x138 => DESTINATION: Simple,
        0x158 => SOURCE_START: Address,
        0x160 => DESTINATION_START: Address,
        /// Bytes written so far; writing a 1 clears the bit.
        0x188 => TOTAL_BYTES: WriteEffect<u32>,
        0x200 => CTRL2: ReadWrite<u32>,
    }
}

block! {
    /// Four words that say where one side of a copy in simple mode is.
    pub(super) struct Simple: 0x10 bytes, align 4 {
        0x0 => ADDR_LOW: ReadWrite<u32>,
        0x4 => ADDR_HIGH: ReadWrite<u32>,
        0x8 => SIZE: ReadWrite<u32>,
        0xc => CONTROL: ReadWrite<u32>,
    }
}

block! {
    /// Where a list's first descriptor is.
    pub(super) struct Address: 0x8 bytes, align 4 {
        0x0 => LOW: ReadWrite<u32>,
        0x4 => HIGH: ReadWrite<u32>,
    }
}

pub(super) const ISR_ALL: u32 = 0xfff;
pub(super) const ISR_PAUSED: u32 = 1 << 11;
pub(super) const ISR_DONE: u32 = 1 << 10;

/// Simple mode, read and write: the reset value, which lets the channel read
/// whole words around a source that is not aligned. They are in its cache lines.
pub(super) const CTRL0_SIMPLE: u32 = 1 << 7;
/// The descriptors are in memory.
pub(super) const CTRL0_LISTS: u32 = CTRL0_SIMPLE | 1 << 6;
/// A paused channel goes on or, if it is not enabled, is done.
pub(super) const CTRL0_CONTINUE: u32 = 1 << 1;
pub(super) const CTRL2_ENABLE: u32 = 1;

pub(super) const STATUS_STATE: u32 = 0b11;
pub(super) const STATUS_PAUSED: u32 = 0b01;
pub(super) const STATUS_BUSY: u32 = 0b10;
/// What is read where no channel answers.
pub(super) const STATUS_NOTHING: u32 = u32::MAX;

/// The reset value: incrementing bursts of 16, and no cache attributes but
/// "modifiable".
pub(super) const DATA_ATTR_RESET: u32 = 0x0483_d20f;
/// Both sides write-back, allocating: what a snooped transaction needs.
pub(super) const DATA_ATTR_SNOOPED: u32 = DATA_ATTR_RESET | 0xf << 22 | 0xf << 8;
/// Descriptors are fetched by snooped transactions with the same attributes.
pub(super) const DESCRIPTOR_ATTR_SNOOPED: u32 = 1 << 8 | 0xf << 4;

/// This side of the copy snoops the CPU's caches.
pub(super) const CONTROL_COHERENT: u32 = 1;
/// Words 4 and 5 of a descriptor say where the next one is.
pub(super) const CONTROL_LINKED: u32 = 1 << 1;
/// What the channel does after a source descriptor.
pub(super) const CONTROL_COMMAND: u32 = 0b11 << 3;
pub(super) const COMMAND_NEXT: u32 = 0 << 3;
pub(super) const COMMAND_PAUSE: u32 = 1 << 3;
pub(super) const COMMAND_STOP: u32 = 2 << 3;

/// Bits of an address. Registers have 17 of its upper word (UG1087), but
/// descriptors 12 (UG1085 and AM011, "Buffer Descriptor Format").
pub(super) const ADDR_BITS: u32 = 44;
/// The size field has 30 bits.
pub(super) const MAX_LEN: u32 = (1 << 30) - 1;
