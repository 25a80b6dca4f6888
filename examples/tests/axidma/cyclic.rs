//! Parts over and over.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::Instant,
};

use udmabuf::{Buffer, CpuOwned, FromDevice, Shared, Uncached};
use udmabuf_examples::axidma::{Error, Mode, Side};

use crate::bench::{Bench, LONG, Random, SHORT, Sink, Transfer, late};

const PART: usize = 300;
type SharedSink = Buffer<Shared, FromDevice, Uncached>;

/// Sends one packet, which goes into the next part.
fn send(bench: &Bench, value: u8) {
    let part = bench.source(&[value; PART]);
    bench.dma.mm2s.send(part).unwrap().wait(LONG).unwrap();
}

/// The parts that S2MM fills in turn.
fn capture(bench: &Bench, parts: usize) -> Transfer<Vec<Sink>> {
    bench.dma.s2mm.repeat((0..parts).map(|_| bench.sink(PART)).collect()).unwrap()
}

/// Waits until so many parts were filled, none of them overrun.
fn counts(bench: &Bench, parts: u64) {
    let deadline = Instant::now() + LONG;
    loop {
        let laps = bench.dma.s2mm.laps().unwrap().unwrap();
        assert!(!laps.overrun && Instant::now() < deadline, "{laps:?} of {parts}");
        if laps.parts >= parts {
            return;
        }
        thread::yield_now();
    }
}

#[test]
fn what_is_captured_last_is_there_when_it_is_stopped() {
    let bench = Bench::new(Mode::ScatterGather);
    for parts in [1, 2, 5, 16] {
        let capturing = capture(&bench, parts);
        let mut last = vec![0; parts];
        for value in 1..40 {
            send(&bench, value);
            if parts > 1 {
                counts(&bench, value.into());
                assert_eq!(bench.dma.s2mm.laps().unwrap().unwrap().parts, u64::from(value));
            }
            last[usize::from(value - 1) % parts] = value;
        }
        let capturing = late(capturing.wait(SHORT));
        let received: Vec<Buffer<CpuOwned, FromDevice>> = capturing.stop().unwrap();
        let values: Vec<u8> = received.iter().map(|part| part.as_slice()[PART - 1]).collect();
        // The last packet may still have been on its way.
        let differ = values.iter().zip(&last).filter(|(got, sent)| got != sent).count();
        assert!(differ <= usize::from(parts == 1), "{values:?} of {last:?}");
        assert_eq!(bench.dma.s2mm.laps().unwrap(), None);
        bench.works();
    }
    bench.check();
}

/// A circle that the CPU can read in, too.
fn capture_shared(bench: &Bench, parts: usize, len: usize) -> Transfer<Vec<SharedSink>> {
    let memory = bench.emulator.buffer_mapped::<Uncached>(parts * len).for_direction();
    let parts = memory.into_chunks(len).unwrap().into_iter();
    bench.dma.s2mm.repeat(parts.map(|part| part.into_shared().unwrap()).collect()).unwrap()
}

#[test]
fn parts_are_read_while_others_are_received() {
    const COUNT: u64 = 16; // which are all descriptors
    let bench = Bench::new(Mode::ScatterGather);
    let capturing = capture_shared(&bench, 16, 320);
    let mut bytes = [0; PART];
    for number in 0..40 {
        let mut copy = |number| {
            let is_there = bench.dma.s2mm.copy_part(&capturing, number, &mut bytes).unwrap();
            is_there.then_some(bytes)
        };
        assert_eq!(copy(number), None, "it has not come yet");
        send(&bench, u8::try_from(number).unwrap());
        counts(&bench, number + 1);
        for age in 0..=number {
            let value = u8::try_from(number - age).unwrap();
            let expected = (age + 1 < COUNT - 4).then_some([value; PART]);
            assert_eq!(copy(number - age), expected, "part {}, after {number}", number - age);
        }
    }
    (0..40).for_each(|value| send(&bench, value));
    let laps = || bench.dma.s2mm.laps().unwrap().unwrap();
    assert!(laps().overrun);
    let lost = laps();
    let is_there = bench.dma.s2mm.copy_part(&capturing, lost.parts - 1, &mut bytes).unwrap();
    assert!(!is_there || laps() != lost, "nobody knows which part was the last");
    let parts = capturing.stop().unwrap();
    assert!(parts.iter().all(|part| part.read::<u8>(PART - 1).unwrap() >= 10));
    bench.works();
    bench.check();
}

