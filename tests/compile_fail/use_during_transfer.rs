//! The transfer has the buffers until it gives them back.
use std::time::Duration;

use udmabuf::{FromDevice, ToDevice, emulator::Emulator};
use udmabuf_examples::loopback::Loopback;

fn main() {
    let emulator = Emulator::new();
    let engine = Loopback::emulated(&emulator).unwrap();
    let source = emulator.buffer(64).for_direction::<ToDevice>().into_device().unwrap();
    let destination = emulator.buffer(64).for_direction::<FromDevice>().into_device().unwrap();
    let transfer = engine.copy(source, destination).unwrap();
    println!("{}", destination.dma_addr());
    transfer.wait(Duration::from_secs(1)).unwrap();
}
