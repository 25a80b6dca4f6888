//! Rings: packets without end, in order, with what goes wrong meanwhile.

use std::time::Duration;

use udmabuf::{Buffer, CpuOwned, FromDevice, Ring, RingError, ToDevice};
use udmabuf_examples::axidma::{AxiDma, Coalescing, Error, Log, Mode, Moved, Queue, S2mm, Side};
use udmabuf_uio::emulator::Emulated;

use crate::bench::{Bench, LONG, Random};

const PARTS: usize = 8;
const PART: usize = 512;

type Sender = Ring<Queue<Emulated, ToDevice>, udmabuf::Cached>;
type Receiver = Ring<Queue<Emulated, FromDevice>, udmabuf::Cached>;

/// Both channels as rings, and what is left of the bench.
fn rings(coalescing: Coalescing) -> (Rest, Sender, Receiver, Log<Emulated>) {
    let Bench { emulator, dma, controls, .. } = Bench::new(Mode::ScatterGather);
    let parts = || emulator.buffer(PARTS * PART).into_chunks(PART).unwrap();
    let sources = parts().into_iter().map(Buffer::for_direction).collect();
    let sinks = parts().into_iter().map(Buffer::for_direction).collect();
    let AxiDma { mm2s, s2mm } = dma;
    let (sender, _) = mm2s.into_ring(coalescing, sources).unwrap();
    let (receiver, log) = s2mm.into_ring(coalescing, sinks).unwrap();
    (Rest { emulator, controls }, sender, receiver, log)
}

struct Rest {
    emulator: udmabuf::emulator::Emulator,
    controls: udmabuf_examples::axidma::Controls,
}

/// Sends and receives so many packets; each part is a packet.
fn pump(sender: &mut Sender, receiver: &mut Receiver, log: &Log<Emulated>, packets: usize) {
    let mut fill = Random(3);
    let mut expect = Random(3);
    while receiver.submit().is_ok() {}
    let (mut sent, mut received) = (0, 0);
    while received < packets {
        while let Some(part) = sender.next_mut().filter(|_| sent < packets) {
            part.as_mut_slice().copy_from_slice(&fill.bytes(PART));
            sender.submit().unwrap();
            sent += 1;
        }
        let part = receiver.complete(LONG).unwrap();
        assert_eq!(log.last(), Some(Moved { len: PART, ends: true }));
        assert_eq!(part.as_slice(), expect.bytes(PART), "packet {received}");
        receiver.submit().unwrap();
        received += 1;
        if sender.in_flight() == PARTS {
            sender.complete(LONG).unwrap();
        }
    }
    while sender.in_flight() > 0 {
        sender.complete(LONG).unwrap();
    }
}

#[test]
fn ten_thousand_packets_in_order() {
    let (bench, mut sender, mut receiver, log) = rings(Coalescing::EACH);
    pump(&mut sender, &mut receiver, &log, 10_000);
    assert_eq!(bench.emulator.violations(), []);
    assert_eq!(bench.controls.undefined(), [""; 0]);
}

#[test]
fn interrupts_are_coalesced_and_none_is_missed() {
    let (_, mut sender, mut receiver, log) = rings(Coalescing { packets: 4, delay: 20 });
    pump(&mut sender, &mut receiver, &log, 1001);
}

#[test]
fn a_ring_ends_and_begins_again() {
    let (_, mut sender, mut receiver, log) = rings(Coalescing::EACH);
    pump(&mut sender, &mut receiver, &log, 100);
    // The receiver has parts in flight, and waits: its channel has to be reset.
    let (s2mm, parts) = S2mm::from_ring(receiver.stop().unwrap());
    assert_eq!(parts.len(), PARTS);
    let (mut receiver, log) = s2mm.into_ring(Coalescing::EACH, parts).unwrap();
    pump(&mut sender, &mut receiver, &log, 100);
}

#[test]
fn a_ring_fails_with_all_its_parts_and_goes_on() {
    let (bench, mut sender, mut receiver, log) = rings(Coalescing::EACH);
    pump(&mut sender, &mut receiver, &log, 10);
    for (fault, name) in udmabuf_examples::axidma::Faults::ALL {
        bench.controls.inject(Side::S2mm, fault);
        sender.submit().unwrap();
        sender.complete(LONG).unwrap();
        // What came before the fault is complete.
        let error = loop {
            match receiver.complete(LONG) {
                Ok(_) => receiver.submit().unwrap_or(()),
                Err(error) => break error,
            }
        };
        let RingError::Failed(Error::Faults { side: Side::S2mm, faults }) = error else {
            panic!("{error} instead of {name}");
        };
        assert_eq!(faults, fault);
        assert_eq!(receiver.in_flight(), 0);
        pump(&mut sender, &mut receiver, &log, 20);
    }
}

#[test]
fn a_forged_status_ends_a_ring() {
    let (bench, mut sender, mut receiver, log) = rings(Coalescing::EACH);
    pump(&mut sender, &mut receiver, &log, 10);
    // Complete, with more bytes than there is room for.
    bench.controls.forge_status(Side::S2mm, 1 << 31 | 0x3ff_ffff);
    sender.submit().unwrap();
    sender.complete(LONG).unwrap();
    let error = receiver.complete(LONG).unwrap_err();
    assert!(matches!(error, RingError::Failed(Error::Descriptor { .. })), "{error}");
    pump(&mut sender, &mut receiver, &log, 20);
}

#[test]
fn a_ring_without_data_times_out() {
    let (_, mut sender, mut receiver, log) = rings(Coalescing::EACH);
    receiver.submit().unwrap();
    let soon = Duration::from_millis(30);
    assert!(matches!(receiver.complete(soon), Err(RingError::Timeout(_))));
    pump(&mut sender, &mut receiver, &log, 10);
    drop(receiver); // in flight: it is stopped
}

#[test]
fn what_makes_no_ring_comes_back() {
    let bench = Bench::new(Mode::ScatterGather);
    let parts = |count: usize| -> Vec<Buffer<CpuOwned, FromDevice>> {
        bench.emulator.buffer(count * 64).for_direction().into_chunks(64).unwrap()
    };
    let AxiDma { s2mm, mm2s } = bench.dma;
    let refused = s2mm.into_ring(Coalescing::EACH, parts(17)).unwrap_err();
    assert!(matches!(refused.error, Error::TooFewDescriptors { parts: 17, .. }));
    let refused = refused.value.0.into_ring(Coalescing { packets: 2, delay: 0 }, parts(2));
    assert!(matches!(refused.as_ref().unwrap_err().error, Error::Coalescing(2)));
    let (s2mm, parts) = refused.unwrap_err().value;
    assert_eq!(parts.len(), 2);
    drop(s2mm.into_ring(Coalescing::EACH, parts).unwrap());
    drop(mm2s);
}
