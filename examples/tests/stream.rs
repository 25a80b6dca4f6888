//! Streams over the emulator's copy engines and models of the AXI DMA.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use udmabuf::{Buffer, CpuOwned, Direction, Uncached, emulator::Emulator};
use udmabuf_examples::{
    axidma::{self, AxiDma, Build, Mode, Side},
    loopback::{Error as EngineError, Loopback},
    stream::{Copying, Error, Handed, Lane, Part, Plan, Returning, Until, run},
};
use udmabuf_uio::emulator::{Emulated, Faults};

fn parts(emulator: &Emulator, len: usize, count: usize) -> Vec<Part> {
    fn chunks<D: Direction>(
        emulator: &Emulator,
        len: usize,
        count: usize,
    ) -> Vec<Buffer<CpuOwned, D>> {
        emulator.buffer(len * count).for_direction().into_chunks(len).unwrap()
    }
    chunks(emulator, len, count).into_iter().zip(chunks(emulator, len, count)).collect()
}

fn engines(emulator: &Emulator, faults: &Faults, count: usize) -> Vec<Loopback> {
    (0..count).map(|_| Loopback::emulated_with(emulator, faults).unwrap()).collect()
}

fn lanes(engines: &[Loopback]) -> Vec<impl Lane<Error = EngineError>> {
    engines.iter().map(|engine| Copying::new(|from, to| engine.copy(from, to))).collect()
}

#[test]
fn every_part_arrives_under_the_adversary() {
    for (seed, len, in_flight, engines) in
        [(1, 64, 1, 1), (2, 64, 7, 1), (3, 4096, 3, 3), (4, 8256, 16, 2), (5, 192, 2, 5)]
    {
        let emulator = Emulator::new().with_adversary();
        let engines = self::engines(&emulator, &Faults::default(), engines);
        let mut parts = parts(&emulator, len, in_flight);
        let plan = Plan { until: Until::Parts(100), seed };
        let mut seen = 0;
        let summary = run(&mut lanes(&engines), &mut parts, plan, |summary| {
            seen += 1;
            assert_eq!(summary.parts, seen);
        });
        let summary = summary.unwrap();
        assert_eq!((summary.parts, seen, summary.bytes), (100, 100, 100 * len as u64));
        assert!((1..=in_flight).contains(&summary.most_in_flight));
        let times = summary.filling + summary.comparing + summary.handing + summary.idle;
        assert!(times <= summary.elapsed, "{summary:?}");
        assert_eq!(parts.len(), in_flight, "a part is lost");
        assert_eq!(emulator.violations(), []);
    }
}

/// What the AXI DMA sends comes back to it, whichever of its two transfers is
/// done first.
#[test]
fn every_part_comes_back_to_an_axi_dma() {
    for (seed, mode, len, in_flight, count) in [
        (1, Mode::Direct, 128, 1, 1),
        (2, Mode::Direct, 4096, 5, 2),
        (3, Mode::ScatterGather, 128, 7, 1),
        (4, Mode::ScatterGather, 8192, 4, 3),
    ] {
        let emulator = Emulator::new().with_adversary();
        let core = |_| {
            let (core, controls) = AxiDma::emulated(&emulator, Build::LEAST, mode).unwrap();
            if mode == Mode::ScatterGather {
                core.use_descriptors(emulator.buffer_mapped::<Uncached>(256)).unwrap();
            }
            (core, controls)
        };
        let cores: Vec<_> = (0..count).map(core).collect();
        let mut lanes: Vec<_> = cores.iter().map(|(core, _)| returning(core)).collect();
        let mut parts = parts(&emulator, len, in_flight);
        let plan = Plan { until: Until::Parts(100), seed };
        let summary = run(&mut lanes, &mut parts, plan, |_| ()).unwrap();
        assert_eq!((summary.parts, summary.bytes), (100, 100 * len as u64));
        assert_eq!(parts.len(), in_flight, "a part is lost");

        let (_, controls) = &cores[0];
        controls.inject(Side::S2mm, axidma::Faults::DMA_SLAVE);
        let result = run(&mut lanes[..1], &mut parts, plan, |_| ());
        let Err(Error::Engine(error)) = result else { panic!("{result:?}") };
        assert!(error.to_string().contains("S2MM stopped with DMASlvErr"), "{error}");
        assert_eq!(controls.undefined(), [""; 0]);
        assert_eq!(emulator.violations(), []);
    }
}

