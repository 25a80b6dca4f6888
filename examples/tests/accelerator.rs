//! The driver of the HLS core on the emulator, and its control registers.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::time::{Duration, Instant};

use udmabuf::{
    Buffer, CpuOwned, FromDevice, StartError, ToDevice, WaitError,
    emulator::{Emulator, SyncFault},
};
use udmabuf_examples::{
    accelerator::{Accelerator, Error},
    ap_ctrl_hs::{ApCtrlHs, Control, Core, Events, NotIdle},
};
use udmabuf_uio::emulator::{Device, Emulated, Faults, emulate};

const LONG: Duration = Duration::from_secs(300);
const SHORT: Duration = Duration::from_millis(20);

type Vectors =
    ((Buffer<CpuOwned, ToDevice>, Buffer<CpuOwned, ToDevice>), Buffer<CpuOwned, FromDevice>);

fn vectors(emulator: &Emulator, [a, b, out]: [usize; 3]) -> Vectors {
    let fill = |len: usize, step: u32| {
        let mut buffer = emulator.buffer(len).for_direction::<ToDevice>();
        for (element, n) in buffer.slice_of_mut::<u32>(0, len / 4).unwrap().iter_mut().zip(1..) {
            *element = step.wrapping_mul(n);
        }
        buffer
    };
    ((fill(a, 3), fill(b, 0xffff_fffe)), emulator.buffer(out).for_direction())
}

type Started = udmabuf::Started<
    udmabuf_examples::accelerator::Adder<Emulated>,
    udmabuf_examples::accelerator::Vectors,
>;

fn add(vadd: &Accelerator<Emulated>, ((a, b), out): Vectors) -> Started {
    vadd.add(a.into_device().unwrap(), b.into_device().unwrap(), out.into_device().unwrap())
}

fn check(((a, b), out): &Vectors) {
    let count = a.len() / 4;
    let all = |buffer: &[u32]| buffer.to_vec();
    let (a, b) = (all(a.slice_of(0, count).unwrap()), all(b.slice_of(0, count).unwrap()));
    let sums: Vec<u32> = a.iter().zip(&b).map(|(a, b)| a.wrapping_add(*b)).collect();
    assert_eq!(out.slice_of::<u32>(0, count).unwrap(), sums);
}

#[test]
fn sums_of_every_length_under_the_adversary() {
    let emulator = Emulator::new().with_adversary();
    let vadd = Accelerator::emulated(&emulator, &Faults::default()).unwrap();
    for (round, elements) in [1, 2, 255, 256, 257, 512, 5000].into_iter().enumerate() {
        let len = 4 * elements;
        let done = add(&vadd, vectors(&emulator, [len, len, len + 4])).unwrap().wait(LONG).unwrap();
        check(&done);
        assert_eq!(done.1.as_slice()[len..], [0; 4], "behind {elements} elements was written");
        assert!(vadd.interrupts().unwrap() > round as u64);
    }
    assert_eq!(emulator.violations(), []);
}

#[test]
fn lengths_that_do_not_fit_are_refused() {
    let emulator = Emulator::new();
    let vadd = Accelerator::emulated(&emulator, &Faults::default()).unwrap();
    for lens in [[64, 68, 64], [68, 64, 68], [64, 64, 60], [66, 66, 66]] {
        let refused = add(&vadd, vectors(&emulator, lens)).unwrap_err();
        assert!(matches!(refused.error, StartError::Refused(Error::Lengths { .. })), "{lens:?}");
        assert_eq!(refused.value.0.0.len(), lens[0]);
    }
}

#[test]
fn a_core_that_hangs_times_out_and_one_that_ends_is_stopped() {
    let (emulator, faults) = (Emulator::new().with_adversary(), Faults::default());
    let vadd = Accelerator::emulated(&emulator, &faults).unwrap();
    faults.stall();
    let result = add(&vadd, vectors(&emulator, [4000; 3])).unwrap().wait(SHORT);
    let Err(WaitError::Timeout { transfer, .. }) = result else { panic!("{result:?}") };
    faults.resume();
    let done = transfer.wait(LONG).unwrap();
    check(&done);
    let done = add(&vadd, done).unwrap().stop().unwrap();
    let done = add(&vadd, done).unwrap().wait(LONG).unwrap();
    check(&done);
    // Dropped, it is stopped, too, and the engine is there again.
    drop(add(&vadd, done).unwrap());
    assert!(vadd.interrupts().is_ok());
}

