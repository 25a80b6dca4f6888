//! What the emulator offers to the test of a driver: syncs that fail, a cache
//! that misbehaves as hardware may, and what the device was refused.
#![allow(unsafe_code, reason = "takes buffers back by hand")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::{sync::mpsc, thread};

use udmabuf::{
    Buffer, CpuOwned, DeviceOwned, Direction, Error, FromDevice, Handoff,
    emulator::{BusError, Emulator, SyncFault},
};

fn take<D: Direction>(
    buffer: Buffer<DeviceOwned, D>,
) -> Result<Buffer<CpuOwned, D>, Handoff<Buffer<DeviceOwned, D>>> {
    // SAFETY: the test is the device.
    unsafe { buffer.into_cpu() }
}

#[test]
fn a_failed_sync_for_the_device_changes_nothing() {
    let emulator = Emulator::new();
    let mut buffer = emulator.buffer(64);
    buffer.as_mut_slice().fill(1);
    emulator.inject(SyncFault::all());
    let Handoff { error, value: mut buffer } = buffer.into_device().unwrap_err();
    assert_eq!(error.to_string(), "sync for the device (0x40 bytes) on emulated0 failed");
    assert!(matches!(error, Error::Os { .. }));
    assert_eq!(buffer.as_slice(), [1; 64]);
    buffer.as_mut_slice().fill(2);

    emulator.clear_faults();
    let buffer = buffer.into_device().unwrap();
    let mut seen = [0; 64];
    emulator.bus().read(buffer.dma_addr().to_u64(), &mut seen).unwrap();
    assert_eq!(seen, [2; 64]);
}

#[test]
fn a_failed_sync_for_the_cpu_can_be_tried_again() {
    let emulator = Emulator::new();
    let buffer = emulator.buffer(64).into_device().unwrap();
    let addr = buffer.dma_addr().to_u64();
    emulator.bus().write(addr, &[3; 64]).unwrap();
    emulator.inject(SyncFault::all().for_cpu().times(2));
    let buffer = take(buffer).unwrap_err().value;
    // The device is done, or it would not have been taken back.
    assert_eq!(emulator.bus().write(addr, &[4]), Err(BusError::CpuOwned { addr, len: 1 }));
    let buffer = take(buffer).unwrap_err().value;
    assert_eq!(take(buffer).unwrap().as_slice(), [3; 64]);
}

#[test]
fn faults_are_of_the_named_buffer_and_of_the_counted_syncs() {
    let emulator = Emulator::new();
    let [mut first, mut second] = [(); 2].map(|()| emulator.buffer(64));
    assert_ne!(first.name(), second.name());
    emulator.inject(SyncFault::all().of(first.name()).for_device().after(2).times(1));
    let mut failed = Vec::new();
    for round in 0..5 {
        first = match first.into_device() {
            Ok(buffer) => take(buffer).unwrap(),
            Err(Handoff { value, .. }) => {
                failed.push(round);
                value
            }
        };
        second = take(second.into_device().unwrap()).unwrap();
    }
    assert_eq!(failed, [2]);
}

#[test]
fn what_the_device_was_refused_is_recorded() {
    let emulator = Emulator::new();
    let buffer = emulator.buffer(64).for_direction::<FromDevice>().into_device().unwrap();
    let addr = buffer.dma_addr().to_u64();
    emulator.bus().write(addr, &[1; 64]).unwrap();
    assert_eq!(emulator.violations(), []);

    let refused = [
        emulator.bus().write(addr, &[1; 65]).unwrap_err(),
        emulator.bus().read(addr, &mut [0]).unwrap_err(),
    ];
    let buffer = take(buffer).unwrap();
    let late = emulator.bus().write(addr, &[2]).unwrap_err();
    assert_eq!(emulator.violations(), [refused[0], refused[1], late]);
    assert_eq!(buffer.as_slice(), [1; 64]);

    for _ in 0..2000 {
        let _ = emulator.bus().read(0, &mut [0]);
    }
    assert_eq!(emulator.violations().len(), 1000);
}

