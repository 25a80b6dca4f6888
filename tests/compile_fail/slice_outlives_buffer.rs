//! A slice cannot outlive the mapping that it is in.
use udmabuf::{Buffer, CpuOwned};

fn main() {}

fn bytes(buffer: Buffer<CpuOwned>) -> &'static [u8] {
    buffer.as_slice()
}
