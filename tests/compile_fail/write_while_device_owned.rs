//! The device may be reading the bytes: they cannot be written.
use udmabuf::{Buffer, DeviceOwned};

fn main() {}

fn scribble(buffer: &mut Buffer<DeviceOwned>) {
    buffer.as_mut_slice().fill(0);
}
