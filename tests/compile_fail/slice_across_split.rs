//! A slice of the whole ends before its parts go separate ways.
use udmabuf::{Buffer, CpuOwned};

fn main() {}

fn split(buffer: Buffer<CpuOwned>) -> u8 {
    let bytes = buffer.as_slice();
    let parts = buffer.split_at(64);
    let first = bytes[0];
    drop(parts);
    first
}
