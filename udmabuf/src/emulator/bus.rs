//! The device's way to memory.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{SyncFault, adversary::Adversary, faults::Side, region::Region};

/// Emulated buffers start here: below 4 GiB, for engines that drive no more
/// than 32 bits.
const FIRST_ADDR: u64 = 0x4000_0000;
const PAGE: u64 = crate::memory::ALIGN as u64;

/// What a device model masters: reads and writes by bus address.
///
/// Clones are the same bus, and equal; two emulators' are not.
///
/// ```
/// use udmabuf::emulator::{BusError, Emulator};
///
/// let emulator = Emulator::new();
/// let bus = emulator.bus();
/// let buffer = emulator.buffer(64).into_device()?;
/// let addr = buffer.dma_addr().to_u64();
/// bus.write(addr, &[7])?;
/// let mut byte = [0];
/// bus.read(addr, &mut byte)?;
/// assert_eq!(byte, [7]);
///
/// // SAFETY: the device, this program, is done.
/// let buffer = unsafe { buffer.into_cpu() }?;
/// assert_eq!(bus.write(addr, &[8]), Err(BusError::CpuOwned { addr, len: 1 }));
/// assert_eq!(buffer.as_slice()[0], 7);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default)]
pub struct Bus(Arc<Shared>);

/// What is common to the buffers and devices of a bus.
#[derive(Default)]
struct Shared {
    regions: Mutex<Vec<Weak<Region>>>,
    buffers_made: AtomicU64,
    adversary: Mutex<Option<Adversary>>,
    faults: Mutex<Vec<SyncFault>>,
    violations: Mutex<Vec<BusError>>,
}

/// Violations that are kept; a device that runs on does not fill the memory.
const VIOLATIONS_KEPT: usize = 1000;

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
        self.access(addr, into.len(), |region| region.read(addr, into))
    }

    /// The device writes `from` to memory at `addr`.
    ///
    /// # Errors
    /// [`BusError`]; memory is unchanged then.
    pub fn write(&self, addr: u64, from: &[u8]) -> Result<(), BusError> {
        self.access(addr, from.len(), |region| region.write(addr, from))
    }

    fn access(
        &self,
        addr: u64,
        len: usize,
        access: impl FnOnce(&Region) -> Result<(), BusError>,
    ) -> Result<(), BusError> {
        self.disturb();
        let result = self.find(addr, len).and_then(|region| access(&region));
        self.disturb();
        result.inspect_err(|&error| {
            let mut violations = lock(&self.0.violations);
            if violations.len() < VIOLATIONS_KEPT {
                violations.push(error);
            }
        })
    }

    /// What devices were refused so far.
    pub(super) fn violations(&self) -> Vec<BusError> {
        lock(&self.0.violations).clone()
    }

    pub(super) fn set_adversary(&self, adversary: Adversary) {
        *lock(&self.0.adversary) = Some(adversary);
    }

    /// The adversary for one moment, if there is one.
    pub(super) fn adversary(&self) -> Option<Adversary> {
        lock(&self.0.adversary).as_mut().map(Adversary::fork)
    }

    /// A moment at which the hardware could do something: it does.
    pub(super) fn disturb(&self) {
        if let Some(mut adversary) = self.adversary() {
            let region = {
                let regions = self.regions();
                let count = regions.len().max(1);
                regions.get(adversary.below(count)).and_then(Weak::upgrade)
            };
            if let Some(region) = region {
                adversary.disturb(&mut region.lock());
            }
        }
    }

    pub(super) fn add_fault(&self, fault: SyncFault) {
        lock(&self.0.faults).push(fault);
    }

    pub(super) fn clear_faults(&self) {
        lock(&self.0.faults).clear();
    }

    /// Whether this sync is to fail.
    pub(super) fn fails(&self, buffer: &str, side: Side) -> bool {
        // Each counts every sync that it is about, also one that fails anyway.
        lock(&self.0.faults).iter_mut().fold(false, |fails, fault| fault.hits(buffer, side) | fails)
    }

    /// The number of the next buffer.
    pub(super) fn number(&self) -> u64 {
        self.0.buffers_made.fetch_add(1, Ordering::Relaxed)
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
        lock(&self.0.regions)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let regions: Vec<_> = self.regions().iter().filter_map(Weak::upgrade).collect();
        f.debug_struct("Bus")
            .field("buffers", &regions)
            .field("adversary", &lock(&self.0.adversary))
            .field("faults", &lock(&self.0.faults))
            .field("violations", &lock(&self.0.violations))
            .finish()
    }
}
