//! DMA buffers without hardware, in which a missing sync shows.
//!
//! Each buffer is two allocations: what the CPU sees through its cache and what
//! is in memory, where the device reads and writes. Only a handover copies
//! between them, line by line and by direction, as cache maintenance would. A
//! desktop with coherent hardware, and QEMU, can show no cache bug; this can.
//!
//! The device is a model that you write: it masters the [`Bus`], which refuses
//! what a device must not do (access what the CPU owns, or write what was handed
//! over to be read). Its registers and interrupt come from `udmabuf-uio`'s
//! emulator, so that a driver is the same source here and on a board.
//!
//! ```
//! use udmabuf::{Buffer, emulator::Emulator};
//!
//! let emulator = Emulator::new();
//! let mut buffer: Buffer = emulator.buffer(4096);
//! buffer.as_mut_slice()[..5].copy_from_slice(b"hello");
//!
//! let buffer = buffer.into_device()?;
//! let mut seen = [0; 5];
//! emulator.bus().read(buffer.dma_addr().to_u64(), &mut seen)?;
//! assert_eq!(&seen, b"hello");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The test of a driver
//!
//! | to see | there is |
//! |---|---|
//! | whether its results depend on what the cache does | [`with_adversary`](Emulator::with_adversary) |
//! | what it does when a sync fails | [`inject`](Emulator::inject) |
//! | whether its device keeps to its buffers | [`violations`](Emulator::violations) |
//! | what it does when the device stalls, or an interrupt is lost | `Faults`, in `udmabuf-uio`'s emulator |
//! | whether it works with a coherent device, or other cache lines | [`coherent`](Emulator::coherent), [`with_cache_line`](Emulator::with_cache_line) |
//! | whether a test would notice that a sync is missing | [`without_sync_for_device`](Emulator::without_sync_for_device), [`without_sync_for_cpu`](Emulator::without_sync_for_cpu) |
//!
//! ```
//! use udmabuf::{Buffer, CpuOwned, DeviceOwned, Error, FromDevice, Handoff};
//! use udmabuf::emulator::{Bus, Emulator, SyncFault};
//!
//! // The driver: hands a buffer over, and again if that fails once.
//! fn receive(buffer: Buffer<CpuOwned, FromDevice>) -> Result<Buffer<DeviceOwned, FromDevice>, Error> {
//!     match buffer.into_device() {
//!         Ok(buffer) => Ok(buffer),
//!         Err(Handoff { value, .. }) => value.into_device().map_err(|failed| failed.error),
//!     }
//! }
//!
//! // Its device: fills all it is given.
//! fn device(bus: &Bus, addr: u64, len: usize) {
//!     let _ = bus.write(addr, &vec![7; len]);
//! }
//!
//! let emulator = Emulator::new().with_adversary();
//! let mut buffer = emulator.buffer(1000);
//! buffer.as_mut_slice().fill(0xee); // dirty lines that must not overwrite what the device writes
//! emulator.inject(SyncFault::all().for_device().times(1));
//!
//! let buffer = receive(buffer.for_direction())?;
//! device(&emulator.bus(), buffer.dma_addr().to_u64(), buffer.len());
//! // SAFETY: the device is done. A driver has a `Transfer` for this.
//! let buffer = unsafe { buffer.into_cpu() }?;
//! assert_eq!(buffer.as_slice(), [7; 1000]);
//! assert!(emulator.violations().is_empty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod adversary;
mod bus;
mod cache;
mod cpu_side;
mod faults;
mod owners;
mod pages;
mod region;

use std::{
    fmt,
    hash::{BuildHasher, Hasher, RandomState},
};

use adversary::Adversary;
pub use bus::{Bus, BusError};
pub(crate) use cpu_side::CpuSide;
pub use faults::SyncFault;
pub(crate) use region::Tap;

use crate::{Bidirectional, Buffer, CpuOwned, Direction, Error, Mapped, memory::Memory};

/// Makes emulated buffers, all on one bus.
///
/// ```
/// use udmabuf::{Uncached, emulator::Emulator};
///
/// let emulator = Emulator::new().with_cache_line(128).with_adversary_seed(1);
/// assert_eq!(emulator.buffer(4096).part_alignment(), 128);
/// assert!(emulator.clone().coherent().buffer(4096).is_coherent());
/// let registers_in_memory = emulator.buffer_mapped::<Uncached>(4096);
///
/// // What a driver without the sync for the device would send.
/// let broken = Emulator::new().without_sync_for_device();
/// let mut buffer = broken.buffer(64);
/// buffer.as_mut_slice().fill(1);
/// let buffer = buffer.into_device()?;
/// let mut sent = [9; 64];
/// broken.bus().read(buffer.dma_addr().to_u64(), &mut sent)?;
/// assert_eq!(sent, [0; 64]); // not what the CPU wrote
/// # drop(registers_in_memory);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Emulator {
    bus: Bus,
    line: usize,
    is_coherent: bool,
    missing: MissingSync,
}

/// Which syncs are left out, to show what that does.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MissingSync {
    pub(crate) for_device: bool,
    pub(crate) for_cpu: bool,
}

impl Emulator {
    /// An emulator with an empty bus, a cache with lines of 64 bytes, and no
    /// adversary.
    #[must_use]
    pub fn new() -> Self {
        let missing = MissingSync::default();
        Self { bus: Bus::default(), line: 64, is_coherent: false, missing }
    }

