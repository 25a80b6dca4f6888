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
mod source;

use std::ops::Range;

use engine::{Scripted, State};
use flight::Flight;
use model::{Memory, Way};
pub use source::Source;
use udmabuf::{
    Bidirectional, Buffer, CpuOwned, DeviceOwned, FromDevice, Handoff, Slot, StartError, ToDevice,
    emulator::{BusError, Emulator, SyncFault},
};

/// A part of a buffer, and where in its memory it is.
pub struct Part<B> {
    memory: usize,
    range: Range<usize>,
    buffer: B,
}

impl<B> Part<B> {
    fn map<C>(self, change: impl FnOnce(B) -> C) -> Part<C> {
        Part { memory: self.memory, range: self.range, buffer: change(self.buffer) }
    }
}

/// A part that the device owns.
pub enum Given {
    ToDevice(Buffer<DeviceOwned, ToDevice>),
    FromDevice(Buffer<DeviceOwned, FromDevice>),
    Both(Buffer<DeviceOwned, Bidirectional>),
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
    cpu: Vec<Part<Buffer>>,
    device: Vec<Part<Given>>,
    flights: Vec<Flight>,
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
            cpu: Vec::new(),
            device: Vec::new(),
            flights: Vec::new(),
            violations: 0,
            value: 0,
        }
    }

    /// One operation, if there is what it takes.
    fn step(&mut self) -> Option<()> {
        match self.source.below(32) {
            0..=1 => self.create(),
            2 => self.free(),
            3..=7 => self.write(),
            8..=9 => self.read(),
            10..=14 => self.hand_over(),
            15..=20 => self.device_access(),
            21..=23 => self.take_back(),
            24..=26 => self.start(),
            27..=30 => self.go_on(),
            _ => self.abandon(),
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
        if self.cpu.len() + self.device.len() >= 8 {
            return None;
        }
        let len = 1 + self.source.below(6 * self.line);
        self.memories.push(Memory::new(len, self.coherent));
        self.addrs.push(None);
        let buffer = self.emulator.buffer(len);
        self.cpu.push(Part { memory: self.memories.len() - 1, range: 0..len, buffer });
        Some(())
    }

    fn free(&mut self) -> Option<()> {
        let n = self.pick(self.cpu.len())?;
        let part = self.cpu.swap_remove(n);
        self.check(&part);
        let (memory, len) = (part.memory, part.range.len());
        drop(part);
        if let Some(addr) = self.addrs[memory].take() {
            let refused = self.emulator.bus().read(addr, &mut vec![0; len]);
            self.refused(refused, BusError::NoMemory { addr, len });
        }
        Some(())
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
            Way::Both => give(buffer, Given::Both),
        };
        assert_eq!(result.is_err(), fails);
        self.emulator.clear_faults();
        match result {
            Ok((buffer, addr)) => {
                self.memories[memory].handed_over(range.clone(), way);
                let base = addr - range.start as u64;
                assert_eq!(*self.addrs[memory].get_or_insert(base), base);
                self.device.push(Part { memory, range, buffer });
            }
            Err(buffer) => {
                let part = Part { memory, range, buffer };
                self.check(&part);
                self.cpu.push(part);
            }
        }
        Some(())
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
        };
        let fault = SyncFault::all().of(name).for_cpu();
        let fails = self.maybe_fault(fault);
        let result = match buffer {
            Given::ToDevice(buffer) => take(buffer, Given::ToDevice),
            Given::FromDevice(buffer) => take(buffer, Given::FromDevice),
            Given::Both(buffer) => take(buffer, Given::Both),
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
        while !self.device.is_empty() {
            self.take_back();
        }
        self.cpu.iter().for_each(|part| self.check(part));
    }
}

fn give<D: udmabuf::Direction>(
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

fn take<D: udmabuf::Direction>(
    buffer: Buffer<DeviceOwned, D>,
    given: impl Fn(Buffer<DeviceOwned, D>) -> Given,
) -> Result<Buffer, Given> {
    // SAFETY: no device accesses it by itself; the world does, between steps.
    match unsafe { buffer.into_cpu() } {
        Ok(buffer) => Ok(buffer.for_direction()),
        Err(Handoff { value, .. }) => Err(given(value)),
    }
}
