//! dma-bufs of other drivers as buffers.
#![allow(unsafe_code, reason = "declares the imports, which take a promise")]

use std::{
    fs::File,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::io::Errno;
use udmabuf_sys::dma_buf;

use crate::{
    Bidirectional, Buffer, CpuOwned, DeviceOwned, Direction, Error, Foreign,
    memory::{DmaBuf, Memory, check_addresses},
};

impl Buffer<CpuOwned, Bidirectional, Foreign> {
    /// Allocates a dma-buf of `size` bytes from `/dev/dma_heap/<heap>`, where
    /// there is no u-dma-buf, for a kernel driver that takes dma-bufs.
    ///
    /// A dma-buf is synced through the driver that made it, and only as a whole,
    /// so it cannot be split.
    ///
    /// ```no_run
    /// use std::os::fd::AsFd;
    /// use udmabuf::Buffer;
    ///
    /// let mut frame = Buffer::from_heap("system", 1 << 20)?;
    /// frame.as_mut_slice().fill(0);
    /// let frame = frame.into_device()?;
    /// let for_the_encoder = frame.as_fd();
    /// # let _ = for_the_encoder;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Os`]: no such heap; no memory.
    pub fn from_heap(heap: &str, size: usize) -> Result<Self, Error> {
        if heap.contains('/') {
            return Err(Error::os(heap, "finding a heap of that name", Errno::INVAL));
        }
        let path = Path::new(dma_buf::HEAPS).join(heap);
        let file = File::options()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(|error| Error::os(heap, format!("open {}", path.display()), error))?;
        let fd = dma_buf::allocate(file.as_fd(), size as u64)
            .map_err(|errno| Error::os(heap, format!("allocation of {size:#x} bytes"), errno))?;
        memory(fd, 0).map(Buffer::new)
    }

    /// Maps another driver's dma-buf.
    ///
    /// # Safety
    /// Nobody else accesses it while the CPU owns the buffer: not through another
    /// descriptor or mapping, and no device.
    ///
    /// # Errors
    /// [`Error::Os`]: not a dma-buf, or one that cannot be mapped.
    pub unsafe fn import(fd: OwnedFd) -> Result<Self, Error> {
        memory(fd, 0).map(Buffer::new)
    }
}

impl Buffer {
    /// Maps a dma-buf whose bus address is known, as that of one that another
    /// process exported from a u-dma-buf.
    ///
    /// # Safety
    /// As [`import`](Buffer::import), and `dma_addr` is where the engine that
    /// will be given it finds the first byte of the whole dma-buf, contiguous: no
    /// engine is refused it ([`Engine::reaches`](crate::Engine::reaches)).
    ///
    /// # Errors
    /// As [`import`](Buffer::import); [`Error::OutOfRange`]: from there it would
    /// wrap around the address space.
    pub unsafe fn import_at(fd: OwnedFd, dma_addr: u64) -> Result<Self, Error> {
        let memory = memory(fd, dma_addr)?;
        check_addresses(dma_addr, memory.len as u64)?;
        Ok(Self::new(memory))
    }
}

fn memory(fd: OwnedFd, dma_addr: u64) -> Result<Memory, Error> {
    let name = format!("dma-buf {}", fd.as_raw_fd());
    let dma_buf = DmaBuf::new(&name, fd)?;
    Ok(Memory::dma_buf(name, dma_buf, dma_addr))
}

/// For the driver that is to use it.
impl<D: Direction> AsFd for Buffer<DeviceOwned, D, Foreign> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self.part().memory().dma_buf_fd() {
            Some(fd) => fd,
            None => unreachable!("`Foreign` buffers are made of dma-bufs only"),
        }
    }
}
