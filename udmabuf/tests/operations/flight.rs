//! Transfers, and each way in which one can end.
#![allow(unexpected_cfgs, reason = "cargo-fuzz sets `fuzzing`")]

use std::time::Duration;

use udmabuf::{Parts, Transfer, WaitError};

use super::{
    Bidirectional, Buffer, CpuOwned, DeviceOwned, FromDevice, Given, Part, Slot, StartError, State,
    SyncFault, ToDevice, World,
    engine::{Fault, Script, Scripted},
};

type Pair = (Buffer<DeviceOwned, ToDevice>, Buffer<DeviceOwned, FromDevice>);
type Many = Vec<Buffer<DeviceOwned, Bidirectional>>;

/// A transfer, and the places of its parts.
pub struct Flight {
    transfer: AnyTransfer,
    places: Vec<Part<()>>,
    /// How the device ended, though the sync then failed.
    ended: Option<State>,
}

enum AnyTransfer {
    Pair(Transfer<Scripted, Pair>),
    Many(Transfer<Scripted, Many>),
}

/// What a transfer has given back.
enum Outcome {
    Cpu(Vec<Buffer>, State),
    Timeout(AnyTransfer),
    Unknown(AnyTransfer),
    Sync(AnyTransfer),
}

trait Buffers {
    fn buffers(self) -> Vec<Buffer>;
}

impl Buffers for (Buffer<CpuOwned, ToDevice>, Buffer<CpuOwned, FromDevice>) {
    fn buffers(self) -> Vec<Buffer> {
        vec![self.0.for_direction(), self.1.for_direction()]
    }
}

impl Buffers for Vec<Buffer> {
    fn buffers(self) -> Vec<Buffer> {
        self
    }
}

fn outcome<P: Parts<Cpu: Buffers>>(
    result: Result<P::Cpu, WaitError<Scripted, P>>,
    any: impl Fn(Transfer<Scripted, P>) -> AnyTransfer,
) -> Outcome {
    match result {
        Ok(buffers) => Outcome::Cpu(buffers.buffers(), State::Finished),
        Err(WaitError::Failed { error: Fault, buffers }) => {
            Outcome::Cpu(buffers.buffers(), State::Failed)
        }
        Err(WaitError::Timeout { transfer, .. }) => Outcome::Timeout(any(transfer)),
        Err(WaitError::Unknown { transfer, .. }) => Outcome::Unknown(any(transfer)),
        Err(WaitError::Sync { transfer, .. }) => Outcome::Sync(any(transfer)),
    }
}

impl World<'_, '_> {
    fn take_device(&mut self, wanted: fn(&Given) -> bool) -> Option<Part<Given>> {
        let n = self.device.iter().position(|part| wanted(&part.buffer))?;
        let part = &self.device[n];
        let len = part.range.len();
        // One that could not be taken back is not the device's any more.
        let access = self.memories[part.memory].access(0, part.range.start, len, super::Way::Both);
        access.ok().map(|_| self.device.swap_remove(n))
    }

    pub fn start(&mut self) -> Option<()> {
        let refuses = self.source.one_in(8);
        let unsynced = self.source.below(8);
        self.emulator.inject(SyncFault::all().for_cpu().after(unsynced as u64).times(1));
        let program = if refuses { Err(Fault) } else { Ok(()) };
        let mut places = Vec::new();
        let mut keep = |part: Part<Given>| {
            places.push(Part { memory: part.memory, range: part.range, buffer: () });
            part.buffer
        };
        let is_pair = self.source.one_in(2);
        let (started, buffers) = if is_pair {
            let to = self.take_device(|given| matches!(given, Given::ToDevice(_)));
            let from = self.take_device(|given| matches!(given, Given::FromDevice(_)));
            let (to, from) = match (to.map(&mut keep), from.map(&mut keep)) {
                (Some(Given::ToDevice(to)), Some(Given::FromDevice(from))) => (to, from),
                (to, from) => {
                    self.emulator.clear_faults();
                    let kept = places.into_iter().zip(to.into_iter().chain(from));
                    self.device.extend(kept.map(|(place, given)| place.map(|()| given)));
                    return None;
                }
            };
            match self.slot.start((to, from), |_, _| program) {
                Ok(transfer) => (Ok(AnyTransfer::Pair(transfer)), Vec::new()),
                Err(refused) => (Err(refused.error), refused.value.buffers()),
            }
        } else {
            let mut parts = Many::new();
            for _ in 0..=self.source.below(3) {
                let part = self.take_device(|given| matches!(given, Given::Both(_)));
                if let Some(Given::Both(buffer)) = part.map(&mut keep) {
                    parts.push(buffer);
                }
            }
            match self.slot.start(parts, |_, _| program) {
                Ok(transfer) => (Ok(AnyTransfer::Many(transfer)), Vec::new()),
                Err(refused) => (Err(refused.error), refused.value.buffers()),
            }
        };
        self.emulator.clear_faults();
        let busy = !self.flights.is_empty();
        match started {
            Ok(transfer) => {
                assert!(!busy && !refuses);
                self.flights.push(Flight { transfer, places, ended: None });
            }
            Err(error) => {
                assert_eq!(matches!(error, StartError::Busy(_)), busy);
                assert!(busy || refuses);
                let is_only_read = is_pair && unsynced == 0;
                if let Some(place) = places.get(unsynced).filter(|_| !is_only_read) {
                    self.memories[place.memory].left_unsynced(place.range.clone());
                }
                self.landed(places, buffers);
            }
        }
        Some(())
    }

