//! Nor are many taken back without a word.
use udmabuf::{Buffer, DeviceOwned, Parts};

fn main() {}

fn hurry(frames: Vec<Buffer<DeviceOwned>>) {
    drop(frames.into_cpu());
}
