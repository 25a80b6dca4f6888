//! What the device has is handed back as it was handed over: whole.
use udmabuf::{Buffer, DeviceOwned};

fn main() {}

fn split(buffer: Buffer<DeviceOwned>) {
    drop(buffer.split_at(64));
}
