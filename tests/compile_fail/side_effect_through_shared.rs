//! Reading what reading changes takes the registers for oneself.
use udmabuf_uio::Registers;

udmabuf_uio::block! {
    struct Dma: 4 bytes { 0 => FIFO: ReadEffect<u32> }
}

fn main() {}

fn peek(registers: &Registers<Dma>) -> u32 {
    registers.take(Dma::FIFO)
}
