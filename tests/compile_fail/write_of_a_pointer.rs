//! What is written is bytes, and no address of this process.
use udmabuf::{Buffer, CpuOwned, Error};

fn main() {}

fn leak(buffer: &mut Buffer<CpuOwned>, secret: &u32) -> Result<(), Error> {
    buffer.write(0, secret)
}
