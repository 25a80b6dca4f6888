//! A device that had the address could access what the CPU is working on.
use udmabuf::{Buffer, CpuOwned, DmaAddr};

fn main() {}

fn program(buffer: &Buffer<CpuOwned>) -> DmaAddr {
    buffer.dma_addr()
}
