//! What becomes of buffers and engine in each way that a transfer can end.
#![allow(unsafe_code, reason = "vouches for an engine that is a script")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::{
    collections::VecDeque,
    future::{Future, IntoFuture},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, Wake, Waker},
    time::{Duration, Instant},
};

use udmabuf::{
    Buffer, CpuOwned, DeviceOwned, Engine, Parts, Progress, Slot, StartError, ToDevice, Transfer,
    WaitError,
    emulator::{Bus, Emulator, SyncFault},
};

/// An engine that does as it is told.
#[derive(Clone, Debug)]
struct Scripted {
    script: Arc<Mutex<Script>>,
    bus: Bus,
}

#[derive(Debug, Default)]
struct Script {
    /// What `poll` says, in turn; then "running".
    polls: VecDeque<Progress<Fault>>,
    park_fails: bool,
    stop_fails: bool,
    is_hardware: bool,
    /// Nothing may touch its registers before this was found out.
    is_gone: bool,
    stops: usize,
    wakers: Vec<Waker>,
}

#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("fault {0}")]
struct Fault(u32);

// SAFETY: there is no device; the tests access the bus only where they say so.
unsafe impl Engine for Scripted {
    type Error = Fault;

    fn bus(&self) -> Option<&Bus> {
        (!self.script.lock().unwrap().is_hardware).then_some(&self.bus)
    }

    fn check(&mut self) -> Result<(), Fault> {
        if self.script.lock().unwrap().is_gone { Err(Fault(4)) } else { Ok(()) }
    }

    fn poll(&mut self) -> Progress<Fault> {
        assert!(!self.script.lock().unwrap().is_gone, "SIGBUS");
        self.script.lock().unwrap().polls.pop_front().unwrap_or(Progress::Running)
    }

    fn park(&mut self, deadline: Instant) -> Result<(), Fault> {
        assert!(deadline > Instant::now() - Duration::from_secs(1));
        if self.script.lock().unwrap().park_fails { Err(Fault(1)) } else { Ok(()) }
    }

    fn register(&mut self, waker: &Waker) -> Result<(), Fault> {
        let mut script = self.script.lock().unwrap();
        script.wakers.push(waker.clone());
        if script.park_fails { Err(Fault(1)) } else { Ok(()) }
    }

    fn stop(&mut self) -> Result<(), Fault> {
        let mut script = self.script.lock().unwrap();
        script.stops += 1;
        if script.stop_fails { Err(Fault(2)) } else { Ok(()) }
    }
}

impl Scripted {
    fn script(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.script.lock().unwrap());
    }

    fn stops(&self) -> usize {
        self.script.lock().unwrap().stops
    }
}

struct Bench {
    emulator: Emulator,
    engine: Scripted,
    slot: Slot<Scripted>,
}

impl Bench {
    fn new() -> Self {
        Self::on(Emulator::new())
    }

    fn on(emulator: Emulator) -> Self {
        let engine = Scripted { script: Arc::default(), bus: emulator.bus() };
        Self { emulator, slot: Slot::new(engine.clone()), engine }
    }

    fn buffer(&self) -> Buffer<DeviceOwned> {
        self.emulator.buffer(64).into_device().unwrap()
    }

    /// A transfer in flight, and the bus address of its buffer.
    fn start(&self) -> (Transfer<Scripted, Buffer<DeviceOwned>>, u64) {
        let buffer = self.buffer();
        let addr = buffer.dma_addr().to_u64();
        (self.slot.start(buffer, |_, _| Ok(())).unwrap(), addr)
    }

    /// Whether the device can still reach the buffer: it is not the CPU's.
    fn device_reaches(&self, addr: u64) -> bool {
        self.emulator.bus().read(addr, &mut [0]).is_ok()
    }

    fn is_idle(&self) -> bool {
        self.slot.with(|_| ()).is_ok()
    }
}

const SOON: Duration = Duration::from_millis(5);

