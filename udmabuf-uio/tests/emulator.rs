//! The emulated registers and interrupt behave as UIO's do.

use std::{
    sync::mpsc,
    time::{Duration, Instant},
};

use udmabuf_uio::{
    Interrupt, Registers,
    emulator::{Device, Emulated, emulate},
};

udmabuf_uio::block! {
    struct Regs: 0x8 bytes {
        /// Writing raises the interrupt line, after as many steps.
        0x0 => STEPS: ReadWrite<u32>,
        /// Writing lowers the line; reading gives its level.
        0x4 => LEVEL: WriteEffect<u8>,
    }
}

#[derive(Default)]
struct Model {
    steps: u64,
    level: bool,
    dropped: Option<mpsc::Sender<()>>,
}

impl Device for Model {
    fn read(&mut self, offset: usize) -> u64 {
        match offset {
            0x0 => self.steps,
            _ => self.level.into(),
        }
    }

    fn write(&mut self, offset: usize, value: u64) {
        match offset {
            0x0 => self.steps = value,
            _ => self.level = false,
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
fn a_wait_ends_with_the_interrupt_or_the_deadline() {
    let (registers, mut interrupt) = device();
    interrupt.rearm().unwrap();
    assert_eq!(interrupt.wait(soon()).unwrap(), 0);
    assert_eq!(interrupt.wait(Instant::now()).unwrap(), 0);
    registers.write(Regs::STEPS, 100);
    assert_eq!(interrupt.wait(late()).unwrap(), 1);
    assert_eq!(registers.read(Regs::LEVEL), 1);
}

#[test]
fn it_fires_once_and_is_masked_until_rearmed() {
    let (registers, mut interrupt) = device();
    registers.write(Regs::STEPS, 1);
    assert_eq!(interrupt.wait(soon()).unwrap(), 0, "it was not masked to begin with");
    interrupt.rearm().unwrap();
    assert_eq!(interrupt.wait(late()).unwrap(), 1);
    // Cleared and raised again: masked.
    registers.write(Regs::LEVEL, 0);
    registers.write(Regs::STEPS, 1);
    assert_eq!(interrupt.wait(soon()).unwrap(), 0);
    interrupt.rearm().unwrap();
    assert_eq!(interrupt.wait(late()).unwrap(), 1);
}

#[test]
fn a_level_that_was_not_cleared_fires_at_once() {
    let (registers, mut interrupt) = device();
    registers.write(Regs::STEPS, 1);
    for _ in 0..2 {
        interrupt.rearm().unwrap();
        assert_eq!(interrupt.wait(late()).unwrap(), 1);
    }
    // Cleared before it is let through again: it does not fire.
    registers.write(Regs::LEVEL, 0);
    interrupt.rearm().unwrap();
    assert_eq!(interrupt.wait(soon()).unwrap(), 0);
}

#[test]
fn what_fired_before_the_wait_is_not_lost() {
    let (registers, mut interrupt) = device();
    interrupt.rearm().unwrap();
    registers.write(Regs::STEPS, 1);
    while registers.read(Regs::LEVEL) == 0 {}
    registers.write(Regs::LEVEL, 0);
    assert_eq!(interrupt.wait(late()).unwrap(), 1);
}

#[test]
fn the_device_ends_with_its_registers() {
    let (dropped, was_dropped) = mpsc::channel();
    let model = Model { dropped: Some(dropped), ..Model::default() };
    let (registers, interrupt) = emulate::<Regs>(model).unwrap();
    registers.write(Regs::STEPS, u32::MAX); // busy for a long while
    drop(registers);
    was_dropped.try_recv().expect("the thread has ended and the model with it");
    drop(interrupt);
}
