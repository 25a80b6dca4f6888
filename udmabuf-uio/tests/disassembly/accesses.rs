//! One function for each kind of access, to be disassembled. The offset of each
//! register is its mark: nothing else is at such a displacement.

use udmabuf_uio::{Registers, block};

block! {
    /// A register of each width, and of each access that has instructions of its own.
    pub struct Regs: 0x800 bytes {
        /// Of 8 bits.
        0x111 => BYTE: ReadWrite<u8>,
        /// Of 16 bits.
        0x222 => HALF: ReadWrite<u16>,
        /// Of 32 bits.
        0x334 => WORD: ReadWrite<u32>,
        /// Reading it changes it.
        0x554 => FIFO: ReadEffect<u32>,
    }
}

#[cfg(target_pointer_width = "64")]
block! {
    /// What only machines of 64 bits access at once.
    pub struct Wide: 0x800 bytes {
        /// Of 64 bits.
        0x448 => DOUBLE: ReadWrite<u64>,
    }
}

/// One load.
#[inline(never)]
pub fn read_byte(registers: &Registers<Regs>) -> u8 {
    registers.read(Regs::BYTE)
}

/// One load.
#[inline(never)]
pub fn read_half(registers: &Registers<Regs>) -> u16 {
    registers.read(Regs::HALF)
}

/// One load.
#[inline(never)]
pub fn read_word(registers: &Registers<Regs>) -> u32 {
    registers.read(Regs::WORD)
}

/// One load.
#[cfg(target_pointer_width = "64")]
#[inline(never)]
pub fn read_double(registers: &Registers<Wide>) -> u64 {
    registers.read(Wide::DOUBLE)
}

/// One store.
#[inline(never)]
pub fn write_byte(registers: &Registers<Regs>, value: u8) {
    registers.write(Regs::BYTE, value);
}

/// One store.
#[inline(never)]
pub fn write_half(registers: &Registers<Regs>, value: u16) {
    registers.write(Regs::HALF, value);
}

/// One store.
#[inline(never)]
pub fn write_word(registers: &Registers<Regs>, value: u32) {
    registers.write(Regs::WORD, value);
}

/// One store.
#[cfg(target_pointer_width = "64")]
#[inline(never)]
pub fn write_double(registers: &Registers<Wide>, value: u64) {
    registers.write(Wide::DOUBLE, value);
}

/// A load whose value is not used.
#[inline(never)]
pub fn read_for_nothing(registers: &Registers<Regs>) {
    let _ = registers.read(Regs::HALF);
}

/// Two loads that could be one, were it memory.
#[inline(never)]
pub fn read_twice(registers: &Registers<Regs>) -> u64 {
    u64::from(registers.read(Regs::WORD)) << 32 | u64::from(registers.read(Regs::WORD))
}

/// Two stores of which the second makes the first one useless, were it memory.
#[inline(never)]
pub fn write_twice(registers: &Registers<Regs>) {
    registers.write(Regs::WORD, 1);
    registers.write(Regs::WORD, 2);
}

/// A load and a store, of a change for which x86 has no instruction that does
/// both.
#[inline(never)]
pub fn modify_word(registers: &mut Registers<Regs>) {
    registers.modify(Regs::WORD, |value| value.wrapping_mul(5));
}

/// A load and a barrier.
#[inline(never)]
pub fn take_word(registers: &mut Registers<Regs>) -> u32 {
    registers.take(Regs::FIFO)
}

/// A store to memory, a barrier and a store.
#[inline(never)]
pub fn ring_doorbell(registers: &Registers<Regs>, descriptor: &mut u32) {
    *descriptor = 7;
    registers.doorbell(Regs::WORD, 1);
}

/// A load, a barrier and a load from memory.
#[inline(never)]
pub fn read_status(registers: &Registers<Regs>, descriptor: &u32) -> u32 {
    registers.status(Regs::WORD) & *descriptor
}
