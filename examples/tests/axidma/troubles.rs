//! What goes wrong: the core, the stream, the interrupt.

use std::{
    thread,
    time::{Duration, Instant},
};

use udmabuf::{Buffer, StartError, WaitError, emulator::SyncFault};
use udmabuf_examples::axidma::{Error, Faults, Mode, Moved, Side};

use crate::bench::{Bench, LONG, Random, SHORT, late};

const BOTH: [Mode; 2] = [Mode::Direct, Mode::ScatterGather];

#[test]
fn every_error_is_told_and_recovered_from() {
    for mode in BOTH {
        let bench = Bench::new(mode);
        for (fault, name) in Faults::ALL {
            let is_of_descriptors =
                [Faults::SG_INTERNAL, Faults::SG_SLAVE, Faults::SG_DECODE].contains(&fault);
            if mode == Mode::Direct && is_of_descriptors {
                continue;
            }
            bench.controls.inject(Side::Mm2s, fault);
            let result = bench.dma.mm2s.send(bench.source(&[1; 500])).unwrap().wait(LONG);
            let Err(WaitError::Failed { error, buffers }) = result else { panic!("no {name}") };
            let Error::Faults { side: Side::Mm2s, faults } = error else { panic!("{error}") };
            assert_eq!(faults, fault, "{mode:?}");
            assert!(error_names(faults, name));
            assert_eq!(buffers.as_slice(), [1; 500]);

            // While the other waits, the core is not reset under it.
            bench.works();
            bench.controls.inject(Side::S2mm, fault);
            let receiving = bench.dma.s2mm.receive(bench.sink(500)).unwrap();
            let sending = bench.dma.mm2s.send(bench.source(&[2; 500])).unwrap();
            let result = receiving.wait(LONG);
            let Err(WaitError::Failed { error, .. }) = result else { panic!("no {name}") };
            let Error::Faults { side: Side::S2mm, faults } = error else { panic!("{error}") };
            assert_eq!(faults, fault, "{mode:?}");
            sending.wait(LONG).unwrap();
            bench.works();
        }
        bench.check();
    }
}

fn error_names(faults: Faults, name: &str) -> bool {
    faults.to_string() == name
}

#[test]
fn a_reset_waits_for_the_other_channel() {
    for mode in BOTH {
        let bench = Bench::new(mode);
        let receiving = bench.dma.s2mm.receive(bench.sink(500)).unwrap();
        bench.controls.inject(Side::Mm2s, Faults::DMA_DECODE);
        let result = bench.dma.mm2s.send(bench.source(&[1; 500])).unwrap().wait(LONG);
        assert!(matches!(result, Err(WaitError::Failed { .. })));
        let refused = bench.dma.mm2s.send(bench.source(&[1; 500])).unwrap_err();
        let is_refused =
            matches!(refused.error, StartError::Refused(Error::OtherRunning(Side::Mm2s)));
        assert!(is_refused, "{}", refused.error);
        late(receiving.wait(SHORT)).stop().unwrap();
        bench.works();
    }
}

#[test]
fn stopping_one_channel_leaves_the_other_alone_or_tells_it() {
    // Parts that have not been begun are given up without a reset.
    let bench = Bench::new(Mode::ScatterGather);
    let sent = Random(5).bytes(20_000);
    let sending = bench.dma.mm2s.send(bench.source(&sent)).unwrap();
    bench.dma.s2mm.receive(bench.sink(1000)).unwrap().wait(LONG).unwrap();
    bench.controls.hang(Side::S2mm);
    bench.dma.s2mm.receive(bench.sink(1000)).unwrap().stop().unwrap();
    let sending = late(sending.wait(SHORT));
    drop(sending);
    bench.works();

    // A direct transfer that waits for data cannot be.
    let bench = Bench::new(Mode::Direct);
    let receiving = bench.dma.s2mm.receive(bench.sink(1000)).unwrap();
    bench.controls.hang(Side::Mm2s);
    let sending = bench.dma.mm2s.send(bench.source(&[1; 100])).unwrap();
    receiving.stop().unwrap();
    let result = sending.wait(LONG);
    let Err(WaitError::Failed { error: Error::Reset(Side::Mm2s), buffers }) = result else {
        panic!("{result:?}")
    };
    assert_eq!(buffers.as_slice(), [1; 100]);
    bench.works();
    bench.check();
}

