//! Rings: in order, never more than there are parts, and what becomes of the
//! parts when something fails.
#![allow(unsafe_code, reason = "vouches for an engine that is a script")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use udmabuf::{
    Buffer, Cached, CpuOwned, DmaAddr, Error, FromDevice, Handoff, Progress, Ring, RingError,
    Stream,
    emulator::{Bus, Emulator, SyncFault},
};

#[derive(Debug, Default)]
struct Script {
    queue: VecDeque<DmaAddr>,
    /// What it writes into the next part.
    value: u8,
    running: bool,
    overrun: bool,
    fails: bool,
    refuses: bool,
    panics: bool,
    stop_fails: bool,
    /// Nothing may touch its registers before this was found out.
    is_gone: bool,
    stops: usize,
}

/// Fills parts with 1, 2, 3 and so on.
#[derive(Clone, Debug)]
struct Counter(Arc<Mutex<Script>>, Bus);

#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("fault")]
struct Fault;

impl Counter {
    fn script(&self) -> MutexGuard<'_, Script> {
        self.0.lock().unwrap()
    }
}

// SAFETY: it accesses only the oldest part that it has, in `poll`.
unsafe impl Stream for Counter {
    type Error = Fault;
    type Direction = FromDevice;

    fn bus(&self) -> Option<&Bus> {
        Some(&self.1)
    }

    unsafe fn submit(&mut self, part: DmaAddr) -> Result<(), Fault> {
        let mut script = self.script();
        assert!(!script.is_gone, "SIGBUS");
        if script.refuses {
            return Err(Fault);
        }
        script.queue.push_back(part);
        let panics = script.panics;
        drop(script);
        assert!(!panics, "the driver has a mistake");
        Ok(())
    }

    fn check(&mut self) -> Result<(), Fault> {
        if self.script().is_gone { Err(Fault) } else { Ok(()) }
    }

    fn poll(&mut self) -> Progress<Fault> {
        let mut script = self.script();
        assert!(!script.is_gone, "SIGBUS");
        if script.fails {
            script.queue.clear();
            return Progress::Failed(Fault);
        }
        if script.running {
            return Progress::Running;
        }
        script.value += 1;
        let part = script.queue.pop_front().expect("polled with nothing in flight");
        let bytes = vec![script.value; usize::try_from(part.len()).unwrap()];
        self.1.write(part.to_u64(), &bytes).unwrap();
        Progress::Finished
    }

    fn overrun(&mut self) -> bool {
        assert!(!self.script().is_gone, "SIGBUS");
        std::mem::take(&mut self.script().overrun)
    }

    fn park(&mut self, deadline: Instant) -> Result<(), Fault> {
        std::thread::sleep(deadline.saturating_duration_since(Instant::now()));
        Ok(())
    }

    fn stop(&mut self) -> Result<(), Fault> {
        let mut script = self.script();
        script.stops += 1;
        if script.stop_fails {
            return Err(Fault);
        }
        script.queue.clear();
        Ok(())
    }
}

struct Bench {
    emulator: Emulator,
    engine: Counter,
    ring: Ring<Counter, Cached>,
    addr: u64,
}

fn parts(emulator: &Emulator) -> Vec<Buffer<CpuOwned, FromDevice>> {
    emulator.buffer(256).for_direction().into_chunks(64).unwrap()
}

impl Bench {
    fn new() -> Self {
        let emulator = Emulator::new();
        let engine = Counter(Arc::default(), emulator.bus());
        let ring = Ring::new(engine.clone(), parts(&emulator)).unwrap();
        Self { emulator, engine, ring, addr: 0 }
    }

    /// All parts are submitted.
    fn full() -> Self {
        let mut bench = Self::new();
        for _ in 0..4 {
            bench.ring.submit().unwrap();
        }
        bench.addr = bench.engine.script().queue[0].to_u64();
        bench
    }

    fn device_reaches(&self, part: u64) -> bool {
        self.emulator.bus().write(self.addr + 64 * part, &[0]).is_ok()
    }
}

const SOON: Duration = Duration::from_millis(2);

#[test]
fn parts_come_back_in_order_for_ever() {
    let mut bench = Bench::full();
    for round in 1..=100 {
        let part = bench.ring.complete(SOON).unwrap();
        assert_eq!(part.as_slice(), [round; 64]);
        assert_eq!(part.offset(), usize::from(round - 1) % 4 * 64);
        assert_eq!(bench.ring.in_flight(), 3);
        bench.ring.submit().unwrap();
    }
}

#[test]
fn neither_more_nor_less_than_there_are() {
    let mut bench = Bench::full();
    assert!(matches!(bench.ring.submit(), Err(RingError::Full(4))));
    assert!(bench.ring.next_mut().is_none());
    for _ in 0..4 {
        bench.ring.complete(SOON).unwrap();
    }
    assert!(matches!(bench.ring.complete(SOON), Err(RingError::Empty)));
    assert_eq!(bench.ring.next_mut().unwrap().offset(), 0);
}

#[test]
fn late_and_overrun() {
    let mut bench = Bench::full();
    bench.engine.script().running = true;
    assert!(matches!(bench.ring.complete(SOON), Err(RingError::Timeout(SOON))));
    assert!((0..4).all(|part| bench.device_reaches(part)));
    bench.engine.script().running = false;
    bench.engine.script().overrun = true;
    assert!(matches!(bench.ring.complete(SOON), Err(RingError::Overrun)));
    assert_eq!(bench.ring.complete(SOON).unwrap().as_slice(), [1; 64]);
}

