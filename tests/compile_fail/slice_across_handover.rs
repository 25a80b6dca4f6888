//! A slice ends before the handover: after it, it would be stale.
use udmabuf::{Buffer, CpuOwned};

fn main() {}

fn send(buffer: Buffer<CpuOwned>) -> u8 {
    let bytes = buffer.as_slice();
    let on_its_way = buffer.into_device();
    let first = bytes[0];
    drop(on_its_way);
    first
}
