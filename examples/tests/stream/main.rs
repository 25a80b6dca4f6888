//! Streams over every engine that has a model.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod troubles;

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use udmabuf::{Buffer, CpuOwned, Direction, FromDevice, ToDevice, Uncached, emulator::Emulator};
use udmabuf_examples::{
    axidma::{self, AxiDma, Build, Coalescing, Controls, Mode, Side},
    edu::Edu,
    loopback::{Error as EngineError, Loopback},
    stream::{Copying, EduLane, Error, Lane, Part, Plan, Returning, Ringing, Until, run},
    zdma::Zdma,
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

fn sending(parts: u64, seed: u64) -> Plan {
    Plan { until: Until::Parts(parts), seed, ..Plan::default() }
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
        let plan = sending(100, seed);
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
        let plan = sending(100, seed);
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

type Rings = Ringing<axidma::Queue<Emulated, ToDevice>, axidma::Queue<Emulated, FromDevice>>;

/// A core whose rings have `depth` places.
fn ringing(emulator: &Emulator, faults: &Faults, depth: usize) -> (Rings, Controls) {
    let (controls, mode) = (Controls::default(), Mode::ScatterGather);
    let core = AxiDma::emulated_with(emulator, Build::LEAST, mode, &controls, faults).unwrap();
    core.use_descriptors(emulator.buffer_mapped::<Uncached>(128 * depth)).unwrap();
    let (sources, sinks) = parts(emulator, 64, depth).into_iter().unzip();
    let AxiDma { mm2s, s2mm } = core;
    let (sender, _) = mm2s.into_ring(Coalescing::EACH, sources).unwrap();
    let (receiver, _) = s2mm.into_ring(Coalescing::EACH, sinks).unwrap();
    (Ringing::new(sender, receiver, depth), controls)
}

/// The rings have as many places as the stream has parts, or fewer, or more.
#[test]
fn every_part_comes_back_to_rings() {
    for (seed, len, in_flight, depth, count) in
        [(1, 128, 1, 1, 1), (2, 4096, 5, 5, 1), (3, 1024, 9, 3, 2), (4, 8192, 4, 7, 1)]
    {
        let emulator = Emulator::new().with_adversary();
        let cores = (0..count).map(|_| ringing(&emulator, &Faults::default(), depth));
        let (mut lanes, controls): (Vec<_>, Vec<_>) = cores.unzip();
        let mut parts = parts(&emulator, len, in_flight);
        let summary = run(&mut lanes, &mut parts, sending(100, seed), |_| ()).unwrap();
        assert_eq!((summary.parts, summary.bytes), (100, 100 * len as u64));
        assert_eq!(parts.len(), in_flight, "a part is lost");
        assert!(parts.iter().all(|part| part.0.len() == len), "what kept a place came out");

        controls[0].inject(Side::Mm2s, axidma::Faults::DMA_DECODE);
        let result = run(&mut lanes[..1], &mut parts, sending(100, seed), |_| ());
        let Err(Error::Engine(error)) = result else { panic!("{result:?}") };
        assert!(error.to_string().contains("MM2S stopped with DMADecErr"), "{error}");
        assert_eq!(controls[0].undefined(), [""; 0]);
        assert_eq!(emulator.violations(), []);
    }
}

/// All parts are started before the engine moves, and it needs no word from the
/// driver between them.
#[test]
fn an_engine_has_as_many_parts_as_its_rings_have_places() {
    let (emulator, faults) = (Emulator::new().with_adversary(), Faults::default());
    let (mut lane, _) = ringing(&emulator, &faults, 6);
    let mut parts = parts(&emulator, 1024, 8);
    run(std::slice::from_mut(&mut lane), &mut parts, sending(8, 9), |_| ()).unwrap(); // it runs
    faults.stall();
    let (started, at_first_block) = (Cell::new(0), Cell::new(None));
    let then = || faults.resume();
    let lane = Blocked { lane, started: &started, then: &then, at_first_block: &at_first_block };
    let summary = run(&mut [lane], &mut parts, sending(30, 9), |_| ()).unwrap();
    assert_eq!(at_first_block.get(), Some(6), "parts at the engine when the CPU waits");
    assert_eq!((summary.most_at_engines, summary.most_in_flight), (6, 8));
    assert_eq!((summary.parts, started.get()), (30, 30));
}

#[test]
fn every_part_goes_through_edu_and_zdma() {
    for (seed, len, in_flight, count) in [(1, 64, 1, 1), (2, 2048, 5, 2), (3, 4032, 3, 3)] {
        let emulator = Emulator::new().with_adversary();
        let lanes = (0..count).map(|_| EduLane::new(Edu::emulated(&emulator).unwrap()));
        through(lanes.collect(), &emulator, [len, in_flight], seed);

        let zdmas = (0..count).map(|_| Zdma::emulated(&emulator, &Faults::default()).unwrap());
        let zdmas: Vec<_> = zdmas.collect();
        let lanes = zdmas.iter().map(|zdma| Copying::new(|from, to| zdma.copy(from, to)));
        through(lanes.collect(), &emulator, [len, in_flight], seed);
        assert_eq!(emulator.violations(), []);
    }
}

fn through<L: Lane>(
    mut lanes: Vec<L>,
    emulator: &Emulator,
    [len, in_flight]: [usize; 2],
    seed: u64,
) {
    let mut parts = parts(emulator, len, in_flight);
    let summary = run(&mut lanes, &mut parts, sending(100, seed), |_| ()).unwrap();
    assert_eq!((summary.parts, summary.bytes), (100, 100 * len as u64));
    assert!((1..=lanes.len()).contains(&summary.most_at_engines));
    assert_eq!(parts.len(), in_flight, "a part is lost");
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
        let plan = sending(10, 6);
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
    let plan = Plan { until: Until::Elapsed(Duration::from_millis(20)), ..sending(0, 7) };
    let summary = run(&mut lanes(&engines), &mut parts, plan, |_| ()).unwrap();
    assert!(summary.parts > 0 && summary.elapsed >= Duration::from_millis(20));
    assert_eq!(parts.len(), 4);
}

/// Has something happen whenever the stream blocks for an engine.
struct Blocked<'a, L> {
    lane: L,
    started: &'a Cell<u32>,
    then: &'a dyn Fn(),
    at_first_block: &'a Cell<Option<u32>>,
}

impl<L: Lane> Lane for Blocked<'_, L> {
    type Error = L::Error;
    type Waiting = L::Waiting;
    fn depth(&self) -> usize {
        self.lane.depth()
    }
    fn start(&mut self, part: L::Waiting) -> Result<(), Error<L::Error>> {
        self.started.set(self.started.get() + 1);
        self.lane.start(part)
    }
    fn finish(&mut self, deadline: Option<Instant>) -> Result<Option<Part>, Error<L::Error>> {
        if deadline.is_some() {
            self.at_first_block.set(self.at_first_block.get().or(Some(self.started.get())));
            (self.then)();
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
        let then = || faults.resume();
        let lanes = lanes(&engines).into_iter().map(|lane| Blocked {
            lane,
            started: &started,
            then: &then,
            at_first_block: &at_first_block,
        });
        let mut parts = parts(&emulator, 1024, in_flight);
        let plan = sending(30, 8);
        let summary = run(&mut lanes.collect::<Vec<_>>(), &mut parts, plan, |_| ()).unwrap();
        let busy = u32::try_from(in_flight.min(engines.len())).unwrap();
        assert_eq!(at_first_block.get(), Some(busy), "engines that work when the CPU waits");
        assert_eq!(summary.most_in_flight, in_flight);
        assert_eq!((summary.parts, started.get()), (30, 30));
    }
}
