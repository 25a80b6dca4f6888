//! What goes wrong in a model.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::axidma::{Faults, Side};

/// What goes wrong in a model: for the test of a driver, which keeps a clone.
#[derive(Clone, Debug, Default)]
pub struct Controls(Arc<Mutex<Settings>>);

#[derive(Debug, Default)]
struct Settings {
    faults: Vec<(Side, Faults)>,
    statuses: Vec<(Side, u32)>,
    hung: Vec<Side>,
    slowness: u32,
    spurious: u32,
    is_unplugged: bool,
    undefined: Vec<String>,
}

impl Controls {
    /// The channel meets this error the next time that it can.
    pub fn inject(&self, side: Side, fault: Faults) {
        self.lock().faults.push((side, fault));
    }

    /// The next descriptor that the channel completes gets this status instead of
    /// its own; in direct register mode, the length register gets it.
    pub fn forge_status(&self, side: Side, status: u32) {
        self.lock().statuses.push((side, status));
    }

    /// The channel moves nothing more until the core is reset.
    pub fn hang(&self, side: Side) {
        self.lock().hung.push(side);
    }

    /// After each piece of work the core does nothing for so many steps.
    pub fn slow_down(&self, steps: u32) {
        self.lock().slowness = steps;
    }

    /// The interrupt line stays up for so many accesses to a status register,
    /// whatever that says.
    pub fn storm(&self, accesses: u32) {
        self.lock().spurious = accesses;
    }

    /// The core is no longer there, from its next step or register access on.
    pub fn unplug(&self) {
        self.lock().is_unplugged = true;
    }

    /// What the driver did of which PG021 does not say what it does.
    #[must_use]
    pub fn undefined(&self) -> Vec<String> {
        self.lock().undefined.clone()
    }

    pub(super) fn note(&self, what: String) {
        self.lock().undefined.push(what);
    }

    /// Whether the channel is to meet one of these errors now.
    pub(super) fn takes_fault(&self, side: Side, of: &[Faults]) -> Option<Faults> {
        let faults = &mut self.lock().faults;
        let index = faults.iter().position(|(at, fault)| *at == side && of.contains(fault))?;
        Some(faults.remove(index).1)
    }

    pub(super) fn takes_status(&self, side: Side) -> Option<u32> {
        let statuses = &mut self.lock().statuses;
        let index = statuses.iter().position(|(at, _)| *at == side)?;
        Some(statuses.remove(index).1)
    }

    pub(super) fn hangs(&self, side: Side) -> bool {
        self.lock().hung.contains(&side)
    }

    pub(super) fn slowness(&self) -> u32 {
        self.lock().slowness
    }

    pub(super) fn is_spurious(&self) -> bool {
        self.lock().spurious > 0
    }

    pub(super) fn status_was_read(&self) {
        let mut settings = self.lock();
        settings.spurious = settings.spurious.saturating_sub(1);
    }

    pub(super) fn is_unplugged(&self) -> bool {
        self.lock().is_unplugged
    }

    pub(super) fn reset(&self) {
        self.lock().hung.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Settings> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
