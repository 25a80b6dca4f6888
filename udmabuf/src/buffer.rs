//! The buffer, and its way from the CPU to the device and back.
#![allow(unsafe_code, reason = "declares the unsafe handovers")]

use std::{fmt, marker::PhantomData, mem::ManuallyDrop, ops::Range};

use crate::{
    Addressed, Bidirectional, CacheMode, Cached, CpuOwned, DeviceAccess, DeviceOwned, Direction,
    DmaAddr, Error, Handoff, OpenOptions, Owner, Shared, barrier, emulator::Bus, memory::Memory,
    part::Part,
};

/// DMA memory that belongs to `O`, the CPU or the device, moves data in
/// direction `D` and is mapped in mode `M`: a whole buffer, or a
/// [part](Buffer::split_at) of one.
///
/// | owner | what there is |
/// |---|---|
/// | [`CpuOwned`] | slices and views, [`into_device`](Buffer::into_device) |
/// | [`DeviceOwned`] | the bus address, [`dma_addr`](Buffer::dma_addr) |
/// | [`Shared`] | the bus address, and access by value |
///
/// A handover consumes the buffer and gives it back in its new type, so a slice
/// cannot live across it and an address cannot be used before it. It allocates
/// nothing, and makes no system call where the device is coherent, nor on arm64
/// with this project's kernel module.
///
/// ```
/// use udmabuf::{Buffer, FromDevice};
///
/// # let emulator = udmabuf::emulator::Emulator::new();
/// # let buffer = emulator.buffer(8192);
/// // On a board: Buffer::open("udmabuf0")?
/// let (front, back) = buffer.for_direction::<FromDevice>().split_at(4096)?;
/// assert_eq!((front.offset(), back.offset()), (0, 4096));
/// assert_eq!((back.len(), back.part_alignment()), (4096, 64));
/// assert_eq!(front.name(), back.name());
/// assert!(!front.is_coherent());
///
/// let back = back.into_device()?;
/// let frame = back.dma_addr_of(1024..2048)?; // all that the device is to access
/// assert_eq!(frame.to_u64(), back.dma_addr().to_u64() + 1024);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Invariants
/// 1. A reference to the bytes exists only while `O` is [`CpuOwned`] and
///    borrows the buffer: every handover takes `self`.
/// 2. A `Buffer<DeviceOwned>` or `Buffer<Shared>` is turned into one of the CPU
///    only on [`Engine`](crate::Engine)'s word that the device is done, or was
///    never started, or on the caller's `unsafe` one.
/// 3. `M` says how the memory was mapped, and `O` is [`Shared`] only where the
///    device is coherent or `M` without cache.
#[repr(transparent)]
pub struct Buffer<O: Owner = CpuOwned, D: Direction = Bidirectional, M: CacheMode = Cached> {
    held: O::Held,
    kind: PhantomData<(D, M)>,
}

impl Buffer {
    /// Opens, claims and maps the kernel module's buffer `name`, which is then
    /// this process's alone. [`OpenOptions`] has other ways.
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
        OpenOptions::new().open(name)
    }

    /// Opens a buffer whose last user ended while a device owned it.
    ///
    /// ```no_run
    /// use udmabuf::{Buffer, Error};
    ///
    /// let buffer = match Buffer::open("udmabuf0") {
    ///     Err(Error::StillDeviceOwned { .. }) => {
    ///         // Reset the engine here.
    ///         // SAFETY: the engine was reset.
    ///         unsafe { Buffer::recover("udmabuf0") }?
    ///     }
    ///     buffer => buffer?,
    /// };
    /// # drop(buffer);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Safety
    /// No device accesses the buffer any more: the engine was reset or stopped
    /// since.
    ///
    /// # Errors
    /// As [`Buffer::open`].
    pub unsafe fn recover(name: &str) -> Result<Self, Error> {
        // SAFETY: the caller's promise is the same.
        unsafe { OpenOptions::new().recover(name) }
    }
}

impl<M: CacheMode> Buffer<CpuOwned, Bidirectional, M> {
    /// The whole of a memory that is mapped in mode `M`.
    pub(crate) fn new(memory: Memory) -> Self {
        Self { held: Part::whole(memory), kind: PhantomData }
    }
}

impl<O: Owner, D: Direction, M: CacheMode> Buffer<O, D, M> {
    #[inline]
    pub(crate) fn part(&self) -> &Part {
        O::part(&self.held)
    }

