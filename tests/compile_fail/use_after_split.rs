//! What was split is its parts, and no longer the whole.
use udmabuf::{Buffer, CpuOwned};

fn main() {}

fn split(buffer: Buffer<CpuOwned>) -> usize {
    let parts = buffer.split_at(64);
    drop(parts);
    buffer.len()
}
