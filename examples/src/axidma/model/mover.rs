//! What a channel does: fetches descriptors, moves data, and says so.

use udmabuf::emulator::BusError;

use super::{
    BURST, Engine, Mode,
    channel::{Channel, DELAY_IRQ, ERROR_IRQ, IOC_IRQ, RUN, Work},
};
use crate::axidma::{Faults, Side};

const DMA: [Faults; 3] = [Faults::DMA_INTERNAL, Faults::DMA_SLAVE, Faults::DMA_DECODE];
const SG: [Faults; 3] = [Faults::SG_INTERNAL, Faults::SG_SLAVE, Faults::SG_DECODE];

/// In a descriptor's control and status.
const LENGTH: u32 = (1 << 26) - 1;
const END: u32 = 1 << 26;
const START: u32 = 1 << 27;
const COMPLETE: u32 = 1 << 31;
/// From an error bit of `DMASR` to that of a descriptor.
const TO_DESCRIPTOR: u32 = 24;

impl Channel {
    /// Says whether it has done anything.
    pub(super) fn step(&mut self, engine: &mut Engine) -> bool {
        let ticked = self.tick();
        self.change_state() || self.fetch(engine) || self.burst(engine) || ticked
    }

    /// The delay timer.
    fn tick(&mut self) -> bool {
        let Some(left) = self.delay_left else { return false };
        self.delay_left = left.checked_sub(1);
        if self.delay_left.is_none() {
            self.interrupts |= DELAY_IRQ;
            self.reload();
        }
        true
    }

    /// Starts to run, or halts, some time after the bit says so.
    fn change_state(&mut self) -> bool {
        let runs = self.control & RUN != 0;
        if runs && self.is_halted {
            self.is_halted = false;
            return true;
        }
        // What was fetched and has moved nothing is flushed; without descriptors
        // there is nothing to fall back to.
        let direct = !self.fetches && self.work.is_some();
        let has_begun = self.work.as_ref().is_some_and(|work| work.moved > 0 || direct);
        if !runs && !self.is_halted && !has_begun {
            self.is_halted = true;
            (self.work, self.next, self.fetches) = (None, None, false);
            return true;
        }
        false
    }

    fn fetch(&mut self, engine: &Engine) -> bool {
        if self.is_halted || !self.fetches || self.work.is_some() || self.control & RUN == 0 {
            return false;
        }
        if let Some(next) = self.next.take() {
            self.current = next;
        }
        if let Some(fault) = engine.controls.takes_fault(self.side, &SG) {
            self.fail(fault);
            return true;
        }
        let mut words = [0; 32];
        if let Err(error) = engine.bus.read(self.current, &mut words) {
            self.fail(bus_fault(error, SG));
            return true;
        }
        let word = |offset: usize| {
            let bytes = words.get(offset..offset + 4).and_then(|bytes| bytes.try_into().ok());
            u32::from_le_bytes(bytes.unwrap_or_default())
        };
        let address = |offset: usize| {
            let high = if engine.build.addr_bits > 32 { word(offset + 4) } else { 0 };
            u64::from(high) << 32 | u64::from(word(offset))
        };
        let (control, status) = (word(0x18), word(0x1c));
        let length = control & LENGTH & ((1 << engine.build.length_bits) - 1);
        let (starts, ends) = (control & START != 0, control & END != 0);
        self.next = Some(address(0x00));
        if status & COMPLETE != 0 && !self.is_cyclic() {
            self.fail(Faults::SG_INTERNAL);
            return true;
        }
        if length == 0 {
            self.fail_descriptor(Faults::DMA_INTERNAL, engine);
            return true;
        }
        let work = Work { address: address(0x08), length, moved: 0, starts, ends };
        self.check(&work, control, word(0x00), engine);
        self.work = Some(work);
        true
    }

    /// Notes what PG021 leaves undefined.
    fn check(&self, work: &Work, control: u32, next: u32, engine: &Engine) {
        let note = |what: &str| engine.controls.note(format!("{}: {what}", self.side));
        let align = u64::from(engine.build.data_bytes);
        let sends = self.side == Side::Mm2s;
        if next & 0x3f != 0 {
            note("a descriptor at no multiple of 64");
        }
        if control & LENGTH != work.length {
            note("a length wider than its register");
        }
        if !engine.build.realigns && work.address % align != 0 {
            note("an address that is not aligned");
        }
        if !engine.build.realigns && sends && !work.ends && u64::from(work.length) % align != 0 {
            note("a length that is not aligned");
        }
        if sends && work.starts == self.in_packet {
            note("a packet that starts twice, or never");
        }
    }

