//! Buffers as dma-bufs, for other drivers and programs.
#![allow(unsafe_code, reason = "declares the unsafe way back")]

use std::{
    fmt,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use crate::{Addressed, Buffer, DeviceOwned, Direction, DmaAddr, Handoff};

/// A buffer that others have as a dma-buf: they are its owner, as a device is.
///
/// It holds the buffer, so its bytes are out of reach here. Dropping it closes
/// the descriptor and leaves the buffer with the others: its memory stays
/// claimed for the life of the process.
#[must_use = "dropping it leaves the buffer with the others for good"]
pub struct Exported<D: Direction, M: Addressed> {
    fd: OwnedFd,
    buffer: Buffer<DeviceOwned, D, M>,
}

impl<D: Direction, M: Addressed> Buffer<DeviceOwned, D, M> {
    /// Gives the buffer to whoever gets the dma-buf: V4L2, DRM, another process.
    ///
    /// ```no_run
    /// use std::os::fd::AsFd;
    /// use udmabuf::Buffer;
    ///
    /// let (frame, _rest) = Buffer::open("udmabuf0")?.split_at(1 << 16)?;
    /// let exported = frame.into_device()?.export()?;
    /// let for_the_display = exported.as_fd();
    /// # let _ = for_the_display;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The buffer is in [`Handoff::value`]. [`Error::Os`](crate::Error::Os): not
    /// whole pages (`EINVAL`), or a kernel without dma-bufs.
    /// [`Error::Unsupported`](crate::Error::Unsupported): not a buffer of the
    /// kernel module.
    pub fn export(self) -> Result<Exported<D, M>, Handoff<Self>> {
        match self.part().memory().export(self.offset(), self.len()) {
            Ok(fd) => Ok(Exported { fd, buffer: self }),
            Err(error) => Err(Handoff { error, value: self }),
        }
    }
}

impl<D: Direction, M: Addressed> Exported<D, M> {
    /// Where a device finds the first byte.
    #[must_use]
    pub fn dma_addr(&self) -> DmaAddr {
        self.buffer.dma_addr()
    }

    /// Closes the descriptor and takes the buffer back, still the device's.
    ///
    /// # Safety
    /// Nobody else accesses the dma-buf any more: no duplicate of the
    /// descriptor, no mapping and no driver that has it attached. Nobody has
    /// written it, unless `D` is [`FromDevice`](crate::FromDevice) or
    /// [`Bidirectional`](crate::Bidirectional).
    #[must_use]
    pub unsafe fn into_buffer(self) -> Buffer<DeviceOwned, D, M> {
        self.buffer
    }
}

impl<D: Direction, M: Addressed> AsFd for Exported<D, M> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl<D: Direction, M: Addressed> fmt::Debug for Exported<D, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exported").field("fd", &self.fd).field("buffer", &self.buffer).finish()
    }
}
