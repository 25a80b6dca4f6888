//! The way of a transfer is chosen before it: the sync depends on it.
use udmabuf::{Buffer, DeviceOwned, FromDevice, ToDevice};

fn main() {}

fn turn(buffer: Buffer<DeviceOwned, ToDevice>) -> Buffer<DeviceOwned, FromDevice> {
    buffer.for_direction()
}
