//! What the device has cannot be given to it again.
use udmabuf::{Buffer, DeviceOwned};

fn main() {}

fn again(buffer: Buffer<DeviceOwned>) {
    drop(buffer.into_device());
}
