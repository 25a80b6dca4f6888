//! The device may be writing the bytes: they cannot be read.
use udmabuf::{Buffer, DeviceOwned};

fn main() {}

fn look(buffer: &Buffer<DeviceOwned>) -> u8 {
    buffer.as_slice()[0]
}
