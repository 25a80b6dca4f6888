//! Blocks, registers and bit fields are where they are declared.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::sync::{Arc, Mutex};

use udmabuf_uio::{
    FieldValue, Registers, TooWide, bits, block,
    emulator::{Device, Emulated, emulate},
};

bits! {
    struct Control(u16) {
        0 => START: bool,
        1..=3 => MODE: u8,
        8..=15 => COUNT: Words,
    }
}

/// The register counts in words of four bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Words(u8);

impl FieldValue for Words {
    const BITS: u32 = 8;
    fn from_bits(bits: u64) -> Self {
        Self(bits.try_into().unwrap())
    }
    fn to_bits(self) -> u64 {
        self.0.into()
    }
}

block! {
    struct Channel: 0xc bytes, align 4 {
        0x0 => ADDRESS: ReadWrite<u32>,
        0x8 => FIFO: ReadEffect<u32>,
    }
}

block! {
    struct Regs: 0x70 bytes {
        0x00 => BYTE: ReadWrite<u8>,
        0x02 => CONTROL: ReadWrite<Control>,
        0x04 => ISR: WriteEffect<u32>,
        0x10 => TABLE: [ReadWrite<u16>; 4 step 4],
        0x20 => DENSE: [ReadWrite<u32>; 2],
        0x40 => CHANNELS: [Channel; 2],
        0x60 => STATUS: ReadEffectWrite<u8>,
    }
}

#[cfg(target_pointer_width = "64")]
block! { struct Wide: 8 bytes { 0 => WIDE: ReadWrite<u64> } }

#[derive(Debug, PartialEq)]
enum Access {
    Read(usize),
    Write(usize, u64),
}
use Access::{Read, Write};

/// A register holds what was written to it; reading counts nothing but itself.
struct Memory {
    registers: [u64; 0x70],
    log: Arc<Mutex<Vec<Access>>>,
}

impl Device for Memory {
    fn read(&mut self, offset: usize) -> u64 {
        self.log.lock().unwrap().push(Read(offset));
        self.registers[offset]
    }
    fn write(&mut self, offset: usize, value: u64) {
        self.log.lock().unwrap().push(Write(offset, value));
        self.registers[offset] = value;
    }
    fn step(&mut self) -> bool {
        false
    }
    fn interrupt(&self) -> bool {
        false
    }
}

struct Setup {
    registers: Registers<Regs, Emulated>,
    log: Arc<Mutex<Vec<Access>>>,
}

impl Setup {
    fn new() -> Self {
        let log = Arc::default();
        let memory = Memory { registers: [0; 0x70], log: Arc::clone(&log) };
        Self { registers: emulate(memory).unwrap().0, log }
    }

    fn log(&self) -> Vec<Access> {
        self.log.lock().unwrap().drain(..).collect()
    }
}

#[test]
fn every_access_is_one() {
    let mut s = Setup::new();
    s.registers.write(Regs::BYTE, 0xab);
    assert_eq!(s.log(), [Write(0, 0xab)]);
    assert_eq!(s.registers.read(Regs::BYTE), 0xab);
    assert_eq!(s.log(), [Read(0)]);
    s.registers.doorbell(Regs::ISR, 1);
    assert_eq!(s.log(), [Write(4, 1)]);
    assert_eq!(s.registers.status(Regs::ISR), 1);
    assert_eq!(s.log(), [Read(4)]);
    assert_eq!(s.registers.take(Regs::STATUS), 0);
    assert_eq!(s.log(), [Read(0x60)]);
    s.registers.write(Regs::STATUS, 1);
    assert_eq!(s.log(), [Write(0x60, 1)]);
    s.registers.modify(Regs::CONTROL, |control| control.with(Control::START, true));
    assert_eq!(s.log(), [Read(2), Write(2, 1)]);
}

#[test]
fn arrays_and_inner_blocks_are_where_they_are_declared() {
    let mut s = Setup::new();
    s.registers.write(Regs::TABLE.index::<3>(), 7);
    s.registers.write(Regs::TABLE.get(1).unwrap(), 8);
    s.registers.write(Regs::DENSE.index::<1>(), 9);
    s.registers.write(Regs::CHANNELS.index::<1>().register(Channel::ADDRESS), 10);
    s.registers.take(Regs::CHANNELS.get(0).unwrap().register(Channel::FIFO));
    assert_eq!(
        s.log(),
        [Write(0x1c, 7), Write(0x14, 8), Write(0x24, 9), Write(0x4c, 10), Read(0x48)]
    );
    assert!(Regs::TABLE.get(4).is_none());
    assert!(Regs::CHANNELS.get(2).is_none());
    let offsets: Vec<_> = Regs::TABLE.iter().map(|register| register.offset()).collect();
    assert_eq!(offsets, [0x10, 0x14, 0x18, 0x1c]);
}

