//! The emulated registers and interrupt behave as UIO's do.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::{
    future::Future,
    os::fd::AsFd,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    task::{Poll, Wake, Waker},
    thread,
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use udmabuf_uio::{
    Error, Interrupt, Registers,
    emulator::{Device, Emulated, Faults, emulate, emulate_with},
};

udmabuf_uio::block! {
    struct Regs: 0x10 bytes {
        /// Writing raises the interrupt line, after as many steps.
        0x0 => STEPS: ReadWrite<u32>,
        /// Writing lowers the line; reading gives its level.
        0x4 => LEVEL: WriteEffect<u8>,
        0x8 => UNPLUG: WriteOnly<u8>,
        /// The model has a mistake, in its next step.
        0xc => PANIC: WriteOnly<u8>,
    }
}

#[derive(Default)]
struct Model {
    steps: u64,
    level: bool,
    unplugged: bool,
    panics: bool,
    sends_messages: bool,
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
            0x4 => self.level = false,
            0x8 => self.unplugged = true,
            _ => self.panics = true,
        }
    }

    fn step(&mut self) -> bool {
        assert!(!self.panics, "as it was told");
        self.level |= self.steps == 1;
        self.steps = self.steps.saturating_sub(1);
        self.steps > 0
    }

    fn interrupt(&self) -> bool {
        self.level
    }

    fn sends_messages(&self) -> bool {
        self.sends_messages
    }

    fn is_present(&self) -> bool {
        !self.unplugged
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
    assert_eq!(interrupt.wait(soon()).unwrap(), 0);
    assert_eq!(interrupt.wait(Instant::now()).unwrap(), 0);
    registers.write(Regs::STEPS, 100);
    assert_eq!(interrupt.wait(late()).unwrap(), 1);
    assert_eq!(registers.read(Regs::LEVEL), 1);
}

#[test]
fn it_fires_once_and_is_masked_until_armed() {
    let (registers, mut interrupt) = device();
    // Before the device raises it: each arming lets it fire.
    let fd = interrupt.arm().unwrap().as_fd().try_clone_to_owned().unwrap();
    registers.write(Regs::STEPS, 1);
    assert_eq!(interrupt.wait(late()).unwrap(), 1);
    // Cleared and raised again: masked.
    raise_again(&registers);
    assert!(!readable(&fd));
    let mut armed = interrupt.arm().unwrap();
    assert!(readable(&fd));
    assert_eq!(armed.try_wait().unwrap(), 1);
    // Nor does the guard let a second one through.
    raise_again(&registers);
    assert_eq!(armed.try_wait().unwrap(), 0);
    drop(armed);
    assert_eq!(interrupt.wait(late()).unwrap(), 1);
    assert_eq!(interrupt.missed(), 0);
}

/// Clears the level, and waits until the device has raised it again.
fn raise_again(registers: &Registers<Regs, Emulated>) {
    registers.write(Regs::LEVEL, 0);
    registers.write(Regs::STEPS, 1);
    while registers.read(Regs::LEVEL) == 0 {}
}

fn readable(fd: &impl AsFd) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&now)).unwrap() > 0
}

#[test]
fn a_guard_that_is_dropped_masks_it() {
    let (registers, mut interrupt) = device();
    let fd = interrupt.arm().unwrap().as_fd().try_clone_to_owned().unwrap();
    raise_again(&registers);
    assert!(!readable(&fd));
    assert_eq!(interrupt.wait(late()).unwrap(), 1);
    // Nor does a wait that came to nothing leave it open.
    registers.write(Regs::LEVEL, 0);
    assert_eq!(interrupt.wait(soon()).unwrap(), 0);
    raise_again(&registers);
    assert!(!readable(&fd));
}

#[test]
fn a_level_that_was_not_cleared_fires_at_once() {
    let (registers, mut interrupt) = device();
    registers.write(Regs::STEPS, 1);
    for _ in 0..2 {
        assert_eq!(interrupt.wait(late()).unwrap(), 1);
    }
    // Cleared before it is let through again: it does not fire.
    registers.write(Regs::LEVEL, 0);
    assert_eq!(interrupt.wait(soon()).unwrap(), 0);
}

#[test]
fn what_fired_before_the_wait_is_not_lost() {
    let (registers, mut interrupt) = device();
    let armed = interrupt.arm().unwrap();
    raise_again(&registers);
    registers.write(Regs::LEVEL, 0);
    assert_eq!(armed.wait(late()).unwrap(), 1);
}

