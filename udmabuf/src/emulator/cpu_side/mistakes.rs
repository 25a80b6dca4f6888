//! Drivers as C has them, with the mistakes that the types forbid: each gives
//! wrong data under some seed, and the same driver without the mistake under
//! none.
#![allow(unsafe_code, reason = "accesses the buffer by pointer, as C does")]

use std::ops::Range;

use super::*;

const LEN: usize = 256;
const SEEDS: u64 = if cfg!(miri) { 5 } else { 200 };

/// The buffer's mapping, and the instructions for its cache.
struct Driver {
    cpu: CpuSide,
}

impl Driver {
    fn new(seed: u64) -> Self {
        let emulator = Emulator::new().with_adversary_seed(seed);
        Self { cpu: CpuSide::new(&emulator, LEN, true) }
    }

    fn store(&self, range: Range<usize>, value: u8) {
        // SAFETY: as `mapping` says.
        unsafe { self.mapping(range).as_mut() }.fill(value);
    }

    fn load(&self, range: Range<usize>) -> Vec<u8> {
        // SAFETY: as `mapping` says.
        unsafe { self.mapping(range).as_ref() }.to_vec()
    }

    /// Bytes that nobody else accesses before the next call of the driver.
    fn mapping(&self, range: Range<usize>) -> NonNull<[u8]> {
        assert!(range.end <= LEN);
        // SAFETY: in the buffer.
        let start = unsafe { self.cpu.start().add(range.start) };
        NonNull::slice_from_raw_parts(start, range.len())
    }

    fn for_device(&self, part: Range<usize>, direction: Kind) {
        self.cpu.evict(&part);
        self.cpu.clean(&part, direction);
        self.start(part, direction);
    }

    /// The doorbell; without `for_device`, a sync is missing.
    fn start(&self, part: Range<usize>, direction: Kind) {
        self.cpu.admit(part, Access::Device(direction));
        self.cpu.bus.disturb();
    }

    fn for_cpu(&self, part: Range<usize>, direction: Kind) {
        self.done(part.clone());
        self.cpu.invalidate(&part, direction);
        self.cpu.evict(&part);
    }

    /// The interrupt; without `for_cpu`, a sync is missing.
    fn done(&self, part: Range<usize>) {
        self.cpu.bus.disturb();
        self.cpu.expel(part);
    }

    fn device_writes(&self, range: Range<usize>, value: u8) {
        let addr = self.cpu.dma_addr() + range.start as u64;
        self.cpu.bus.write(addr, &vec![value; range.len()]).unwrap();
    }

    fn device_reads(&self, range: Range<usize>) -> Vec<u8> {
        let mut bytes = vec![0; range.len()];
        self.cpu.bus.read(self.cpu.dma_addr() + range.start as u64, &mut bytes).unwrap();
        bytes
    }
}

/// The seeds under which a driver gets what it should.
fn right(driver: impl Fn(&Driver) -> bool) -> u64 {
    (0..SEEDS).map(|seed| u64::from(driver(&Driver::new(seed)))).sum()
}

fn never_fails(driver: impl Fn(&Driver) -> bool) {
    assert_eq!(right(driver), SEEDS);
}

fn fails(driver: impl Fn(&Driver) -> bool) {
    let right = right(driver);
    assert!(right < SEEDS, "no seed shows the mistake");
}

const ALL: Range<usize> = 0..LEN;

#[test]
fn missing_sync_for_device() {
    let send = |sync: bool| {
        move |driver: &Driver| {
            driver.store(ALL, 1);
            if sync {
                driver.for_device(ALL, Kind::ToDevice);
            } else {
                driver.start(ALL, Kind::ToDevice);
            }
            driver.device_reads(ALL) == [1; LEN]
        }
    };
    never_fails(send(true));
    fails(send(false));
}

#[test]
fn missing_sync_for_cpu() {
    let receive = |sync: bool| {
        move |driver: &Driver| {
            driver.for_device(ALL, Kind::FromDevice);
            driver.device_writes(ALL, 2);
            if sync {
                driver.for_cpu(ALL, Kind::FromDevice);
            } else {
                driver.done(ALL);
            }
            driver.load(ALL) == [2; LEN]
        }
    };
    never_fails(receive(true));
    fails(receive(false));
}

