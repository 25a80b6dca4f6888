//! The core, as PG021 says what it does, with its stream looped back.
//!
//! Where PG021 leaves something undefined, the model does something and says so:
//! [`Controls::undefined`].

mod channel;
mod controls;
mod mover;

use std::collections::VecDeque;

use udmabuf::emulator::Bus;
use udmabuf_uio::emulator::Device;

use self::channel::Channel;
pub use self::controls::Controls;
use super::{Build, Side};

/// Where the second channel's registers are.
const S2MM: usize = 0x30;
/// Bytes that the stream holds between the channels.
const STREAM_LEN: usize = 4096;
/// Bytes that a channel moves at once.
const BURST: usize = 1024;

/// Which of its modes a core is built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// "Enable Scatter Gather Engine" is off.
    Direct,
    /// It is on.
    ScatterGather,
}

/// A model of the core.
#[derive(Debug)]
pub struct Model {
    engine: Engine,
    mm2s: Channel,
    s2mm: Channel,
    is_resetting: bool,
    /// Steps without anything, still to come.
    rest: u32,
}

/// What both channels use.
#[derive(Debug)]
struct Engine {
    bus: Bus,
    build: Build,
    mode: Mode,
    controls: Controls,
    stream: Stream,
}

/// Bytes on their way, and where packets end.
#[derive(Debug, Default)]
struct Stream {
    bytes: VecDeque<u8>,
    /// The bytes that are left of each packet that has been sent whole.
    packets: VecDeque<usize>,
    /// The bytes of the packet that is being sent.
    open: usize,
}

impl Stream {
    fn room(&self) -> usize {
        STREAM_LEN.saturating_sub(self.bytes.len())
    }

    fn push(&mut self, bytes: &[u8], ends: bool) {
        self.bytes.extend(bytes);
        self.open += bytes.len();
        if ends {
            self.packets.push_back(std::mem::take(&mut self.open));
        }
    }

    /// Up to `max` bytes of one packet, and whether it ends with them.
    fn pop(&mut self, max: usize) -> (Vec<u8>, bool) {
        let len = max.min(self.packets.front().copied().unwrap_or(self.open));
        let ends = match self.packets.front_mut() {
            Some(left) => {
                *left -= len;
                *left == 0
            }
            None => {
                self.open -= len;
                false
            }
        };
        if ends {
            self.packets.pop_front();
        }
        (self.bytes.drain(..len).collect(), ends)
    }
}

impl Model {
    /// A core that masters `bus`.
    #[must_use]
    pub fn new(bus: Bus, build: Build, mode: Mode, controls: Controls) -> Self {
        let engine = Engine { bus, build, mode, controls, stream: Stream::default() };
        let [mm2s, s2mm] = Side::BOTH.map(Channel::new);
        Self { engine, mm2s, s2mm, is_resetting: false, rest: 0 }
    }

    fn channel(&mut self, offset: usize) -> (&mut Channel, usize, &Engine) {
        match offset.checked_sub(S2MM) {
            Some(offset) => (&mut self.s2mm, offset, &self.engine),
            None => (&mut self.mm2s, offset, &self.engine),
        }
    }
}

impl Device for Model {
    fn read(&mut self, offset: usize) -> u64 {
        let is_resetting = self.is_resetting;
        let (channel, offset, engine) = self.channel(offset);
        channel.read(offset, engine, is_resetting).into()
    }

    fn write(&mut self, offset: usize, value: u64) {
        let Ok(value) = u32::try_from(value) else { return }; // no register is wider
        if self.is_resetting {
            return;
        }
        let (channel, offset, engine) = self.channel(offset);
        self.is_resetting = channel.write(offset, value, engine);
    }

    fn step(&mut self) -> bool {
        if self.is_resetting {
            self.is_resetting = false;
            self.engine.stream = Stream::default();
            [self.mm2s, self.s2mm] = Side::BOTH.map(Channel::new);
            self.engine.controls.reset();
            return true;
        }
        if self.rest > 0 {
            self.rest -= 1;
            return true;
        }
        self.rest = self.engine.controls.slowness();
        let sent = self.mm2s.step(&mut self.engine);
        let received = self.s2mm.step(&mut self.engine);
        let moved = sent || received;
        if !moved {
            self.rest = 0;
        }
        moved
    }

    fn interrupt(&self) -> bool {
        self.mm2s.interrupt() || self.s2mm.interrupt() || self.engine.controls.is_spurious()
    }
    fn is_present(&self) -> bool {
        !self.engine.controls.is_unplugged()
    }
}
