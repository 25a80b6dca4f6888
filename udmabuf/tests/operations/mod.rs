//! Random programs of drivers, against a model of what buffers must hold; for
//! the property test and for the fuzzer.
//!
//! A program is safe code but for what it says as the device: that it is done.
#![allow(unsafe_code, reason = "takes buffers back by hand")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]
#![allow(unreachable_pub, reason = "a module of a test and of a fuzz target")]

mod engine;
mod flight;
mod model;
mod parts;
mod ring;
mod source;

use std::ops::Range;

use engine::{Scripted, State};
use flight::Flight;
use model::{Memory, Way};
pub use source::Source;
use udmabuf::{
    Bidirectional, Buffer, CpuOwned, DeviceOwned, Direction, FromDevice, Handoff, Shared, Slot,
    StartError, ToDevice,
    emulator::{BusError, Emulator, SyncFault},
};

/// A part of a buffer, and where in its memory it is.
pub struct Part<B> {
    memory: usize,
    range: Range<usize>,
    buffer: B,
}

impl<B> Part<B> {
    /// Its place, and its buffer.
    fn take(self) -> (Part<()>, B) {
        (Part { memory: self.memory, range: self.range, buffer: () }, self.buffer)
    }

    fn map<C>(self, change: impl FnOnce(B) -> C) -> Part<C> {
        Part { memory: self.memory, range: self.range, buffer: change(self.buffer) }
    }
}

/// A part that the device owns.
pub enum Given {
    ToDevice(Buffer<DeviceOwned, ToDevice>),
    FromDevice(Buffer<DeviceOwned, FromDevice>),
    Both(Buffer<DeviceOwned, Bidirectional>),
    Shared(Buffer<Shared, Bidirectional>),
}

/// Which sync of an operation is to fail.
const SYNC_FAILS_ONE_IN: usize = 8;

struct World<'a, 'b> {
    source: &'a mut Source<'b>,
    emulator: Emulator,
    engine: Scripted,
    slot: Slot<Scripted>,
    coherent: bool,
    line: usize,
    memories: Vec<Memory>,
    /// Bus addresses of the memories, once known.
    addrs: Vec<Option<u64>>,
    /// How many parts of each memory there are.
    holders: Vec<usize>,
    cpu: Vec<Part<Buffer>>,
    device: Vec<Part<Given>>,
    flights: Vec<Flight>,
    round: Option<ring::Round>,
    violations: usize,
    value: u8,
}

/// Runs a program of at most `steps` operations and returns how many it had.
pub fn run(source: &mut Source, steps: usize) -> usize {
    let mut world = World::new(source);
    let mut done = 0;
    while done < steps && !world.source.is_empty() {
        done += usize::from(world.step().is_some());
    }
    world.end();
    done
}

impl<'a, 'b> World<'a, 'b> {
    fn new(source: &'a mut Source<'b>) -> Self {
        let line = [16, 64][source.below(2)];
        let coherent = source.one_in(8);
        let mut emulator = Emulator::new()
            .with_cache_line(line)
            .with_adversary_seed(source.below(usize::MAX) as u64);
        if coherent {
            emulator = emulator.coherent();
        }
        let engine = Scripted::new(emulator.bus());
        let slot = Slot::new(engine.clone());
        Self {
            source,
            emulator,
            engine,
            slot,
            coherent,
            line,
            memories: Vec::new(),
            addrs: Vec::new(),
            holders: Vec::new(),
            cpu: Vec::new(),
            device: Vec::new(),
            flights: Vec::new(),
            round: None,
            violations: 0,
            value: 0,
        }
    }

    /// One operation, if there is what it takes.
    fn step(&mut self) -> Option<()> {
        match self.source.below(56) {
            0..=1 => self.create(),
            2..=4 => self.free(),
            5..=9 => self.write(),
            10..=11 => self.read(),
            12..=16 => self.hand_over(),
            17..=24 => self.device_access(),
            25..=27 => self.take_back(),
            28..=30 => self.start(),
            31..=34 => self.go_on(),
            35 => self.abandon(),
            36..=38 => self.split(),
            39 => self.chunks(),
            40..=41 => self.join(),
            42..=43 => self.hand_over_many(),
            44 => self.take_back_many(),
            45 => self.share(),
            46..=47 => self.use_shared(),
            _ => self.ring(),
        }
    }