#[test]
fn wrong_direction_for_device() {
    let send = |direction: Kind| {
        move |driver: &Driver| {
            driver.store(ALL, 1);
            driver.cpu.clean(&ALL, direction);
            driver.start(ALL, Kind::ToDevice);
            driver.device_reads(ALL) == [1; LEN]
        }
    };
    never_fails(send(Kind::ToDevice));
    never_fails(send(Kind::Bidirectional));
    fails(send(Kind::FromDevice));
}

#[test]
fn wrong_direction_for_cpu() {
    let receive = |direction: Kind| {
        move |driver: &Driver| {
            driver.for_device(ALL, Kind::FromDevice);
            driver.device_writes(ALL, 2);
            driver.for_cpu(ALL, direction);
            driver.load(ALL) == [2; LEN]
        }
    };
    never_fails(receive(Kind::FromDevice));
    never_fails(receive(Kind::Bidirectional));
    fails(receive(Kind::ToDevice));
}

/// Cleaning seems needless where the CPU has nothing to say; but its old dirty
/// lines are evicted over what the device wrote.
#[test]
fn handing_over_from_device_without_a_clean() {
    let receive = |clean: bool| {
        move |driver: &Driver| {
            driver.store(ALL, 1);
            if clean {
                driver.for_device(ALL, Kind::FromDevice);
            } else {
                driver.start(ALL, Kind::FromDevice);
            }
            driver.device_writes(ALL, 2);
            driver.for_cpu(ALL, Kind::FromDevice);
            driver.load(ALL) == [2; LEN]
        }
    };
    never_fails(receive(true));
    fails(receive(false));
}

#[test]
fn a_sync_before_the_device_has_written() {
    let receive = |early: bool| {
        move |driver: &Driver| {
            driver.for_device(ALL, Kind::FromDevice);
            if early {
                driver.cpu.invalidate(&ALL, Kind::FromDevice);
            }
            driver.device_writes(ALL, 2);
            if early {
                driver.done(ALL);
            } else {
                driver.for_cpu(ALL, Kind::FromDevice);
            }
            driver.load(ALL) == [2; LEN]
        }
    };
    never_fails(receive(false));
    fails(receive(true));
}

/// The CPU writes beside a part of the device's: what the device wrote to the
/// same line is overwritten, or what the CPU wrote is invalidated.
#[test]
fn a_line_shared_with_a_part_of_the_device() {
    let boundary = |boundary: usize| {
        move |driver: &Driver| {
            let (ours, theirs) = (0..boundary, boundary..LEN);
            driver.for_device(theirs.clone(), Kind::FromDevice);
            driver.store(ours.clone(), 1);
            driver.device_writes(theirs.clone(), 2);
            driver.for_cpu(theirs.clone(), Kind::FromDevice);
            driver.load(ours.clone()) == vec![1; ours.len()]
                && driver.load(theirs.clone()) == vec![2; theirs.len()]
        }
    };
    never_fails(boundary(64));
    fails(boundary(32));
}

#[test]
fn a_speculative_read_of_what_the_device_writes_is_harmless() {
    never_fails(|driver| {
        driver.for_device(ALL, Kind::FromDevice);
        for part in [0..64, 64..LEN] {
            driver.device_writes(part, 2);
        }
        driver.for_cpu(ALL, Kind::FromDevice);
        driver.load(ALL) == [2; LEN]
    });
}

#[test]
fn parts_off_a_line_are_refused() {
    let cpu = CpuSide::new(&Emulator::new().with_cache_line(128), 1000, true);
    for (offset, len) in [(64, 64), (0, 64), (1, 999), (128, 864)] {
        let error = cpu.sync_for_device(offset, len, Kind::ToDevice).unwrap_err();
        assert!(matches!(error, Error::Misaligned { align: 128, .. }), "{offset} {len}");
    }
    for (offset, len) in [(0, 1001), (1000, 128), (usize::MAX, 2)] {
        let error = cpu.sync_for_cpu(offset, len, Kind::ToDevice).unwrap_err();
        assert!(matches!(error, Error::OutOfRange { .. }), "{offset} {len}");
    }
    for (offset, len) in [(0, 128), (128, 872), (896, 104), (0, 1000)] {
        cpu.sync_for_device(offset, len, Kind::ToDevice).unwrap();
    }
}