    /// Buffers of a transfer are the CPU's again.
    pub fn landed(&mut self, places: Vec<Part<()>>, buffers: Vec<Buffer>) {
        assert_eq!(places.len(), buffers.len());
        for (place, buffer) in places.into_iter().zip(buffers) {
            self.memories[place.memory].taken_back(place.range.clone());
            let part = place.map(|()| buffer);
            self.check(&part);
            self.cpu.push(part);
        }
    }

    /// Waits for a transfer, or stops it, while the engine does as it likes.
    pub fn go_on(&mut self) -> Option<()> {
        let n = self.pick(self.flights.len())?;
        let Flight { transfer, places, ended } = self.flights.swap_remove(n);
        let script = Script {
            state: [State::Running, State::Finished, State::Failed][self.source.below(3)],
            park_fails: self.source.one_in(4),
            stop_fails: self.source.one_in(4),
            ..Script::default()
        };
        *self.engine.script() = script;
        let after = self.source.below(places.len().max(1)) as u64;
        let fault = SyncFault::all().for_cpu().after(after);
        let sync_fails = self.maybe_fault(fault) && !places.is_empty();
        let stops = self.source.one_in(4);
        let parks = !stops && self.source.one_in(2);
        let outcome = match transfer {
            AnyTransfer::Pair(t) if stops => outcome(t.stop(), AnyTransfer::Pair),
            AnyTransfer::Pair(t) if parks => outcome(t.wait(Duration::ZERO), AnyTransfer::Pair),
            AnyTransfer::Pair(t) => outcome(t.try_wait(), AnyTransfer::Pair),
            AnyTransfer::Many(t) if stops => outcome(t.stop(), AnyTransfer::Many),
            AnyTransfer::Many(t) if parks => outcome(t.wait(Duration::ZERO), AnyTransfer::Many),
            AnyTransfer::Many(t) => outcome(t.try_wait(), AnyTransfer::Many),
        };
        self.emulator.clear_faults();

        // Whatever it said when it ended, it stays ended.
        let ends = ended.or(match (stops, script.state) {
            (true, _) => (!script.stop_fails).then_some(State::Finished),
            (false, State::Running) => None,
            (false, state) => Some(state),
        });
        match (outcome, ends) {
            (Outcome::Cpu(buffers, state), Some(ends)) => {
                assert!(state == ends && !sync_fails);
                self.landed(places, buffers);
            }
            (Outcome::Sync(transfer), Some(_)) => {
                assert!(sync_fails);
                for place in &places {
                    self.memories[place.memory].device_locked_out(place.range.clone());
                }
                self.flights.push(Flight { transfer, places, ended: ends });
            }
            (Outcome::Timeout(transfer), None) => {
                assert!(!(stops || parks && script.park_fails));
                self.flights.push(Flight { transfer, places, ended });
            }
            (Outcome::Unknown(transfer), None) => {
                assert!(stops && script.stop_fails || parks && script.park_fails);
                self.flights.push(Flight { transfer, places, ended });
            }
            _ => panic!("a transfer ended in another way than its engine"),
        }
        Some(())
    }

    /// Drops a transfer, or leaks it.
    pub fn abandon(&mut self) -> Option<()> {
        let n = self.pick(self.flights.len())?;
        let Flight { transfer, places, .. } = self.flights.swap_remove(n);
        // A fuzzer would find the leak, which is on purpose.
        let stop_fails = self.source.one_in(16) && !cfg!(fuzzing);
        let sync_fails = self.source.one_in(16) && !cfg!(fuzzing) && !places.is_empty();
        self.engine.script().stop_fails = stop_fails;
        if sync_fails {
            self.emulator.inject(SyncFault::all().for_cpu().times(1));
        }
        let leaks = stop_fails && self.source.one_in(2);
        if leaks {
            std::mem::forget(transfer);
        } else {
            drop(transfer);
        }
        self.emulator.clear_faults();
        if !stop_fails {
            for place in &places {
                self.memories[place.memory].device_locked_out(place.range.clone());
            }
        }
        if stop_fails || sync_fails {
            // The engine is lost with it; here is the next one.
            self.slot = Slot::new(self.engine.clone());
        } else {
            assert!(self.slot.with(|_| ()).is_ok());
            self.freed(&places);
        }
        Some(())
    }

    pub fn end_flight(&mut self, n: usize) {
        let Flight { transfer, places, .. } = self.flights.swap_remove(n);
        let outcome = match transfer {
            AnyTransfer::Pair(transfer) => outcome(transfer.stop(), AnyTransfer::Pair),
            AnyTransfer::Many(transfer) => outcome(transfer.stop(), AnyTransfer::Many),
        };
        let Outcome::Cpu(buffers, _) = outcome else { panic!("it cannot be stopped") };
        self.landed(places, buffers);
    }
}
