//! The memory behind a buffer, and the two syncs.
#![allow(unsafe_code, reason = "says which threads may hold a buffer's memory")]

mod kernel;

use std::ptr::NonNull;

use kernel::Kernel;

use crate::{
    Error, barrier,
    direction::Kind,
    emulator::{Bus, CpuSide},
};

/// A buffer's memory.
///
/// # Invariants
/// 1. `start` is aligned to [`ALIGN`] and valid for reads and writes of `len`
///    bytes, at most `isize::MAX`, while `self` lives.
/// 2. Nobody but the [`Buffer`](crate::Buffer) that owns `self` accesses those
///    bytes while the CPU owns it: another process cannot, because the module
///    granted the claim; the emulated bus cannot, because it checks who owns a
///    region; a real device does not, because its driver vouches (the contract
///    of [`Engine`](crate::Engine) and of the `unsafe` handover).
/// 3. While the device owns them, either the emulated bus or a real device
///    accesses them, not both: an engine is started only on buffers of its bus.
#[derive(Debug)]
pub struct Memory {
    pub(crate) name: String,
    pub(crate) start: NonNull<u8>,
    pub(crate) len: usize,
    pub(crate) dma_addr: u64,
    pub(crate) is_coherent: bool,
    backing: Backing,
}

/// What every buffer's first byte is aligned to, on the CPU's side.
pub(crate) const ALIGN: usize = 4096;

#[derive(Debug)]
enum Backing {
    Kernel(Kernel),
    Emulated(CpuSide),
}

// SAFETY: the bytes behind `start` are plain memory that any thread may access;
// who may, and when, is invariant 2 and not a matter of threads.
unsafe impl Send for Memory {}
// SAFETY: as above; a shared `Memory` gives no access to the bytes by itself.
unsafe impl Sync for Memory {}

impl Memory {
    pub(crate) fn open(name: &str, adopt: bool) -> Result<Self, Error> {
        let (kernel, info) = Kernel::open(name, adopt)?;
        Ok(Self {
            name: name.into(),
            start: kernel.start(),
            len: kernel.len(),
            dma_addr: info.dma_addr,
            is_coherent: info.is_coherent(),
            backing: Backing::Kernel(kernel),
        })
    }

    pub(crate) fn emulated(cpu: CpuSide) -> Self {
        Self {
            name: cpu.name().into(),
            start: cpu.start(),
            len: cpu.len(),
            dma_addr: cpu.dma_addr(),
            is_coherent: cpu.is_coherent(),
            backing: Backing::Emulated(cpu),
        }
    }

    /// The emulated bus that the memory is on; `None` for the hardware's.
    pub(crate) fn bus(&self) -> Option<&Bus> {
        match &self.backing {
            Backing::Kernel(kernel) => kernel.bus(),
            Backing::Emulated(cpu) => Some(cpu.bus()),
        }
    }

    /// Puts a kernel buffer on an emulated bus; `self` is the CPU's.
    pub(crate) fn attach(&mut self, bus: &Bus) -> Result<(), Error> {
        let attached = match &mut self.backing {
            Backing::Kernel(kernel) => kernel.attach(bus, self.dma_addr),
            Backing::Emulated(_) => false,
        };
        if !attached {
            let what = "already on an emulated bus, or its bus addresses are taken there";
            return Err(Error::Unsupported { name: self.name.clone(), what });
        }
        Ok(())
    }

    /// What the CPU wrote reaches memory, and its caches write nothing later.
    pub(crate) fn sync_for_device(&self, direction: Kind) -> Result<(), Error> {
        match &self.backing {
            Backing::Kernel(kernel) => {
                kernel.sync_for_device(&self.name, direction)?;
                barrier::before_device();
            }
            Backing::Emulated(cpu) => cpu.sync_for_device(0, self.len, direction)?,
        }
        Ok(())
    }

    /// What the device wrote becomes visible to the CPU.
    pub(crate) fn sync_for_cpu(&self, direction: Kind) -> Result<(), Error> {
        match &self.backing {
            Backing::Kernel(kernel) => {
                barrier::after_device();
                kernel.sync_for_cpu(&self.name, direction)?;
            }
            Backing::Emulated(cpu) => cpu.sync_for_cpu(0, self.len, direction)?,
        }
        Ok(())
    }
}
