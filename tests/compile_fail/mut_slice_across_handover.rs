//! Nothing is written through a slice from before the handover.
use udmabuf::{Buffer, CpuOwned};

fn main() {}

fn send(mut buffer: Buffer<CpuOwned>) {
    let bytes = buffer.as_mut_slice();
    let on_its_way = buffer.into_device();
    bytes[0] = 1;
    drop(on_its_way);
}
