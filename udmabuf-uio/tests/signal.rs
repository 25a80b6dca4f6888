//! A signal that is caught ends a wait, and nothing is lost.

use std::{
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Signal, getpid, kill_process};
use tokio::signal::unix::{SignalKind, signal};
use udmabuf_uio::{
    Error,
    emulator::{Device, emulate},
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
}
