//! A ring: parts that go round.
#![allow(unsafe_code, reason = "vouches for an engine that is a script")]

use std::time::{Duration, Instant};

use udmabuf::{
    Bidirectional, Buffer, Cached, DmaAddr, Engine, Handoff, Progress, Ring, RingError, Stream,
    emulator::{Bus, SyncFault},
};

use super::{
    Part, World,
    engine::{Fault, Script, Scripted, State},
    model::Way,
};

// SAFETY: as of `Engine`: there is no device.
unsafe impl Stream for Scripted {
    type Error = Fault;
    type Direction = Bidirectional;

    fn bus(&self) -> Option<&Bus> {
        Engine::bus(self)
    }

    unsafe fn submit(&mut self, _part: DmaAddr) -> Result<(), Fault> {
        if self.script().refuses { Err(Fault) } else { Ok(()) }
    }

    fn poll(&mut self) -> Progress<Fault> {
        Engine::poll(self)
    }

    fn overrun(&mut self) -> bool {
        self.script().overruns
    }

    fn park(&mut self, deadline: Instant) -> Result<(), Fault> {
        Engine::park(self, deadline)
    }

    fn stop(&mut self) -> Result<(), Fault> {
        Engine::stop(self)
    }
}

/// A ring, and what should be in it.
pub struct Round {
    ring: Ring<Scripted, Cached>,
    places: Vec<Place>,
    oldest: usize,
    in_flight: usize,
    /// Whether the device is done with the oldest, which could not be synced.
    is_done: bool,
}

struct Place {
    part: Part<()>,
    /// The device has it; or it is done, but that could not be synced.
    is_given: bool,
}

impl Round {
    fn nth(&self, n: usize) -> usize {
        (self.oldest + n) % self.places.len()
    }
}

impl World<'_, '_> {
    pub fn ring(&mut self) -> Option<()> {
        let Some(mut round) = self.round.take() else { return self.make_ring() };
        match self.source.below(16) {
            0..=6 => self.submit(&mut round),
            7..=8 => self.fill(&mut round),
            9..=14 => self.complete(&mut round),
            _ => return self.stop_ring(round),
        }
        self.round = Some(round);
        Some(())
    }

    fn make_ring(&mut self) -> Option<()> {
        self.pick(self.cpu.len())?;
        let count = 1 + self.source.below(self.cpu.len().min(4));
        let (places, parts): (Vec<_>, Vec<Buffer>) =
            self.cpu.drain(..count).map(Part::take).unzip();
        let places = places.into_iter().map(|part| Place { part, is_given: false }).collect();
        let ring = Ring::new(self.engine.clone(), parts).unwrap();
        self.round = Some(Round { ring, places, oldest: 0, in_flight: 0, is_done: false });
        Some(())
    }

    /// The CPU has a part of the ring again.
    fn returned(&mut self, place: &mut Place) {
        if std::mem::take(&mut place.is_given) {
            self.memories[place.part.memory].taken_back(place.part.range.clone());
        }
    }

    fn locked_out(&mut self, place: &Place) {
        self.memories[place.part.memory].device_locked_out(place.part.range.clone());
    }

    fn submit(&mut self, round: &mut Round) {
        let refuses = self.source.one_in(8);
        *self.engine.script() = Script { refuses, ..Script::default() };
        let fault = SyncFault::all();
        let for_cpu = self.source.one_in(2);
        let fails = self.maybe_fault(if for_cpu { fault.for_cpu() } else { fault.for_device() });
        let result = round.ring.submit();
        self.emulator.clear_faults();

        if round.in_flight == round.places.len() {
            assert!(matches!(result, Err(RingError::Full(_))), "{result:?}");
            return;
        }
        let next = round.nth(round.in_flight);
        let place = &mut round.places[next];
        if place.is_given && fails && for_cpu {
            assert!(matches!(result, Err(RingError::Sync(_))), "{result:?}");
            return;
        }
        self.returned(place);
        if fails && !for_cpu {
            assert!(matches!(result, Err(RingError::Sync(_))), "{result:?}");
            return;
        }
        self.memories[place.part.memory].handed_over(place.part.range.clone(), Way::Both);
        place.is_given = true;
        if !refuses {
            round.in_flight += 1;
            return result.unwrap();
        }
        assert!(matches!(result, Err(RingError::Driver(Fault))), "{result:?}");
        match fails {
            true => self.locked_out(place),
            false => self.returned(place),
        }
    }

