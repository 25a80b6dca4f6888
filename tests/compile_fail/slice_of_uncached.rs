//! There is no slice of uncached memory: `memset` on it would be a bus error.
use udmabuf::{Bidirectional, Buffer, CpuOwned, Uncached};

fn main() {}

fn clear(buffer: &mut Buffer<CpuOwned, Bidirectional, Uncached>) {
    buffer.as_mut_slice().fill(0);
}
