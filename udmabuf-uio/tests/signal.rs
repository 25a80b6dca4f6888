//! A signal that is caught ends a wait, and nothing is lost.

use std::{
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    task::Waker,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Signal, getpid, kill_process};
use tokio::signal::unix::{SignalKind, signal};
use udmabuf_uio::{
    Error, Interrupt, Registers,
    emulator::{Device, Emulated, emulate},
};

udmabuf_uio::block! {
    struct Regs: 4 bytes { 0 => LEVEL: ReadWrite<u8> }
}

struct Model(bool);

impl Device for Model {
    fn read(&mut self, _offset: usize) -> u64 {
        self.0.into()
    }
    fn write(&mut self, _offset: usize, value: u64) {
        self.0 = value != 0;
    }
    fn step(&mut self) -> bool {
        false
    }
    fn interrupt(&self) -> bool {
        self.0
    }
}

fn main() {
    let (registers, mut interrupt) = emulate::<Regs>(Model(false)).expect("a device");
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let _entered = runtime.enter();
    let _caught = signal(SignalKind::user_defined1()).expect("a handler");
    let late = || Instant::now() + Duration::from_secs(10);

    let (done, is_done) = mpsc::channel();
    let sender = thread::spawn(move || {
        // More than once: the first may come before the wait.
        while is_done.recv_timeout(Duration::from_millis(5)) == Err(RecvTimeoutError::Timeout) {
            kill_process(getpid(), Signal::USR1).expect("a signal to itself");
        }
    });
    let ended = interrupt.wait(late());
    assert!(matches!(ended, Err(Error::Interrupted { .. })), "{ended:?}");
    assert!(interrupt.wait(late()).is_err(), "the second wait");
    done.send(()).expect("the sender");
    sender.join().expect("the sender");

    registers.write(Regs::LEVEL, 1);
    let fired = loop {
        match interrupt.wait(late()) {
            Err(Error::Interrupted { .. }) => {} // the last one, late
            fired => break fired,
        }
    };
    assert_eq!(fired.expect("it fires"), 1);
    watched_under_signals(&runtime, &registers, &mut interrupt);
}

/// A signal ends a wait, but nothing that does not wait.
fn watched_under_signals(
    runtime: &tokio::runtime::Runtime,
    registers: &Registers<Regs, Emulated>,
    interrupt: &mut Interrupt,
) {
    let ends = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !ends.load(Ordering::Relaxed) {
                kill_process(getpid(), Signal::USR1).expect("a signal to itself");
            }
        });
        let watched = runtime.block_on(async {
            let mut fired = 0;
            for _ in 0..100_000 {
                // It fires, the runtime learns of it, and then it is no longer so:
                // what `watch` asks the kernel about.
                registers.write(Regs::LEVEL, 1);
                tokio::task::yield_now().await;
                registers.write(Regs::LEVEL, 0);
                fired += interrupt.watch(Waker::noop())?;
            }
            Ok::<u32, Error>(fired)
        });
        ends.store(true, Ordering::Relaxed);
        assert!(watched.expect("no wait, but a signal ended it") > 0);
    });
}
