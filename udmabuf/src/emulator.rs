//! DMA buffers without hardware, in which a missing sync shows.
//!
//! Each buffer is two allocations: what the CPU sees through its cache and what
//! is in memory, where the device reads and writes. Only a handover copies
//! between them, as cache maintenance would. A desktop with coherent hardware,
//! and QEMU, can show no cache bug; this can.
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

mod bus;
#[allow(dead_code, reason = "the seam for parts")]
mod cache;
#[allow(dead_code, reason = "the seam for parts")]
mod cpu_side;
#[allow(dead_code, reason = "the seam for parts")]
mod owners;
mod pages;
#[allow(dead_code, reason = "the seam for parts")]
mod region;
mod words;

pub use bus::{Bus, BusError};
pub(crate) use cpu_side::CpuSide;
pub(crate) use region::Tap;

use region::Region;

use crate::{Bidirectional, Buffer, CpuOwned, Direction, Error, memory::Memory};

/// Makes emulated buffers, all on one bus.
#[derive(Clone, Debug)]
pub struct Emulator {
    bus: Bus,
    line: usize,
    coherent: bool,
    missing: MissingSync,
}

impl Default for Emulator {
    fn default() -> Self {
        Self { bus: Bus::default(), line: 64, coherent: false, missing: MissingSync::default() }
    }
}

/// Which syncs are left out, to show what that does.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MissingSync {
    pub(crate) for_device: bool,
    pub(crate) for_cpu: bool,
}

impl Emulator {
    /// An emulator with an empty bus.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Buffers made from now on are coherent: CPU and device see one memory,
    /// and a handover copies nothing.
    #[must_use]
    pub fn coherent(mut self) -> Self {
        self.coherent = true;
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
        assert_ne!(size, 0, "a buffer has at least one byte");
        let region = self.bus.allocate(size, |addr| match self.coherent {
            true => Region::direct(addr, size),
            false => Region::cached(addr, size, self.line),
        });
        Buffer::new(Memory::emulated(CpuSide::new(&self.bus, region, self.line, self.missing)))
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
        buffer.memory_mut().attach(&self.bus)
    }

    /// The bus, as a device sees it.
    #[must_use]
    pub fn bus(&self) -> Bus {
        self.bus.clone()
    }
}
