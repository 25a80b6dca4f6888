//! The order of what the driver does to memory and registers, which no emulator
//! shows: it is recorded.
#![allow(unsafe_code, reason = "implements an unsafe function, which does nothing")]

use std::sync::{Arc, Mutex};

use udmabuf::{Buffer, DmaAddr, Progress, Shared, emulator::Emulator};
use udmabuf_uio::emulator::{Device, emulate};

use super::{
    Build, Side,
    core::Core,
    descriptors::{Descriptors, Memory},
    registers::descriptor,
    start::Piece,
};

type Log = Arc<Mutex<Vec<&'static str>>>;

/// Memory that says what happens to it.
#[derive(Debug)]
struct Recorder(Buffer<Shared>, Log);

impl Recorder {
    fn log(&self, what: &'static str) {
        let mut log = self.1.lock().unwrap();
        if log.last() != Some(&what) {
            log.push(what);
        }
    }
}

impl Memory for Recorder {
    fn dma_addr(&self) -> DmaAddr {
        self.0.dma_addr()
    }
    fn read(&self, offset: usize) -> Result<u32, udmabuf::Error> {
        self.log("read");
        self.0.read(offset)
    }
    fn write(&mut self, offset: usize, word: u32) -> Result<(), udmabuf::Error> {
        self.log("write");
        self.0.write(offset, word)
    }
    fn publish(&self) {
        self.log("publish");
    }
    fn observe(&self) {
        self.log("observe");
    }
    unsafe fn release(self: Box<Self>) {}
}

/// A core that runs as soon as it is told to, and says when it is.
struct Registers(Log, bool);

impl Device for Registers {
    fn read(&mut self, offset: usize) -> u64 {
        match offset % 0x30 {
            0x04 => 1 << 3 | u64::from(!self.1),
            0x0c => 1, // it has upper halves
            _ => 0,
        }
    }
    fn write(&mut self, offset: usize, value: u64) {
        let what = match offset {
            0x00 => "control",
            0x08 => "first",
            0x10 => "tail",
            0x14 => "doorbell",
            _ => return,
        };
        self.1 = self.1 || offset == 0 && value & 1 != 0;
        self.0.lock().unwrap().push(what);
    }
    fn step(&mut self) -> bool {
        false
    }
    fn interrupt(&self) -> bool {
        false
    }
}

#[test]
fn descriptors_are_there_before_the_doorbell_and_read_before_the_data() {
    let (emulator, log) = (Emulator::new().coherent(), Log::default());
    let (registers, interrupt) = emulate(Registers(log.clone(), false)).unwrap();
    let build = Build { addr_bits: 64, ..Build::LEAST };
    let core = Core::new(registers, interrupt, build, None).unwrap();
    let memory = emulator.buffer(64).into_shared().unwrap();
    let descriptors = memory.dma_addr().to_u64();
    let memory = Recorder(memory, log.clone());
    core.lock().lane(Side::Mm2s).descriptors = Some(Descriptors::new(Box::new(memory), build));
    log.lock().unwrap().clear();

    let part = emulator.buffer(128).into_device().unwrap();
    let piece = Piece { addr: part.dma_addr(), starts: true, ends: true };
    core.start(Side::Mm2s, &[piece]).unwrap();
    let expected = ["write", "publish", "first", "control", "tail", "doorbell"];
    assert_eq!(*log.lock().unwrap(), expected);

    log.lock().unwrap().clear();
    assert!(matches!(core.poll(Side::Mm2s), Progress::Running));
    assert_eq!(*log.lock().unwrap(), ["read"]);
    let status = (1_u32 << 31 | 128).to_le_bytes(); // complete
    emulator.bus().write(descriptors + descriptor::STATUS as u64, &status).unwrap();
    log.lock().unwrap().clear();
    assert!(matches!(core.poll(Side::Mm2s), Progress::Finished));
    assert_eq!(*log.lock().unwrap(), ["read", "observe"]);
}
