//! The memory behind a buffer, and the two syncs of its parts.
#![allow(unsafe_code, reason = "says which threads may hold a buffer's memory")]

mod direct;
mod dma_buf;
mod kernel;
mod lent;

use std::{
    os::fd::{BorrowedFd, OwnedFd},
    ptr::NonNull,
};

pub(crate) use direct::Direct;
pub(crate) use dma_buf::DmaBuf;
pub(crate) use kernel::{Exclusive, HAS_OUTER_BUFFER, Kernel, Maintenance, Opening};
use lent::Lent;
use rustix::io::Errno;

use crate::{
    Error, barrier,
    direction::Kind,
    emulator::{Bus, CpuSide},
    words,
};

/// A buffer's memory.
///
/// # Invariants
/// 1. `start` is aligned to [`ALIGN`] and valid for reads and writes of `len`
///    bytes, at most `isize::MAX`, while `self` lives.
/// 2. Nobody but the [`Buffer`](crate::Buffer)s that are its parts accesses
///    those bytes while the CPU owns them: another process cannot, because the
///    module granted the claim (or whoever opened it vouched); the emulated bus
///    cannot, because it checks who owns a range; a real device does not,
///    because its driver vouches (the contract of [`Engine`](crate::Engine) and
///    of the `unsafe` handovers).
/// 3. While the device owns them, either the emulated bus or a real device
///    accesses them, not both, and at `dma_addr` a real one finds them: an engine
///    is given only buffers of its bus, whose addresses are its own (`is_on`).
/// 4. `line` is a power of two.
/// 5. No two have a byte in common, in this process: each has a mapping, or an
///    allocation, of its own.
/// 6. `dma_addr + len` does not wrap (`check_addresses`).
#[derive(Debug)]
pub(crate) struct Memory {
    pub(crate) start: NonNull<u8>,
    pub(crate) len: usize,
    /// Where the device finds the first byte.
    pub(crate) dma_addr: u64,
    /// What parts are aligned to.
    pub(crate) line: usize,
    pub(crate) is_coherent: bool,
    /// Whether it can be synced only as a whole.
    pub(crate) syncs_whole: bool,
    /// What a handover takes, if it is no more than this.
    direct: Direct,
    /// `direct.short()`
    short: usize,
    /// Whether the module does it, when it is advised to.
    is_advised: bool,
    /// What it takes beside telling an emulated bus.
    own: Direct,
    lent: Lent,
    pub(crate) name: String,
    backing: Backing,
}

/// What every buffer's first byte is aligned to, on the CPU's side.
pub(crate) const ALIGN: usize = 4096;

/// Refuses memory that ends at the end of the address space, or beyond: all sums of
/// its address and an offset in it, or of its end, are numbers.
pub(crate) fn check_addresses(dma_addr: u64, len: u64) -> Result<(), Error> {
    match dma_addr.checked_add(len) {
        Some(_) => Ok(()),
        None => Err(Error::OutOfRange { offset: dma_addr, len, size: u64::MAX }),
    }
}

#[derive(Debug)]
enum Backing {
    Kernel(Kernel),
    DmaBuf(DmaBuf),
    Emulated(CpuSide),
}

// SAFETY: the bytes behind `start` are plain memory that any thread may access;
// who may, and when, is invariant 2 and not a matter of threads.
unsafe impl Send for Memory {}
// SAFETY: as above; a shared `Memory` gives no access to the bytes by itself.
unsafe impl Sync for Memory {}

impl Memory {
    pub(crate) fn kernel(name: &str, opening: &Opening) -> Result<Self, Error> {
        let opened = Kernel::open(name, opening)?;
        Ok(Self {
            start: opened.kernel.start(),
            len: opened.kernel.len(),
            dma_addr: opened.dma_addr,
            line: opened.line,
            is_coherent: opened.is_coherent,
            syncs_whole: false,
            direct: opened.direct,
            short: opened.direct.short(),
            is_advised: opened.has_advice && matches!(opened.direct, Direct::No),
            own: opened.direct,
            lent: opened.lent,
            name: name.into(),
            backing: Backing::Kernel(opened.kernel),
        })
    }

