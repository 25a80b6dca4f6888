//! And so is filling.
use udmabuf::{Buffer, CpuOwned, Error, FromDevice};

fn main() {}

fn clear(buffer: &mut Buffer<CpuOwned, FromDevice>) -> Result<(), Error> {
    buffer.fill(0..64, 0)
}
