//! Registers are read and written only as they were declared.
use udmabuf_uio::{Block, ReadOnly, Register, Registers, WriteOnly};

enum Dma {}
impl Block for Dma {
    const SIZE: usize = 8;
}
const DOORBELL: Register<Dma, u32, WriteOnly> = Register::at(0);
const STATUS: Register<Dma, u32, ReadOnly> = Register::at(4);

fn main() {}

fn mix_up(registers: &Registers<Dma>) {
    registers.write(STATUS, 1);
    registers.read(DOORBELL);
}
