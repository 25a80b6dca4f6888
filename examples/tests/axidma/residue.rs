//! What is left of a transfer that does not come to its end.

use std::{
    thread,
    time::{Duration, Instant},
};

use udmabuf::WaitError;
use udmabuf_examples::axidma::{Error, Faults, Mode, Moved, Side};

use crate::bench::{Bench, LONG, SHORT, late};

const PART: usize = 1000;

impl Bench {
    /// The core comes so far by itself: nobody waits for it.
    fn comes_to(&self, residue: u64) {
        let give_up = Instant::now() + LONG;
        while self.dma.s2mm.residue() != Some(residue) {
            assert!(Instant::now() < give_up, "{:?} is left", self.dma.s2mm.residue());
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn send(&self, len: usize) {
        self.dma.mm2s.send(self.source(&vec![1; len])).unwrap().wait(LONG).unwrap();
        assert_eq!(self.dma.mm2s.residue(), Some(0));
    }

    fn parts(&self) -> Vec<crate::bench::Sink> {
        (0..3).map(|_| self.sink(PART)).collect()
    }
}

#[test]
fn of_packets_that_leave_parts_unused() {
    let bench = Bench::new(Mode::ScatterGather);
    assert_eq!(bench.dma.s2mm.residue(), None, "there was no transfer");
    let receiving = bench.dma.s2mm.receive_parts(bench.parts()).unwrap();
    assert_eq!(bench.dma.s2mm.residue(), Some(3000));
    let receiving = late(receiving.wait(SHORT));
    // After a timeout it is what has moved by now, not when it was waited for last.
    bench.send(1001);
    bench.comes_to(1999);
    let moved = [Moved { len: PART, ends: false }, Moved { len: 1, ends: true }];
    assert_eq!(bench.dma.s2mm.moved(), moved);
    receiving.stop().unwrap();
    assert_eq!(bench.dma.s2mm.residue(), Some(1999));
    assert_eq!(bench.dma.s2mm.moved(), moved);
    bench.works();
    assert_eq!(bench.dma.s2mm.residue(), Some(1024 - 777));
    bench.check();
}

/// What moves between the last look and the stop counts, whether the channel is
/// halted for it or the core reset.
#[test]
fn of_what_was_stopped_unseen() {
    for other_runs in [false, true] {
        let bench = Bench::new(Mode::ScatterGather);
        let receiving = bench.dma.s2mm.receive_parts(bench.parts()).unwrap();
        bench.send(PART);
        let sending = other_runs.then(|| {
            bench.controls.hang(Side::Mm2s);
            bench.dma.mm2s.send(bench.source(&[1; 10])).unwrap()
        });
        thread::sleep(SHORT); // it may take longer, and then a part is not there yet
        let parts = receiving.stop().unwrap();
        let arrived = parts.iter().flat_map(|part| part.as_slice()).filter(|byte| **byte == 1);
        let arrived = arrived.count() as u64;
        let residue = bench.dma.s2mm.residue();
        assert!(residue == Some(3000 - arrived) || residue == Some(3000), "{residue:?}");
        assert!(arrived < PART as u64 || residue == Some(2000), "{arrived} bytes are there");
        drop(sending);
        bench.works();
        bench.check();
    }
}

#[test]
fn of_a_chain_that_fails() {
    for fault in [Faults::DMA_SLAVE, Faults::SG_SLAVE] {
        let bench = Bench::new(Mode::ScatterGather);
        let receiving = bench.dma.s2mm.receive_parts(bench.parts()).unwrap();
        bench.send(PART);
        bench.comes_to(2000);
        bench.controls.inject(Side::S2mm, fault);
        bench.send(PART);
        let result = receiving.wait(LONG);
        assert!(matches!(result, Err(WaitError::Failed { error: Error::Faults { .. }, .. })));
        // The next descriptor may have been fetched before the fault was injected.
        let left = bench.dma.s2mm.residue();
        assert!(left == Some(2000) || fault == Faults::SG_SLAVE && left == Some(1000), "{left:?}");
        bench.works();
    }
}

/// More than the part has room for, and an error that claims to have moved it all.
#[test]
fn of_a_chain_whose_descriptors_lie() {
    for status in [1 << 31 | 0x3ff_ffff, 1 << 31 | 1 << 29 | 1000, 1 << 31] {
        let bench = Bench::new(Mode::ScatterGather);
        let receiving = bench.dma.s2mm.receive_parts(bench.parts()).unwrap();
        bench.send(PART);
        bench.comes_to(2000);
        bench.controls.forge_status(Side::S2mm, status);
        bench.send(PART);
        let result = receiving.wait(LONG);
        let told = matches!(result, Err(WaitError::Failed { error: Error::Descriptor { .. }, .. }));
        assert!(told, "{status:#x}");
        assert_eq!(bench.dma.s2mm.residue(), Some(2000), "{status:#x}");
    }
}

#[test]
fn in_direct_register_mode_only_of_what_is_complete() {
    let bench = Bench::new(Mode::Direct);
    let receiving = bench.dma.s2mm.receive(bench.sink(PART)).unwrap();
    assert_eq!(bench.dma.s2mm.residue(), None);
    bench.send(600);
    receiving.wait(LONG).unwrap();
    assert_eq!(bench.dma.s2mm.residue(), Some(400));
    let receiving = bench.dma.s2mm.receive(bench.sink(PART)).unwrap();
    receiving.stop().unwrap();
    assert_eq!(bench.dma.s2mm.residue(), None);
    bench.works();
}
