//! What is exported is with others.
use udmabuf::{Buffer, DeviceOwned, DmaAddr};

fn main() {}

fn export(buffer: Buffer<DeviceOwned>) -> DmaAddr {
    let exported = buffer.export();
    drop(exported);
    buffer.dma_addr()
}
