//! Nothing is written while a view for reading is open.
use udmabuf::{Buffer, CpuOwned, Error};

fn main() {}

fn overwrite(buffer: &mut Buffer<CpuOwned>) -> Result<u32, Error> {
    let length = buffer.view::<u32>(0)?;
    buffer.as_mut_slice().fill(0);
    Ok(*length)
}
