//! The device: what an FPGA would hold.

use udmabuf::emulator::{Bus, BusError};
use udmabuf_uio::emulator::Device;

use super::{STATUS_BUS_ERROR, STATUS_DONE};

/// Bytes that the engine moves at once.
const BURST: usize = 4096;

pub(super) struct Model {
    bus: Bus,
    /// Source, destination and length: the registers below CONTROL.
    words: [u32; 5],
    /// Bytes copied so far, while a copy is running.
    copied: Option<u64>,
    status: u32,
}

impl Model {
    pub(super) fn new(bus: Bus) -> Self {
        Self { bus, words: [0; 5], copied: None, status: 0 }
    }

    fn burst(&self, copied: u64, len: usize) -> Result<(), BusError> {
        let [source_low, source_high, destination_low, destination_high, _] = self.words;
        let addr = |low: u32, high: u32| (u64::from(high) << 32 | u64::from(low)) + copied;
        let mut data = [0; BURST];
        self.bus.read(addr(source_low, source_high), &mut data[..len])?;
        self.bus.write(addr(destination_low, destination_high), &data[..len])
    }
}

impl Device for Model {
    fn read(&mut self, offset: usize) -> u64 {
        match offset {
            0x18 => self.status.into(),
            _ => self.words.get(offset / 4).copied().unwrap_or(0).into(),
        }
    }

    fn write(&mut self, offset: usize, value: u64) {
        let Ok(value) = u32::try_from(value) else {
            return;
        }; // no register is wider
        match offset {
            0x14 => self.copied = (value & 1 != 0).then_some(0),
            0x18 => self.status &= !value,
            _ => {
                if let Some(word) = self.words.get_mut(offset / 4) {
                    *word = value;
                }
            }
        }
    }

    fn step(&mut self) -> bool {
        let Some(copied) = self.copied else {
            return false;
        };
        let left = u64::from(self.words[4]).saturating_sub(copied);
        let len = usize::try_from(left).map_or(BURST, |left| left.min(BURST));
        match self.burst(copied, len) {
            Ok(()) if left > BURST as u64 => self.copied = Some(copied + len as u64),
            Ok(()) => {
                self.status |= STATUS_DONE;
                self.copied = None;
            }
            Err(_) => {
                self.status |= STATUS_BUS_ERROR;
                self.copied = None;
            }
        }
        self.copied.is_some()
    }

    fn interrupt(&self) -> bool {
        self.status != 0
    }
}
