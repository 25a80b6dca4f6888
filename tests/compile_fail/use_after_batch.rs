//! Buffers that were handed over together are gone together.
use udmabuf::{Buffer, CpuOwned, CpuParts};

fn main() {}

fn send(frames: Vec<Buffer<CpuOwned>>) -> usize {
    let lent = frames.into_device();
    drop(lent);
    frames.len()
}
