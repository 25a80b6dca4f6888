//! Nor is what was cut into chunks.
use udmabuf::{Buffer, CpuOwned};

fn main() {}

fn cut(buffer: Buffer<CpuOwned>) -> u8 {
    let frames = buffer.into_chunks(64);
    drop(frames);
    buffer.as_slice()[0]
}
