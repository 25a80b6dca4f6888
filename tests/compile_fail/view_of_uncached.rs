//! Nor a view: an unaligned field in it would be one.
use udmabuf::{Bidirectional, Buffer, CpuOwned, Error, Uncached};

fn main() {}

fn look(buffer: &Buffer<CpuOwned, Bidirectional, Uncached>) -> Result<&u32, Error> {
    buffer.view(0)
}
