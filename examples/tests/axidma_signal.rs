//! A signal that is caught while a transfer is waited for ends the wait, and
//! nothing else.

use std::{
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use rustix::process::{Signal, getpid, kill_process};
use tokio::signal::unix::{SignalKind, signal};
use udmabuf::{WaitError, emulator::Emulator};
use udmabuf_examples::axidma::{AxiDma, Build, Error, Mode};

const LONG: Duration = Duration::from_secs(20);

fn main() {
    let emulator = Emulator::new().with_adversary();
    let (dma, _) = AxiDma::emulated(&emulator, Build::LEAST, Mode::Direct).expect("a core");
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let _entered = runtime.enter();
    let _caught = signal(SignalKind::user_defined1()).expect("a handler");

    let sink = emulator.buffer(1024).for_direction().into_device().expect("a buffer");
    let receiving = dma.s2mm.receive(sink).expect("a transfer");
    let (done, is_done) = mpsc::channel();
    let sender = thread::spawn(move || {
        // More than once: the first may come before the wait.
        while is_done.recv_timeout(Duration::from_millis(5)) == Err(RecvTimeoutError::Timeout) {
            kill_process(getpid(), Signal::USR1).expect("a signal to itself");
        }
    });
    let interrupted = |result| match result {
        Err(WaitError::Unknown {
            error: Error::Uio(udmabuf_uio::Error::Interrupted { .. }),
            transfer,
        }) => Ok(transfer),
        result => Err(Box::new(result)),
    };
    let receiving = interrupted(receiving.wait(LONG)).expect("the signal");
    let mut receiving = interrupted(receiving.wait(LONG)).expect("the signal, again");
    done.send(()).expect("the sender");
    sender.join().expect("the sender");

    let mut source = emulator.buffer(1024).for_direction();
    source.as_mut_slice().fill(7);
    let source = source.into_device().expect("a buffer");
    drop(dma.mm2s.send(source).expect("a transfer").wait(LONG));
    let received = loop {
        match interrupted(receiving.wait(LONG)) {
            Ok(transfer) => receiving = transfer, // the last signal, late
            Err(result) => break (*result).expect("the packet"),
        }
    };
    assert_eq!(received.as_slice(), [7; 1024]);
}