#[test]
fn the_thread_of_the_other_channel_learns_of_a_reset() {
    let bench = Bench::new(Mode::Direct);
    bench.controls.hang(Side::Mm2s);
    let sending = bench.dma.mm2s.send(bench.source(&[1; 100])).unwrap();
    let receiving = bench.dma.s2mm.receive(bench.sink(1000)).unwrap();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| sending.wait(LONG).map_err(Box::new));
        thread::sleep(SHORT);
        receiving.stop().unwrap();
        let result = waiting.join().unwrap();
        let error = *result.err().unwrap();
        assert!(matches!(error, WaitError::Failed { error: Error::Reset(_), .. }), "{error}");
    });
    bench.works();
}

#[test]
fn a_hung_channel_times_out_and_is_stopped() {
    for mode in BOTH {
        for side in [Side::Mm2s, Side::S2mm] {
            let bench = Bench::new(mode);
            bench.works();
            bench.controls.hang(side);
            let receiving = bench.dma.s2mm.receive(bench.sink(9000)).unwrap();
            let sending = bench.dma.mm2s.send(bench.source(&[1; 9000])).unwrap();
            let (receiving, sending) = (late(receiving.wait(SHORT)), late(sending.wait(SHORT)));
            // One is stopped, and one dropped.
            drop(receiving);
            assert!(sending.stop().is_ok() || mode == Mode::Direct || side == Side::S2mm);
            bench.works();
            bench.check();
        }
    }
}

#[test]
fn what_is_dropped_in_flight_is_over() {
    for mode in BOTH {
        let bench = Bench::new(mode);
        for round in 0..50 {
            let receiving = bench.dma.s2mm.receive(bench.sink(3000)).unwrap();
            let sending = bench.dma.mm2s.send(bench.source(&[round; 3000])).unwrap();
            if round % 2 == 0 {
                drop(receiving);
                drop(sending);
            } else {
                drop(sending);
                drop(receiving);
            }
        }
        bench.works();
        bench.check(); // nothing was accessed after it was taken back
    }
}

#[test]
fn a_core_that_cannot_be_reset_keeps_its_buffers() {
    let bench = Bench::new(Mode::ScatterGather);
    bench.works();
    let part = bench.sink(100);
    let addr = part.dma_addr().to_u64();
    let receiving = bench.dma.s2mm.receive(part).unwrap();
    bench.faults.stall();
    let result = receiving.stop();
    let Err(WaitError::Unknown { error: Error::NotReset, transfer }) = result else {
        panic!("{result:?}")
    };
    drop(transfer);
    bench.emulator.bus().write(addr, &[1; 100]).unwrap(); // still the device's
    assert!(bench.dma.s2mm.receive(bench.sink(100)).is_err(), "the engine went with them");
    bench.faults.resume();
}

#[test]
fn a_core_that_is_unplugged_keeps_its_buffers() {
    for mode in BOTH {
        let bench = Bench::new(mode);
        let receiving = bench.dma.s2mm.receive(bench.sink(100)).unwrap();
        let part = bench.source(&[1; 9000]);
        let addr = part.dma_addr().to_u64();
        let sending = bench.dma.mm2s.send(part).unwrap(); // more than there is room for
        bench.controls.unplug();
        let result = receiving.wait(LONG);
        let Err(WaitError::Unknown { error: Error::Uio(error), transfer }) = result else {
            panic!("{result:?}")
        };
        assert!(matches!(error, udmabuf_uio::Error::Removed { .. }), "{error}");
        // All ones is not "halted".
        let result = sending.stop();
        let Err(WaitError::Unknown { error, transfer: sending }) = result else {
            panic!("{result:?}")
        };
        assert!(matches!(error, Error::NotThere(u32::MAX)), "{error}");
        drop(sending);
        drop(transfer);
        bench.emulator.bus().read(addr, &mut [0; 100]).unwrap(); // still the device's
    }
}

#[test]
fn a_storm_of_interrupts_is_survived() {
    for mode in BOTH {
        let bench = Bench::new(mode);
        bench.controls.storm(2000);
        let receiving = bench.dma.s2mm.receive(bench.sink(1000)).unwrap();
        let receiving = late(receiving.wait(Duration::from_millis(1)));
        bench.dma.mm2s.send(bench.source(&[1; 1000])).unwrap().wait(LONG).unwrap();
        assert_eq!(receiving.wait(LONG).unwrap().as_slice(), [1; 1000]);
        bench.controls.storm(u32::MAX); // without end
        bench.works();
        let receiving = bench.dma.s2mm.receive(bench.sink(1000)).unwrap();
        let start = Instant::now();
        drop(late(receiving.wait(SHORT)));
        assert!(start.elapsed() >= SHORT);
        bench.check();
    }
}

