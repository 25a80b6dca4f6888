//! Opening a buffer of the kernel module.
#![allow(unsafe_code, reason = "declares the openings that take a promise")]

use std::{marker::PhantomData, sync::Arc};

use crate::{
    Bidirectional, Buffer, Cached, CpuOwned, Error, Uncached, WriteCombined,
    create::Deleter,
    memory::{Exclusive, Maintenance, Memory, Opening},
    mode::Mapped,
};

/// How a buffer is opened: its mapping, its size, and why it is nobody else's.
///
/// ```no_run
/// use udmabuf::OpenOptions;
///
/// // Frames that the CPU writes and never reads.
/// let mut frame = OpenOptions::new().expect_size(1 << 20).write_combined().open("udmabuf0")?;
/// frame.as_mut_slice().fill(0);
/// # Ok::<(), udmabuf::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct OpenOptions<M: Mapped = Cached> {
    expected_size: Option<u64>,
    maintenance: Maintenance,
    mode: PhantomData<M>,
}

impl OpenOptions {
    /// Cached, claimed, of any size: as [`Buffer::open`].
    #[must_use]
    pub fn new() -> Self {
        Self { expected_size: None, maintenance: Maintenance::AsTold, mode: PhantomData }
    }

    /// Handovers clean and invalidate the cache by the CPU's own instructions
    /// where the driver does not say whether that does what its sync does: for
    /// [`open_unclaimed`](Self::open_unclaimed) on the existing driver, on arm64.
    /// It does, if the buffer is ordinary memory that is mapped cached.
    #[must_use]
    pub fn with_own_cache_maintenance(mut self) -> Self {
        self.maintenance = Maintenance::Own;
        self
    }

    /// Handovers have the kernel maintain the cache, by a system call, where they
    /// could do it themselves: to compare the two, or to have the module count
    /// what is synced. Where there is nothing to maintain, there is no call.
    ///
    /// ```no_run
    /// use udmabuf::OpenOptions;
    ///
    /// let buffer = OpenOptions::new().with_kernel_cache_maintenance().open("udmabuf0")?;
    /// # drop(buffer);
    /// # Ok::<(), udmabuf::Error>(())
    /// ```
    #[must_use]
    pub fn with_kernel_cache_maintenance(mut self) -> Self {
        self.maintenance = Maintenance::Kernels;
        self
    }
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl<M: Mapped> OpenOptions<M> {
    /// Refuses a buffer that has not exactly this many bytes.
    #[must_use]
    pub fn expect_size(mut self, bytes: u64) -> Self {
        self.expected_size = Some(bytes);
        self
    }

    /// Maps the buffer [`WriteCombined`].
    #[must_use]
    pub fn write_combined(self) -> OpenOptions<WriteCombined> {
        self.mapped()
    }

    /// Maps the buffer [`Uncached`].
    #[must_use]
    pub fn uncached(self) -> OpenOptions<Uncached> {
        self.mapped()
    }

    /// Maps the buffer in mode `N`, for code that is generic over it.
    ///
    /// ```no_run
    /// use udmabuf::{Buffer, CpuOwned, Bidirectional, Error, Mapped, OpenOptions};
    ///
    /// fn open_frame<M: Mapped>() -> Result<Buffer<CpuOwned, Bidirectional, M>, Error> {
    ///     OpenOptions::new().expect_size(1 << 20).mapped().open("udmabuf0")
    /// }
    /// ```
    #[must_use]
    pub fn mapped<N: Mapped>(self) -> OpenOptions<N> {
        let Self { expected_size, maintenance, .. } = self;
        OpenOptions { expected_size, maintenance, mode: PhantomData }
    }

    /// Opens, claims and maps buffer `name`.
    ///
    /// # Errors
    /// As [`Buffer::open`]; [`Error::WrongSize`]; [`Error::Unsupported`] if this
    /// memory cannot be mapped so: the buffer of a coherent device, which looks into
    /// the CPU's cache, is always [`Cached`](crate::Cached).
    pub fn open(&self, name: &str) -> Result<Buffer<CpuOwned, Bidirectional, M>, Error> {
        self.open_as(name, Exclusive::Claim, None)
    }

    /// Opens a buffer whose last user ended while a device owned it.
    ///
    /// # Safety
    /// No device accesses the buffer any more: the engine was reset or stopped
    /// since.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub unsafe fn recover(&self, name: &str) -> Result<Buffer<CpuOwned, Bidirectional, M>, Error> {
        self.open_as(name, Exclusive::Adopt, None)
    }

    /// Opens a buffer of the existing `u-dma-buf` driver (from 5.0 on), which
    /// has no claims. A lock (`flock`) keeps out other programs that open it
    /// like this, and no others. Nor does that driver remember what a program
    /// had given to a device when it died.
    ///
    /// ```no_run
    /// use udmabuf::OpenOptions;
    ///
    /// // SAFETY: this board runs nothing else that uses it.
    /// let buffer = unsafe { OpenOptions::new().open_unclaimed("udmabuf0") }?;
    /// # drop(buffer);
    /// # Ok::<(), udmabuf::Error>(())
    /// ```
    ///
    /// # Safety
    /// Nobody else accesses the buffer as long as the returned one, or a part of
    /// it, exists: no other program, and no device that one has started. Nor does
    /// anybody sync it, through another file or sysfs. If the driver cannot say for
    /// which device it was made, it goes only to engines that find it at its address.
    ///
    /// # Errors
    /// As [`Buffer::open`]; [`Error::Busy`] means the lock.
    pub unsafe fn open_unclaimed(
        &self,
        name: &str,
    ) -> Result<Buffer<CpuOwned, Bidirectional, M>, Error> {
        self.open_as(name, Exclusive::Promise, None)
    }

    pub(crate) fn open_as(
        &self,
        name: &str,
        exclusive: Exclusive,
        created: Option<Arc<Deleter>>,
    ) -> Result<Buffer<CpuOwned, Bidirectional, M>, Error> {
        let opening = Opening {
            exclusive,
            map_mode: M::MAP_MODE,
            sync_mode: M::SYNC_MODE,
            expected_size: self.expected_size,
            maintenance: match self.maintenance {
                // The module says whether it is enough.
                Maintenance::Own if exclusive != Exclusive::Promise => Maintenance::AsTold,
                maintenance => maintenance,
            },
            created,
        };
        Memory::kernel(name, &opening).map(Buffer::new)
    }
}
