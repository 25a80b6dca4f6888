//! The device's side of a buffer: memory, and whether the device may access it.
#![allow(unsafe_code, reason = "a kernel buffer on the emulated bus is reached by its mapping")]

use std::{
    ptr::NonNull,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{Bus, BusError};
use crate::direction::Kind;

/// Bus addresses from `addr` on, backed by memory.
#[derive(Debug)]
pub(super) struct Region {
    addr: u64,
    len: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The direction it was handed over with; `None` while the CPU owns it.
    device_owned: Option<Kind>,
    store: Store,
}

#[derive(Debug)]
enum Store {
    Own(Vec<u8>),
    /// A mapping of [`Region::len`] bytes, valid while `device_owned` is some:
    /// the invariant of [`Tap`].
    Mapped(NonNull<u8>),
}

// SAFETY: the mapping is plain memory, valid from any thread, and it is
// accessed only under the mutex around `State`.
unsafe impl Send for Store {}

impl State {
    fn bytes(&mut self, len: usize) -> &mut [u8] {
        match &mut self.store {
            Store::Own(bytes) => bytes,
            // SAFETY: callers have seen `device_owned` under the lock, so the
            // mapping is valid, and while the device owns a buffer there is no
            // other reference to its bytes (invariant 1 of `Buffer`) and no
            // other access (invariant 3 of `Memory`).
            Store::Mapped(start) => unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), len) },
        }
    }
}

impl Region {
    pub(super) fn new(addr: u64, len: usize) -> Self {
        Self::with_store(addr, len, Store::Own(vec![0; len]))
    }

    fn with_store(addr: u64, len: usize, store: Store) -> Self {
        Self { addr, len, state: Mutex::new(State { device_owned: None, store }) }
    }

    pub(super) fn addr(&self) -> u64 {
        self.addr
    }

    pub(super) fn end(&self) -> u64 {
        self.addr + self.len as u64
    }

    pub(super) fn contains(&self, addr: u64, len: usize) -> bool {
        self.offset(addr).is_some_and(|offset| len <= self.len - offset)
    }

    fn offset(&self, addr: u64) -> Option<usize> {
        let offset = usize::try_from(addr.checked_sub(self.addr)?).ok()?;
        (offset < self.len).then_some(offset)
    }

    pub(super) fn read(&self, addr: u64, into: &mut [u8]) -> Result<(), BusError> {
        self.access(addr, into.len(), Kind::FromDevice, |bytes| into.copy_from_slice(bytes))
    }

    pub(super) fn write(&self, addr: u64, from: &[u8]) -> Result<(), BusError> {
        self.access(addr, from.len(), Kind::ToDevice, |bytes| bytes.copy_from_slice(from))
    }

    /// Runs `access` on the bytes unless the buffer was handed over with the
    /// direction that forbids it.
    fn access(
        &self,
        addr: u64,
        len: usize,
        forbidden: Kind,
        access: impl FnOnce(&mut [u8]),
    ) -> Result<(), BusError> {
        let mut state = self.state();
        match state.device_owned {
            None => return Err(BusError::CpuOwned { addr, len }),
            Some(direction) if direction == forbidden => {
                return Err(BusError::WrongDirection { addr, len });
            }
            Some(_) => {}
        }
        let bytes = self
            .offset(addr)
            .and_then(|offset| state.bytes(self.len).get_mut(offset..)?.get_mut(..len))
            .ok_or(BusError::NoMemory { addr, len })?;
        access(bytes);
        Ok(())
    }

    /// Lets the device in, after `sync` has had its way with the memory.
    pub(super) fn hand_over(&self, direction: Kind, sync: impl FnOnce(&mut [u8])) {
        let mut state = self.state();
        state.device_owned = Some(direction);
        sync(state.bytes(self.len));
    }

    /// Lets `sync` see the memory, after which the device is locked out.
    pub(super) fn take_back(&self, sync: impl FnOnce(&[u8])) {
        let mut state = self.state();
        if state.device_owned.is_some() {
            sync(state.bytes(self.len));
            state.device_owned = None;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A kernel buffer's place on an emulated bus.
///
/// # Invariants
/// The bus accesses the mapping only while the buffer is handed over, and never
/// after `self` is dropped, which must happen before the mapping goes.
#[derive(Debug)]
pub(crate) struct Tap {
    region: Arc<Region>,
    bus: Bus,
}

impl Tap {
    /// Puts the mapping of `len` bytes at `start` on `bus`, if the addresses
    /// are free.
    ///
    /// # Safety
    /// The mapping is valid for reads and writes until the returned tap is
    /// dropped, and nothing else accesses it between `hand_over` and `take_back`.
    pub(crate) unsafe fn new(bus: &Bus, addr: u64, start: NonNull<u8>, len: usize) -> Option<Self> {
        let region = Arc::new(Region::with_store(addr, len, Store::Mapped(start)));
        bus.insert(&region).then(|| Self { region, bus: bus.clone() })
    }

    pub(crate) fn bus(&self) -> &Bus {
        &self.bus
    }

    pub(crate) fn hand_over(&self, direction: Kind) {
        self.region.hand_over(direction, |_| {});
    }

    pub(crate) fn take_back(&self) {
        self.region.take_back(|_| {});
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.take_back();
    }
}