#[test]
fn a_level_that_no_guard_asked_for_fires_once() {
    let (registers, mut interrupt) = device();
    let armed = interrupt.arm().unwrap();
    raise_again(&registers);
    drop(armed);
    // It is there at once, for whoever arms it; and arming it does not add to it.
    for _ in 0..3 {
        assert!(readable(&interrupt.arm().unwrap()));
    }
    assert_eq!(interrupt.wait(late()).unwrap(), 1);
    assert_eq!(interrupt.missed(), 0);
    // It is let through again.
    raise_again(&registers);
    assert_eq!(interrupt.wait(late()).unwrap(), 1);
}

/// They have no mask: what nobody waits for is counted, and ends the next wait.
#[test]
fn messages_are_counted_while_nobody_waits() {
    let faults = Faults::default();
    let mut model = Model::default();
    model.sends_messages = true;
    let (registers, mut interrupt) = emulate_with::<Regs>(model, &faults).unwrap();
    for _ in 0..3 {
        raise_again(&registers);
    }
    assert_eq!(interrupt.wait(late()).unwrap(), 3);
    assert_eq!(interrupt.missed(), 2);
    // The line is still up, which is no event.
    assert_eq!(interrupt.wait(soon()).unwrap(), 0);
    // Under a guard that does not ask, and after one.
    let armed = interrupt.arm().unwrap();
    raise_again(&registers);
    drop(armed);
    raise_again(&registers);
    assert_eq!(interrupt.wait(late()).unwrap(), 2);
    assert_eq!(interrupt.missed(), 3);
    faults.lose_interrupts(1);
    raise_again(&registers);
    assert_eq!(interrupt.wait(soon()).unwrap(), 0);
    raise_again(&registers);
    assert_eq!(interrupt.wait(late()).unwrap(), 1);
    registers.write(Regs::UNPLUG, 1);
    assert!(matches!(interrupt.wait(None), Err(Error::Removed { .. })));
}

/// A device that raises its interrupt again as soon as it is cleared, and at any
/// moment: no event is lost, and none is made up.
#[test]
fn a_storm_loses_nothing() {
    let (registers, mut interrupt) = device();
    registers.write(Regs::STEPS, 1);
    for round in 0..2000 {
        assert_eq!(interrupt.wait(late()).unwrap(), 1, "in round {round}");
        assert_eq!(registers.read(Regs::LEVEL), 1, "nothing had happened in round {round}");
        registers.write(Regs::LEVEL, 0);
        registers.write(Regs::STEPS, round % 3 + 1);
    }
    assert_eq!(interrupt.missed(), 0);
}

#[test]
fn a_device_that_is_unplugged_ends_every_wait() {
    let (registers, mut interrupt) = device();
    registers.write(Regs::UNPLUG, 1);
    for _ in 0..2 {
        let error = interrupt.wait(None).unwrap_err();
        assert!(matches!(error, Error::Removed { .. }), "{error}");
    }
    assert_eq!(registers.read(Regs::STEPS), u32::MAX);
    registers.write(Regs::STEPS, 1);
    assert_eq!(registers.read(Regs::STEPS), u32::MAX);

    // One that ends meanwhile, too: with its registers, or by a mistake in it.
    for end in [
        |registers| drop(registers),
        |registers: Registers<Regs, Emulated>| {
            registers.write(Regs::PANIC, 1);
            std::mem::forget(registers);
        },
    ] {
        let (registers, mut interrupt) = device();
        let ended = thread::spawn(move || {
            thread::sleep(Duration::from_millis(20));
            end(registers);
        });
        let error = interrupt.wait(late()).unwrap_err();
        assert!(matches!(error, Error::Removed { .. }), "{error}");
        ended.join().unwrap();
    }
}

/// What a test does to a device from outside.
#[test]
fn a_line_is_held_and_a_device_is_pulled() {
    let faults = Faults::default();
    let (registers, mut interrupt) = emulate_with::<Regs>(Model::default(), &faults).unwrap();
    faults.hold_interrupt();
    for _ in 0..3 {
        assert_eq!(interrupt.wait(late()).unwrap(), 1);
        registers.write(Regs::LEVEL, 0);
    }
    faults.release_interrupt();
    assert_eq!(interrupt.wait(soon()).unwrap(), 0);
    let bus_master = registers.bus_master().unwrap();
    interrupt.check().unwrap();
    faults.unplug();
    assert!(matches!(interrupt.check(), Err(Error::Removed { .. })));
    assert_eq!(registers.read(Regs::STEPS), u32::MAX);
    assert!(matches!(interrupt.wait(None), Err(Error::Removed { .. })));
    assert!(matches!(bus_master.forbid(), Err(Error::Removed { .. })));
}