#[test]
fn finished() {
    let bench = Bench::new();
    bench.engine.script(|s| s.polls = [Progress::Running, Progress::Finished].into());
    let (transfer, addr) = bench.start();
    assert!(!bench.is_idle());
    bench.emulator.bus().write(addr, &[9; 64]).unwrap();
    // Longer than any clock can count.
    let buffer: Buffer<CpuOwned> = transfer.wait(Duration::MAX).unwrap();
    assert_eq!(buffer.as_slice(), [9; 64]);
    assert!(bench.is_idle() && !bench.device_reaches(addr));
    assert_eq!(bench.engine.stops(), 0);
}

#[test]
fn several_buffers_come_back_in_order() {
    let bench = Bench::new();
    bench.engine.script(|s| s.polls = [Progress::Finished].into());
    let parts = (bench.buffer(), vec![bench.buffer(), bench.buffer()]);
    let [a, b, c] = [&parts.0, &parts.1[0], &parts.1[1]].map(|part| part.dma_addr().to_u64());
    let transfer = bench.slot.start(parts, |_, _| Ok(())).unwrap();
    for (addr, value) in [(a, 1), (b, 2), (c, 3)] {
        bench.emulator.bus().write(addr, &[value; 64]).unwrap();
    }
    let (first, rest) = transfer.wait(SOON).unwrap();
    let values = [&first, &rest[0], &rest[1]].map(|buffer| buffer.as_slice()[63]);
    assert_eq!(values, [1, 2, 3]);
}

#[test]
fn a_timeout_gives_the_transfer_back() {
    let bench = Bench::new();
    let (transfer, addr) = bench.start();
    let Err(WaitError::Timeout { transfer, waited }) = transfer.wait(SOON) else { panic!() };
    assert_eq!(waited, SOON);
    assert!(!bench.is_idle() && bench.device_reaches(addr));
    bench.engine.script(|s| s.polls = [Progress::Finished].into());
    transfer.wait(SOON).unwrap();
    assert!(bench.is_idle());
    assert_eq!(bench.engine.stops(), 0);
}

#[test]
fn without_waiting() {
    let bench = Bench::new();
    bench.engine.script(|s| s.park_fails = true); // nor is anything waited for
    let (transfer, addr) = bench.start();
    let Err(WaitError::Timeout { transfer, waited }) = transfer.try_wait() else { panic!() };
    assert_eq!(waited, Duration::ZERO);
    assert!(bench.device_reaches(addr));
    bench.engine.script(|s| s.polls = [Progress::Finished].into());
    transfer.try_wait().unwrap();
    assert!(bench.is_idle() && !bench.device_reaches(addr));

    bench.engine.script(|s| s.park_fails = false);
    let (transfer, _) = bench.start();
    let past = Instant::now() - SOON;
    assert!(matches!(transfer.wait_until(past), Err(WaitError::Timeout { .. })));
    bench.engine.script(|s| s.polls = [Progress::Running, Progress::Finished].into());
    let (transfer, _) = bench.start();
    transfer.wait_until(Instant::now() + 1000 * SOON).unwrap();
}

/// Counts how often it was woken.
#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

#[test]
fn awaited() {
    let bench = Bench::new();
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(wakes.clone());
    let context = &mut Context::from_waker(&waker);

    let (transfer, addr) = bench.start();
    let mut future = transfer.into_future();
    assert!(Pin::new(&mut future).poll(context).is_pending());
    assert_eq!(wakes.0.load(Relaxed), 0, "before the interrupt");
    bench.engine.script(|s| s.wakers.drain(..).for_each(Waker::wake));
    assert_eq!(wakes.0.load(Relaxed), 1);
    bench.engine.script(|s| s.polls = [Progress::Finished].into());
    let Poll::Ready(Ok(buffer)) = Pin::new(&mut future).poll(context) else { panic!() };
    assert_eq!(buffer.len(), 64);
    assert!(bench.is_idle() && !bench.device_reaches(addr));
    assert!(Pin::new(&mut future).poll(context).is_pending() && future.into_transfer().is_none());

    // The device finishes between the poll and the registration.
    bench.engine.script(|s| s.polls = [Progress::Running, Progress::Finished].into());
    let mut future = bench.start().0.into_future();
    assert!(Pin::new(&mut future).poll(context).is_ready());

    // A timeout takes the transfer out of the future; a drop stops it.
    let mut future = bench.start().0.into_future();
    assert!(Pin::new(&mut future).poll(context).is_pending());
    let transfer = future.into_transfer().unwrap();
    assert!(!bench.is_idle());
    let (stops, future) = (bench.engine.stops(), transfer.into_future());
    drop(future);
    assert!(bench.is_idle() && bench.engine.stops() == stops + 1);

    bench.engine.script(|s| s.park_fails = true);
    let mut future = bench.start().0.into_future();
    let Poll::Ready(Err(WaitError::Unknown { .. })) = Pin::new(&mut future).poll(context) else {
        panic!()
    };
}

