//! A dma-buf of another driver has no bus address to give away.
use udmabuf::{Bidirectional, Buffer, DeviceOwned, DmaAddr, Foreign};

fn main() {}

fn address(frame: &Buffer<DeviceOwned, Bidirectional, Foreign>) -> DmaAddr {
    frame.dma_addr()
}