    /// A dma-buf, and its bus address where that is known.
    pub(crate) fn dma_buf(name: String, dma_buf: DmaBuf, dma_addr: u64) -> Self {
        Self {
            start: dma_buf.start(),
            len: dma_buf.len(),
            dma_addr,
            line: ALIGN,
            is_coherent: false,
            syncs_whole: true,
            direct: Direct::No,
            short: 0,
            is_advised: false,
            own: Direct::No,
            lent: Lent::unshared(),
            name,
            backing: Backing::DmaBuf(dma_buf),
        }
    }

    pub(crate) fn emulated(cpu: CpuSide) -> Self {
        Self {
            start: cpu.start(),
            len: cpu.len(),
            dma_addr: cpu.dma_addr(),
            line: cpu.cache_line(),
            is_coherent: cpu.is_coherent(),
            syncs_whole: false,
            direct: Direct::No,
            short: 0,
            is_advised: false,
            own: Direct::No,
            lent: Lent::unshared(),
            name: cpu.name().into(),
            backing: Backing::Emulated(cpu),
        }
    }

    /// The emulated bus that the memory is on; `None` for the hardware's.
    pub(crate) fn bus(&self) -> Option<&Bus> {
        match &self.backing {
            Backing::Kernel(kernel) => kernel.bus(),
            Backing::DmaBuf(_) => None,
            Backing::Emulated(cpu) => Some(cpu.bus()),
        }
    }

    /// The device that it was made for, whose bus addresses it has.
    pub(crate) fn made_for(&self) -> Option<&str> {
        match &self.backing {
            Backing::Kernel(kernel) => kernel.made_for(),
            Backing::DmaBuf(_) | Backing::Emulated(_) => None,
        }
    }

    /// Whether its bus addresses are those of an engine that masters `bus`, or is
    /// hardware and reaches what `reaches` says.
    ///
    /// A dma-buf has none, or what its importer vouched for.
    #[inline]
    pub(crate) fn is_on(
        &self,
        bus: Option<&Bus>,
        reaches: impl FnOnce(Option<&str>) -> bool,
    ) -> bool {
        match &self.backing {
            Backing::Kernel(kernel) if kernel.bus().is_none() => {
                bus.is_none() && kernel.is_reached(reaches)
            }
            _ => self.bus() == bus,
        }
    }

    pub(crate) fn is_emulated(&self) -> bool {
        matches!(self.backing, Backing::Emulated(_))
    }

    /// Puts a kernel buffer on an emulated bus; all of it is the CPU's.
    pub(crate) fn attach(&mut self, bus: &Bus) -> Result<(), Error> {
        let attached = match &mut self.backing {
            Backing::Kernel(kernel) => kernel.attach(bus, self.dma_addr),
            Backing::DmaBuf(_) | Backing::Emulated(_) => false,
        };
        if !attached {
            let what = "already on an emulated bus, or its bus addresses are taken there";
            return Err(Error::Unsupported { name: self.name.as_str().into(), what });
        }
        (self.direct, self.short, self.is_advised) = (Direct::No, 0, false);
        Ok(())
    }

    /// The address behind the last byte.
    #[inline]
    pub(crate) fn end(&self) -> usize {
        self.start.addr().get() + self.len
    }

    /// Whether parts that follow each other can be synced as one.
    #[inline]
    pub(crate) fn merges(&self) -> bool {
        !matches!(self.direct, Direct::No) || self.is_modules()
    }

    /// Whether only the kernel module has to be told of a handover.
    fn is_modules(&self) -> bool {
        matches!((&self.backing, self.own), (Backing::Kernel(kernel), Direct::No) if kernel.bus().is_none())
    }

