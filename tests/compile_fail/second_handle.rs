//! A buffer has one handle: there is no clone that could be used meanwhile.
use udmabuf::{Buffer, CpuOwned};

fn main() {}

fn twice(buffer: &Buffer<CpuOwned>) -> Buffer<CpuOwned> {
    buffer.clone()
}
