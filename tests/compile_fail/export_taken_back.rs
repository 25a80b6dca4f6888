//! Only somebody's `unsafe` word says that the others are done with it.
use udmabuf::{Bidirectional, Buffer, Cached, DeviceOwned, Exported};

fn main() {}

fn take_back(exported: Exported<Bidirectional, Cached>) -> Buffer<DeviceOwned> {
    exported.into_buffer()
}
