//! A dma-buf of another driver.
#![allow(unsafe_code, reason = "syncs the dma-buf, to which there are no references")]

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    ptr::NonNull,
};

use udmabuf_sys::{dma_buf, map::Mapping};

use crate::Error;

/// A mapped dma-buf, the CPU's until it is synced for the device.
///
/// # Invariants
/// It is synced before the first reference to its bytes is made, and in handovers,
/// which are of all of it and take the only `Buffer` by which there could be one
/// (invariant 1 there). Of other mappings its importer said that there are none.
#[derive(Debug)]
pub(crate) struct DmaBuf {
    mapping: Mapping,
    fd: OwnedFd,
}

impl DmaBuf {
    pub(crate) fn new(name: &str, fd: OwnedFd) -> Result<Self, Error> {
        let size = dma_buf::size(fd.as_fd()).map_err(|errno| Error::os(name, "lseek", errno))?;
        let len = usize::try_from(size).ok().filter(|&len| isize::try_from(len).is_ok()).ok_or(
            Error::Unsupported { name: name.into(), what: "larger than this process can map" },
        )?;
        let mapping = Mapping::new(fd.as_fd(), len)
            .map_err(|error| Error::os(name, format!("mmap ({len:#x} bytes)"), error))?;
        let dma_buf = Self { mapping, fd };
        dma_buf.sync_for_cpu(name)?;
        Ok(dma_buf)
    }

    pub(crate) fn start(&self) -> NonNull<u8> {
        self.mapping.start()
    }

    pub(crate) fn len(&self) -> usize {
        self.mapping.len()
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub(crate) fn sync_for_device(&self, name: &str) -> Result<(), Error> {
        // SAFETY: by the invariant, there is no reference.
        unsafe { dma_buf::end_cpu_access(self.fd()) }
            .map_err(|errno| Error::os(name, "DMA_BUF_IOCTL_SYNC (end)", errno))
    }

    pub(crate) fn sync_for_cpu(&self, name: &str) -> Result<(), Error> {
        // SAFETY: by the invariant, there is no reference.
        unsafe { dma_buf::begin_cpu_access(self.fd()) }
            .map_err(|errno| Error::os(name, "DMA_BUF_IOCTL_SYNC (start)", errno))
    }
}
