//! What the CPU writes into a buffer that the device fills would be lost.
use udmabuf::{Buffer, CpuOwned, FromDevice};

fn main() {}

fn clear(buffer: &mut Buffer<CpuOwned, FromDevice>) {
    buffer.as_mut_slice().fill(0);
}
