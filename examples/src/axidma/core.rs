//! The core that both channels are in: its registers, and its reset, which is
//! for both.
#![allow(unsafe_code, reason = "gives the descriptors' memory free at the end")]

use std::{
    fmt,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use udmabuf::{Progress, emulator::Bus};
use udmabuf_uio::{Inner, Interrupt, Io, Registers};

use super::{
    Build, Error, Faults, Side,
    lane::{Flight, Lane, Laps},
    registers::{ChannelRegs, Control, Regs, Status},
    wait::{Waiting, Wakers},
};

/// Longer than a reset takes, which lets what is on the bus finish.
pub(super) const RESET_LIMIT: Duration = Duration::from_secs(1);
/// Longer than a channel takes to halt that has its data; one that waits for data
/// does not.
const HALT_LIMIT: Duration = Duration::from_millis(200);

/// A core, shared by the handles of its channels and their transfers.
pub(super) struct Core<I: Io> {
    pub(super) registers: Registers<Regs, I>,
    pub(super) build: Build,
    pub(super) scatter_gather: bool,
    /// Addresses of descriptors have upper halves, which start the core.
    pub(super) has_upper_halves: bool,
    pub(super) bus: Option<Bus>,
    state: Mutex<State>,
    /// Whoever waits for the other channel's thread to wait for the interrupt.
    pub(super) woken: Condvar,
    pub(super) interrupt: Mutex<Interrupt>,
    pub(super) wakers: Arc<Wakers>,
}

/// What is under the lock, and with it the order of register accesses.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) lanes: [Lane; 2],
    pub(super) waiting: Waiting,
}

impl State {
    pub(super) fn lane(&mut self, side: Side) -> &mut Lane {
        let [mm2s, s2mm] = &mut self.lanes;
        match side {
            Side::Mm2s => mm2s,
            Side::S2mm => s2mm,
        }
    }
}

/// The registers of a channel.
pub(super) const fn channel(side: Side) -> Inner<Regs, ChannelRegs> {
    match side {
        Side::Mm2s => Regs::CHANNELS.index::<0>(),
        Side::S2mm => Regs::CHANNELS.index::<1>(),
    }
}

impl<I: Io> Core<I> {
    /// Takes over a core: resets it, whatever a program before has left running.
    pub(super) fn new(
        registers: Registers<Regs, I>,
        interrupt: Interrupt,
        build: Build,
        bus: Option<Bus>,
    ) -> Result<Self, Error> {
        let mut core = Self {
            registers,
            build,
            scatter_gather: false,
            has_upper_halves: false,
            bus,
            state: Mutex::default(),
            woken: Condvar::new(),
            interrupt: Mutex::new(interrupt),
            wakers: Arc::default(),
        };
        core.reset(&mut core.lock())?;
        core.scatter_gather = core.status(Side::Mm2s).get(Status::SCATTER_GATHER)
            || core.status(Side::S2mm).get(Status::SCATTER_GATHER);
        core.has_upper_halves =
            core.scatter_gather && Side::BOTH.iter().any(|&side| core.has_upper_half(side));
        Ok(core)
    }