    /// The name of the buffer that this is, or is a part of.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.part().memory().name
    }

    /// The size in bytes.
    #[must_use]
    #[inline]
    #[allow(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(&self) -> usize {
        self.part().len()
    }

    /// Where this part starts in its buffer, in bytes.
    #[must_use]
    #[inline]
    pub fn offset(&self) -> usize {
        self.part().offset()
    }

    /// Whether hardware keeps the CPU's caches coherent with the device. An
    /// engine whose transactions snoop only when told to must be told so.
    #[must_use]
    pub fn is_coherent(&self) -> bool {
        self.part().memory().is_coherent
    }

    /// The emulated bus that it is on; none, if hardware reaches it.
    ///
    /// Of a transfer's buffers the slot compares it with the engine's. A driver
    /// that keeps a shared buffer besides, for descriptors, does so itself, and
    /// looks whom it was [made for](Self::made_for):
    ///
    /// ```
    /// # let emulator = udmabuf::emulator::Emulator::new().coherent();
    /// let ring = emulator.buffer(4096).into_shared()?;
    /// assert_eq!(ring.bus(), Some(&emulator.bus()));
    /// assert_eq!(ring.made_for(), None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn bus(&self) -> Option<&Bus> {
        self.part().memory().bus()
    }

    /// The device that it was made for, and whose bus address it has, as in
    /// `pci/0000:00:02.0`; none, if it was made for no device in particular, or
    /// whoever opened it [vouched](OpenOptions::open_unclaimed) that the engines
    /// reach it.
    ///
    /// See [`Engine::reaches`](crate::Engine::reaches).
    #[must_use]
    pub fn made_for(&self) -> Option<&str> {
        self.part().memory().made_for()
    }

    /// What the start of a part is a multiple of, in bytes: a cache line, or
    /// what the kernel asks for.
    #[must_use]
    pub fn part_alignment(&self) -> usize {
        self.part().memory().line
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
        M: Addressed,
    {
        DmaAddr::new(self.part().dma_addr(), self.len())
    }

    /// The address of `range`, for a device that is to access no more than
    /// those bytes.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] if the buffer does not hold them all.
    pub fn dma_addr_of(&self, range: Range<usize>) -> Result<DmaAddr, Error>
    where
        O: DeviceAccess,
        M: Addressed,
    {
        self.dma_addr().slice(range.start as u64..range.end as u64)
    }
}

impl<D: Direction, M: CacheMode> Buffer<CpuOwned, D, M> {
    /// A part, in the types that the caller has found true.
    pub(crate) fn from_part(part: Part) -> Self {
        Self { held: part, kind: PhantomData }
    }

    pub(crate) fn into_part(self) -> Part {
        self.held
    }

    /// Says which way the next transfers go. No data moves.
    #[must_use]
    pub fn for_direction<N: Direction>(self) -> Buffer<CpuOwned, N, M> {
        Buffer { held: self.held, kind: PhantomData }
    }

    /// Hands the buffer to the device: what the CPU wrote is in memory when
    /// this returns, before any register is written, and no dirty cache line
    /// can overwrite what the device will write.
    ///
    /// # Errors
    /// The sync failed, or the buffer was removed; the buffer is in
    /// [`Handoff::value`], still the CPU's.
    // The comment on `self` is what the compiler shows to whoever uses the
    // buffer afterwards.
    #[inline]
    pub fn into_device(
        self, // the device owns it from here; go on with what `Transfer::wait` gives back
    ) -> Result<Buffer<DeviceOwned, D, M>, Handoff<Self>> {
        if M::COMBINES {
            barrier::drain_combined();
        }
        // Nobody drops it meanwhile: without that, it stays in registers.
        let device = self.assume_device();
        match device.part().sync_for_device(D::KIND) {
            Ok(()) => Ok(device),
            Err(error) => Err(Handoff { error, value: device.assume_cpu() }),
        }
    }

    /// The type of a buffer that has been synced for the device.
    #[inline]
    pub(crate) fn assume_device(self) -> Buffer<DeviceOwned, D, M> {
        Buffer { held: ManuallyDrop::new(self.held), kind: PhantomData }
    }