    /// The file to which a sync of this memory is a range of a batch.
    pub(crate) fn batch(&self) -> Option<BorrowedFd<'_>> {
        match (&self.backing, self.own) {
            (Backing::Kernel(kernel), Direct::No) => kernel.batch(),
            _ => None,
        }
    }

    /// The descriptor of a dma-buf.
    pub(crate) fn dma_buf_fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.backing {
            Backing::DmaBuf(dma_buf) => Some(dma_buf.fd()),
            Backing::Kernel(_) | Backing::Emulated(_) => None,
        }
    }

    /// A dma-buf of some of the kernel's buffer.
    pub(crate) fn export(&self, offset: usize, len: usize) -> Result<OwnedFd, Error> {
        match &self.backing {
            Backing::Kernel(kernel) => kernel.export(&self.name, offset, len),
            Backing::DmaBuf(_) | Backing::Emulated(_) => {
                let what = "only a buffer of the kernel module can be exported as a dma-buf";
                Err(Error::Unsupported { name: self.name.as_str().into(), what })
            }
        }
    }

    /// What the CPU wrote to `len` bytes at `start`, so many parts, reaches memory,
    /// and its caches write nothing there later. On failure nothing has changed.
    #[inline]
    pub(crate) fn sync_for_device(
        &self,
        start: NonNull<u8>,
        len: usize,
        parts: usize,
        direction: Kind,
    ) -> Result<(), Error> {
        match self.quick_for_device(start, len, parts)
            || self.is_advised && self.advised_for_device(start, len)
        {
            true => Ok(()),
            false => self.slow_for_device(start, len, parts, direction),
        }
    }

    /// What the device wrote to so many parts becomes visible to the CPU. On failure
    /// they are still the device's.
    #[inline]
    pub(crate) fn sync_for_cpu(
        &self,
        start: NonNull<u8>,
        len: usize,
        parts: usize,
        direction: Kind,
    ) -> Result<(), Error> {
        match self.quick_for_cpu(start, len, parts, direction)
            // What the device only read keeps its lines.
            || self.is_advised && direction != Kind::ToDevice && self.advised_for_cpu(start, len)
        {
            true => Ok(()),
            false => self.slow_for_cpu(start, len, parts, direction),
        }
    }

    /// Lets the device in beside the CPU, whose mapping has a cache or not, or combines
    /// stores.
    pub(crate) fn share(
        &self,
        start: NonNull<u8>,
        len: usize,
        cached: bool,
        combines: bool,
    ) -> Result<(), Error> {
        if let Backing::Emulated(cpu) = &self.backing {
            return cpu.set_shared(self.offset(start), len);
        }
        if cached && !self.is_coherent {
            let what = "CPU and device cannot share it: there is a cache between them; \
                        open it with `OpenOptions::uncached` or `write_combined`";
            return Err(Error::Unsupported { name: self.name.as_str().into(), what });
        }
        if combines && HAS_OUTER_BUFFER {
            let what = "CPU and device cannot share it: write-combined stores may stay in the \
                        buffer of an outer cache; open it with `OpenOptions::uncached`";
            return Err(Error::Unsupported { name: self.name.as_str().into(), what });
        }
        self.sync_for_device(start, len, 1, Kind::Bidirectional)?;
        if let Backing::Kernel(kernel) = &self.backing {
            kernel.share(self.offset(start), len);
        }
        Ok(())
    }

    /// The opposite of [`share`](Memory::share).
    pub(crate) fn end_share(&self, start: NonNull<u8>, len: usize) -> Result<(), Error> {
        match &self.backing {
            Backing::Emulated(cpu) => cpu.end_shared(self.offset(start), len),
            _ => self.sync_for_cpu(start, len, 1, Kind::Bidirectional),
        }
    }

    /// Fills `len` bytes at `start`, whole lines, with zeros: so dirty they are the same
    /// whatever is in memory.
    ///
    /// # Safety
    /// They are some of it, there is no reference to them, and no device accesses them.
    pub(crate) unsafe fn clear(&self, start: NonNull<u8>, len: usize) {
        // SAFETY: valid for writes, by invariant 1; nobody else accesses them.
        unsafe { words::fill(start, len, 0) };
        if let Backing::Emulated(cpu) = &self.backing {
            cpu.evict_zeros(self.offset(start), len);
        }
    }

    fn gone(&self) -> Error {
        Error::os(&self.name, "handover", Errno::NODEV)
    }

    /// Whether the module has done it by the cheapest of its calls, if `is_advised`. If
    /// it refuses, it is asked in another way, and its answer told.
    #[inline(never)]
    fn advised_for_device(&self, start: NonNull<u8>, len: usize) -> bool {
        let Backing::Kernel(kernel) = &self.backing else { return false };
        // What is done for both directions is enough for one.
        let done = kernel.advise_for_device(self.offset(start), len);
        barrier::before_device();
        done
    }

    /// The same, the other way.
    #[inline(never)]
    fn advised_for_cpu(&self, start: NonNull<u8>, len: usize) -> bool {
        let Backing::Kernel(kernel) = &self.backing else { return false };
        barrier::after_device();
        kernel.advise_for_cpu(self.offset(start), len)
    }

    /// What takes longer, or a system call, or cannot be done.
    #[inline(never)]
    pub(crate) fn slow_for_device(
        &self,
        start: NonNull<u8>,
        len: usize,
        parts: usize,
        direction: Kind,
    ) -> Result<(), Error> {
        match self.direct {
            Direct::No => {}
            direct if self.direct_for_device(direct, start, len, parts, false) => return Ok(()),
            _ => return Err(self.gone()),
        }
        let offset = self.offset(start);
        match &self.backing {
            Backing::Kernel(kernel) => {
                match self.own {
                    Direct::No => {
                        kernel.sync_for_device(&self.name, offset, len, direction)?;
                        barrier::before_device();
                    }
                    own if self.direct_for_device(own, start, len, parts, false) => {}
                    _ => return Err(self.gone()),
                }
                kernel.hand_over(offset, len, direction);
            }
            Backing::DmaBuf(dma_buf) => {
                dma_buf.sync_for_device(&self.name)?;
                barrier::before_device();
            }
            Backing::Emulated(cpu) => cpu.sync_for_device(offset, len, direction)?,
        }
        Ok(())
    }

    /// What takes longer, or a system call, or cannot be done.
    #[inline(never)]
    pub(crate) fn slow_for_cpu(
        &self,
        start: NonNull<u8>,
        len: usize,
        parts: usize,
        direction: Kind,
    ) -> Result<(), Error> {
        match self.direct {
            Direct::No => {}
            direct if self.direct_for_cpu(direct, start, len, parts, false, direction) => {
                return Ok(());
            }
            _ => return Err(self.gone()),
        }
        let offset = self.offset(start);
        match &self.backing {
            Backing::Kernel(kernel) => {
                kernel.take_back(offset, len);
                match self.own {
                    Direct::No => {
                        barrier::after_device();
                        // An emulated device writes through this CPU's cache: its
                        // lines are the only ones that are right.
                        let direction = match kernel.bus() {
                            Some(_) => Kind::ToDevice,
                            None => direction,
                        };
                        kernel.sync_for_cpu(&self.name, offset, len, direction)?;
                    }
                    own if self.direct_for_cpu(own, start, len, parts, false, direction) => {}
                    _ => return Err(self.gone()),
                }
            }
            Backing::DmaBuf(dma_buf) => {
                barrier::after_device();
                dma_buf.sync_for_cpu(&self.name)?;
            }
            Backing::Emulated(cpu) => cpu.sync_for_cpu(offset, len, direction)?,
        }
        Ok(())
    }

    fn offset(&self, start: NonNull<u8>) -> usize {
        start.addr().get() - self.start.addr().get()
    }
}

#[cfg(test)]
mod tests {
    use super::check_addresses;
    use crate::{DmaAddr, Error};

    #[test]
    fn an_address_behind_the_last_byte_is_a_number() {
        let first = u64::MAX - 4096;
        check_addresses(first, 4096).unwrap();
        assert_eq!(DmaAddr::new(first, 4096).slice(4096..4096).unwrap().to_u64(), u64::MAX);
        for beyond in [first + 1, u64::MAX] {
            let error = check_addresses(beyond, 4096).unwrap_err();
            assert!(
                matches!(error, Error::OutOfRange { offset, .. } if offset == beyond),
                "{error}"
            );
        }
    }
}
