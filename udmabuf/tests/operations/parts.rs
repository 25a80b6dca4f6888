//! Parts of buffers: split, joined, handed over together, shared.

use udmabuf::{CpuParts, Error, Parts};

use super::{Buffer, Given, Handoff, Part, SyncFault, World, model::Way};

impl World<'_, '_> {
    pub fn split(&mut self) -> Option<()> {
        let n = self.pick(self.cpu.len())?;
        let Part { memory, range, buffer } = self.cpu.swap_remove(n);
        // Where it can be split, mostly.
        let at = match self.source.one_in(8) {
            true => self.source.below(range.len() + 2),
            false => self.source.below(range.len().div_ceil(self.line)) * self.line,
        };
        let middle = range.start + at;
        match buffer.split_at(at) {
            Ok((front, back)) => {
                assert!(at % self.line == 0 && range.start < middle && middle < range.end);
                self.holders[memory] += 1;
                for (range, buffer) in [(range.start..middle, front), (middle..range.end, back)] {
                    let part = Part { memory, range, buffer };
                    self.check(&part);
                    self.cpu.push(part);
                }
            }
            Err(Handoff { error, value }) => {
                let inside = 0 < at && at < range.len();
                assert_eq!(matches!(error, Error::InsideLine { .. }), inside, "{error}");
                assert!(!inside || at % self.line != 0, "{error}");
                self.cpu.push(Part { memory, range, buffer: value });
            }
        }
        Some(())
    }

    pub fn chunks(&mut self) -> Option<()> {
        let n = self.pick(self.cpu.len())?;
        let Part { memory, range, buffer } = self.cpu.swap_remove(n);
        let len = self.line * (1 + self.source.below(3));
        let mut start = range.start;
        let chunks = buffer.into_chunks(len).unwrap();
        self.holders[memory] += chunks.len() - 1;
        for buffer in chunks {
            let end = range.end.min(start + len);
            let part = Part { memory, range: start..end, buffer };
            self.check(&part);
            self.cpu.push(part);
            start = end;
        }
        assert_eq!(start, range.end);
        Some(())
    }

    pub fn join(&mut self) -> Option<()> {
        let n = self.pick(self.cpu.len())?;
        let first = self.cpu.swap_remove(n);
        // The right one, mostly, if it is there.
        let beside = self
            .cpu
            .iter()
            .position(|part| part.memory == first.memory && part.range.start == first.range.end);
        let m = beside.filter(|_| !self.source.one_in(8)).or_else(|| self.pick(self.cpu.len()));
        let Some(m) = m else {
            self.cpu.push(first);
            return None;
        };
        let second = self.cpu.swap_remove(m);
        let fit = first.memory == second.memory && first.range.end == second.range.start;
        match first.buffer.join(second.buffer) {
            Ok(buffer) => {
                assert!(fit);
                self.holders[first.memory] -= 1;
                let range = first.range.start..second.range.end;
                let part = Part { memory: first.memory, range, buffer };
                self.check(&part);
                self.cpu.push(part);
            }
            Err(Handoff { error, value }) => {
                assert!(!fit && matches!(error, Error::NotNeighbours { .. }), "{error}");
                self.cpu.push(Part { buffer: value.0, ..first });
                self.cpu.push(Part { buffer: value.1, ..second });
            }
        }
        Some(())
    }

    /// Hands many parts over at once; if one fails, none is.
    pub fn hand_over_many(&mut self) -> Option<()> {
        self.pick(self.cpu.len())?;
        let count = 1 + self.source.below(self.cpu.len().min(4));
        let (places, buffers): (Vec<Part<()>>, Vec<Buffer>) =
            self.cpu.drain(..count).map(Part::take).unzip();
        let failing = self.source.below(count);
        let fails = self.maybe_fault(SyncFault::all().for_device().after(failing as u64));
        let result = buffers.into_device();
        self.emulator.clear_faults();
        assert_eq!(result.is_err(), fails);
        match result {
            Ok(buffers) => {
                for (place, buffer) in places.into_iter().zip(buffers) {
                    self.gave(place, Way::Both, buffer.dma_addr().to_u64(), Given::Both(buffer));
                }
            }
            Err(Handoff { value, .. }) => {
                for (n, (place, buffer)) in places.into_iter().zip(value).enumerate() {
                    if n < failing {
                        let memory = &mut self.memories[place.memory];
                        memory.handed_over(place.range.clone(), Way::Both);
                        memory.taken_back(place.range.clone());
                    }
                    let part = place.map(|()| buffer);
                    self.check(&part);
                    self.cpu.push(part);
                }
            }
        }
        Some(())
    }

    /// Takes many parts back at once; if one fails, none is.
    pub fn take_back_many(&mut self) -> Option<()> {
        let mut places = Vec::new();
        let mut buffers = Vec::new();
        for Part { memory, range, buffer } in std::mem::take(&mut self.device) {
            match buffer {
                Given::Both(buffer) if buffers.len() < 4 => {
                    places.push(Part { memory, range, buffer: () });
                    buffers.push(buffer);
                }
                buffer => self.device.push(Part { memory, range, buffer }),
            }
        }
        self.pick(buffers.len())?;
        let failing = self.source.below(buffers.len()) as u64;
        let fails = self.maybe_fault(SyncFault::all().for_cpu().after(failing));
        // SAFETY: no device accesses them by itself; the world does, between steps.
        let result = unsafe { buffers.into_cpu() };
        self.emulator.clear_faults();
        assert_eq!(result.is_err(), fails);
        match result {
            Ok(buffers) => self.landed(places, buffers),
            Err(Handoff { value, .. }) => {
                for (place, buffer) in places.into_iter().zip(value) {
                    self.memories[place.memory].device_locked_out(place.range.clone());
                    self.device.push(place.map(|()| Given::Both(buffer)));
                }
            }
        }
        Some(())
    }

    /// Both sides at once, where there is no cache between them.
    pub fn share(&mut self) -> Option<()> {
        let n = self.pick(self.cpu.len())?;
        let (place, buffer) = self.cpu.swap_remove(n).take();
        match buffer.into_shared() {
            Ok(buffer) => {
                assert!(self.coherent);
                let addr = buffer.dma_addr().to_u64();
                self.gave(place, Way::Shared, addr, Given::Shared(buffer));
            }
            Err(Handoff { error, value }) => {
                assert!(!self.coherent && matches!(error, Error::Unsupported { .. }), "{error}");
                self.cpu.push(place.map(|()| value));
            }
        }
        Some(())
    }

    /// The CPU accesses what the device may access too.
    pub fn use_shared(&mut self) -> Option<()> {
        let value = self.next_value();
        let part = self.device.iter_mut().find(|part| matches!(part.buffer, Given::Shared(_)))?;
        let Given::Shared(buffer) = &mut part.buffer else { unreachable!() };
        let range = self.source.range_in(&(0..part.range.len()));
        let place = part.range.start + range.start..part.range.start + range.end;
        let memory = &mut self.memories[part.memory];
        let mut seen = vec![0; range.len()];
        buffer.copy_to(range.start, &mut seen).unwrap();
        memory.check_cpu(place.clone(), &seen);
        buffer.fill(range, value).unwrap();
        memory.cpu_wrote(place, value);
        Some(())
    }
}
