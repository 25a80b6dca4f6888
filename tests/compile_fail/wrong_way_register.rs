//! Registers are accessed only as they were declared.
use udmabuf_uio::Registers;

udmabuf_uio::block! {
    struct Dma: 0x10 bytes {
        0x0 => DOORBELL: WriteOnly<u32>,
        0x4 => STATUS: ReadOnly<u32>,
        0x8 => INTERRUPTS: WriteEffect<u32>,
        0xc => FIFO: ReadEffect<u32>,
    }
}

fn main() {}

fn mix_up(registers: &mut Registers<Dma>) {
    registers.write(Dma::STATUS, 1);
    registers.read(Dma::DOORBELL);
    registers.modify(Dma::INTERRUPTS, |interrupts| interrupts | 1);
    registers.read(Dma::FIFO);
    registers.take(Dma::STATUS);
}
