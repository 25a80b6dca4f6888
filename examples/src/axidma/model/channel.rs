//! A channel's registers.

use super::{Engine, Mode};
use crate::axidma::{Build, Side};

pub(super) const RUN: u32 = 1 << 0;
/// Reads as 1 always.
const CONTROL_ONE: u32 = 1 << 1;
const RESET: u32 = 1 << 2;
pub(super) const CYCLIC: u32 = 1 << 4;
/// Run, keyhole, cyclic, the interrupts' enable bits, threshold and delay.
const CONTROL_WRITABLE: u32 = 0xffff_7019;
const THRESHOLD: u32 = 0xff << 16;

const HALTED: u32 = 1 << 0;
const IDLE: u32 = 1 << 1;
const SG_INCLUDED: u32 = 1 << 3;
pub(super) const IOC_IRQ: u32 = 1 << 12;
pub(super) const DELAY_IRQ: u32 = 1 << 13;
pub(super) const ERROR_IRQ: u32 = 1 << 14;

/// A descriptor, or what the registers say in direct register mode.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) address: u64,
    pub(super) length: u32,
    pub(super) moved: u32,
    pub(super) starts: bool,
    pub(super) ends: bool,
}

#[derive(Debug)]
pub(super) struct Channel {
    pub(super) side: Side,
    pub(super) control: u32,
    pub(super) is_halted: bool,
    pub(super) is_idle: bool,
    pub(super) errors: u32,
    pub(super) interrupts: u32,
    /// The descriptor that is processed, or was the last.
    pub(super) current: u64,
    /// The one that comes then.
    pub(super) next: Option<u64>,
    pub(super) tail: u64,
    pub(super) address: u64,
    pub(super) length: u32,
    /// Fetches descriptors until the tail.
    pub(super) fetches: bool,
    pub(super) work: Option<Work>,
    /// A packet has started and not ended.
    pub(super) in_packet: bool,
    pub(super) threshold_left: u32,
    /// Steps until the delay interrupt.
    pub(super) delay_left: Option<u32>,
}

impl Channel {
    /// As it is after a reset.
    pub(super) fn new(side: Side) -> Self {
        Self {
            side,
            control: 1 << 16,
            is_halted: true,
            is_idle: false,
            errors: 0,
            interrupts: 0,
            current: 0,
            next: None,
            tail: 0,
            address: 0,
            length: 0,
            fetches: false,
            work: None,
            in_packet: false,
            threshold_left: 1,
            delay_left: None,
        }
    }

    pub(super) fn interrupt(&self) -> bool {
        self.interrupts & self.control != 0 // the enable bits are at the same place
    }

    pub(super) fn is_cyclic(&self) -> bool {
        self.control & CYCLIC != 0
    }

    pub(super) fn read(&self, offset: usize, engine: &Engine, is_resetting: bool) -> u32 {
        let has_sg = engine.mode == Mode::ScatterGather;
        match offset {
            0x00 => self.control | CONTROL_ONE | if is_resetting { RESET } else { 0 },
            0x04 => {
                engine.controls.status_was_read();
                let bit = |is: bool, bit| if is { bit } else { 0 };
                bit(self.is_halted, HALTED)
                    | bit(self.is_idle, IDLE)
                    | bit(has_sg, SG_INCLUDED)
                    | self.errors
                    | self.interrupts
                    | self.threshold_left << 16
            }
            0x08 if has_sg => low(self.current),
            0x0c if has_sg => high(self.current),
            0x10 if has_sg => low(self.tail),
            0x14 if has_sg => high(self.tail),
            0x18 if !has_sg => low(self.address),
            0x1c if !has_sg => high(self.address),
            0x28 if !has_sg => self.length,
            _ => 0,
        }
    }

    /// Says whether the core is to be reset.
    pub(super) fn write(&mut self, offset: usize, value: u32, engine: &Engine) -> bool {
        let Build { length_bits, addr_bits, .. } = engine.build;
        let (has_sg, is_wide) = (engine.mode == Mode::ScatterGather, addr_bits > 32);
        match offset {
            0x00 if value & RESET != 0 => return true,
            0x00 => self.set_control(value),
            0x04 => self.interrupts &= !value,
            // Read-only unless it is halted.
            0x08 | 0x0c if has_sg && (!self.is_halted || self.control & RUN != 0) => {}
            0x08 if has_sg => self.current = with_low(self.current, value & !0x3f),
            0x0c if has_sg && is_wide => self.current = with_high(self.current, value),
            0x10 if has_sg => {
                self.tail = with_low(self.tail, value & !0x3f);
                self.start_fetching(!is_wide, engine);
            }
            0x14 if has_sg && is_wide => {
                self.tail = with_high(self.tail, value);
                self.start_fetching(true, engine);
            }
            0x18 if !has_sg => self.address = with_low(self.address, value),
            0x1c if !has_sg && is_wide => self.address = with_high(self.address, value),
            0x28 if !has_sg => {
                self.length = value & ((1 << length_bits) - 1);
                if value != self.length {
                    engine.controls.note(format!("length {value:#x} in {length_bits} bits"));
                }
                self.start_direct(engine);
            }
            _ => {}
        }
        false
    }

    fn set_control(&mut self, value: u32) {
        let threshold = match value & THRESHOLD {
            0 => self.control & THRESHOLD, // has no effect
            threshold => threshold,
        };
        self.control = value & CONTROL_WRITABLE & !THRESHOLD | threshold;
        if self.errors != 0 {
            self.control &= !RUN; // only a reset helps
        }
        self.reload();
    }

    pub(super) fn reload(&mut self) {
        self.threshold_left = (self.control & THRESHOLD) >> 16;
    }

    fn start_fetching(&mut self, is_complete: bool, engine: &Engine) {
        if !is_complete || self.is_halted {
            return; // no effect
        }
        if self.current == 0 {
            engine.controls.note(format!("{} has no first descriptor", self.side));
        }
        self.fetches = true;
        self.is_idle = false;
    }

    fn start_direct(&mut self, engine: &Engine) {
        if self.is_halted || self.length == 0 {
            return; // no effect
        }
        if self.work.is_some() {
            engine.controls.note(format!("{} was started while it was busy", self.side));
        }
        let (address, length) = (self.address, self.length);
        self.work = Some(Work { address, length, moved: 0, starts: true, ends: true });
        self.is_idle = false;
    }
}

#[allow(clippy::cast_possible_truncation, reason = "the half is what is asked for")]
fn low(value: u64) -> u32 {
    value as u32
}

fn high(value: u64) -> u32 {
    low(value >> 32)
}

fn with_low(value: u64, low: u32) -> u64 {
    value >> 32 << 32 | u64::from(low)
}

fn with_high(value: u64, high: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low(value))
}
