//! A typed view for writing is as much of a write as a slice.
use udmabuf::{Buffer, CpuOwned, Error, FromDevice};

fn main() {}

fn clear(buffer: &mut Buffer<CpuOwned, FromDevice>) -> Result<(), Error> {
    *buffer.view_mut::<u32>(0)? = 0;
    Ok(())
}
