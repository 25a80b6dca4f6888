//! The buffer, and its way from the CPU to the device and back.
#![allow(unsafe_code, reason = "declares the one unsafe handover")]

use std::{fmt, marker::PhantomData, mem::ManuallyDrop, ops::Range};

use crate::{
    Bidirectional, CpuOwned, DeviceAccess, DeviceOwned, Direction, DmaAddr, Error, Handoff, Owner,
    memory::Memory,
};

/// DMA memory that belongs to `O`, the CPU or the device, and moves data in
/// direction `D`.
///
/// | owner | what there is |
/// |---|---|
/// | [`CpuOwned`] | slices and views, [`into_device`](Buffer::into_device) |
/// | [`DeviceOwned`] | the bus address, [`dma_addr`](Buffer::dma_addr) |
///
/// A handover consumes the buffer and gives it back in its new type, so a slice
/// cannot live across it and an address cannot be used before it.
///
/// # Invariants
/// 1. A reference to the bytes exists only while `O` is [`CpuOwned`] and
///    borrows the buffer: every handover takes `self`.
/// 2. A `Buffer<DeviceOwned>` is turned into one of the CPU only on
///    [`Engine`](crate::Engine)'s word that the device is done, or was never
///    started, or on the caller's `unsafe` one.
pub struct Buffer<O: Owner = CpuOwned, D: Direction = Bidirectional> {
    held: O::Held,
    direction: PhantomData<D>,
}

impl Buffer {
    /// Opens, claims and maps the kernel module's buffer `name`, which is then
    /// this process's alone.
    ///
    /// If an administrator removes the buffer nevertheless (unbinds its device),
    /// the handovers fail, and access to its bytes ends the process with SIGBUS,
    /// as it does for a file that is cut short under a mapping.
    ///
    /// ```no_run
    /// use udmabuf::{Buffer, ToDevice};
    ///
    /// let mut buffer = Buffer::open("udmabuf0")?.for_direction::<ToDevice>();
    /// buffer.as_mut_slice().fill(0x55);
    /// # Ok::<(), udmabuf::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::PermissionDenied`], [`Error::Busy`] if
    /// anybody has it open, [`Error::StillDeviceOwned`] if its last user ended
    /// while a device owned it, [`Error::Unsupported`] on a driver without
    /// exclusive claims.
    pub fn open(name: &str) -> Result<Self, Error> {
        Memory::open(name, false).map(Self::new)
    }

    /// Opens a buffer whose last user ended while a device owned it.
    ///
    /// # Safety
    /// No device accesses the buffer any more: the engine was reset or stopped
    /// since.
    ///
    /// # Errors
    /// As [`Buffer::open`].
    pub unsafe fn recover(name: &str) -> Result<Self, Error> {
        Memory::open(name, true).map(Self::new)
    }

    pub(crate) fn new(memory: Memory) -> Self {
        Self { held: Box::new(memory), direction: PhantomData }
    }
}

impl<O: Owner, D: Direction> Buffer<O, D> {
    pub(crate) fn memory(&self) -> &Memory {
        O::memory(&self.held)
    }

    /// The buffer's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.memory().name
    }

    /// The size in bytes.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(&self) -> usize {
        self.memory().len
    }

    /// Whether hardware keeps the CPU's caches coherent with the device. An
    /// engine whose transactions snoop only when told to must be told so.
    #[must_use]
    pub fn is_coherent(&self) -> bool {
        self.memory().is_coherent
    }

    /// The buffer's address, as the device sees it.
    ///
    /// Whoever writes it into a device that uses it keeps the buffer, in a
    /// [`Transfer`](crate::Transfer), until the device is done.
    ///
    /// ```
    /// # let emulator = udmabuf::emulator::Emulator::new();
    /// let buffer = emulator.buffer(4096).into_device()?;
    /// let (low, high) = buffer.dma_addr().to_words(44)?; // for an engine with 44 address lines
    /// # let _ = (low, high);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn dma_addr(&self) -> DmaAddr
    where
        O: DeviceAccess,
    {
        DmaAddr::new(self.memory().dma_addr, self.len())
    }

    /// The address of `range`, for a device that is to access no more than
    /// those bytes.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] if the buffer does not hold them all.
    pub fn dma_addr_of(&self, range: Range<usize>) -> Result<DmaAddr, Error>
    where
        O: DeviceAccess,
    {
        let Range { start, end } = range.clone();
        if start > end || end > self.len() {
            return Err(Error::OutOfRange {
                offset: start as u64,
                len: end.saturating_sub(start) as u64,
                size: self.len() as u64,
            });
        }
        Ok(DmaAddr::new(self.memory().dma_addr + start as u64, range.len()))
    }
}

impl<D: Direction> Buffer<CpuOwned, D> {
    /// Says which way the next transfers go. No data moves.
    #[must_use]
    pub fn for_direction<N: Direction>(self) -> Buffer<CpuOwned, N> {
        Buffer { held: self.held, direction: PhantomData }
    }

    /// Hands the buffer to the device: what the CPU wrote is in memory when
    /// this returns, before any register is written, and no dirty cache line
    /// can overwrite what the device will write.
    ///
    /// # Errors
    /// The sync failed; the buffer is in [`Handoff::value`], still the CPU's.
    // The comment on `self` is what the compiler shows to whoever uses the
    // buffer afterwards.
    pub fn into_device(
        self, // the device owns it from here; go on with what `Transfer::wait` gives back
    ) -> Result<Buffer<DeviceOwned, D>, Handoff<Self>> {
        match self.memory().sync_for_device(D::KIND) {
            Ok(()) => Ok(Buffer { held: ManuallyDrop::new(self.held), direction: PhantomData }),
            Err(error) => Err(Handoff { error, value: self }),
        }
    }

    pub(crate) fn memory_mut(&mut self) -> &mut Memory {
        &mut self.held
    }
}

impl<D: Direction> Buffer<DeviceOwned, D> {
    /// Takes the buffer back without a transfer that knows when the device is
    /// done: [`Transfer::wait`](crate::Transfer::wait) is the safe way.
    ///
    /// # Safety
    /// The device no longer accesses the buffer.
    ///
    /// # Errors
    /// The sync failed; the buffer is in [`Handoff::value`], still the device's.
    pub unsafe fn into_cpu(self) -> Result<Buffer<CpuOwned, D>, Handoff<Self>> {
        match self.memory().sync_for_cpu(D::KIND) {
            Ok(()) => Ok(self.assume_cpu()),
            Err(error) => Err(Handoff { error, value: self }),
        }
    }

    /// The type of a buffer that has been synced for the CPU.
    pub(crate) fn assume_cpu(self) -> Buffer<CpuOwned, D> {
        Buffer { held: ManuallyDrop::into_inner(self.held), direction: PhantomData }
    }
}

impl<O: Owner, D: Direction> fmt::Debug for Buffer<O, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let owner = std::any::type_name::<O>().rsplit("::").next().unwrap_or_default();
        let direction = std::any::type_name::<D>().rsplit("::").next().unwrap_or_default();
        write!(f, "Buffer<{owner}, {direction}>({}, {} bytes)", self.name(), self.len())
    }
}