/// It cannot be broken off: its buffers are out of use, as it may still write there.
#[test]
fn a_core_that_never_ends_keeps_its_buffers() {
    for is_dropped in [false, true] {
        let (emulator, faults) = (Emulator::new().with_adversary(), Faults::default());
        let vadd = Accelerator::emulated(&emulator, &faults).unwrap();
        vadd.set_patience(SHORT).unwrap();
        faults.stall();
        let ((a, b), out) = vectors(&emulator, [4000; 3]);
        let (a, b, out) =
            (a.into_device().unwrap(), b.into_device().unwrap(), out.into_device().unwrap());
        let addr = out.dma_addr().to_u64();
        let sum = vadd.add(a, b, out).unwrap();
        if is_dropped {
            drop(sum);
        } else {
            let stopped = sum.stop();
            let Err(WaitError::Unknown { error, transfer }) = stopped else {
                panic!("{stopped:?}")
            };
            assert!(matches!(error, Error::NotIdle(_)), "{error}");
            assert!(vadd.set_patience(LONG).is_err(), "the engine is with its buffers");
            drop(transfer);
        }
        emulator.bus().write(addr, &[1; 4000]).unwrap(); // still the device's
        let refused = add(&vadd, vectors(&emulator, [64; 3])).unwrap_err();
        assert!(matches!(refused.error, StartError::Busy(_)), "{refused}");
        assert_eq!(emulator.violations(), []);
    }
}

#[test]
fn a_storm_of_interrupts_changes_no_sum_and_ends_no_wait() {
    let (emulator, faults) = (Emulator::new().with_adversary(), Faults::default());
    let vadd = Accelerator::emulated(&emulator, &faults).unwrap();
    faults.hold_interrupt();
    let mut vectors = vectors(&emulator, [4000; 3]);
    for _ in 0..20 {
        vectors = add(&vadd, vectors).unwrap().wait(LONG).unwrap();
        check(&vectors);
    }
    faults.stall();
    let (sum, start) = (add(&vadd, vectors).unwrap(), Instant::now());
    let result = sum.wait(SHORT);
    let Err(WaitError::Timeout { transfer, .. }) = result else { panic!("{result:?}") };
    assert!(start.elapsed() >= SHORT);
    faults.resume();
    check(&transfer.wait(LONG).unwrap());
    assert!(vadd.interrupts().unwrap() > 21, "that was no storm");
    assert_eq!(emulator.violations(), []);
}

#[test]
fn a_lost_interrupt_delays_a_sum_but_loses_nothing() {
    let (emulator, faults) = (Emulator::new().with_adversary(), Faults::default());
    let vadd = Accelerator::emulated(&emulator, &faults).unwrap();
    faults.stall();
    faults.lose_interrupts(1);
    let transfer = add(&vadd, vectors(&emulator, [64; 3])).unwrap();
    faults.resume();
    let start = Instant::now();
    let mut result = transfer.wait(SHORT);
    while let Err(WaitError::Timeout { transfer, .. }) = result {
        result = transfer.wait(SHORT);
    }
    check(&result.unwrap());
    assert!(start.elapsed() >= SHORT);
}