#[test]
fn tokio_awaits_it() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (registers, mut interrupt) = device();
        for steps in 1..100 {
            registers.write(Regs::STEPS, steps);
            assert_eq!(interrupt.arm().unwrap().fired().await.unwrap(), 1);
            registers.write(Regs::LEVEL, 0);
            // Cancelled before it fires, it is masked, and nothing is lost.
            let cancelled = interrupt.arm().unwrap().fired();
            tokio::time::timeout(Duration::ZERO, cancelled).await.unwrap_err();
        }
        registers.write(Regs::UNPLUG, 1);
        // It is armed while the device goes, or after.
        let error = match interrupt.arm() {
            Ok(armed) => armed.fired().await.unwrap_err(),
            Err(error) => error,
        };
        assert!(matches!(error, Error::Removed { .. }), "{error}");
    });
}

/// Whoever polls is woken when it fires, and not before.
#[test]
fn a_watched_interrupt_wakes() {
    let (registers, mut interrupt) = device();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (mut fired, mut polls) = (0, 0);
        let clear = || {
            let level = registers.read(Regs::LEVEL) != 0;
            // What comes after the read is the next time's.
            if level {
                registers.write(Regs::LEVEL, 0);
            }
            level
        };
        let rounds = async {
            for _ in 0..100 {
                registers.write(Regs::STEPS, 100);
                // As a transfer is polled: the status, before and after.
                std::future::poll_fn(|context| {
                    polls += 1;
                    if clear() {
                        return Poll::Ready(());
                    }
                    fired += interrupt.watch(context.waker()).unwrap();
                    if clear() { Poll::Ready(()) } else { Poll::Pending }
                })
                .await;
            }
        };
        // Once for all rounds: it asks a last time at its end, and so finds one done.
        tokio::time::timeout(Duration::from_secs(60), rounds).await.unwrap();
        assert!((1..=100).contains(&fired), "{fired} interrupts for 100 events");
        // One before it fires, one after; and one for what the last round left.
        assert!(polls <= 300, "{polls} polls for 100 events");
        registers.write(Regs::UNPLUG, 1);
        let error = std::future::poll_fn(|context| match interrupt.watch(context.waker()) {
            Ok(_) => Poll::Pending,
            Err(error) => Poll::Ready(error),
        });
        let error = tokio::time::timeout(Duration::from_secs(5), error).await.unwrap();
        assert!(matches!(error, Error::Removed { .. }), "{error}");
    });
    // Without a runtime, it asks to be asked again.
    let (_registers, mut interrupt) = device();
    struct Woken(AtomicBool);
    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let woken = Arc::new(Woken(AtomicBool::new(false)));
    assert_eq!(interrupt.watch(&Waker::from(Arc::clone(&woken))).unwrap(), 0);
    assert!(woken.0.load(Ordering::Relaxed));
}

/// Whoever awaits it in another runtime is woken there, whether the first runtime is
/// still there, with nobody who runs it, or not.
#[test]
fn the_runtime_that_asks_watches() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (registers, mut interrupt) = device();
    let mut round = |runtime: &tokio::runtime::Runtime| {
        registers.write(Regs::LEVEL, 0);
        runtime.block_on(async {
            let mut patience = pin!(tokio::time::sleep(Duration::from_secs(10)));
            let mut asked = false;
            std::future::poll_fn(|context| {
                // First: at its end, who asks once more would find it fired.
                assert!(patience.as_mut().poll(context).is_pending(), "nothing has woken it");
                let fired = interrupt.watch(context.waker()).unwrap();
                if !asked {
                    registers.write(Regs::STEPS, 1);
                }
                match std::mem::replace(&mut asked, true) {
                    true if fired > 0 => Poll::Ready(()),
                    _ => Poll::Pending,
                }
            })
            .await;
        });
    };
    let (first, second) = (runtime(), runtime());
    for runtime in [&first, &first, &second, &second, &first] {
        round(runtime);
    }
    drop(first);
    round(&runtime());
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
