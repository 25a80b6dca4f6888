//! Waiting for the one interrupt line that UIO gives to both channels.

use std::{
    sync::{Arc, Mutex, PoisonError},
    task::{Wake, Waker},
    thread,
    time::{Duration, Instant},
};

use udmabuf_uio::Io;

use super::{
    Error, Side,
    core::{Core, State},
    lane::Flight,
    registers::Status,
};

/// A packet that is longer than all parts it was to go into raises no interrupt:
/// so often is looked for one.
const LOOK_FOR_PARTS: Duration = Duration::from_millis(10);
/// Nor does a reset by the other channel's thread.
const LOOK_FOR_RESET: Duration = Duration::from_millis(100);

/// Who waits.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// A thread waits for the interrupt, for all.
    is_led: bool,
    pub(super) interrupts: u64,
}

/// The tasks that await a transfer, one for each channel.
#[derive(Debug, Default)]
pub(super) struct Wakers(Mutex<[Option<Waker>; 2]>);

impl Wakers {
    fn set(&self, side: Side, waker: &Waker) {
        let [mm2s, s2mm] = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *(if side == Side::Mm2s { mm2s } else { s2mm }) = Some(waker.clone());
    }
}

impl Wake for Wakers {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }
    fn wake_by_ref(self: &Arc<Self>) {
        let wakers = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}

impl<I: Io> Core<I> {
    /// Waits until there is something to poll the channel for, or the deadline.
    ///
    /// One thread waits for the interrupt and clears it for both channels; it
    /// then wakes the other, which waits for it.
    pub(super) fn park(&self, side: Side, deadline: Instant) -> Result<(), Error> {
        let mut state = self.lock();
        let look = match state.lane(side).flight {
            Flight::Chain { .. } | Flight::Stream { .. } if side == Side::S2mm => LOOK_FOR_PARTS,
            _ => LOOK_FOR_RESET,
        };
        let deadline = deadline.min(Instant::now() + look);
        loop {
            let lane = state.lane(side);
            if lane.seen != Status(0) || !lane.is_running() {
                drop(state);
                thread::yield_now();
                return Ok(());
            }
            if !state.waiting.is_led {
                break;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            let waited = self.woken.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.waiting.is_led = true;
        drop(state);
        let waited = {
            let mut interrupt = self.interrupt.lock().unwrap_or_else(PoisonError::into_inner);
            interrupt.wait(deadline)
        };
        let mut state = self.lock();
        state.waiting.is_led = false;
        for side in Side::BOTH {
            self.acknowledge(&mut state, side);
        }
        self.wake(&state);
        state.waiting.interrupts += u64::from(waited?);
        Ok(())
    }

    /// Whoever waits looks again.
    pub(super) fn wake(&self, _: &State) {
        self.woken.notify_all();
        self.wakers.wake_by_ref();
    }

    /// Has `waker` woken by the next interrupt, of either channel.
    pub(super) fn register(&self, side: Side, waker: &Waker) -> Result<(), Error> {
        self.wakers.set(side, waker);
        if self.lock().lane(side).seen != Status(0) {
            waker.wake_by_ref();
            return Ok(());
        }
        // Whoever has it, a thread that waits or another task, wakes all.
        let Ok(mut interrupt) = self.interrupt.try_lock() else { return Ok(()) };
        let fired = interrupt.watch(&self.wakers.clone().into())?;
        drop(interrupt);
        let mut state = self.lock();
        state.waiting.interrupts += u64::from(fired);
        // Nobody may await what the other does: it would keep the line up.
        if self.acknowledge(&mut state, side.other()).interrupts() != Status(0) {
            self.wakers.wake_by_ref();
        }
        Ok(())
    }
}
