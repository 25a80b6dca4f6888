//! Nor can what the device owns be copied out.
use udmabuf::{Buffer, DeviceOwned, Error};

fn main() {}

fn look(buffer: &Buffer<DeviceOwned>, into: &mut [u8]) -> Result<(), Error> {
    buffer.copy_to(0, into)
}
