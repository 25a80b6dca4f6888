//! A signal that is caught while an engine is waited for ends the wait, and nothing
//! else.

use std::{
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use rustix::process::{Signal, getpid, kill_process};
use tokio::signal::unix::{SignalKind, signal};
use udmabuf::{Engine, Parts, Transfer, WaitError, emulator::Emulator};
use udmabuf_examples::{
    accelerator::{self, Accelerator},
    axidma::{self, AxiDma, Build, Mode},
    edu::{self, Edu},
    stream::{self, EduLane, Plan, run},
    zdma::{self, Zdma},
};
use udmabuf_uio::emulator::Faults;

const LONG: Duration = Duration::from_secs(300);

fn main() {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let _entered = runtime.enter();
    let _caught = signal(SignalKind::user_defined1()).expect("a handler");
    a_channel();
    a_core();
    a_copy();
    a_stream();
}

/// Sends signals all the time that something goes on.
fn under_signals<T>(it: impl FnOnce() -> T) -> T {
    let (done, is_done) = mpsc::channel();
    let sender = thread::spawn(move || {
        // More than once: the first may come before the wait.
        while is_done.recv_timeout(Duration::from_millis(5)) == Err(RecvTimeoutError::Timeout) {
            kill_process(getpid(), Signal::USR1).expect("a signal to itself");
        }
    });
    let result = it();
    done.send(()).expect("the sender");
    sender.join().expect("the sender");
    result
}

type Ended<E, P> = Result<<P as Parts>::Cpu, WaitError<E, P>>;

/// The transfer, of which a signal has ended the wait; or how it ended.
fn interrupted<E: Engine, P: Parts>(
    transfer: Transfer<E, P>,
    is_signal: impl Fn(&E::Error) -> bool,
) -> Result<Transfer<E, P>, Box<Ended<E, P>>> {
    match transfer.wait(LONG) {
        Err(WaitError::Unknown { error, transfer }) if is_signal(&error) => Ok(transfer),
        result => Err(Box::new(result)),
    }
}

/// Two waits that a signal ends, and the last, which only late ones do.
fn outlasts<E: Engine, P: Parts>(
    mut transfer: Transfer<E, P>,
    is_signal: impl Fn(&E::Error) -> bool,
    go_on: impl FnOnce(),
) -> P::Cpu {
    transfer = under_signals(|| {
        let once = interrupted(transfer, &is_signal).ok().expect("the signal");
        interrupted(once, &is_signal).ok().expect("the signal, again")
    });
    go_on();
    loop {
        match interrupted(transfer, &is_signal) {
            Ok(again) => transfer = again,
            Err(result) => break (*result).expect("its end"),
        }
    }
}

fn a_channel() {
    let emulator = Emulator::new().with_adversary();
    let (dma, _) = AxiDma::emulated(&emulator, Build::LEAST, Mode::Direct).expect("a core");
    let sink = emulator.buffer(1024).for_direction().into_device().expect("a buffer");
    let receiving = dma.s2mm.receive(sink).expect("a transfer");
    let is_signal =
        |error: &_| matches!(error, axidma::Error::Uio(udmabuf_uio::Error::Interrupted { .. }));
    let received = outlasts(receiving, is_signal, || {
        let mut source = emulator.buffer(1024).for_direction();
        source.as_mut_slice().fill(7);
        let source = source.into_device().expect("a buffer");
        drop(dma.mm2s.send(source).expect("a transfer").wait(LONG));
    });
    assert_eq!(received.as_slice(), [7; 1024]);
}

fn a_core() {
    let (emulator, faults) = (Emulator::new().with_adversary(), Faults::default());
    let vadd = Accelerator::emulated(&emulator, &faults).expect("a core");
    faults.stall();
    let summand = |value| {
        let mut buffer = emulator.buffer(1024).for_direction();
        buffer.as_mut_slice().fill(value);
        buffer.into_device().expect("a buffer")
    };
    let out = emulator.buffer(1024).for_direction().into_device().expect("a buffer");
    let sum = vadd.add(summand(1), summand(2), out).expect("a sum");
    let is_signal = |error: &_| {
        matches!(error, accelerator::Error::Uio(udmabuf_uio::Error::Interrupted { .. }))
    };
    let (_, out) = outlasts(sum, is_signal, || faults.resume());
    assert_eq!(out.as_slice(), [3; 1024]);
}

fn a_copy() {
    let (emulator, faults) = (Emulator::new().with_adversary(), Faults::default());
    let zdma = Zdma::emulated(&emulator, &faults).expect("a channel");
    faults.stall();
    let mut source = emulator.buffer(1024).for_direction();
    source.as_mut_slice().fill(5);
    let source = source.into_device().expect("a buffer");
    let destination = emulator.buffer(1024).for_direction().into_device().expect("a buffer");
    let copying = zdma.copy(source, destination).expect("a copy");
    let is_signal =
        |error: &_| matches!(error, zdma::Error::Uio(udmabuf_uio::Error::Interrupted { .. }));
    let (_, destination) = outlasts(copying, is_signal, || faults.resume());
    assert_eq!(destination.as_slice(), [5; 1024]);
}

/// It is broken off, with all parts back but the one at the engine.
fn a_stream() {
    let (emulator, faults) = (Emulator::new().with_adversary(), Faults::default());
    let edu = Edu::emulated_with(&emulator, &faults).expect("a device");
    faults.stall();
    let chunks = || emulator.buffer(5 * 64).into_chunks(64).expect("parts").into_iter();
    let sources = chunks().map(|part| part.for_direction());
    let mut parts = sources.zip(chunks().map(|part| part.for_direction())).collect();
    let mut lanes = [EduLane::new(edu)];
    let result = under_signals(|| run(&mut lanes, &mut parts, Plan::default(), |_| ()));
    let is_told = matches!(
        result,
        Err(stream::Error::Engine(edu::Error::Uio(udmabuf_uio::Error::Interrupted { .. })))
    );
    assert!(is_told, "{result:?}");
    assert_eq!(parts.len(), 4);
    assert_eq!(emulator.violations(), []);
}