#[test]
fn a_sum_is_awaited() {
    let emulator = Emulator::new().with_adversary();
    let vadd = Accelerator::emulated(&emulator, &Faults::default()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let rounds = async {
        let mut vectors = vectors(&emulator, [20_000; 3]);
        for _ in 0..20 {
            vectors = add(&vadd, vectors).unwrap().await.unwrap();
            check(&vectors);
        }
    };
    // Once for all rounds: it asks a last time at its end, and so finds one of them done.
    runtime.block_on(async { tokio::time::timeout(LONG, rounds).await }).unwrap();
    assert!(vadd.interrupts().unwrap() > 0, "no interrupt has woken it");
}

#[test]
fn a_sync_that_fails_is_done_again() {
    let emulator = Emulator::new().with_adversary();
    let vadd = Accelerator::emulated(&emulator, &Faults::default()).unwrap();
    let vectors = vectors(&emulator, [64; 3]);
    let ((a, b), out) = vectors;
    let parts = (a.into_device().unwrap(), b.into_device().unwrap(), out.into_device().unwrap());
    emulator.inject(SyncFault::all().for_cpu().times(3));
    let result = vadd.add(parts.0, parts.1, parts.2).unwrap().wait(LONG);
    let Err(WaitError::Sync { transfer, .. }) = result else { panic!("{result:?}") };
    check(&transfer.wait(LONG).unwrap());
}

udmabuf_uio::block! {
    struct Bare: 0x10 bytes, align 4 { 0 => CONTROL: ApCtrlHs }
}

/// A core without arguments, which takes one step for a run.
#[derive(Default)]
struct Model {
    control: u32,
    status: u32,
    enabled: u32,
    hangs: bool,
}

const START: u32 = 1;
const DONE: u32 = 2;
const IDLE: u32 = 4;
const AUTO_RESTART: u32 = 0x80;

impl Device for Model {
    fn read(&mut self, offset: usize) -> u64 {
        let value = match offset {
            0x0 => {
                let value = self.control | if self.control & START == 0 { IDLE } else { 0 };
                self.control &= !DONE;
                value
            }
            0x8 => self.enabled,
            _ => self.status,
        };
        value.into()
    }
    fn write(&mut self, offset: usize, value: u64) {
        let value = u32::try_from(value).unwrap();
        match offset {
            0x0 => self.control = (self.control | value) & !(AUTO_RESTART & !value),
            0x8 => self.enabled = value,
            0xc => self.status ^= value,
            _ => {}
        }
    }
    fn step(&mut self) -> bool {
        if self.control & START == 0 || self.hangs {
            return false;
        }
        self.control |= DONE;
        self.status |= self.enabled & 1;
        if self.control & AUTO_RESTART == 0 {
            self.control &= !START;
        }
        self.control & START != 0
    }
    fn interrupt(&self) -> bool {
        self.status != 0
    }
}

fn core(model: Model, patience: Duration) -> Result<Core<Bare, Emulated>, NotIdle> {
    let (registers, interrupt) = emulate(model).unwrap();
    Core::new(registers, Bare::CONTROL, interrupt, patience)
}

#[test]
fn done_is_not_lost_when_idle_is_asked_for() {
    let mut core = core(Model::default(), LONG).unwrap();
    core.start();
    assert_eq!(core.wait(Instant::now() + LONG).unwrap(), 1);
    while !core.is_idle() {}
    assert!(core.is_idle() && core.is_done());
    assert!(!core.is_done(), "it was done once");
}

#[test]
fn acknowledging_raises_nothing() {
    let mut core = core(Model::default(), LONG).unwrap();
    let status = Bare::CONTROL.register(ApCtrlHs::STATUS);
    core.acknowledge();
    assert_eq!(core.registers().read(status), Events(0));
    core.start();
    assert_eq!(core.wait(Instant::now() + LONG).unwrap(), 1);
    assert_eq!(core.registers().read(status), Events(1));
    core.acknowledge();
    assert_eq!(core.registers().read(status), Events(0));
    assert_eq!(core.wait(Instant::now() + SHORT).unwrap(), 0);
}

#[test]
fn a_repeating_core_runs_until_it_is_stopped() {
    let mut core = core(Model::default(), LONG).unwrap();
    core.start_repeating();
    for _ in 0..10 {
        assert_eq!(core.wait(Instant::now() + LONG).unwrap(), 1);
        // In this order: what is done after the interrupt was cleared fires anew, and
        // whoever asked then would leave nothing for the next.
        assert!(core.is_done());
        core.acknowledge();
    }
    core.stop(LONG).unwrap();
    assert!(core.is_idle());
    core.acknowledge();
    assert_eq!(core.wait(Instant::now() + SHORT).unwrap(), 0);
}

#[test]
fn what_a_program_before_left_running_is_waited_for() {
    // It repeats, and has events that nobody took.
    let busy = START | AUTO_RESTART | DONE;
    let left = || Model { control: busy, status: 3, ..Model::default() };
    let mut found = core(left(), LONG).unwrap();
    assert!(found.is_idle() && !found.is_done());
    assert_eq!(found.registers().read(Bare::CONTROL.register(ApCtrlHs::STATUS)), Events(0));
    found.start();
    assert_eq!(found.wait(Instant::now() + LONG).unwrap(), 1);

    let error = core(Model { hangs: true, ..left() }, SHORT).unwrap_err();
    assert_eq!(error.to_string(), "the core is still busy, or does not answer");
}

#[test]
fn the_bits_are_those_of_the_manual() {
    let all = [
        (Control(0).with(Control::START, true), 0x01),
        (Control(0).with(Control::DONE, true), 0x02),
        (Control(0).with(Control::IDLE, true), 0x04),
        (Control(0).with(Control::READY, true), 0x08),
        (Control(0).with(Control::AUTO_RESTART, true), 0x80),
        (Control(0).with(Control::INTERRUPT, true), 0x200),
    ];
    for (control, bits) in all {
        assert_eq!(control, Control(bits));
    }
}

/// What is read of a device that is gone is all ones: "done" among them.
#[test]
fn an_unplugged_core_is_not_done() {
    let (emulator, faults) = (Emulator::new().with_adversary(), Faults::default());
    let vadd = Accelerator::emulated(&emulator, &faults).unwrap();
    faults.stall();
    let sum = add(&vadd, vectors(&emulator, [64; 3])).unwrap();
    faults.unplug();
    let result = sum.wait(LONG);
    let Err(WaitError::Unknown { error, transfer }) = result else { panic!("{result:?}") };
    assert!(matches!(error, Error::Uio(udmabuf_uio::Error::Removed { .. })), "{error}");
    let stopped = transfer.stop();
    let Err(WaitError::Unknown { error, .. }) = stopped else { panic!("{stopped:?}") };
    assert!(matches!(error, Error::NotIdle(_)), "{error}");
}
