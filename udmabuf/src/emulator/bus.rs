//! The device's way to memory.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::region::Region;

/// Emulated buffers start here: below 4 GiB, for engines that drive no more
/// than 32 bits.
const FIRST_ADDR: u64 = 0x4000_0000;
const PAGE: u64 = crate::memory::ALIGN as u64;

/// What a device model masters: reads and writes by bus address.
///
/// Clones are the same bus, and equal; two emulators' are not.
#[derive(Clone, Debug, Default)]
pub struct Bus(Arc<Mutex<Vec<Weak<Region>>>>);

/// An access that a driver must not let its device make.
///
/// Real hardware would have done it, silently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BusError {
    /// No buffer has all of these addresses.
    #[error("the device accessed {len} bytes at {addr:#x}, which is outside every buffer")]
    NoMemory {
        /// Bus address.
        addr: u64,
        /// Bytes.
        len: usize,
    },
    /// The buffer was not handed over, or was taken back.
    #[error("the device accessed {len} bytes at {addr:#x} while the CPU owned them")]
    CpuOwned {
        /// Bus address.
        addr: u64,
        /// Bytes.
        len: usize,
    },
    /// The buffer was handed over for the other direction only.
    #[error("the device accessed {len} bytes at {addr:#x} against the buffer's direction")]
    WrongDirection {
        /// Bus address.
        addr: u64,
        /// Bytes.
        len: usize,
    },
}

impl PartialEq for Bus {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Bus {
    /// The device reads memory at `addr` into `into`.
    ///
    /// # Errors
    /// [`BusError`]; `into` is unchanged then.
    pub fn read(&self, addr: u64, into: &mut [u8]) -> Result<(), BusError> {
        self.find(addr, into.len())?.read(addr, into)
    }

    /// The device writes `from` to memory at `addr`.
    ///
    /// # Errors
    /// [`BusError`]; memory is unchanged then.
    pub fn write(&self, addr: u64, from: &[u8]) -> Result<(), BusError> {
        self.find(addr, from.len())?.write(addr, from)
    }

    fn find(&self, addr: u64, len: usize) -> Result<Arc<Region>, BusError> {
        self.regions()
            .iter()
            .filter_map(Weak::upgrade)
            .find(|region| region.range(addr, len).is_some())
            .ok_or(BusError::NoMemory { addr, len })
    }

    /// Adds the region that `make` makes for `len` bytes at an address where
    /// there is room.
    pub(super) fn allocate(&self, len: usize, make: impl FnOnce(u64) -> Region) -> Arc<Region> {
        let mut regions = self.live_regions();
        let mut addr = FIRST_ADDR;
        // An unused page between neighbours catches a device that runs on.
        while let Some(end) = regions
            .iter()
            .filter_map(Weak::upgrade)
            .find(|other| addr < other.end() + PAGE && other.addr() < addr + len as u64 + PAGE)
            .map(|other| other.end())
        {
            addr = end.next_multiple_of(PAGE) + PAGE;
        }
        let region = Arc::new(make(addr));
        regions.push(Arc::downgrade(&region));
        region
    }

    /// Adds a region, unless its addresses are taken.
    pub(super) fn insert(&self, region: &Arc<Region>) -> bool {
        let mut regions = self.live_regions();
        let free = regions
            .iter()
            .filter_map(Weak::upgrade)
            .all(|other| region.end() <= other.addr() || other.end() <= region.addr());
        if free {
            regions.push(Arc::downgrade(region));
        }
        free
    }

    fn live_regions(&self) -> MutexGuard<'_, Vec<Weak<Region>>> {
        let mut regions = self.regions();
        regions.retain(|region| region.strong_count() > 0);
        regions
    }

    fn regions(&self) -> MutexGuard<'_, Vec<Weak<Region>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
