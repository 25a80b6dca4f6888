//! No bytes make a reference.
use udmabuf::{Buffer, CpuOwned, Error};

fn main() {}

fn follow(buffer: &Buffer<CpuOwned>) -> Result<u8, Error> {
    buffer.view::<&u8>(0).map(|byte| **byte)
}