    /// Lets the device in beside the CPU, for a descriptor ring or a mailbox.
    ///
    /// ```
    /// # use udmabuf::emulator::Emulator;
    /// let mut ring = Emulator::new().coherent().buffer(4096).into_shared()?;
    /// ring.write(0, 0x8000_0000_u32)?; // a descriptor for the device
    /// ring.publish(); // before the doorbell
    /// println!("the ring is at {}", ring.dma_addr());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Unsupported`] where a cache is between the two: the device is
    /// not coherent and the mapping has a cache, or combines writes on 32-bit ARM
    /// ([`WriteCombined`](crate::WriteCombined)). The buffer is in
    /// [`Handoff::value`].
    pub fn into_shared(self) -> Result<Buffer<Shared, D, M>, Handoff<Self>> {
        if M::COMBINES {
            barrier::drain_combined();
        }
        match self.part().share(M::CACHED, M::COMBINES) {
            Ok(()) => Ok(Buffer { held: ManuallyDrop::new(self.held), kind: PhantomData }),
            Err(error) => Err(Handoff { error, value: self }),
        }
    }

    /// The memory, if this is all of it.
    pub(crate) fn memory_mut(&mut self) -> Option<&mut Memory> {
        self.held.memory_mut()
    }
}

impl<D: Direction, M: CacheMode> Buffer<DeviceOwned, D, M> {
    /// Takes the buffer back without a transfer that knows when the device is
    /// done: [`Transfer::wait`](crate::Transfer::wait) is the safe way.
    ///
    /// # Safety
    /// The device no longer accesses the buffer, and has written it only if `D` is
    /// [`FromDevice`](crate::FromDevice) or [`Bidirectional`].
    ///
    /// # Errors
    /// The sync failed; the buffer is in [`Handoff::value`], still the device's.
    #[inline]
    pub unsafe fn into_cpu(self) -> Result<Buffer<CpuOwned, D, M>, Handoff<Self>> {
        match self.part().sync_for_cpu(D::KIND) {
            Ok(()) => Ok(self.assume_cpu()),
            Err(error) => Err(Handoff { error, value: self }),
        }
    }

    /// The type of a buffer that has been synced for the CPU.
    #[inline]
    pub(crate) fn assume_cpu(self) -> Buffer<CpuOwned, D, M> {
        Buffer { held: ManuallyDrop::into_inner(self.held), kind: PhantomData }
    }
}

impl<D: Direction, M: CacheMode> Buffer<Shared, D, M> {
    /// Everything that the CPU wrote comes before whatever it does next: before
    /// a doorbell, or before the word that gives a descriptor to the device.
    ///
    /// ```
    /// # let mut ring = udmabuf::emulator::Emulator::new().coherent().buffer(4096).into_shared()?;
    /// ring.write(64, 1500_u32)?; // what the descriptor says
    /// ring.publish();
    /// ring.write(0, 1_u32)?; // that it is there
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn publish(&self) {
        if M::COMBINES {
            barrier::drain_combined();
        }
        barrier::before_device();
    }

    /// Everything that the CPU reads next comes after what it read last: after
    /// a status, or after the word that gives a descriptor back.
    ///
    /// ```
    /// # let mut ring = udmabuf::emulator::Emulator::new().coherent().buffer(4096).into_shared()?;
    /// # ring.write(0, 1_u32)?;
    /// if ring.read::<u32>(0)? != 0 {
    ///     ring.observe(); // the device is done: what it wrote before is there
    ///     let len: u32 = ring.read(64)?;
    ///     # assert_eq!(len, 0);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn observe(&self) {
        barrier::after_device();
    }

    /// Takes the buffer back from the device. A transfer that holds it does the
    /// same, safely.
    ///
    /// # Safety
    /// The device no longer accesses the buffer.
    ///
    /// # Errors
    /// The buffer is in [`Handoff::value`], still shared.
    pub unsafe fn into_cpu(self) -> Result<Buffer<CpuOwned, D, M>, Handoff<Self>> {
        match self.part().end_share() {
            Ok(()) => Ok(self.assume_cpu()),
            Err(error) => Err(Handoff { error, value: self }),
        }
    }

    /// The type of a buffer that is shared no more.
    pub(crate) fn assume_cpu(self) -> Buffer<CpuOwned, D, M> {
        Buffer { held: ManuallyDrop::into_inner(self.held), kind: PhantomData }
    }
}

impl<O: Owner, D: Direction, M: CacheMode> fmt::Debug for Buffer<O, D, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [owner, direction, mode] =
            [std::any::type_name::<O>(), std::any::type_name::<D>(), std::any::type_name::<M>()]
                .map(|name| name.rsplit("::").next().unwrap_or_default());
        write!(f, "Buffer<{owner}, {direction}, {mode}>({})", self.part())
    }
}