#[test]
fn a_failed_transfer_gives_the_buffer_back() {
    let bench = Bench::new();
    bench.engine.script(|s| s.polls = [Progress::Failed(Fault(3))].into());
    let (transfer, addr) = bench.start();
    let Err(error) = transfer.wait(SOON) else { panic!() };
    assert_eq!(error.to_string(), "the device gave up: fault 3");
    let WaitError::Failed { error: Fault(3), buffers } = error else { panic!() };
    assert_eq!(buffers.len(), 64);
    assert!(bench.is_idle() && !bench.device_reaches(addr));
}

#[test]
fn not_knowing_is_as_good_as_in_flight() {
    let bench = Bench::new();
    bench.engine.script(|s| s.park_fails = true);
    let (transfer, addr) = bench.start();
    let Err(WaitError::Unknown { error: Fault(1), transfer }) = transfer.wait(SOON) else {
        panic!()
    };
    assert!(!bench.is_idle() && bench.device_reaches(addr));
    // What `poll` says counts more than that the interrupt cannot be waited for.
    bench.engine.script(|s| s.polls = [Progress::Finished].into());
    transfer.wait(SOON).unwrap();
    assert!(bench.is_idle());
}

#[test]
fn stopped() {
    let bench = Bench::new();
    let (transfer, addr) = bench.start();
    bench.engine.script(|s| s.stop_fails = true);
    let Err(WaitError::Unknown { error: Fault(2), transfer }) = transfer.stop() else { panic!() };
    assert!(!bench.is_idle() && bench.device_reaches(addr));
    bench.engine.script(|s| s.stop_fails = false);
    transfer.stop().unwrap();
    assert!(bench.is_idle() && !bench.device_reaches(addr));
}

#[test]
fn dropping_stops_the_engine() {
    let bench = Bench::new();
    let (transfer, addr) = bench.start();
    drop(transfer);
    assert_eq!(bench.engine.stops(), 1);
    assert!(bench.is_idle() && !bench.device_reaches(addr));
}

#[test]
fn what_cannot_be_stopped_or_is_leaked_stays_with_the_device() {
    let bench = Bench::new();
    bench.engine.script(|s| s.stop_fails = true);
    let (transfer, addr) = bench.start();
    drop(transfer);
    assert!(!bench.is_idle() && bench.device_reaches(addr));

    let bench = Bench::new();
    let (transfer, addr) = bench.start();
    std::mem::forget(transfer);
    assert!(!bench.is_idle() && bench.device_reaches(addr));
}

/// Nobody polls or starts a device that is gone: to access its registers
/// can be the end of the program.
#[test]
fn a_device_that_is_gone_is_left_alone() {
    let bench = Bench::new();
    bench.engine.script(|s| s.is_gone = true);
    let Err(refused) = bench.slot.start(bench.buffer(), |_, _| panic!("SIGBUS")) else { panic!() };
    assert!(matches!(refused.error, StartError::Refused(Fault(4))), "{refused}");
    assert!(bench.is_idle());

    bench.engine.script(|s| s.is_gone = false);
    let (transfer, addr) = bench.start();
    bench.engine.script(|s| s.is_gone = true);
    let Err(WaitError::Unknown { error: Fault(4), transfer }) = transfer.try_wait() else {
        panic!()
    };
    let mut future = transfer.into_future();
    let context = &mut Context::from_waker(Waker::noop());
    let Poll::Ready(Err(WaitError::Unknown { error: Fault(4), transfer })) =
        Pin::new(&mut future).poll(context)
    else {
        panic!()
    };
    // Whether it can be stopped all the same is for its driver to know.
    bench.engine.script(|s| s.stop_fails = true);
    drop(transfer);
    assert!(!bench.is_idle() && bench.device_reaches(addr));
}