#[test]
fn fields_change_nothing_but_themselves() {
    let all = Control(0xffff);
    assert_eq!(all.with(Control::START, false), Control(0xfffe));
    assert_eq!(all.with(Control::COUNT, Words(0)), Control(0x00ff));
    assert_eq!(all.try_with(Control::MODE, 5), Ok(Control(0xfffb)));
    assert_eq!(all.try_with(Control::MODE, 8), Err(TooWide { value: 8, bits: 3 }));
    assert_eq!(Control(0x0a00).get(Control::COUNT), Words(10));
    assert_eq!(Control(0x000c).get(Control::MODE), 6);
    assert!(!Control(0xfffe).get(Control::START));
    assert_eq!(
        format!("{:?}", Control(0x0203)),
        "Control { START: true, MODE: 1, COUNT: Words(2) }"
    );
}

#[cfg(target_pointer_width = "64")]
#[test]
fn a_field_can_be_the_whole_register() {
    bits! { struct Whole(u64) { 0..=63 => ALL: u64 } }
    assert_eq!(Whole::default().with(Whole::ALL, u64::MAX).get(Whole::ALL), u64::MAX);
    let memory = Memory { registers: [0; 0x70], log: Arc::default() };
    let registers = emulate::<Wide>(memory).unwrap().0;
    registers.write(Wide::WIDE, u64::MAX - 1);
    assert_eq!(registers.read(Wide::WIDE), u64::MAX - 1);
}

#[test]
fn declarations_that_do_not_fit_panic() {
    use udmabuf_uio::{Array, Blocks, Inner, ReadOnly, Register};
    let refused = |f: fn()| std::panic::catch_unwind(f).is_err();
    type R = Register<Regs, u32, ReadOnly>;
    assert!(!refused(|| {
        let _ = R::at(0x6c);
    }));
    assert!(
        refused(|| {
            let _ = R::at(0x70);
        }) && refused(|| {
            let _ = R::at(0x6e);
        })
    );
    assert!(refused(|| {
        let _ = R::at(usize::MAX - 3);
    }));
    type A = Array<Regs, u32, ReadOnly, 4>;
    assert!(!refused(|| {
        let _ = A::at(0x60, 4);
    }));
    assert!(
        refused(|| {
            let _ = A::at(0x64, 4);
        }) && refused(|| {
            let _ = A::at(0x40, 0x10 + 4);
        })
    );
    assert!(
        refused(|| {
            let _ = A::at(0, 2);
        }) && refused(|| {
            let _ = A::at(0, 6);
        })
    );
    assert!(refused(|| {
        let _ = A::at(0, 0);
    }));
    assert!(refused(|| {
        let _ = A::at(8, usize::MAX / 4 * 4);
    }));
    type B = Blocks<Regs, Channel, 2>;
    assert!(!refused(|| {
        let _ = B::at(0x58, 0xc);
    }));
    assert!(
        refused(|| {
            let _ = B::at(0x5c, 0xc);
        }) && refused(|| {
            let _ = B::at(0, 8);
        })
    );
    assert!(
        refused(|| {
            let _ = B::at(2, 0xc);
        }) && refused(|| {
            let _ = B::at(0, 0xe);
        })
    );
    type I = Inner<Regs, Channel>;
    assert!(!refused(|| {
        let _ = I::at(0x64);
    }));
    assert!(
        refused(|| {
            let _ = I::at(0x68);
        }) && refused(|| {
            let _ = I::at(2);
        })
    );
    assert!(refused(|| {
        let _ = Inner::<Channel, Narrow>::at(0);
    }));
    // An inner block may not ask for more alignment than the outer one has.
    assert!(refused(|| {
        let _ = Blocks::<Channel, Narrow, 1>::at(0, 8);
    }));
    // Nor may a register.
    #[cfg(target_pointer_width = "64")]
    assert!(refused(|| {
        let _ = Register::<Channel, u64>::at(0);
    }));
}
block! { struct Narrow: 4 bytes { } }