fn returning(core: &AxiDma<Emulated>) -> impl Lane<Error = axidma::Error> {
    Returning::new(|from| core.mm2s.send(from), |to| core.s2mm.receive(to))
}

/// What the engine writes stays in memory; the CPU reads what it had in its cache.
#[test]
fn a_stale_part_is_seen() {
    for emulator in
        [Emulator::new().without_sync_for_cpu(), Emulator::new().without_sync_for_device()]
    {
        let engines = engines(&emulator, &Faults::default(), 1);
        let mut parts = parts(&emulator, 4096, 2);
        parts.iter_mut().for_each(|part| assert_eq!(part.1.as_slice()[0], 0)); // into the cache
        let plan = Plan { until: Until::Parts(10), seed: 6 };
        let result = run(&mut lanes(&engines), &mut parts, plan, |_| ());
        let Err(Error::Wrong { number: 0, offset: 0, seed: 6 }) = result else {
            panic!("{result:?}")
        };
    }
}

#[test]
fn a_stream_ends_when_its_time_is_over() {
    let emulator = Emulator::new();
    let engines = engines(&emulator, &Faults::default(), 2);
    let mut parts = parts(&emulator, 4096, 4);
    let plan = Plan { until: Until::Elapsed(Duration::from_millis(20)), seed: 7 };
    let summary = run(&mut lanes(&engines), &mut parts, plan, |_| ()).unwrap();
    assert!(summary.parts > 0 && summary.elapsed >= Duration::from_millis(20));
    assert_eq!(parts.len(), 4);
}

/// Lets stalled engines go on when the stream blocks for one of them.
struct Blocked<'a, L> {
    lane: L,
    started: &'a Cell<u32>,
    faults: &'a Faults,
    at_first_block: &'a Cell<Option<u32>>,
}

impl<L: Lane> Lane for Blocked<'_, L> {
    type Error = L::Error;
    fn start(&mut self, part: Handed) -> Result<(), Error<L::Error>> {
        self.started.set(self.started.get() + 1);
        self.lane.start(part)
    }
    fn finish(&mut self, deadline: Option<Instant>) -> Result<Option<Part>, Error<L::Error>> {
        if deadline.is_some() {
            self.at_first_block.set(self.at_first_block.get().or(Some(self.started.get())));
            self.faults.resume();
        }
        self.lane.finish(deadline)
    }
}

/// The CPU fills all that there is before it waits for the engines, and all
/// engines have work by then.
#[test]
fn the_cpu_works_while_the_engines_do() {
    for (in_flight, engines) in [(5, 1), (5, 3), (3, 3), (2, 3)] {
        let (emulator, faults) = (Emulator::new().with_adversary(), Faults::default());
        let engines = self::engines(&emulator, &faults, engines);
        faults.stall();
        let (started, at_first_block) = (Cell::new(0), Cell::new(None));
        let lanes = lanes(&engines).into_iter().map(|lane| Blocked {
            lane,
            started: &started,
            faults: &faults,
            at_first_block: &at_first_block,
        });
        let mut parts = parts(&emulator, 1024, in_flight);
        let plan = Plan { until: Until::Parts(30), seed: 8 };
        let summary = run(&mut lanes.collect::<Vec<_>>(), &mut parts, plan, |_| ()).unwrap();
        let busy = u32::try_from(in_flight.min(engines.len())).unwrap();
        assert_eq!(at_first_block.get(), Some(busy), "engines that work when the CPU waits");
        assert_eq!(summary.most_in_flight, in_flight);
        assert_eq!((summary.parts, started.get()), (30, 30));
    }
}