#[test]
fn what_is_not_started_comes_back() {
    let bench = Bench::new();
    let (transfer, _) = bench.start();
    let waiting = bench.buffer();
    let addr = waiting.dma_addr().to_u64();
    let busy = bench.slot.start(waiting, |_, _| panic!("an engine that is not there")).unwrap_err();
    assert!(matches!(busy.error, StartError::Busy(_)));
    assert_eq!(busy.value.as_slice(), [0; 64]);
    assert!(!bench.device_reaches(addr));
    transfer.stop().unwrap();

    let refused = bench.slot.start(bench.buffer(), |_, _| Err(Fault(4))).unwrap_err();
    assert!(matches!(refused.error, StartError::Refused(Fault(4))));
    assert_eq!(refused.to_string(), "fault 4");
    assert!(bench.is_idle());
}

#[test]
fn what_is_not_started_is_closed_to_the_device_even_unsynced() {
    let bench = Bench::new();
    let parts = (bench.buffer(), vec![bench.buffer(), bench.buffer()]);
    let addrs = [&parts.0, &parts.1[0], &parts.1[1]].map(|part| part.dma_addr().to_u64());
    bench.emulator.inject(SyncFault::all().for_cpu());
    let refused = bench.slot.start(parts, |_, _| Err(Fault(4))).unwrap_err();
    assert!(!addrs.iter().any(|&addr| bench.device_reaches(addr)));
    drop(refused);
}

/// Who hands a buffer over may have had another device write it, before the start that
/// is refused. Half of it in a cache and half in memory, nobody reads it.
#[test]
fn what_is_not_started_and_cannot_be_synced_is_zeros_where_a_device_may_have_written() {
    for seed in 0..8 {
        let bench = Bench::on(Emulator::new().with_adversary_seed(seed));
        let mut read = bench.emulator.buffer(64).for_direction::<ToDevice>();
        read.as_mut_slice().fill(1);
        let mut both = bench.emulator.buffer(256);
        both.as_mut_slice().fill(2);
        let parts = (read.into_device().unwrap(), both.into_device().unwrap());
        let addr = parts.1.dma_addr().to_u64();
        bench.emulator.bus().write(addr, &[3; 256]).unwrap();
        bench.emulator.inject(SyncFault::all().for_cpu());
        // SAFETY: the device is done.
        let parts = unsafe { parts.into_cpu() }.unwrap_err().value;
        let refused = bench.slot.start(parts, |_, _| Err(Fault(4))).unwrap_err();
        let (read, both) = refused.value;
        assert_eq!(read.as_slice(), [1; 64], "what the device only read is right");
        assert_eq!(both.as_slice(), [0; 256], "seed {seed}");
        let _both = both.into_device().unwrap();
        let mut memory = [4; 256];
        bench.emulator.bus().read(addr, &mut memory).unwrap();
        assert_eq!(memory, [0; 256], "what the CPU sees is what the device gets");
    }
}

#[test]
fn an_engine_gets_only_buffers_of_its_bus() {
    let bench = Bench::new();
    let elsewhere = Emulator::new().buffer(64).into_device().unwrap();
    let parts = vec![bench.buffer(), elsewhere];
    let refused = bench
        .slot
        .start(parts, |_, _| panic!("the engine was given an address of another bus"))
        .unwrap_err();
    assert!(matches!(refused.error, StartError::OtherBus { .. }), "{refused}");
    assert_eq!(refused.value[1].as_slice(), [0; 64]);

    // A driver for hardware knows of no bus, and is given no emulated address.
    bench.engine.script(|s| s.is_hardware = true);
    let refused = bench.slot.start(bench.buffer(), |_, _| panic!("an emulated address"));
    assert!(matches!(refused.unwrap_err().error, StartError::OtherBus { .. }));
    assert!(bench.is_idle());
}

#[test]
fn an_engine_in_use_is_busy_not_locked() {
    let bench = Bench::new();
    let nested = bench.slot.with(|_| bench.slot.with(|_| ()));
    assert_eq!(nested, Ok(Err(udmabuf::Busy)));
    assert!(bench.is_idle());
}
