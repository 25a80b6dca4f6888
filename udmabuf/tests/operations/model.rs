//! What a buffer must hold, by the rules of the crate alone.

use std::ops::Range;

use udmabuf::emulator::BusError;

/// Which way a part was handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    ToDevice,
    FromDevice,
    Both,
    /// Both sides at once, and one memory.
    Shared,
}

/// One byte; `None` is one that the rules leave open.
#[derive(Clone, Copy)]
struct Cell {
    /// What the CPU sees.
    cpu: Option<u8>,
    /// What the device sees.
    memory: Option<u8>,
    /// How the device owns it, if it does.
    device: Option<Way>,
}

/// The bytes of one buffer.
pub struct Memory {
    cells: Vec<Cell>,
    coherent: bool,
}

impl Memory {
    pub fn new(len: usize, coherent: bool) -> Self {
        Self { cells: vec![Cell { cpu: Some(0), memory: Some(0), device: None }; len], coherent }
    }

    pub fn len(&self) -> usize {
        self.cells.len()
    }

    pub fn cpu_wrote(&mut self, range: Range<usize>, value: u8) {
        for cell in &mut self.cells[range] {
            cell.cpu = Some(value);
            if cell.device == Some(Way::Shared) {
                cell.memory = cell.cpu;
            }
        }
    }

    pub fn check_cpu(&self, range: Range<usize>, seen: &[u8]) {
        let expected = self.cells[range].iter().map(|cell| cell.cpu);
        check("the CPU", expected, seen);
    }

    /// The device owns `range` from now on.
    pub fn handed_over(&mut self, range: Range<usize>, way: Way) {
        for cell in &mut self.cells[range] {
            if way != Way::FromDevice || self.coherent {
                cell.memory = cell.cpu;
            } else if cell.memory != cell.cpu {
                // Cleaned or invalidated: nobody may rely on what the CPU wrote
                // into a buffer that only the device is to write.
                (cell.memory, cell.cpu) = (None, None);
            }
            cell.device = Some(way);
        }
    }

    /// The CPU owns `range` from now on.
    pub fn taken_back(&mut self, range: Range<usize>) {
        for cell in &mut self.cells[range] {
            if cell.device.take() != Some(Way::ToDevice) {
                cell.cpu = cell.memory;
            }
        }
    }

    /// The sync for the CPU failed of what a device may have written, and `range` will
    /// be taken back nevertheless, as none was started: zeros, as if the CPU had written
    /// them.
    pub fn left_unsynced(&mut self, range: Range<usize>) {
        let device = Some(Way::ToDevice);
        self.cells[range].fill(Cell { cpu: Some(0), memory: Some(0), device });
    }

    /// The device is done with `range`, and the sync for the CPU failed.
    pub fn device_locked_out(&mut self, range: Range<usize>) {
        self.cells[range].iter_mut().for_each(|cell| cell.device = None);
    }

    /// What becomes of an access of the device.
    pub fn access(
        &self,
        addr: u64,
        offset: usize,
        len: usize,
        forbidden: Way,
    ) -> Result<Range<usize>, BusError> {
        let range = offset..offset + len;
        let cells = self.cells.get(range.clone()).filter(|_| offset < self.len());
        let cells = cells.ok_or(BusError::NoMemory { addr, len })?;
        if cells.iter().any(|cell| cell.device.is_none()) {
            return Err(BusError::CpuOwned { addr, len });
        }
        if cells.iter().any(|cell| cell.device == Some(forbidden)) {
            return Err(BusError::WrongDirection { addr, len });
        }
        Ok(range)
    }

    pub fn device_wrote(&mut self, range: Range<usize>, value: u8) {
        for cell in &mut self.cells[range] {
            cell.memory = Some(value);
            if cell.device == Some(Way::Shared) {
                cell.cpu = cell.memory;
            }
        }
    }

    pub fn check_device(&self, range: Range<usize>, seen: &[u8]) {
        let expected = self.cells[range].iter().map(|cell| cell.memory);
        check("the device", expected, seen);
    }
}

fn check(who: &str, expected: impl Iterator<Item = Option<u8>>, seen: &[u8]) {
    for (at, (expected, &seen)) in expected.zip(seen).enumerate() {
        if let Some(expected) = expected {
            assert_eq!(seen, expected, "what {who} sees {at} bytes on");
        }
    }
}
