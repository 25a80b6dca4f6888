//! A device that stalls or is unplugged, and interrupts that get lost or do not end.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::Shared;

/// What goes wrong in emulated devices; the test of a driver keeps a clone of
/// what it gave to [`emulate_with`](super::emulate_with).
///
/// ```
/// # use udmabuf_uio::emulator::{Device, Faults, emulate_with};
/// # use std::{thread::sleep, time::{Duration, Instant}};
/// # udmabuf_uio::block! { struct Regs: 4 bytes { 0 => STEPS: ReadWrite<u32> } }
/// # struct Counter(u64);
/// # impl Device for Counter {
/// #     fn read(&mut self, _offset: usize) -> u64 { self.0 }
/// #     fn write(&mut self, _offset: usize, value: u64) { self.0 = value; }
/// #     fn step(&mut self) -> bool { self.0 += 1; false }
/// #     fn interrupt(&self) -> bool { true }
/// # }
/// let faults = Faults::default();
/// let (registers, mut interrupt) = emulate_with::<Regs>(Counter(0), &faults)?;
/// faults.stall();
/// registers.write(Regs::STEPS, 5);
/// assert_eq!(registers.read(Regs::STEPS), 5); // it answers, but does nothing
/// faults.resume();
///
/// faults.lose_interrupts(1);
/// assert_eq!(interrupt.wait(Instant::now() + Duration::from_millis(10))?, 0);
/// # Ok::<(), udmabuf_uio::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Faults(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    stalled: bool,
    /// Interrupts that will not arrive.
    lost: u32,
    /// The interrupt line is up, whatever the device says.
    held: bool,
    unplugged: bool,
    devices: Vec<Weak<Shared>>,
}

impl Faults {
    /// From now on the devices take no step, while their registers answer.
    pub fn stall(&self) {
        self.lock().stalled = true;
    }

    /// The devices go on where they stalled.
    pub fn resume(&self) {
        self.change(|state| state.stalled = false);
    }

    /// The next `count` interrupts do not arrive, although the line is raised.
    pub fn lose_interrupts(&self, count: u32) {
        self.lock().lost = count;
    }

    /// From now on the interrupt lines are up, whatever the drivers clear: an
    /// interrupt storm. The devices work on.
    pub fn hold_interrupt(&self) {
        self.change(|state| state.held = true);
    }

    /// The end of the storm.
    pub fn release_interrupt(&self) {
        self.change(|state| state.held = false);
    }

    /// Pulls the devices out: they access memory no more, their registers read
    /// as all ones, and a wait, or whatever asks for more than a register, is
    /// [`Error::Removed`](crate::Error::Removed).
    pub fn unplug(&self) {
        self.change(|state| state.unplugged = true);
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let devices: Vec<_> = {
            let mut state = self.lock();
            change(&mut state);
            state.devices.iter().filter_map(Weak::upgrade).collect()
        };
        devices.iter().for_each(|device| device.look());
    }

    pub(super) fn add(&self, device: &Arc<Shared>) {
        self.lock().devices.push(Arc::downgrade(device));
    }

    pub(super) fn is_stalled(&self) -> bool {
        self.lock().stalled
    }

    pub(super) fn holds_interrupt(&self) -> bool {
        self.lock().held
    }

    pub(super) fn is_unplugged(&self) -> bool {
        self.lock().unplugged
    }

    /// Whether the interrupt that is about to fire is to be lost.
    pub(super) fn loses_interrupt(&self) -> bool {
        let mut state = self.lock();
        let loses = state.lost > 0;
        state.lost = state.lost.saturating_sub(1);
        loses
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