    fn pick(&mut self, count: usize) -> Option<usize> {
        (count > 0).then(|| self.source.below(count))
    }

    fn next_value(&mut self) -> u8 {
        self.value = self.value.wrapping_add(1);
        self.value
    }

    fn create(&mut self) -> Option<()> {
        if self.cpu.len() + self.device.len() >= 12 {
            return None;
        }
        let len = 1 + self.source.below(6 * self.line);
        self.memories.push(Memory::new(len, self.coherent));
        self.addrs.push(None);
        self.holders.push(1);
        let buffer = self.emulator.buffer(len);
        self.cpu.push(Part { memory: self.memories.len() - 1, range: 0..len, buffer });
        Some(())
    }

    fn free(&mut self) -> Option<()> {
        let n = self.pick(self.cpu.len())?;
        let part = self.cpu.swap_remove(n);
        self.check(&part);
        let (place, buffer) = part.take();
        drop(buffer);
        self.freed(&[place]);
        Some(())
    }

    /// Parts of the CPU's were dropped, and with its last one a buffer.
    fn freed(&mut self, parts: &[Part<()>]) {
        parts.iter().for_each(|part| self.holders[part.memory] -= 1);
        for Part { memory, range, .. } in parts {
            let is_last = self.holders[*memory] == 0;
            if let Some(base) = self.addrs[*memory] {
                let (addr, len) = (base + range.start as u64, range.len());
                let expected = match is_last {
                    true => BusError::NoMemory { addr, len },
                    false => BusError::CpuOwned { addr, len },
                };
                let refused = self.emulator.bus().read(addr, &mut vec![0; len]);
                self.refused(refused, expected);
            }
            if is_last {
                self.addrs[*memory] = None;
            }
        }
    }

    fn write(&mut self) -> Option<()> {
        let n = self.pick(self.cpu.len())?;
        let value = self.next_value();
        let part = &mut self.cpu[n];
        let range = self.source.range_in(&(0..part.range.len()));
        part.buffer.as_mut_slice()[range.clone()].fill(value);
        let at = part.range.start;
        self.memories[part.memory].cpu_wrote(at + range.start..at + range.end, value);
        Some(())
    }

    fn read(&mut self) -> Option<()> {
        let n = self.pick(self.cpu.len())?;
        self.check(&self.cpu[n]);
        Some(())
    }

    fn check(&self, part: &Part<Buffer>) {
        assert_eq!(part.buffer.offset(), part.range.start);
        self.memories[part.memory].check_cpu(part.range.clone(), part.buffer.as_slice());
    }

    /// Lets a sync of this buffer fail, now and then.
    fn maybe_fault(&mut self, fault: SyncFault) -> bool {
        let fails = self.source.one_in(SYNC_FAILS_ONE_IN);
        if fails {
            self.emulator.inject(fault.times(1));
        }
        fails
    }

    fn hand_over(&mut self) -> Option<()> {
        let n = self.pick(self.cpu.len())?;
        let Part { memory, range, buffer } = self.cpu.swap_remove(n);
        let fails = self.maybe_fault(SyncFault::all().of(buffer.name()).for_device());
        let way = [Way::ToDevice, Way::FromDevice, Way::Both][self.source.below(3)];
        let result = match way {
            Way::ToDevice => give(buffer.for_direction(), Given::ToDevice),
            Way::FromDevice => give(buffer.for_direction(), Given::FromDevice),
            Way::Both | Way::Shared => give(buffer, Given::Both),
        };
        assert_eq!(result.is_err(), fails);
        self.emulator.clear_faults();
        match result {
            Ok((buffer, addr)) => {
                self.gave(Part { memory, range, buffer: () }, way, addr, buffer);
            }
            Err(buffer) => {
                let part = Part { memory, range, buffer };
                self.check(&part);
                self.cpu.push(part);
            }
        }
        Some(())
    }

    /// A part is the device's.
    fn gave(&mut self, place: Part<()>, way: Way, addr: u64, given: Given) {
        self.memories[place.memory].handed_over(place.range.clone(), way);
        let base = addr - place.range.start as u64;
        assert_eq!(*self.addrs[place.memory].get_or_insert(base), base);
        self.device.push(place.map(|()| given));
    }

