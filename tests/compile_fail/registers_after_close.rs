//! Registers keep their device open, and are gone when they are dropped.
use udmabuf_uio::{Registers, Uio};

udmabuf_uio::block! {
    struct Dma: 4 bytes { 0 => CONTROL: ReadWrite<u32> }
}

fn main() {}

fn closed(registers: Registers<Dma>) -> u32 {
    drop(registers);
    registers.read(Dma::CONTROL)
}

fn given_away(uio: Uio) {
    let interrupt = uio.into_interrupt();
    let registers = unsafe { uio.registers::<Dma>(0) };
    drop((interrupt, registers));
}
