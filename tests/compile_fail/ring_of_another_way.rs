//! The parts of a ring go the way that its engine moves data.
use udmabuf::{Buffer, CpuOwned, FromDevice, Ring, Stream, ToDevice};

fn main() {}

fn record<E: Stream<Direction = FromDevice>>(camera: E, frames: Vec<Buffer<CpuOwned, ToDevice>>) {
    let ring = Ring::new(camera, frames);
    drop(ring);
}