#[test]
fn lost_interrupts_delay_and_lose_nothing() {
    for mode in BOTH {
        let bench = Bench::new(mode);
        for _ in 0..5 {
            bench.faults.lose_interrupts(2);
            let receiving = bench.dma.s2mm.receive(bench.sink(1000)).unwrap();
            let sending = bench.dma.mm2s.send(bench.source(&[1; 1000])).unwrap();
            sending.wait(LONG).unwrap();
            assert_eq!(receiving.wait(LONG).unwrap().as_slice(), [1; 1000]);
        }
        bench.faults.lose_interrupts(0);
    }
}

#[test]
fn a_sync_that_fails_is_done_again() {
    let bench = Bench::new(Mode::ScatterGather);
    let receiving = bench.dma.s2mm.receive(bench.sink(1000)).unwrap();
    bench.dma.mm2s.send(bench.source(&[1; 1000])).unwrap().wait(LONG).unwrap();
    bench.emulator.inject(SyncFault::all().for_cpu().times(1));
    let Err(WaitError::Sync { transfer, .. }) = receiving.wait(LONG) else { panic!("no fault") };
    assert_eq!(transfer.wait(LONG).unwrap().as_slice(), [1; 1000]);
}

#[test]
fn every_forged_status_is_believed_or_an_error() {
    let bench = Bench::new(Mode::ScatterGather);
    let mut random = Random(99);
    for round in 0..300 {
        let noise = u32::try_from(random.below(0..1 << 31)).unwrap();
        let status = match round {
            0 => 0x8000_0000,        // complete, with nothing
            1 => 0x8000_0000 | 1001, // more than there is room for
            2 => 0x8000_0000 | 999,  // not full, and the packet goes on
            3 => 0x8400_0000,        // a packet of nothing
            4 => 0x9c00_0000 | 100,  // a packet, and an error
            5 => 0xffff_ffff,
            6 => 0x8c00_0000 | 77, // what a core could write
            _ => 0x8000_0000 | noise,
        };
        bench.controls.forge_status(Side::S2mm, status);
        let receiving = bench.dma.s2mm.receive(bench.sink(1000)).unwrap();
        bench.dma.mm2s.send(bench.source(&[1; 500])).unwrap().wait(LONG).unwrap();
        let (len, ends) = (status & 0x3ff_ffff, status & 1 << 26 != 0);
        let is_possible = status >> 28 == 8 && len > 0 && (len == 1000 || ends && len < 1000);
        match receiving.wait(LONG) {
            Ok(_) => {
                assert!(is_possible, "{status:#x} was believed");
                let len = usize::try_from(len).unwrap();
                assert_eq!(bench.dma.s2mm.moved(), [Moved { len, ends }]);
                assert_eq!(bench.dma.s2mm.residue(), Some(1000 - len as u64));
            }
            Err(WaitError::Failed { error, .. }) => {
                assert_eq!(bench.dma.s2mm.residue(), Some(1000), "{status:#x} was counted");
                let told = matches!(error, Error::Descriptor { side: Side::S2mm, index: 0, status: told } if told == status);
                assert!(told && !is_possible, "{error}");
            }
            Err(error) => panic!("{error}"),
        }
    }
    // What is sent must have been sent whole.
    bench.controls.forge_status(Side::Mm2s, 0x8000_0000 | 499);
    let result = bench.dma.mm2s.send(bench.source(&[1; 500])).unwrap().wait(LONG);
    assert!(matches!(result, Err(WaitError::Failed { error: Error::Descriptor { .. }, .. })));
    bench.works_after_what_was_sent();
}

#[test]
fn a_forged_length_is_an_error() {
    let bench = Bench::new(Mode::Direct);
    bench.controls.forge_status(Side::S2mm, 1001);
    let receiving = bench.dma.s2mm.receive(bench.sink(1000)).unwrap();
    bench.dma.mm2s.send(bench.source(&[1; 500])).unwrap().wait(LONG).unwrap();
    let Err(WaitError::Failed { error, buffers }) = receiving.wait(LONG) else {
        panic!("believed")
    };
    assert!(matches!(error, Error::Received { received: 1001, len: 1000, .. }), "{error}");
    assert_eq!(buffers.as_slice()[..500], [1; 500]);
    bench.works();
}

impl Bench {
    /// As `works`; a packet is on its way already.
    fn works_after_what_was_sent(&self) {
        let lost = self.dma.s2mm.receive(self.sink(1000)).unwrap().wait(LONG).unwrap();
        assert_eq!(lost.as_slice()[..500], [1; 500]);
        self.works();
    }
}

#[test]
fn a_buffer_of_another_emulator_is_refused() {
    let (bench, other) = (Bench::new(Mode::Direct), Bench::new(Mode::Direct));
    let refused = bench.dma.mm2s.send(other.source(&[1; 10])).unwrap_err();
    assert!(matches!(refused.error, StartError::OtherBus { .. }));
    let _: Buffer<_, _> = refused.value;
}
