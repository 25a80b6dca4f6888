//! Reading by value is reading: what the device owns has no values.
use udmabuf::{Buffer, DeviceOwned, Error};

fn main() {}

fn look(buffer: &Buffer<DeviceOwned>) -> Result<u32, Error> {
    buffer.read(0)
}
