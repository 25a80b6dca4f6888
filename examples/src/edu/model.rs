//! The device, as QEMU's `hw/misc/edu.c` behaves: what is not allowed is dropped
//! without a word, and a transfer that leaves the device's memory ends it.

use udmabuf::emulator::Bus;
use udmabuf_uio::emulator::Device;

use super::{
    COMMAND_FROM_DEVICE, COMMAND_INTERRUPT, COMMAND_START, IDENTITY, INTERRUPT_DMA,
    INTERRUPT_FACTORIAL, MEMORY, STATUS_COMPUTING, STATUS_INTERRUPT,
};

const MEMORY_LEN: usize = 4096;
/// Bytes that it moves at once.
const BURST: usize = 256;

pub(super) struct Model {
    bus: Bus,
    is_master: bool,
    is_broken: bool,
    memory: [u8; MEMORY_LEN],
    liveness: u32,
    factorial: u32,
    status: u32,
    raised: u32,
    source: u32,
    destination: u32,
    count: u32,
    command: u32,
    /// Bytes of the running transfer that were moved.
    moved: u32,
}

impl Model {
    pub(super) fn new(bus: Bus) -> Self {
        Self {
            bus,
            is_master: false,
            is_broken: false,
            memory: [0; MEMORY_LEN],
            liveness: 0,
            factorial: 0,
            status: 0,
            raised: 0,
            source: 0,
            destination: 0,
            count: 0,
            command: 0,
            moved: 0,
        }
    }

    fn runs(&self) -> bool {
        self.command & COMMAND_START != 0
    }

    /// The next bytes of the transfer; `None` if they are not all in the memory.
    fn burst(&mut self) -> Option<()> {
        let len = usize::try_from(self.count - self.moved).ok()?.min(BURST);
        let from_device = self.command & COMMAND_FROM_DEVICE != 0;
        let (own, bus) = match from_device {
            true => (self.source, self.destination),
            false => (self.destination, self.source),
        };
        let start = usize::try_from(own.checked_sub(MEMORY)?.checked_add(self.moved)?).ok()?;
        let own = self.memory.get_mut(start..start.checked_add(len)?)?;
        let bus = u64::from(bus) + u64::from(self.moved);
        if self.is_master {
            // The bus keeps a record of what was wrong; the device has no register for it.
            let _ = match from_device {
                true => self.bus.write(bus, own),
                false => self.bus.read(bus, own),
            };
        }
        self.moved += u32::try_from(len).ok()?;
        Some(())
    }
}

impl Device for Model {
    fn read(&mut self, offset: usize) -> u64 {
        let value = match offset {
            0x00 => 0x0100_0000 | IDENTITY,
            0x04 => !self.liveness,
            0x08 => self.factorial,
            0x20 => self.status,
            0x24 => self.raised,
            0x80 => self.source,
            0x88 => self.destination,
            0x90 => self.count,
            0x98 => self.command,
            _ => u32::MAX,
        };
        value.into()
    }

    fn write(&mut self, offset: usize, value: u64) {
        let Ok(value) = u32::try_from(value) else {
            return; // no register is wider
        };
        match offset {
            0x04 => self.liveness = value,
            0x08 if self.status & STATUS_COMPUTING == 0 => {
                self.factorial = value;
                self.status |= STATUS_COMPUTING;
            }
            0x20 => self.status = self.status & !STATUS_INTERRUPT | value & STATUS_INTERRUPT,
            0x60 => self.raised |= value,
            0x64 => self.raised &= !value,
            // Its programming stands while a transfer runs.
            0x80..=0x98 if self.runs() => {}
            0x80 => self.source = value,
            0x88 => self.destination = value,
            0x90 => self.count = value,
            0x98 => (self.command, self.moved) = (value, 0),
            _ => {}
        }
    }

    fn step(&mut self) -> bool {
        if self.status & STATUS_COMPUTING != 0 {
            // From 34 on it is a multiple of 2^32.
            self.factorial = (1..=self.factorial.min(34)).fold(1, u32::wrapping_mul);
            self.status &= !STATUS_COMPUTING;
            if self.status & STATUS_INTERRUPT != 0 {
                self.raised |= INTERRUPT_FACTORIAL;
            }
        }
        if self.runs() {
            self.is_broken |= self.burst().is_none();
            if self.moved >= self.count {
                self.command &= !COMMAND_START;
                if self.command & COMMAND_INTERRUPT != 0 {
                    self.raised |= INTERRUPT_DMA;
                }
            }
        }
        self.runs() && !self.is_broken
    }

    fn interrupt(&self) -> bool {
        self.raised != 0
    }

    fn set_bus_master(&mut self, allowed: bool) {
        self.is_master = allowed;
    }

    fn is_present(&self) -> bool {
        !self.is_broken
    }
}
