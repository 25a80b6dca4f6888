//! The emulated registers and interrupt behave as UIO's do.

use std::{
    sync::mpsc,
    time::{Duration, Instant},
};

use udmabuf_uio::{
    Block, Interrupt, Register, Registers,
    emulator::{Device, Emulated, emulate},
};

enum Regs {}
impl Block for Regs {
    const SIZE: usize = 0x18;
}
/// Writing raises the interrupt line, after as many steps.
const STEPS: Register<Regs, u32> = Register::at(0x0);
/// Writing lowers the line; reading gives its level.
const LEVEL: Register<Regs, u8> = Register::at(0x4);
const HALF: Register<Regs, u16> = Register::at(0x6);
#[cfg(target_pointer_width = "64")]
const WIDE: Register<Regs, u64> = Register::at(0x10);

#[derive(Default)]
struct Model {
    steps: u64,
    level: bool,
    /// What was last written elsewhere, and where.
    last: (usize, u64),
    dropped: Option<mpsc::Sender<()>>,
}

impl Device for Model {
    fn read(&mut self, offset: usize) -> u64 {
        match offset {
            0x0 => self.steps,
            0x4 => self.level.into(),
            _ if offset == self.last.0 => self.last.1,
            _ => 0,
        }
    }

    fn write(&mut self, offset: usize, value: u64) {
        match offset {
            0x0 => self.steps = value,
            0x4 => self.level = false,
            _ => self.last = (offset, value),
        }
    }

    fn step(&mut self) -> bool {
        self.level |= self.steps == 1;
        self.steps = self.steps.saturating_sub(1);
        self.steps > 0
    }

    fn interrupt(&self) -> bool {
        self.level
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        if let Some(dropped) = &self.dropped {
            dropped.send(()).expect("the test waits for it");
        }
    }
}

fn device() -> (Registers<Regs, Emulated>, Interrupt) {
    emulate(Model::default()).expect("a device")
}

fn soon() -> Instant {
    Instant::now() + Duration::from_millis(20)
}

fn late() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

#[test]
fn registers_keep_their_width() {
    let (registers, _interrupt) = device();
    registers.write(HALF, 0xbeef);
    assert_eq!(registers.read(HALF), 0xbeef);
    #[cfg(target_pointer_width = "64")]
    {
        registers.write(WIDE, u64::MAX - 1);
        assert_eq!(registers.read(WIDE), u64::MAX - 1);
    }
}

#[test]
fn a_wait_ends_with_the_interrupt_or_the_deadline() {
    let (registers, mut interrupt) = device();
    interrupt.rearm().unwrap();
    assert_eq!(interrupt.wait(soon()).unwrap(), 0);
    assert_eq!(interrupt.wait(Instant::now()).unwrap(), 0);
    registers.write(STEPS, 100);
    assert_eq!(interrupt.wait(late()).unwrap(), 1);
    assert_eq!(registers.read(LEVEL), 1);
}

#[test]
fn it_fires_once_and_is_masked_until_rearmed() {
    let (registers, mut interrupt) = device();
    registers.write(STEPS, 1);
    assert_eq!(interrupt.wait(soon()).unwrap(), 0, "it was not masked to begin with");
    interrupt.rearm().unwrap();
    assert_eq!(interrupt.wait(late()).unwrap(), 1);
    // Cleared and raised again: masked.
    registers.write(LEVEL, 0);
    registers.write(STEPS, 1);
    assert_eq!(interrupt.wait(soon()).unwrap(), 0);
    interrupt.rearm().unwrap();
    assert_eq!(interrupt.wait(late()).unwrap(), 1);
}

#[test]
fn a_level_that_was_not_cleared_fires_at_once() {
    let (registers, mut interrupt) = device();
    registers.write(STEPS, 1);
    for _ in 0..2 {
        interrupt.rearm().unwrap();
        assert_eq!(interrupt.wait(late()).unwrap(), 1);
    }
    // Cleared before it is let through again: it does not fire.
    registers.write(LEVEL, 0);
    interrupt.rearm().unwrap();
    assert_eq!(interrupt.wait(soon()).unwrap(), 0);
}

#[test]
fn what_fired_before_the_wait_is_not_lost() {
    let (registers, mut interrupt) = device();
    interrupt.rearm().unwrap();
    registers.write(STEPS, 1);
    while registers.read(LEVEL) == 0 {}
    registers.write(LEVEL, 0);
    assert_eq!(interrupt.wait(late()).unwrap(), 1);
}

#[test]
fn the_device_ends_with_its_registers() {
    let (dropped, was_dropped) = mpsc::channel();
    let model = Model { dropped: Some(dropped), ..Model::default() };
    let (registers, interrupt) = emulate::<Regs>(model).unwrap();
    registers.write(STEPS, u32::MAX); // busy for a long while
    drop(registers);
    was_dropped.try_recv().expect("the thread has ended and the model with it");
    drop(interrupt);
}