/// Whatever is said to be whole, is: no byte of it is the next packet's.
#[test]
fn what_is_read_is_never_of_two_packets() {
    const LEN: usize = 4096;
    let bench = Bench::new(Mode::ScatterGather);
    let capturing = capture_shared(&bench, 7, LEN);
    let is_over = AtomicBool::new(false);
    let read = thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..2000_u32 {
                let value = u8::try_from(number % 251).unwrap();
                let part = bench.source(&[value; LEN]);
                bench.dma.mm2s.send(part).unwrap().wait(LONG).unwrap();
            }
            is_over.store(true, Relaxed);
        });
        let (mut read, mut bytes) = (0, [0; LEN]);
        while !is_over.load(Relaxed) {
            let last = bench.dma.s2mm.laps().unwrap().unwrap().parts;
            let Some(number) = last.checked_sub(1) else { continue };
            if bench.dma.s2mm.copy_part(&capturing, number, &mut bytes).unwrap() {
                assert!(bytes.iter().all(|byte| *byte == bytes[0]), "{:?}", &bytes[..]);
                read += 1;
            }
        }
        read
    });
    assert!(read > 0);
    drop(capturing);
    bench.works_after_a_wave();
}

#[test]
fn an_overrun_is_told_once_and_counted_from() {
    const LARGE: usize = 6000; // more than the stream holds: only the last is on its way
    let bench = Bench::new(Mode::ScatterGather);
    let parts = (0..4).map(|_| bench.sink(LARGE)).collect();
    let capturing = bench.dma.s2mm.repeat(parts).unwrap();
    let send = |value| {
        let part = bench.source(&[value; LARGE]);
        bench.dma.mm2s.send(part).unwrap().wait(LONG).unwrap();
    };
    let laps = || bench.dma.s2mm.laps().unwrap().unwrap();
    (1..=3).for_each(send);
    counts(&bench, 3);
    (4..=20).for_each(send);
    let overrun = laps();
    assert!(overrun.overrun);
    (21..=22).for_each(send);
    let deadline = Instant::now() + LONG;
    while laps().at != 22 % 4 {
        assert!(!laps().overrun && Instant::now() < deadline, "{:?}", laps());
    }
    // Number 20 may have come before it was told, or after.
    assert!((2..=3).contains(&(laps().parts - overrun.parts)), "{overrun:?} {:?}", laps());
    let parts = capturing.stop().unwrap();
    let values: Vec<u8> = parts.iter().map(|part| part.as_slice()[LARGE - 1]).collect();
    assert_eq!(values, [21, 22, 19, 20]);
    bench.works();
}

#[test]
fn a_waveform_is_sent_for_ever() {
    let bench = Bench::new(Mode::ScatterGather);
    let mut random = Random(11);
    let wave: Vec<_> = (0..3).map(|_| random.bytes(PART)).collect();
    let sources = wave.iter().map(|part| bench.source(part)).collect();
    let sending = bench.dma.mm2s.repeat(sources).unwrap();
    for round in 0..100 {
        let part = bench.dma.s2mm.receive(bench.sink(PART)).unwrap().wait(LONG).unwrap();
        assert_eq!(part.as_slice(), wave[round % 3]);
    }
    let sources = late(sending.wait(SHORT)).stop().unwrap();
    assert_eq!(sources[1].as_slice(), wave[1]);
    bench.works_after_a_wave();
    bench.check();
}

impl Bench {
    /// As `works`; there may be a wave left in the stream.
    fn works_after_a_wave(&self) {
        self.works();
    }
}

#[test]
fn what_is_repeated_unwatched_keeps_nobody_waiting() {
    let bench = Bench::new(Mode::ScatterGather);
    let sending = bench.dma.mm2s.repeat(vec![bench.source(&[5; PART])]).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let rounds = async {
        for _ in 0..100 {
            let part = bench.dma.s2mm.receive(bench.sink(PART)).unwrap().await.unwrap();
            assert_eq!(part.as_slice(), [5; PART]);
        }
    };
    // Once for all rounds: it asks a last time at its end, and so finds one of them done.
    runtime.block_on(async { tokio::time::timeout(LONG, rounds).await }).unwrap();
    drop(sending);
    bench.works();
}

#[test]
fn a_forged_status_ends_it() {
    let bench = Bench::new(Mode::ScatterGather);
    bench.controls.forge_status(Side::S2mm, 0x8000_0000 | 301);
    let capturing = capture(&bench, 3);
    send(&bench, 1);
    let result = capturing.wait(LONG);
    let Err(udmabuf::WaitError::Failed { error, buffers }) = result else { panic!("{result:?}") };
    assert!(matches!(error, Error::Descriptor { side: Side::S2mm, index: 0, .. }), "{error}");
    assert_eq!(buffers[0].as_slice(), [1; PART]);
    bench.works();
}

#[test]
fn a_direct_core_repeats_nothing() {
    let bench = Bench::new(Mode::Direct);
    let refused = bench.dma.s2mm.repeat(vec![bench.sink(8)]).unwrap_err();
    assert!(refused.error.to_string().contains("scatter-gather"), "{}", refused.error);
}