    /// Any device accesses any memory, as it should or not.
    fn device_access(&mut self) -> Option<()> {
        let n = self.pick(self.memories.len())?;
        let base = self.addrs[n]?;
        let len = self.memories[n].len();
        let range = self.source.range_in(&(0..len + 3));
        let (len, addr) = (range.len(), base + range.start as u64);
        let bus = self.emulator.bus();
        if self.source.one_in(2) {
            let mut seen = vec![0; len];
            let result = bus.read(addr, &mut seen);
            match self.memories[n].access(addr, range.start, len, Way::FromDevice) {
                Ok(range) => {
                    result.unwrap();
                    self.memories[n].check_device(range, &seen);
                }
                Err(expected) => self.refused(result, expected),
            }
        } else {
            let value = self.next_value();
            let result = bus.write(addr, &vec![value; len]);
            match self.memories[n].access(addr, range.start, len, Way::ToDevice) {
                Ok(range) => {
                    result.unwrap();
                    self.memories[n].device_wrote(range, value);
                }
                Err(expected) => self.refused(result, expected),
            }
        }
        Some(())
    }

    fn refused(&mut self, result: Result<(), BusError>, expected: BusError) {
        assert_eq!(result, Err(expected));
        self.violations += 1;
        let recorded = self.emulator.violations();
        assert_eq!(recorded.len(), self.violations.min(1000));
        assert!(self.violations > 1000 || recorded.last() == Some(&expected));
    }

    fn take_back(&mut self) -> Option<()> {
        let n = self.pick(self.device.len())?;
        let Part { memory, range, buffer } = self.device.swap_remove(n);
        let name = match &buffer {
            Given::ToDevice(buffer) => buffer.name(),
            Given::FromDevice(buffer) => buffer.name(),
            Given::Both(buffer) => buffer.name(),
            Given::Shared(buffer) => buffer.name(),
        };
        let fault = SyncFault::all().of(name).for_cpu();
        // Nothing is synced where both sides see one memory at once.
        let fails = self.maybe_fault(fault) && !matches!(buffer, Given::Shared(_));
        let result = match buffer {
            Given::ToDevice(buffer) => {
                // SAFETY: no device accesses it by itself; the world does, between steps.
                taken(unsafe { buffer.into_cpu() }, Given::ToDevice)
            }
            Given::FromDevice(buffer) => {
                // SAFETY: as above.
                taken(unsafe { buffer.into_cpu() }, Given::FromDevice)
            }
            Given::Both(buffer) => {
                // SAFETY: as above.
                taken(unsafe { buffer.into_cpu() }, Given::Both)
            }
            Given::Shared(buffer) => {
                // SAFETY: as above.
                taken(unsafe { buffer.into_cpu() }, Given::Shared)
            }
        };
        assert_eq!(result.is_err(), fails);
        self.emulator.clear_faults();
        match result {
            Ok(buffer) => {
                self.memories[memory].taken_back(range.clone());
                let part = Part { memory, range, buffer };
                self.check(&part);
                self.cpu.push(part);
            }
            Err(buffer) => {
                self.memories[memory].device_locked_out(range.clone());
                self.device.push(Part { memory, range, buffer });
            }
        }
        Some(())
    }

    /// Checks that nothing is wrong at the end, and leaves nothing behind.
    fn end(&mut self) {
        self.emulator.clear_faults();
        *self.engine.script() = engine::Script::default();
        while !self.flights.is_empty() {
            self.end_flight(0);
        }
        while let Some(round) = self.round.take() {
            self.stop_ring(round);
        }
        while !self.device.is_empty() {
            self.take_back();
        }
        self.cpu.iter().for_each(|part| self.check(part));
    }
}

fn give<D: Direction>(
    buffer: Buffer<CpuOwned, D>,
    given: impl Fn(Buffer<DeviceOwned, D>) -> Given,
) -> Result<(Given, u64), Buffer> {
    match buffer.into_device() {
        Ok(buffer) => {
            let addr = buffer.dma_addr().to_u64();
            Ok((given(buffer), addr))
        }
        Err(Handoff { value, .. }) => Err(value.for_direction()),
    }
}

fn taken<B, D: Direction>(
    result: Result<Buffer<CpuOwned, D>, Handoff<B>>,
    given: impl Fn(B) -> Given,
) -> Result<Buffer, Given> {
    match result {
        Ok(buffer) => Ok(buffer.for_direction()),
        Err(Handoff { value, .. }) => Err(given(value)),
    }
}
