//! The loopback driver on the emulator.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::time::{Duration, Instant};

use udmabuf::{
    Buffer, CpuOwned, FromDevice, StartError, ToDevice, WaitError,
    emulator::{Emulator, SyncFault},
};
use udmabuf_examples::loopback::{Error, Loopback};
use udmabuf_uio::emulator::Faults;

const LONG: Duration = Duration::from_secs(300);

type Ends = (Buffer<CpuOwned, ToDevice>, Buffer<CpuOwned, FromDevice>);

fn ends(emulator: &Emulator, source: usize, destination: usize) -> Ends {
    let mut source = emulator.buffer(source);
    source.as_mut_slice().iter_mut().zip((1..=251).cycle()).for_each(|(b, value)| *b = value);
    (source.for_direction(), emulator.buffer(destination).for_direction())
}

#[test]
fn copies_of_every_length() {
    let emulator = Emulator::new().with_adversary();
    let engine = Loopback::emulated(&emulator).unwrap();
    for len in [1, 2, 63, 64, 4095, 4096, 4097, 8192, 100_000] {
        let (source, destination) = ends(&emulator, len, len + 1);
        let parts = (source.into_device().unwrap(), destination.into_device().unwrap());
        let (source, destination) = engine.copy(parts.0, parts.1).unwrap().wait(LONG).unwrap();
        assert_eq!(source.as_slice(), &destination.as_slice()[..len], "{len} bytes");
        assert_eq!(destination.as_slice()[len], 0, "a byte behind {len} was written");
    }
    assert_eq!(emulator.violations(), []);
}

#[test]
fn a_destination_that_is_too_small_is_refused() {
    let emulator = Emulator::new().with_adversary();
    let engine = Loopback::emulated(&emulator).unwrap();
    let (source, destination) = ends(&emulator, 65, 64);
    let refused =
        engine.copy(source.into_device().unwrap(), destination.into_device().unwrap()).unwrap_err();
    assert!(matches!(refused.error, StartError::Refused(Error::Length(65))));
    assert_eq!(refused.value.0.as_slice()[64], 65);
}

#[test]
fn a_copy_can_be_stopped() {
    let emulator = Emulator::new().with_adversary();
    let engine = Loopback::emulated(&emulator).unwrap();
    let (mut source, mut destination) = ends(&emulator, 8 << 20, 8 << 20);
    for _ in 0..10 {
        let parts = (source.into_device().unwrap(), destination.into_device().unwrap());
        (source, destination) = engine.copy(parts.0, parts.1).unwrap().stop().unwrap();
    }
    let parts = (source.into_device().unwrap(), destination.into_device().unwrap());
    let (source, destination) = engine.copy(parts.0, parts.1).unwrap().wait(LONG).unwrap();
    assert_eq!(source.as_slice(), destination.as_slice());
}

const SHORT: Duration = Duration::from_millis(20);

#[test]
fn a_stalled_engine_times_out_and_can_go_on_or_be_stopped() {
    let (emulator, faults) = (Emulator::new().with_adversary(), Faults::default());
    let engine = Loopback::emulated_with(&emulator, &faults).unwrap();
    let (source, destination) = ends(&emulator, 5000, 5000);
    let parts = (source.into_device().unwrap(), destination.into_device().unwrap());
    faults.stall();
    let result = engine.copy(parts.0, parts.1).unwrap().wait(SHORT);
    let Err(WaitError::Timeout { transfer, .. }) = result else { panic!("{result:?}") };
    faults.resume();
    let (source, destination) = transfer.wait(LONG).unwrap();
    assert_eq!(source.as_slice(), destination.as_slice());

    faults.stall();
    let parts = (source.into_device().unwrap(), destination.into_device().unwrap());
    let (source, destination) = engine.copy(parts.0, parts.1).unwrap().stop().unwrap();
    // What was stopped does not go on later.
    faults.resume();
    let parts = (source.into_device().unwrap(), destination.into_device().unwrap());
    engine.copy(parts.0, parts.1).unwrap().wait(LONG).unwrap();
    assert_eq!(emulator.violations(), []);
}

#[test]
fn a_lost_interrupt_delays_a_copy_but_loses_nothing() {
    let (emulator, faults) = (Emulator::new().with_adversary(), Faults::default());
    let engine = Loopback::emulated_with(&emulator, &faults).unwrap();
    let (source, destination) = ends(&emulator, 100, 100);
    let parts = (source.into_device().unwrap(), destination.into_device().unwrap());
    faults.stall();
    faults.lose_interrupts(1);
    let transfer = engine.copy(parts.0, parts.1).unwrap();
    faults.resume();
    // The status is read at the end of the wait, interrupt or not.
    let start = Instant::now();
    let mut result = transfer.wait(SHORT);
    while let Err(WaitError::Timeout { transfer, .. }) = result {
        result = transfer.wait(SHORT);
    }
    let (source, destination) = result.unwrap();
    assert!(start.elapsed() >= SHORT);
    assert_eq!(source.as_slice(), destination.as_slice());
}

#[test]
fn a_copy_survives_a_sync_that_fails() {
    let emulator = Emulator::new().with_adversary();
    let engine = Loopback::emulated(&emulator).unwrap();
    let (source, destination) = ends(&emulator, 100, 100);
    let parts = (source.into_device().unwrap(), destination.into_device().unwrap());
    emulator.inject(SyncFault::all().for_cpu().times(2));
    let result = engine.copy(parts.0, parts.1).unwrap().wait(LONG);
    let Err(WaitError::Sync { transfer, .. }) = result else { panic!("{result:?}") };
    let (source, destination) = transfer.wait(LONG).unwrap();
    assert_eq!(source.as_slice(), destination.as_slice());
}

#[test]
fn an_unplugged_engine_keeps_the_buffers() {
    let (emulator, faults) = (Emulator::new(), Faults::default());
    let engine = Loopback::emulated_with(&emulator, &faults).unwrap();
    faults.stall();
    let (source, destination) = ends(&emulator, 64, 64);
    let parts = (source.into_device().unwrap(), destination.into_device().unwrap());
    let transfer = engine.copy(parts.0, parts.1).unwrap();
    faults.unplug();
    let result = transfer.wait(LONG);
    let Err(WaitError::Unknown { error, transfer }) = result else { panic!("{result:?}") };
    assert!(matches!(error, Error::Uio(udmabuf_uio::Error::Removed { .. })), "{error}");
    let stopped = transfer.stop();
    assert!(matches!(stopped, Err(WaitError::Unknown { error: Error::NotThere, .. })));
}
