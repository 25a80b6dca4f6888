//! Only a driver, or somebody's `unsafe` word, knows that the device is done.
use udmabuf::{Buffer, CpuOwned, DeviceOwned};

fn main() {}

fn hurry(buffer: Buffer<DeviceOwned>) -> Buffer<CpuOwned> {
    buffer.into_cpu().unwrap()
}