    /// Whether a channel, which was reset, keeps the upper half of an address: of a
    /// core with more than 32 address bits, this writes what nobody said of it.
    fn has_upper_half(&self, side: Side) -> bool {
        let register = channel(side).register(ChannelRegs::CURDESC_MSB);
        self.registers.write(register, 1);
        let is_kept = self.registers.read(register) & 1 != 0;
        self.registers.write(register, 0);
        is_kept
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the channel says; what is read from memory afterwards is not older.
    pub(super) fn status(&self, side: Side) -> Status {
        self.registers.status(channel(side).register(ChannelRegs::STATUS))
    }

    /// Whether a core says so, and not a bus with nothing at the address.
    fn is_halted(&self, side: Side) -> bool {
        let status = self.status(side);
        status.is_plausible() && status.get(Status::HALTED)
    }

    pub(super) fn control(&self, side: Side) -> Control {
        self.registers.read(channel(side).register(ChannelRegs::CONTROL))
    }

    pub(super) fn set_control(&self, side: Side, control: Control) {
        self.registers.write(channel(side).register(ChannelRegs::CONTROL), control);
    }

    /// Clears the channel's interrupts, and keeps them for whoever polls it.
    pub(super) fn acknowledge(&self, state: &mut State, side: Side) -> Status {
        let status = self.status(side);
        if status.is_plausible() && status.interrupts() != Status(0) {
            let register = channel(side).register(ChannelRegs::STATUS);
            self.registers.write(register, status.interrupts());
            let lane = state.lane(side);
            lane.seen = Status(lane.seen.0 | status.interrupts().0);
        }
        status
    }

    /// How far the channel is with what it was started with.
    pub(super) fn poll(&self, side: Side) -> Progress<Error> {
        let mut state = self.lock();
        // Not the other's: its thread may be about to be woken by it.
        let status = self.acknowledge(&mut state, side);
        let lane = state.lane(side);
        if matches!(lane.flight, Flight::Reset) {
            lane.flight = Flight::Idle;
            return Progress::Failed(Error::Reset(side));
        }
        let seen = std::mem::take(&mut lane.seen);
        if !status.is_plausible() {
            return Progress::Running; // nothing answers, and waiting says why
        }
        if lane.broken.is_none() {
            let done = match lane.flight {
                // Who asks again is told again.
                Flight::Idle => Ok(true),
                Flight::Direct { length } if seen.get(Status::COMPLETE) => {
                    self.received(side, length).map(|moved| {
                        lane.moved.push(moved);
                        lane.asked = Some(length.into());
                        true
                    })
                }
                _ => lane.collect(side),
            };
            match done {
                Ok(true)
                    if !status.has_errors() || matches!(lane.flight, Flight::Stream { .. }) =>
                {
                    if !matches!(lane.flight, Flight::Stream { .. }) {
                        lane.flight = Flight::Idle;
                    }
                    return Progress::Finished;
                }
                Ok(_) => {}
                Err(error) => {
                    self.set_control(side, self.control(side).with(Control::RUN, false));
                    lane.broken = Some(error);
                }
            }
        }
        // It may take a while from an error to rest.
        let ended = status.has_errors() || lane.broken.is_some();
        if !ended {
            return Progress::Running;
        }
        if !self.is_halted(side) {
            // No interrupt tells when it is: whoever waits asks again.
            lane.seen = Status(0).with(Status::ERROR, true);
            return Progress::Running;
        }
        lane.flight = Flight::Idle;
        let broken = lane.broken.take();
        // A descriptor with an error has it from the channel.
        let status = self.status(side);
        Progress::Failed(match broken {
            Some(error) if !status.has_errors() => error,
            _ => Error::Faults { side, faults: Faults::of(status) },
        })
    }

    /// What direct register mode says of a transfer that is complete.
    fn received(&self, side: Side, length: u32) -> Result<super::Moved, Error> {
        let received = match side {
            Side::Mm2s => length,
            Side::S2mm => self.registers.read(channel(side).register(ChannelRegs::LENGTH)),
        };
        match usize::try_from(received) {
            Ok(len) if received <= length => Ok(super::Moved { len, ends: true }),
            _ => Err(Error::Received { side, received, len: length }),
        }
    }

    /// The channel, with what its transfer has moved up to now.
    pub(super) fn up_to_now<T>(&self, side: Side, look: impl FnOnce(&Lane) -> T) -> T {
        let mut state = self.lock();
        let lane = state.lane(side);
        if matches!(lane.flight, Flight::Chain { .. }) {
            // What makes no sense is not counted; waiting says so.
            let _ = lane.collect(side);
        }
        look(lane)
    }

    /// How far a channel is that goes round.
    pub(super) fn laps(&self, side: Side) -> Result<Option<Laps>, Error> {
        let mut state = self.lock();
        let lane = state.lane(side);
        if matches!(lane.flight, Flight::Cyclic { .. }) {
            lane.collect(side)?;
        }
        let Flight::Cyclic { laps, .. } = &mut lane.flight else { return Ok(None) };
        let told = *laps;
        laps.overrun = false;
        Ok(Some(told))
    }

    /// Ends what the channel is doing. If the other is doing something, a reset is
    /// the last resort, as it ends that too: then its transfer fails with
    /// [`Error::Reset`].
    pub(super) fn stop(&self, side: Side) -> Result<(), Error> {
        let mut state = self.lock();
        let state = &mut *state;
        if !state.lane(side).is_running() {
            state.lane(side).flight = Flight::Idle;
            return Ok(());
        }
        if state.lane(side.other()).is_running() && self.halt(side).is_ok() {
            self.acknowledge(state, side);
            let _ = state.lane(side).collect(side);
        } else {
            self.reset(state)?;
        }
        let lane = state.lane(side);
        (lane.flight, lane.seen, lane.broken) = (Flight::Idle, Status(0), None);
        Ok(())
    }

    /// Lets the channel finish what it has begun, and no more.
    pub(super) fn halt(&self, side: Side) -> Result<(), Error> {
        self.set_control(side, self.control(side).with(Control::RUN, false));
        match until(HALT_LIMIT, || self.is_halted(side)) {
            true => Ok(()),
            false => Err(Error::Busy(side)),
        }
    }

    /// Resets the core: no channel accesses memory any more.
    pub(super) fn reset(&self, state: &mut State) -> Result<(), Error> {
        let status = self.status(Side::Mm2s);
        if !status.is_plausible() {
            return Err(Error::NotThere(status.0));
        }
        self.set_control(Side::Mm2s, Control(0).with(Control::RESET, true));
        let is_done = || Side::BOTH.iter().all(|&side| !self.control(side).get(Control::RESET));
        if !until(RESET_LIMIT, is_done) {
            return Err(Error::NotReset);
        }
        for side in Side::BOTH {
            let lane = state.lane(side);
            // What came before is told. What makes no sense is not.
            let _ = lane.collect(side);
            lane.flight = if lane.is_running() { Flight::Reset } else { Flight::Idle };
            (lane.seen, lane.broken, lane.next) = (Status(0), None, 0);
        }
        self.wake(state);
        Ok(())
    }
}

/// Whether it comes true within the limit.
pub(super) fn until(limit: Duration, mut is_true: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        if is_true() {
            return true;
        }
        if Instant::now() > deadline {
            return false;
        }
        thread::yield_now();
    }
}

impl<I: Io> Drop for Core<I> {
    fn drop(&mut self) {
        let mut state = self.lock();
        if self.reset(&mut state).is_err() {
            return; // the descriptors stay shared
        }
        for ring in state.lanes.iter_mut().filter_map(|lane| lane.descriptors.take()) {
            // SAFETY: the core was reset, and no handle is left that starts it.
            unsafe { ring.release() };
        }
    }
}

impl<I: Io> fmt::Debug for Core<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").field("build", &self.build).field("state", &self.state).finish()
    }
}
