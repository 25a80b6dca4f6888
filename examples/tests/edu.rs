//! The edu driver on the emulator, where its device stalls, storms and is unplugged.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::{
    ops::Range,
    thread,
    time::{Duration, Instant},
};

use udmabuf::{
    Buffer, CpuOwned, FromDevice, StartError, ToDevice, WaitError,
    emulator::{Emulator, SyncFault},
};
use udmabuf_examples::edu::{Edu, Error, MEMORY_LEN};
use udmabuf_uio::emulator::{Emulated, Faults};

const LONG: Duration = Duration::from_secs(300);
const SHORT: Duration = Duration::from_millis(20);

type Source = Buffer<CpuOwned, ToDevice>;
type Destination = Buffer<CpuOwned, FromDevice>;

struct Setup {
    emulator: Emulator,
    faults: Faults,
    edu: Edu<Emulated>,
}

impl Setup {
    fn new() -> Self {
        let (emulator, faults) = (Emulator::new().with_adversary(), Faults::default());
        let edu = Edu::emulated_with(&emulator, &faults).unwrap();
        Self { emulator, faults, edu }
    }

    fn buffers(&self) -> (Source, Destination) {
        let mut source = self.emulator.buffer(3 * MEMORY_LEN);
        source.as_mut_slice().iter_mut().zip((1..=251).cycle()).for_each(|(b, value)| *b = value);
        (source.for_direction(), self.emulator.buffer(3 * MEMORY_LEN).for_direction())
    }

    /// Sends the range into the device and back out, and compares.
    fn there_and_back(
        &self,
        (source, destination): (Source, Destination),
        range: Range<usize>,
        at: usize,
    ) -> (Source, Destination) {
        let started = self.edu.upload(source.into_device().unwrap(), range.clone(), at);
        let source = started.unwrap().wait(LONG).unwrap();
        let started = self.edu.download(destination.into_device().unwrap(), range.clone(), at);
        let destination = started.unwrap().wait(LONG).unwrap();
        assert_eq!(destination.as_slice()[range.clone()], source.as_slice()[range]);
        (source, destination)
    }
}

impl Drop for Setup {
    fn drop(&mut self) {
        assert!(thread::panicking() || self.emulator.violations().is_empty(), "of the bus");
    }
}

#[test]
fn bytes_of_any_number_go_there_and_back() {
    let setup = Setup::new();
    let mut ends = setup.buffers();
    for (len, from, at) in
        [(1, 0, 0), (64, 1, 63), (255, 64, 1), (257, 4095, 3), (4094, 7000, 1), (MEMORY_LEN, 1, 0)]
    {
        ends = setup.there_and_back(ends, from..from + len, at);
    }
    // Nothing but what was asked for was written.
    let (_, destination) = ends;
    assert!(destination.as_slice()[7000 + 4094..].iter().all(|&byte| byte == 0));
    assert!(setup.edu.interrupts().unwrap() <= 12);
}

#[test]
fn a_factorial_ends_with_an_interrupt() {
    let setup = Setup::new();
    for (n, product) in [(0, 1), (12, 479_001_600), (13, 1_932_053_504), (u32::MAX, 0)] {
        assert_eq!(setup.edu.factorial(n, Instant::now() + LONG).unwrap().unwrap(), Some(product));
    }
    setup.faults.stall();
    assert_eq!(setup.edu.factorial(5, Instant::now() + SHORT).unwrap().unwrap(), None);
}

#[test]
fn what_does_not_fit_is_refused() {
    let setup = Setup::new();
    let (mut source, destination) = setup.buffers();
    for (range, at) in [(0..MEMORY_LEN, 1), (0..0, 0), (0..4, MEMORY_LEN), (0..4, usize::MAX)] {
        let refused = setup.edu.upload(source.into_device().unwrap(), range, at).unwrap_err();
        assert!(matches!(refused.error, StartError::Refused(Error::OutsideDevice { .. })));
        source = refused.value;
    }
    let len = destination.len();
    let outside = setup.edu.download(destination.into_device().unwrap(), len - 3..len + 1, 0);
    let refused = outside.unwrap_err();
    assert!(matches!(refused.error, StartError::Refused(Error::Buffer(_))), "{refused}");
}

#[test]
fn a_stalled_device_times_out_and_goes_on_or_is_cut_off() {
    let setup = Setup::new();
    let (source, destination) = setup.buffers();
    setup.faults.stall();
    let started = setup.edu.upload(source.into_device().unwrap(), 0..1000, 0);
    let result = started.unwrap().wait(SHORT);
    let Err(WaitError::Timeout { transfer, .. }) = result else { panic!("{result:?}") };
    setup.faults.resume();
    let source = transfer.wait(LONG).unwrap();
    let ends = setup.there_and_back((source, destination), 0..1000, 0);

    // Stopped, it gives the buffer back although it stalls: it reaches no memory,
    // neither then nor when it goes on.
    setup.faults.stall();
    let (source, destination) = ends;
    let started = setup.edu.download(destination.into_device().unwrap(), 2000..3000, 0);
    let destination = started.unwrap().stop().unwrap();
    // Nor is there another transfer before it is idle.
    let refused = setup.edu.upload(source.into_device().unwrap(), 0..4, 0).unwrap_err();
    assert!(matches!(refused.error, StartError::Refused(Error::NotIdle)), "{refused}");
    setup.faults.resume();
    let (_, destination) = setup.there_and_back((refused.value, destination), 0..4, 0);
    assert!(destination.as_slice()[2000..3000].iter().all(|&byte| byte == 0));
}

