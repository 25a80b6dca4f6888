//! A view that checks the bytes reads them, too.
use udmabuf::{Buffer, DeviceOwned, Error};

fn main() {}

fn look(buffer: &Buffer<DeviceOwned>) -> Result<&bool, Error> {
    buffer.try_view(0)
}
