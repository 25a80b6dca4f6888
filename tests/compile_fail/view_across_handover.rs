//! A typed view ends before the handover, as a slice does.
use udmabuf::{Buffer, CpuOwned};

fn main() {}

fn send(buffer: Buffer<CpuOwned>) -> Option<u32> {
    let length = buffer.view::<u32>(0).ok()?;
    let on_its_way = buffer.into_device();
    let length = *length;
    drop(on_its_way);
    Some(length)
}