#[test]
fn a_transfer_that_is_dropped_in_flight_leaves_the_device_usable() {
    let setup = Setup::new();
    for _ in 0..20 {
        let (source, destination) = setup.buffers();
        drop(setup.edu.upload(source.into_device().unwrap(), 0..MEMORY_LEN, 0).unwrap());
        let (source, _) = setup.buffers();
        setup.there_and_back((source, destination), 5..600, 7);
    }
}

#[test]
fn lost_interrupts_and_a_storm_of_them_change_no_byte() {
    let setup = Setup::new();
    let (source, destination) = setup.buffers();
    setup.faults.stall();
    setup.faults.lose_interrupts(1);
    let transfer = setup.edu.upload(source.into_device().unwrap(), 0..100, 0).unwrap();
    setup.faults.resume();
    // The device is asked at the end of the wait, interrupt or not.
    let mut result = transfer.wait(SHORT);
    while let Err(WaitError::Timeout { transfer, .. }) = result {
        result = transfer.wait(SHORT);
    }
    let mut ends = (result.unwrap(), destination);

    setup.faults.hold_interrupt();
    for start in 0..20 {
        ends = setup.there_and_back(ends, start..start + 3000, 0);
    }
    // One that has nothing to say ends no wait before its time.
    setup.faults.stall();
    let (source, destination) = ends;
    let before = Instant::now();
    let started = setup.edu.upload(source.into_device().unwrap(), 0..4000, 0);
    let result = started.unwrap().wait(SHORT);
    let Err(WaitError::Timeout { transfer, .. }) = result else { panic!("{result:?}") };
    assert!(before.elapsed() >= SHORT);
    setup.faults.release_interrupt();
    setup.faults.resume();
    setup.there_and_back((transfer.wait(LONG).unwrap(), destination), 0..4000, 0);
}

#[test]
fn a_sync_that_fails_keeps_the_transfer() {
    let setup = Setup::new();
    let (source, destination) = setup.buffers();
    let started = setup.edu.upload(source.into_device().unwrap(), 0..100, 0);
    setup.emulator.inject(SyncFault::all().for_cpu().times(1));
    let result = started.unwrap().wait(LONG);
    let Err(WaitError::Sync { transfer, .. }) = result else { panic!("{result:?}") };
    setup.there_and_back((transfer.wait(LONG).unwrap(), destination), 0..100, 0);
}

#[test]
fn an_unplugged_device_ends_the_wait_and_keeps_the_buffer() {
    let setup = Setup::new();
    let (source, destination) = setup.buffers();
    setup.faults.stall();
    let transfer = setup.edu.upload(source.into_device().unwrap(), 0..4000, 0).unwrap();
    let faults = setup.faults.clone();
    let unplugged = thread::spawn(move || {
        thread::sleep(SHORT);
        faults.unplug();
    });
    let result = transfer.wait(LONG);
    unplugged.join().unwrap();
    let Err(WaitError::Unknown { error, transfer }) = result else { panic!("{result:?}") };
    assert!(matches!(error, Error::Uio(udmabuf_uio::Error::Removed { .. })), "{error}");
    // Nor can it be stopped, or started again: its buffer is out of use.
    let stopped = transfer.stop();
    let Err(WaitError::Unknown { transfer, .. }) = stopped else { panic!("{stopped:?}") };
    drop(transfer);
    let refused = setup.edu.download(destination.into_device().unwrap(), 0..4, 0).unwrap_err();
    assert!(matches!(refused.error, StartError::Busy(_)), "{refused}");
}

#[test]
fn an_unplugged_device_is_found_out_without_a_wait() {
    let setup = Setup::new();
    let (source, _) = setup.buffers();
    let transfer = setup.edu.upload(source.into_device().unwrap(), 0..4000, 0).unwrap();
    setup.faults.unplug();
    let Err(WaitError::Unknown { error, .. }) = transfer.try_wait() else { panic!("not known") };
    assert!(matches!(error, Error::Uio(udmabuf_uio::Error::Removed { .. })), "{error}");

    let setup = Setup::new();
    let (source, _) = setup.buffers();
    setup.faults.unplug();
    let refused = setup.edu.upload(source.into_device().unwrap(), 0..4, 0).unwrap_err();
    let StartError::Refused(Error::Uio(udmabuf_uio::Error::Removed { .. })) = refused.error else {
        panic!("{refused}")
    };
}
