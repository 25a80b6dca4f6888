//! The channel as UG1085 describes it, for the emulator. It reads one source
//! descriptor ahead, takes a while to become busy, and says "done" before it is
//! at rest: what a driver has to reckon with.

use udmabuf::emulator::{Bus, BusError};
use udmabuf_uio::emulator::Device;

use super::{
    fault::Fault,
    registers::{
        Address, COMMAND_PAUSE, COMMAND_STOP, CONTROL_COMMAND, CONTROL_LINKED, CTRL0_CONTINUE,
        CTRL0_LISTS, CTRL0_SIMPLE, CTRL2_ENABLE, ISR_ALL, ISR_DONE, ISR_PAUSED, Regs, STATUS_BUSY,
        STATUS_PAUSED, Simple,
    },
};

/// Bytes that the channel moves at once.
const BURST: usize = 256;
const DONE_WITH_ERROR: u32 = 0b11;

const ISR: usize = Regs::ISR.offset();
const MASK: usize = Regs::INTERRUPT_MASK.offset();
const ENABLE: usize = Regs::INTERRUPT_ENABLE.offset();
const DISABLE: usize = Regs::INTERRUPT_DISABLE.offset();
const CTRL0: usize = Regs::CTRL0.offset();
const STATUS: usize = Regs::STATUS.offset();
const TOTAL_BYTES: usize = Regs::TOTAL_BYTES.offset();
const CTRL2: usize = Regs::CTRL2.offset();

/// One side's descriptor, and how much of it is done.
#[derive(Clone, Copy)]
struct Cursor {
    addr: u64,
    left: u32,
    control: u32,
    next: u64,
}

#[derive(Clone, Copy)]
struct Sides {
    source: Cursor,
    destination: Cursor,
    /// The source that comes next, read ahead.
    ahead: Option<Cursor>,
}

#[derive(Clone, Copy)]
enum State {
    Idle,
    /// Enabled, and does not show it yet.
    Starting,
    Moving(Sides),
    /// Between two descriptors, with what is needed to go on.
    Paused(Sides),
    /// It has said "done", and is still busy.
    Ending {
        has_failed: bool,
    },
}

pub(super) struct Model {
    bus: Bus,
    /// The registers, by a quarter of their offset.
    words: [u32; Self::WORDS],
    state: State,
}

impl Model {
    const WORDS: usize = CTRL2 / 4 + 1;

    pub(super) fn new(bus: Bus) -> Self {
        let mut model = Self { bus, words: [0; Self::WORDS], state: State::Idle };
        model.words[MASK / 4] = ISR_ALL;
        model.words[CTRL0 / 4] = CTRL0_SIMPLE;
        model
    }

    fn word(&self, offset: usize) -> u32 {
        self.words[offset / 4]
    }

    fn raise(&mut self, bits: u32) {
        self.words[ISR / 4] |= bits;
    }

    /// What the channel does once CTRL0 or CTRL2 was written.
    fn controlled(&mut self, continues: bool) {
        let is_enabled = self.word(CTRL2) & CTRL2_ENABLE != 0;
        match self.state {
            State::Idle if is_enabled => self.state = State::Starting,
            State::Paused(sides) if continues && is_enabled => {
                self.show(STATUS_BUSY);
                self.state = State::Moving(sides);
            }
            State::Paused(_) if continues => {
                self.show(0);
                self.state = State::Idle;
            }
            // A write of 0 to the enable bit of a running channel does nothing
            // that is documented.
            _ => {}
        }
    }

    fn show(&mut self, state: u32) {
        self.words[STATUS / 4] = state;
    }

    fn is_list(&self) -> bool {
        self.word(CTRL0) & (CTRL0_LISTS & !CTRL0_SIMPLE) != 0
    }

    /// The first descriptor of a side: from registers, or from the list whose
    /// start is in others.
    fn first(
        &self,
        simple: udmabuf_uio::Inner<Regs, Simple>,
        start: udmabuf_uio::Inner<Regs, Address>,
    ) -> Option<Cursor> {
        let long =
            |low: usize, high: usize| u64::from(self.word(high)) << 32 | u64::from(self.word(low));
        if self.is_list() {
            let low = start.register(Address::LOW).offset();
            return self.fetch(long(low, start.register(Address::HIGH).offset()));
        }
        Some(Cursor {
            addr: long(
                simple.register(Simple::ADDR_LOW).offset(),
                simple.register(Simple::ADDR_HIGH).offset(),
            ),
            left: self.word(simple.register(Simple::SIZE).offset()),
            control: COMMAND_STOP,
            next: 0,
        })
    }

    /// Reads the descriptor at an address, if there is one.
    fn fetch(&self, at: u64) -> Option<Cursor> {
        let mut linear = [0; 16];
        self.bus.read(at, &mut linear).ok()?;
        let mut cursor = Cursor {
            addr: u64_at(&linear, 0),
            left: u32_at(&linear, 8) & 0x3fff_ffff,
            control: u32_at(&linear, 12),
            next: at.wrapping_add(16),
        };
        let is_linked = cursor.control & CONTROL_LINKED != 0;
        if is_linked {
            let mut next = [0; 8];
            self.bus.read(cursor.next, &mut next).ok()?;
            cursor.next = u64_at(&next, 0);
        }
        // Aligned to their own size.
        (at % if is_linked { 32 } else { 16 } == 0).then_some(cursor)
    }