#[test]
fn a_sync_that_fails_is_tried_again() {
    let mut bench = Bench::full();
    bench.emulator.inject(SyncFault::all().for_cpu().times(1));
    assert!(matches!(bench.ring.complete(SOON), Err(RingError::Sync(_))));
    assert_eq!(bench.ring.complete(SOON).unwrap().as_slice(), [1; 64]);
    assert_eq!(bench.engine.script().queue.len(), 3, "asked about the next part");
    bench.emulator.inject(SyncFault::all().for_device().times(1));
    assert!(matches!(bench.ring.submit(), Err(RingError::Sync(_))));
    bench.ring.submit().unwrap();
    assert_eq!(bench.ring.complete(SOON).unwrap().as_slice(), [2; 64]);
}

#[test]
fn what_is_refused_stays_the_cpus() {
    let mut bench = Bench::new();
    bench.engine.script().refuses = true;
    assert!(matches!(bench.ring.submit(), Err(RingError::Driver(Fault))));
    assert_eq!(bench.ring.in_flight(), 0);
    assert_eq!(bench.ring.next_mut().unwrap().as_slice(), [0; 64]);
    // Even if it cannot be synced at once.
    bench.emulator.inject(SyncFault::all().for_cpu().times(1));
    assert!(matches!(bench.ring.submit(), Err(RingError::Driver(Fault))));
    bench.engine.script().refuses = false;
    bench.ring.submit().unwrap();
    assert_eq!(bench.ring.complete(SOON).unwrap().as_slice(), [1; 64]);
}

#[test]
fn after_a_failure_all_are_the_cpus_again() {
    let mut bench = Bench::full();
    bench.engine.script().fails = true;
    assert!(matches!(bench.ring.complete(SOON), Err(RingError::Failed(Fault))));
    assert_eq!(bench.ring.in_flight(), 0);
    assert!(!(0..4).any(|part| bench.device_reaches(part)));
    bench.engine.script().fails = false;
    bench.ring.submit().unwrap();
    assert_eq!(bench.ring.complete(SOON).unwrap().as_slice(), [1; 64]);
}

#[test]
fn stopped_and_dropped() {
    let mut bench = Bench::full();
    bench.ring.complete(SOON).unwrap();
    bench.engine.script().stop_fails = true;
    let Handoff { error, value: ring } = bench.ring.stop().unwrap_err();
    assert!(matches!(error, RingError::Driver(Fault)));
    bench.engine.script().stop_fails = false;
    let (engine, parts) = ring.stop().unwrap();
    assert_eq!(parts.iter().map(Buffer::offset).collect::<Vec<_>>(), [64, 128, 192, 0]);
    assert_eq!(engine.script().stops, 2);

    let bench = Bench::full();
    let (emulator, engine, addr) = (bench.emulator, bench.engine, bench.addr);
    drop(bench.ring);
    assert_eq!(engine.script().stops, 1);
    assert!(emulator.bus().write(addr, &[0]).is_err(), "not taken back");

    let bench = Bench::full();
    bench.engine.script().stop_fails = true;
    let (emulator, addr) = (bench.emulator, bench.addr);
    drop(bench.ring);
    emulator.bus().write(addr, &[0; 64]).unwrap();
}

#[test]
fn what_makes_no_ring_comes_back() {
    let emulator = Emulator::new();
    let engine = Counter(Arc::default(), Emulator::new().bus());
    let Handoff { error, value } = Ring::new(engine.clone(), parts(&emulator)).unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }) && value.1.len() == 4, "{error}");
    let none: Vec<Buffer<CpuOwned, FromDevice>> = Vec::new();
    let Handoff { error, .. } = Ring::new(engine, none).unwrap_err();
    assert!(error.to_string().contains("no parts"), "{error}");
}

#[test]
fn a_part_of_another_bus_is_not_submitted() {
    let mut bench = Bench::new();
    let stranger = parts(&Emulator::new()).swap_remove(0);
    let own = std::mem::replace(bench.ring.next_mut().unwrap(), stranger);
    assert!(matches!(bench.ring.submit(), Err(RingError::Sync(Error::Unsupported { .. }))));
    assert_eq!((bench.ring.in_flight(), bench.engine.script().queue.len()), (0, 0));
    *bench.ring.next_mut().unwrap() = own;
    bench.ring.submit().unwrap();
}

#[test]
fn a_part_is_in_flight_if_the_driver_panics() {
    let mut bench = Bench::new();
    bench.engine.script().panics = true;
    let submit = || bench.ring.submit();
    assert!(catch_unwind(AssertUnwindSafe(submit)).is_err());
    bench.engine.script().panics = false;
    assert_eq!(bench.ring.in_flight(), 1);
    drop(bench.ring);
    assert_eq!(bench.engine.script().stops, 1);
}

/// Nobody polls or feeds a device that is gone: to access its registers can
/// be the end of the program.
#[test]
fn a_device_that_is_gone_is_left_alone() {
    let mut bench = Bench::full();
    bench.engine.script().running = true;
    bench.engine.script().is_gone = true;
    let Err(RingError::Driver(Fault)) = bench.ring.complete(SOON) else { panic!() };
    assert!(bench.ring.in_flight() == 4 && bench.device_reaches(0));

    let mut bench = Bench::new();
    bench.engine.script().is_gone = true;
    let Err(RingError::Driver(Fault)) = bench.ring.submit() else { panic!() };
    assert!(bench.ring.next_mut().is_some() && bench.ring.in_flight() == 0);
}
