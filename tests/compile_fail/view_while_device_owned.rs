//! A typed view is as much of a read as a slice.
use udmabuf::{Buffer, DeviceOwned, Error};

fn main() {}

fn look(buffer: &Buffer<DeviceOwned>) -> Result<u32, Error> {
    buffer.view::<u32>(0).copied()
}
