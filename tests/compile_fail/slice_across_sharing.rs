//! A slice ends before the device is let in beside the CPU.
use udmabuf::{Buffer, CpuOwned};

fn main() {}

fn share(buffer: Buffer<CpuOwned>) -> u8 {
    let bytes = buffer.as_slice();
    let ring = buffer.into_shared();
    let first = bytes[0];
    drop(ring);
    first
}
