//! A driver gets a buffer that goes the way it needs.
use udmabuf::{Buffer, DeviceOwned, FromDevice, ToDevice, emulator::Emulator};
use udmabuf_examples::loopback::Loopback;

fn main() {}

fn swap(
    engine: &Loopback,
    source: Buffer<DeviceOwned, ToDevice>,
    destination: Buffer<DeviceOwned, FromDevice>,
) {
    drop(engine.copy(destination, source));
    drop(Emulator::new());
}