    fn start(&mut self) -> Result<Sides, Fault> {
        let source = self.first(Regs::SOURCE, Regs::SOURCE_START).ok_or(Fault::SourceDescriptor)?;
        let destination = self
            .first(Regs::DESTINATION, Regs::DESTINATION_START)
            .ok_or(Fault::DestinationDescriptor)?;
        Ok(Sides { source, destination, ahead: self.read_ahead(source) })
    }

    /// What comes after a source, if the channel reads that far ahead.
    fn read_ahead(&self, source: Cursor) -> Option<Cursor> {
        (source.control & CONTROL_COMMAND == 0).then(|| self.fetch(source.next)).flatten()
    }

    /// Moves a burst. `None`: the list is over.
    fn burst(&mut self, mut sides: Sides) -> Result<Option<State>, Fault> {
        if sides.source.left == 0 {
            let source = match sides.ahead {
                Some(source) => source,
                None => self.fetch(sides.source.next).ok_or(Fault::SourceDescriptor)?,
            };
            sides = Sides { source, ahead: self.read_ahead(source), ..sides };
        }
        if self.is_list() && sides.destination.left == 0 {
            sides.destination =
                self.fetch(sides.destination.next).ok_or(Fault::DestinationDescriptor)?;
        }
        let len = match self.is_list() {
            true => sides.source.left.min(sides.destination.left),
            // The size of the destination is not looked at.
            false => sides.source.left,
        };
        let len = usize::try_from(len).map_or(BURST, |len| len.min(BURST));
        let moved = u32::try_from(len).unwrap_or(0);
        let mut data = [0; BURST];
        let failed = |fault| move |_: BusError| fault;
        self.bus.read(sides.source.addr, &mut data[..len]).map_err(failed(Fault::Read))?;
        self.bus.write(sides.destination.addr, &data[..len]).map_err(failed(Fault::Write))?;
        let (total, overflows) = self.word(TOTAL_BYTES).overflowing_add(moved);
        self.words[TOTAL_BYTES / 4] = total;
        if overflows {
            self.raise(1 << Fault::ByteCount as u32);
        }
        for side in [&mut sides.source, &mut sides.destination] {
            side.addr += u64::from(moved);
            side.left = side.left.saturating_sub(moved);
        }
        Ok(match sides.source.control & CONTROL_COMMAND {
            _ if sides.source.left != 0 => Some(State::Moving(sides)),
            COMMAND_STOP => None,
            COMMAND_PAUSE => Some(State::Paused(sides)),
            _ => Some(State::Moving(sides)),
        })
    }

    fn enter(&mut self, next: Result<Option<State>, Fault>) {
        self.state = match next {
            Ok(Some(state)) => {
                if let State::Paused(_) = state {
                    self.show(STATUS_PAUSED);
                    self.raise(ISR_PAUSED);
                }
                state
            }
            Ok(None) => {
                self.raise(ISR_DONE);
                State::Ending { has_failed: false }
            }
            Err(fault) => {
                self.raise(ISR_DONE | 1 << fault as u32);
                State::Ending { has_failed: true }
            }
        };
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at + 4)) << 32 | u64::from(u32_at(bytes, at))
}

impl Device for Model {
    fn read(&mut self, offset: usize) -> u64 {
        self.word(offset).into()
    }

    fn write(&mut self, offset: usize, value: u64) {
        let Ok(value) = u32::try_from(value) else {
            return;
        }; // no register is wider
        match offset {
            ISR | TOTAL_BYTES => self.words[offset / 4] &= !value,
            ENABLE => self.words[MASK / 4] &= !value,
            DISABLE => self.words[MASK / 4] |= value,
            MASK | STATUS => {}
            CTRL0 => {
                self.words[CTRL0 / 4] = value & !CTRL0_CONTINUE;
                self.controlled(value & CTRL0_CONTINUE != 0);
            }
            CTRL2 => {
                self.words[CTRL2 / 4] = value;
                self.controlled(false);
            }
            _ => self.words[offset / 4] = value,
        }
    }

    fn step(&mut self) -> bool {
        match self.state {
            State::Idle | State::Paused(_) => return false,
            State::Starting => {
                self.show(STATUS_BUSY);
                let sides = self.start();
                self.enter(sides.map(|sides| Some(State::Moving(sides))));
            }
            State::Moving(sides) => {
                let next = self.burst(sides);
                self.enter(next);
            }
            State::Ending { has_failed } => {
                self.show(if has_failed { DONE_WITH_ERROR } else { 0 });
                self.words[CTRL2 / 4] = 0;
                self.state = State::Idle;
            }
        }
        true
    }

    fn interrupt(&self) -> bool {
        self.word(ISR) & !self.word(MASK) & ISR_ALL != 0
    }
}
