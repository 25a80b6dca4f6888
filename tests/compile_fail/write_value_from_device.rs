//! Writing by value is writing, too.
use udmabuf::{Buffer, CpuOwned, Error, FromDevice};

fn main() {}

fn clear(buffer: &mut Buffer<CpuOwned, FromDevice>) -> Result<(), Error> {
    buffer.write(0, 0_u32)
}