#[test]
fn a_coherent_device_needs_no_sync() {
    let emulator = Emulator::new()
        .coherent()
        .without_sync_for_device()
        .without_sync_for_cpu()
        .with_adversary();
    let mut buffer = emulator.buffer(1001);
    assert!(buffer.is_coherent());
    buffer.as_mut_slice().fill(1);
    let addr = {
        let buffer = buffer.into_device().unwrap();
        let addr = buffer.dma_addr().to_u64();
        let mut seen = [0; 1001];
        emulator.bus().read(addr, &mut seen).unwrap();
        assert_eq!(seen, [1; 1001]);
        // Every alignment of both ends.
        for start in 0..16 {
            for end in start..16 {
                let len = usize::try_from(end - start).unwrap();
                emulator.bus().write(addr + start, &vec![2; len]).unwrap();
            }
        }
        emulator.bus().write(addr + 3, &[3; 998]).unwrap();
        let buffer = take(buffer).unwrap();
        assert_eq!(buffer.as_slice()[..3], [2; 3]);
        assert_eq!(buffer.as_slice()[3..], [3; 998]);
        addr
    };
    assert!(emulator.bus().read(addr, &mut [0]).is_err());
}

#[test]
fn a_seed_repeats_what_the_adversary_does() {
    let run = |seed| {
        let emulator = Emulator::new().without_sync_for_device().with_adversary_seed(seed);
        let mut buffer = emulator.buffer(64 * 64);
        buffer.as_mut_slice().fill(1);
        let buffer = buffer.into_device().unwrap();
        let mut seen = vec![0; 64 * 64];
        emulator.bus().read(buffer.dma_addr().to_u64(), &mut seen).unwrap();
        seen
    };
    assert_eq!(run(7), run(7));
    let results: std::collections::HashSet<_> = (0..20).map(run).collect();
    assert!(results.len() > 10, "20 seeds gave {} results", results.len());
}

#[test]
fn the_length_of_a_line_decides_what_an_eviction_takes_along() {
    let evicted = |line| {
        let mut lengths = std::collections::BTreeSet::new();
        for seed in 0..20 {
            let emulator = Emulator::new()
                .with_cache_line(line)
                .without_sync_for_device()
                .with_adversary_seed(seed);
            let mut buffer = emulator.buffer(4096);
            buffer.as_mut_slice().fill(1);
            let buffer = buffer.into_device().unwrap();
            let mut seen = vec![0; 4096];
            emulator.bus().read(buffer.dma_addr().to_u64(), &mut seen).unwrap();
            lengths.extend(seen.chunk_by(|a, b| a == b).map(<[u8]>::len));
        }
        lengths
    };
    assert!(evicted(32).iter().all(|len| len % 32 == 0));
    assert!(evicted(32).contains(&32));
    assert!(evicted(128).iter().all(|len| len % 128 == 0));
}

#[test]
fn the_summary_says_who_owns_what() {
    let emulator = Emulator::new().with_adversary_seed(5);
    let [_cpu, device] = [(); 2].map(|()| emulator.buffer(4096));
    let _device = device.into_device().unwrap();
    let _ = emulator.bus().read(0, &mut [0]);
    emulator.inject(SyncFault::all().of("emulated7"));
    let summary = format!("{emulator:?}");
    for part in [
        "cache_line: 64",
        "0x40000000..0x40001000 {}",
        "{0..4096: Device(Bidirectional)}",
        "SEED=5",
        "emulated7",
        "NoMemory",
    ] {
        assert!(summary.contains(part), "{part} is not in {summary}");
    }
}

/// The cache works on the device's lines whenever the device accesses memory,
/// also while the CPU uses its own buffers: Miri would see a race.
#[test]
fn a_device_on_a_thread_of_its_own() {
    let emulator = Emulator::new().with_adversary();
    let bus = emulator.bus();
    let mut ours = emulator.buffer(256);
    let mut theirs = emulator.buffer(256).for_direction::<FromDevice>();
    let (doorbell, rings) = mpsc::channel::<(u64, u8)>();
    let (interrupt, interrupts) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(move || {
            for (addr, value) in rings {
                for at in (0..256).step_by(32) {
                    bus.write(addr + at, &[value; 32]).unwrap();
                }
                interrupt.send(()).unwrap();
            }
        });
        for round in 0..if cfg!(miri) { 10_u32 } else { 1000 } {
            let value = round.to_le_bytes()[0];
            let buffer = theirs.into_device().unwrap();
            doorbell.send((buffer.dma_addr().to_u64(), value)).unwrap();
            ours.as_mut_slice().fill(value);
            assert_eq!(ours.as_slice(), [value; 256]);
            interrupts.recv().unwrap();
            theirs = take(buffer).unwrap();
            assert_eq!(theirs.as_slice(), [value; 256]);
        }
        drop(doorbell);
    });
}
