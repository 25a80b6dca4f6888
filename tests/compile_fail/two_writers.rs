//! Two views for writing are never open at once.
use udmabuf::{Buffer, CpuOwned, Error};

fn main() {}

fn swap(buffer: &mut Buffer<CpuOwned>) -> Result<(), Error> {
    let first = buffer.view_mut::<u32>(0)?;
    let second = buffer.view_mut::<u32>(4)?;
    std::mem::swap(first, second);
    Ok(())
}
