//! The core: what Vitis HLS makes of `vadd`.

use udmabuf::emulator::{Bus, BusError};
use udmabuf_uio::{Value, emulator::Device};

use super::Vadd;
use crate::ap_ctrl_hs::{ApCtrlHs, Control, Events, Pointer};

/// Elements that the core adds at once.
const BURST: u64 = 256;

const CONTROL: usize = Vadd::CONTROL.register(ApCtrlHs::CONTROL).offset();
const GLOBAL_ENABLE: usize = Vadd::CONTROL.register(ApCtrlHs::GLOBAL_ENABLE).offset();
const ENABLE: usize = Vadd::CONTROL.register(ApCtrlHs::ENABLE).offset();
const STATUS: usize = Vadd::CONTROL.register(ApCtrlHs::STATUS).offset();
const ARGUMENTS: usize = 0x10;
const SIZE: usize = Vadd::SIZE.offset();

/// A model of the core, which can be driven as it is, or
/// [emulated](udmabuf_uio::emulator::emulate).
#[derive(Debug)]
pub struct Model {
    bus: Bus,
    control: Control,
    global_enable: bool,
    enable: u32,
    status: u32,
    /// Word by word from `ARGUMENTS`.
    arguments: [u32; 11],
    /// Elements added so far, while the core is running.
    added: Option<u64>,
}

impl Model {
    /// A core that masters `bus`.
    #[must_use]
    pub fn new(bus: Bus) -> Self {
        Self {
            bus,
            control: Control(0).with(Control::IDLE, true),
            global_enable: false,
            enable: 0,
            status: 0,
            arguments: [0; 11],
            added: None,
        }
    }

    fn argument(&self, offset: usize) -> u64 {
        let number = offset.checked_sub(ARGUMENTS).map(|offset| offset / 4);
        number.and_then(|number| self.arguments.get(number)).copied().unwrap_or(0).into()
    }

    fn pointer(&self, argument: udmabuf_uio::Inner<Vadd, Pointer>) -> u64 {
        let word = |register: udmabuf_uio::Register<_, u32, _>| self.argument(register.offset());
        word(argument.register(Pointer::HIGH)) << 32 | word(argument.register(Pointer::LOW))
    }

    fn burst(&self, first: u64, count: u64) -> Result<(), BusError> {
        let at = |pointer: u64| pointer.wrapping_add(4 * first);
        let (a, b, out) =
            (at(self.pointer(Vadd::A)), at(self.pointer(Vadd::B)), at(self.pointer(Vadd::OUT)));
        for element in 0..count {
            let read = |from: u64| {
                let mut bytes = [0; 4];
                self.bus.read(from + 4 * element, &mut bytes)?;
                Ok(u32::from_le_bytes(bytes))
            };
            let sum = read(a)?.wrapping_add(read(b)?);
            self.bus.write(out + 4 * element, &sum.to_le_bytes())?;
        }
        Ok(())
    }

    /// The arguments are used up, and the core is done.
    fn finish(&mut self) {
        let again = self.control.get(Control::AUTO_RESTART);
        self.added = again.then_some(0);
        self.control = self
            .control
            .with(Control::START, again)
            .with(Control::IDLE, !again)
            .with(Control::DONE, true)
            .with(Control::READY, true);
        let events = Events(0).with(Events::DONE, true).with(Events::READY, true);
        self.status |= events.to_word() & self.enable;
    }
}

impl Device for Model {
    fn read(&mut self, offset: usize) -> u64 {
        match offset {
            CONTROL => {
                let value = self.control.with(Control::INTERRUPT, self.interrupt());
                self.control = self.control.with(Control::DONE, false).with(Control::READY, false);
                value.to_word().into()
            }
            GLOBAL_ENABLE => self.global_enable.into(),
            ENABLE => self.enable.into(),
            STATUS => self.status.into(),
            _ => self.argument(offset),
        }
    }

    fn write(&mut self, offset: usize, value: u64) {
        let Ok(value) = u32::try_from(value) else {
            return;
        }; // no register is wider
        match offset {
            CONTROL => {
                let written = Control(value);
                let again = written.get(Control::AUTO_RESTART);
                self.control = self.control.with(Control::AUTO_RESTART, again);
                if written.get(Control::START) && self.added.is_none() {
                    self.control =
                        self.control.with(Control::START, true).with(Control::IDLE, false);
                    self.added = Some(0);
                }
            }
            GLOBAL_ENABLE => self.global_enable = value & 1 != 0,
            ENABLE => self.enable = value & 3,
            STATUS => self.status ^= value & 3,
            _ => {
                let number = offset.checked_sub(ARGUMENTS).map(|offset| offset / 4);
                if let Some(word) = number.and_then(|number| self.arguments.get_mut(number)) {
                    *word = value;
                }
            }
        }
    }

    fn step(&mut self) -> bool {
        let Some(added) = self.added else {
            return false;
        };
        let left = self.argument(SIZE).saturating_sub(added);
        let count = left.min(BURST);
        // A core that the bus refuses waits for an answer for ever.
        if self.burst(added, count).is_err() {
            return false;
        }
        if left > BURST {
            self.added = Some(added + count);
        } else {
            self.finish();
        }
        true
    }

    fn interrupt(&self) -> bool {
        self.global_enable && self.status != 0
    }
}
