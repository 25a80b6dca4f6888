//! A buffer as the bus has it: memory, the CPU's view of it, and which ranges
//! the device may access.
#![allow(unsafe_code, reason = "memory that CPU and device share is reached by pointer")]

use std::{
    fmt,
    ops::Range,
    ptr::NonNull,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    Bus, BusError,
    cache::Cache,
    owners::{Access, Covered, Owners},
    pages::Pages,
};
use crate::{direction::Kind, words};

/// Bus addresses from `addr` on, backed by memory.
pub(super) struct Region {
    addr: u64,
    len: usize,
    /// Where the CPU's references and volatile accesses go: valid for `len`
    /// bytes, for memory of its own while `self` lives, for a mapping while
    /// the device owns or shares any of it (the invariant of [`Tap`]).
    start: NonNull<u8>,
    state: Mutex<State>,
}

// SAFETY: `start` points to plain memory, and gives no access by itself.
unsafe impl Send for Region {}
// SAFETY: as above; the rest is behind the mutex.
unsafe impl Sync for Region {}

pub(super) struct State {
    pub(super) owners: Owners,
    pub(super) store: Store,
}

pub(super) enum Store {
    /// Memory of its own behind the CPU's cache.
    Cached(Cache, Vec<u8>),
    /// One memory for both, because the device is coherent, the CPU's mapping
    /// has no cache, or it is a kernel buffer; the pages, if it has its own.
    Direct { _pages: Option<Pages> },
}

impl Region {
    /// Memory that the CPU reaches through a cache with such lines.
    pub(super) fn cached(addr: u64, len: usize, line: usize) -> Self {
        let cache = Cache::new(len, line);
        let memory = vec![0; cache.len()];
        Self::new(addr, len, cache.start(), Store::Cached(cache, memory))
    }

    /// Memory that CPU and device see alike.
    pub(super) fn direct(addr: u64, len: usize) -> Self {
        let pages = Pages::new(len);
        Self::new(addr, len, pages.start(), Store::Direct { _pages: Some(pages) })
    }

    fn new(addr: u64, len: usize, start: NonNull<u8>, store: Store) -> Self {
        Self { addr, len, start, state: Mutex::new(State { owners: Owners::default(), store }) }
    }

    pub(super) fn addr(&self) -> u64 {
        self.addr
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn start(&self) -> NonNull<u8> {
        self.start
    }

    pub(super) fn end(&self) -> u64 {
        self.addr + self.len as u64
    }

    /// Where `len` bytes at `addr` are in the buffer.
    pub(super) fn range(&self, addr: u64, len: usize) -> Option<Range<usize>> {
        let start = usize::try_from(addr.checked_sub(self.addr)?).ok()?;
        (start < self.len && len <= self.len - start).then(|| start..start + len)
    }

    pub(super) fn read(&self, addr: u64, into: &mut [u8]) -> Result<(), BusError> {
        let (state, range) = self.access(addr, into.len(), Kind::FromDevice)?;
        match &state.store {
            Store::Cached(_, memory) => into.copy_from_slice(&memory[range]),
            // SAFETY: as `place` says.
            Store::Direct { .. } => unsafe { words::load(self.place(&range), into) },
        }
        Ok(())
    }

    pub(super) fn write(&self, addr: u64, from: &[u8]) -> Result<(), BusError> {
        let (mut state, range) = self.access(addr, from.len(), Kind::ToDevice)?;
        match &mut state.store {
            Store::Cached(_, memory) => memory[range].copy_from_slice(from),
            // SAFETY: as `place` says.
            Store::Direct { .. } => unsafe { words::store(self.place(&range), from) },
        }
        Ok(())
    }

    /// Where the device finds a range that [`Region::access`] gave.
    ///
    /// It is valid, by what `start` promises, and stays so under the lock. No
    /// reference to it exists, because the device owns it (invariant 1 of
    /// `Buffer`) or shares it; then the CPU's accesses are volatile words, as
    /// these are.
    fn place(&self, range: &Range<usize>) -> NonNull<u8> {
        // SAFETY: `access` gives ranges inside the region, and `start` is valid
        // for all of it while the device has any of it.
        unsafe { self.start.add(range.start) }
    }

    /// Refuses what the device may not access, or not in this direction.
    fn access(
        &self,
        addr: u64,
        len: usize,
        forbidden: Kind,
    ) -> Result<(MutexGuard<'_, State>, Range<usize>), BusError> {
        let range = self.range(addr, len).ok_or(BusError::NoMemory { addr, len })?;
        let state = self.lock();
        match state.owners.all(&range, |access| access != Access::Device(forbidden)) {
            Covered::Yes => Ok((state, range)),
            Covered::NotAllowed => Err(BusError::WrongDirection { addr, len }),
            Covered::No => Err(BusError::CpuOwned { addr, len }),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}..{:#x} {:?}", self.addr, self.end(), self.lock().owners)
    }
}

/// A kernel buffer's place on an emulated bus.
///
/// # Invariants
/// The bus accesses the mapping only in ranges that are handed over or shared,
/// and never after `self` is dropped, which must happen before the mapping goes.
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
    /// dropped, and aligned to 8 bytes. Between `hand_over` and `take_back` of
    /// a range nothing else accesses it; between `share` and `take_back`, only
    /// single words by volatile accesses.
    pub(crate) unsafe fn new(bus: &Bus, addr: u64, start: NonNull<u8>, len: usize) -> Option<Self> {
        let region = Arc::new(Region::new(addr, len, start, Store::Direct { _pages: None }));
        bus.insert(&region).then(|| Self { region, bus: bus.clone() })
    }

    pub(crate) fn bus(&self) -> &Bus {
        &self.bus
    }

    pub(crate) fn hand_over(&self, offset: usize, len: usize, direction: Kind) {
        let access = Some(Access::Device(direction));
        self.region.lock().owners.set(offset..offset + len, access);
    }

    pub(crate) fn share(&self, offset: usize, len: usize) {
        self.region.lock().owners.set(offset..offset + len, Some(Access::Shared));
    }

    pub(crate) fn take_back(&self, offset: usize, len: usize) {
        self.region.lock().owners.set(offset..offset + len, None);
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.take_back(0, self.region.len());
    }
}
