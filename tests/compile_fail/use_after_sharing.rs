//! What is shared is no longer the CPU's alone.
use udmabuf::{Buffer, CpuOwned};

fn main() {}

fn share(buffer: Buffer<CpuOwned>) -> u8 {
    let ring = buffer.into_shared();
    drop(ring);
    buffer.as_slice()[0]
}