    fn fill(&mut self, round: &mut Round) {
        let next = round.nth(round.in_flight);
        let place = &round.places[next];
        let is_there = round.in_flight < round.places.len() && !place.is_given;
        let buffer = round.ring.next_mut();
        assert_eq!(buffer.is_some(), is_there);
        if let Some(buffer) = buffer {
            let memory = &mut self.memories[place.part.memory];
            memory.check_cpu(place.part.range.clone(), buffer.as_slice());
            self.value = self.value.wrapping_add(1);
            buffer.as_mut_slice().fill(self.value);
            memory.cpu_wrote(place.part.range.clone(), self.value);
        }
    }

    fn complete(&mut self, round: &mut Round) {
        let state = [State::Running, State::Finished, State::Finished, State::Failed];
        let script = Script {
            state: state[self.source.below(4)],
            overruns: self.source.one_in(8),
            ..Script::default()
        };
        *self.engine.script() = script;
        let fails = self.maybe_fault(SyncFault::all().for_cpu());
        let result = round.ring.complete(Duration::ZERO);
        self.emulator.clear_faults();

        let oldest = round.oldest;
        match result {
            _ if round.in_flight == 0 => assert!(matches!(result, Err(RingError::Empty))),
            Err(RingError::Overrun) => assert!(!round.is_done && script.overruns),
            Err(RingError::Timeout(_)) => {
                assert!(!round.is_done && script.state == State::Running);
            }
            Err(RingError::Failed(Fault)) => {
                assert!(!round.is_done && script.state == State::Failed);
                self.all_returned(round, fails);
            }
            Err(RingError::Sync(_)) => {
                assert!(fails && (round.is_done || script.state == State::Finished));
                round.is_done = true;
                self.locked_out(&round.places[oldest]);
            }
            Ok(buffer) => {
                assert!(!fails && (round.is_done || script.state == State::Finished));
                let place = &mut round.places[oldest];
                self.memories[place.part.memory].taken_back(place.part.range.clone());
                place.is_given = false;
                self.memories[place.part.memory]
                    .check_cpu(place.part.range.clone(), buffer.as_slice());
                round.is_done = false;
                round.oldest = (oldest + 1) % round.places.len();
                round.in_flight -= 1;
            }
            Err(error) => panic!("{error:?}"),
        }
    }

    /// The device has no part any more; the sync of the first one may fail.
    fn all_returned(&mut self, round: &mut Round, mut fails: bool) {
        (round.in_flight, round.is_done) = (0, false);
        for place in &mut round.places {
            match place.is_given && std::mem::take(&mut fails) {
                true => self.locked_out(place),
                false => self.returned(place),
            }
        }
    }

    pub fn stop_ring(&mut self, round: Round) -> Option<()> {
        let stop_fails = self.source.one_in(4);
        *self.engine.script() = Script { stop_fails, ..Script::default() };
        let fails = self.maybe_fault(SyncFault::all().for_cpu())
            && round.places.iter().any(|place| place.is_given);
        let Round { ring, mut places, oldest, in_flight, is_done } = round;
        let result = ring.stop();
        self.emulator.clear_faults();
        match result {
            Ok((_, buffers)) => {
                assert!(!stop_fails && !fails && buffers.len() == places.len());
                places.iter_mut().for_each(|place| self.returned(place));
                places.rotate_left(oldest);
                for (place, buffer) in places.into_iter().zip(buffers) {
                    let part = place.part.map(|()| buffer);
                    self.check(&part);
                    self.cpu.push(part);
                }
            }
            Err(Handoff { error, value: ring }) => {
                match error {
                    RingError::Driver(Fault) => assert!(stop_fails),
                    RingError::Sync(_) => assert!(!stop_fails && fails),
                    error => panic!("{error:?}"),
                }
                let mut round = Round { ring, places, oldest, in_flight, is_done };
                if !stop_fails {
                    self.all_returned(&mut round, fails);
                }
                self.round = Some(round);
            }
        }
        Some(())
    }
}