    fn burst(&mut self, engine: &mut Engine) -> bool {
        let (side, Some(work)) = (self.side, &self.work) else { return false };
        if self.is_halted || engine.controls.hangs(side) {
            return false;
        }
        let at = work.address + u64::from(work.moved);
        let left = usize::try_from(work.length - work.moved).unwrap_or(usize::MAX);
        let max = left.min(BURST);
        let ready = match side {
            Side::Mm2s => engine.stream.room(),
            Side::S2mm => engine.stream.bytes.len(),
        };
        if ready == 0 {
            return false;
        }
        if let Some(fault) = engine.controls.takes_fault(side, &DMA) {
            self.fail_descriptor(fault, engine);
            return true;
        }
        self.delay_left = None; // a packet goes on
        let (moved, ends) = match side {
            Side::Mm2s => {
                let mut bytes = vec![0; max.min(ready)];
                let result = engine.bus.read(at, &mut bytes);
                let ends = work.ends && bytes.len() == left;
                if result.is_ok() {
                    engine.stream.push(&bytes, ends);
                }
                (result.map(|()| bytes.len()), ends)
            }
            Side::S2mm => {
                let (bytes, ends) = engine.stream.pop(max);
                (engine.bus.write(at, &bytes).map(|()| bytes.len()), ends)
            }
        };
        match moved.map(|moved| u32::try_from(moved).unwrap_or(u32::MAX)) {
            Ok(moved) => self.advance(moved, ends, engine),
            Err(error) => self.fail_descriptor(bus_fault(error, DMA), engine),
        }
        true
    }

    fn advance(&mut self, moved: u32, ends: bool, engine: &Engine) {
        let Some(work) = &mut self.work else { return };
        work.moved += moved;
        let (moved, is_full) = (work.moved, work.moved == work.length);
        if !is_full && !ends {
            return;
        }
        let starts = !std::mem::replace(&mut self.in_packet, !ends);
        if engine.mode == Mode::Direct {
            self.work = None;
            if !ends {
                self.fail(Faults::DMA_INTERNAL); // the packet is longer than the buffer
                return;
            }
            self.length = engine.controls.takes_status(self.side).unwrap_or(moved);
            self.is_idle = true;
            self.interrupts |= IOC_IRQ;
            return;
        }
        let mut status = COMPLETE | moved;
        if self.side == Side::S2mm {
            status |= if starts { START } else { 0 } | if ends { END } else { 0 };
        }
        let status = engine.controls.takes_status(self.side).unwrap_or(status);
        if self.write_status(status, engine) {
            self.work = None;
            self.complete(ends);
        }
    }

    /// A descriptor is complete.
    fn complete(&mut self, ends: bool) {
        if self.current == self.tail && !self.is_cyclic() {
            (self.fetches, self.is_idle) = (false, true);
        }
        if !ends {
            return;
        }
        self.threshold_left = self.threshold_left.saturating_sub(1);
        if self.threshold_left == 0 {
            self.interrupts |= IOC_IRQ;
            self.reload();
        } else if self.control >> 24 > 0 {
            self.delay_left = Some(self.control >> 24);
        }
    }

    fn write_status(&mut self, status: u32, engine: &Engine) -> bool {
        let written = engine.bus.write(self.current + 0x1c, &status.to_le_bytes());
        if let Err(error) = written {
            self.fail(bus_fault(error, SG));
        }
        written.is_ok()
    }

    /// The descriptor says too what was wrong with its data.
    fn fail_descriptor(&mut self, fault: Faults, engine: &Engine) {
        let moved = self.work.as_ref().map_or(0, |work| work.moved);
        let has_descriptor = engine.mode == Mode::ScatterGather;
        if !has_descriptor
            || self.write_status(COMPLETE | moved | fault.bits() << TO_DESCRIPTOR, engine)
        {
            self.fail(fault);
        }
    }

    /// It halts by itself, and stays so until the core is reset.
    fn fail(&mut self, fault: Faults) {
        self.errors |= fault.bits();
        self.interrupts |= ERROR_IRQ;
        self.control &= !RUN;
        (self.work, self.fetches) = (None, false);
    }
}

/// What the bus answers to a real core.
fn bus_fault(error: BusError, [_, slave, decode]: [Faults; 3]) -> Faults {
    match error {
        BusError::NoMemory { .. } => decode,
        _ => slave,
    }
}