    /// From now on the cache does what hardware may do, at random: it evicts
    /// dirty lines and prefetches lines, of what the device owns too, at every
    /// handover and every access of a device.
    ///
    /// A correct driver gives the same results under every seed. The seed is
    /// that in the environment variable `SEED`, else a random one; it is
    /// printed, so that a failure can be repeated.
    ///
    /// # Panics
    /// If `SEED` is not a number.
    #[must_use]
    pub fn with_adversary(self) -> Self {
        let seed = match std::env::var("SEED") {
            Ok(seed) => seed.parse().expect("SEED is a number of 64 bits"),
            Err(_) => RandomState::new().build_hasher().finish(),
        };
        eprintln!("the emulator's adversary: SEED={seed} repeats it");
        self.with_adversary_seed(seed)
    }

    /// As [`with_adversary`](Emulator::with_adversary), with this seed.
    ///
    /// Where a model runs on a thread of its own, the seed repeats what the
    /// adversary does, but not exactly when.
    #[must_use]
    pub fn with_adversary_seed(self, seed: u64) -> Self {
        self.bus.set_adversary(Adversary::new(seed));
        self
    }

    /// Buffers made from now on are coherent: CPU and device see one memory,
    /// and a handover copies nothing.
    #[must_use]
    pub fn coherent(mut self) -> Self {
        self.is_coherent = true;
        self
    }

    /// Buffers made from now on have cache lines of `bytes`; 64 unless told.
    ///
    /// # Panics
    /// Unless it is a power of two, and at most 4096.
    #[must_use]
    pub fn with_cache_line(mut self, bytes: usize) -> Self {
        assert!(bytes.is_power_of_two() && bytes <= 4096, "no cache has lines of {bytes} bytes");
        self.line = bytes;
        self
    }

    /// Buffers made from now on reach the device without a sync, as if a
    /// driver had forgotten to clean the cache.
    #[must_use]
    pub fn without_sync_for_device(mut self) -> Self {
        self.missing.for_device = true;
        self
    }

    /// Buffers made from now on come back to the CPU without a sync, as if a
    /// driver had forgotten to invalidate the cache.
    #[must_use]
    pub fn without_sync_for_cpu(mut self) -> Self {
        self.missing.for_cpu = true;
        self
    }

    /// A buffer of `size` bytes, zeroed, as `u-dma-buf` would make it.
    ///
    /// # Panics
    /// If `size` is 0, or there is no memory.
    #[must_use]
    pub fn buffer(&self, size: usize) -> Buffer<CpuOwned, Bidirectional> {
        self.buffer_mapped(size)
    }

    /// A buffer that the CPU has mapped in mode `M`; without a cache, CPU and
    /// device see one memory.
    ///
    /// # Panics
    /// As [`buffer`](Emulator::buffer).
    #[must_use]
    pub fn buffer_mapped<M: Mapped>(&self, size: usize) -> Buffer<CpuOwned, Bidirectional, M> {
        assert_ne!(size, 0, "a buffer has at least one byte");
        Buffer::new(Memory::emulated(CpuSide::new(self, size, M::CACHED)))
    }

    /// Puts a buffer of the kernel module on the emulated bus too, at its real
    /// address: for a device model that works on real buffers, where the module
    /// is there and the engine is not yet. From then on no hardware engine takes
    /// it.
    ///
    /// # Errors
    /// [`Error::Unsupported`]: the buffer is on an emulated bus already, or
    /// its addresses are taken there.
    pub fn attach<D: Direction>(&self, buffer: &mut Buffer<CpuOwned, D>) -> Result<(), Error> {
        match buffer.memory_mut() {
            Some(memory) => memory.attach(&self.bus),
            None => {
                let what = "only a part of it: put it on the bus before it is split";
                Err(Error::Unsupported { name: buffer.name().into(), what })
            }
        }
    }

    /// Lets syncs fail.
    pub fn inject(&self, fault: SyncFault) {
        self.bus.add_fault(fault);
    }

    /// Lets no sync fail any more.
    pub fn clear_faults(&self) {
        self.bus.clear_faults();
    }

    /// What devices tried and must not, and were refused: the first thousand.
    /// A test of a driver asserts that there is nothing.
    ///
    /// ```
    /// # let emulator = udmabuf::emulator::Emulator::new();
    /// # let buffer = emulator.buffer(64).into_device()?;
    /// let end = buffer.dma_addr().to_u64() + 64;
    /// assert!(emulator.bus().write(end, &[0]).is_err()); // a model that runs on
    /// assert_eq!(emulator.violations().len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn violations(&self) -> Vec<BusError> {
        self.bus.violations()
    }

    /// The bus, as a device sees it.
    #[must_use]
    pub fn bus(&self) -> Bus {
        self.bus.clone()
    }
}

impl Default for Emulator {
    fn default() -> Self {
        Self::new()
    }
}

/// A summary: buffers and what the device owns of them, the adversary, faults
/// and violations.
impl fmt::Debug for Emulator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Emulator")
            .field("cache_line", &self.line)
            .field("is_coherent", &self.is_coherent)
            .field("missing", &self.missing)
            .field("bus", &self.bus)
            .finish()
    }
}
