//! What was handed over is gone; what came back has its own name.
use udmabuf::{Buffer, CpuOwned};

fn main() {}

fn send(mut buffer: Buffer<CpuOwned>) {
    let on_its_way = buffer.into_device();
    buffer.as_mut_slice().fill(0);
    drop(on_its_way);
}
