//! Making buffers at run time.

use std::{fs::File, os::fd::AsFd, sync::Arc};

use rustix::io::Errno;
use udmabuf_sys::manager;

use crate::{
    Bidirectional, Buffer, CpuOwned, Error, Handoff, OpenOptions, memory::Exclusive, mode::Mapped,
};

/// Asks the kernel module for a new buffer.
///
/// ```no_run
/// use udmabuf::CreateOptions;
///
/// let created = CreateOptions::new("camera", 8 << 20).dma_mask(40).create()?;
/// let buffer = created.open()?; // /dev/camera
/// # drop(buffer);
/// // The buffer is deleted when `created`, and all that was opened through it,
/// // are dropped.
/// # Ok::<(), udmabuf::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct CreateOptions<'a> {
    name: &'a str,
    size: u64,
    options: manager::Options<'a>,
}

impl<'a> CreateOptions<'a> {
    /// A buffer `name`, as it will be called in `/dev`, of `size` bytes.
    #[must_use]
    pub fn new(name: &'a str, size: u64) -> Self {
        Self { name, size, options: manager::Options::default() }
    }

    /// Allocates it for the device that sysfs has as
    /// `/sys/bus/<bus>/devices/<device>`: behind its IOMMU, within its reach. Its
    /// bus address is that device's: only an engine that
    /// [reaches](crate::Engine::reaches) it takes the buffer.
    #[must_use]
    pub fn parent(mut self, bus: &'a str, device: &'a str) -> Self {
        self.options.parent = Some((bus, device));
        self
    }

    /// Allocates it within this many bits of bus addresses, 12 to 64.
    #[must_use]
    pub fn dma_mask(mut self, bits: u32) -> Self {
        self.options.dma_mask = Some(bits);
        self
    }

    /// Makes the buffer.
    ///
    /// # Errors
    /// [`Error::Os`], where the source says why: the module has no
    /// `/dev/u-dma-buf-mgr` or this user may not open it; the name is taken; bad
    /// options; no memory.
    pub fn create(self) -> Result<Created, Error> {
        let manager = File::options()
            .write(true)
            .open(manager::PATH)
            .map_err(|error| Error::os(self.name, format!("open {}", manager::PATH), error))?;
        manager::create(manager.as_fd(), self.name, self.size, self.options).map_err(|errno| {
            Error::os(self.name, format!("create ({:#x} bytes)", self.size), errno)
        })?;
        Ok(Created(Arc::new(Deleter { name: self.name.into(), manager, is_deleted: false })))
    }
}

/// A buffer that this program made. It is deleted when this, and everything that
/// was opened through it, is dropped: not while a device owns any of it, nor after
/// its last user ended so ([`Created::delete`]). It keeps the manager's file open, so
/// that this needs neither a right nor a file descriptor that the program may no longer
/// have; until then the module cannot be unloaded.
#[derive(Debug)]
pub struct Created(Arc<Deleter>);

/// Deletes the buffer when it is dropped.
#[derive(Debug)]
pub(crate) struct Deleter {
    name: String,
    manager: File,
    is_deleted: bool,
}

impl Created {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Opens the buffer.
    ///
    /// # Errors
    /// As [`Buffer::open`].
    pub fn open(&self) -> Result<Buffer, Error> {
        self.open_with(&OpenOptions::new())
    }

    /// Opens the buffer in another way.
    ///
    /// # Errors
    /// As [`OpenOptions::open`].
    pub fn open_with<M: Mapped>(
        &self,
        options: &OpenOptions<M>,
    ) -> Result<Buffer<CpuOwned, Bidirectional, M>, Error> {
        options.open_as(self.name(), Exclusive::Claim, Some(self.0.clone()))
    }

    /// Deletes the buffer now, and says whether that was possible; dropping it
    /// does not.
    ///
    /// # Errors
    /// With the buffer still there, [`Error::Busy`]: it is open, here or elsewhere,
    /// or exported; [`Error::StillDeviceOwned`]: its last user ended while a device
    /// owned a part. Who knows that the device is idle opens it with
    /// [`Buffer::recover`], drops that, and deletes it then.
    pub fn delete(mut self) -> Result<(), Handoff<Self>> {
        let deleted = match Arc::get_mut(&mut self.0) {
            Some(deleter) => deleter.delete().map(|()| deleter.is_deleted = true),
            None => Err(Error::Busy { name: self.name().into() }),
        };
        deleted.map_err(|error| Handoff { error, value: self })
    }
}

impl Deleter {
    fn delete(&self) -> Result<(), Error> {
        let name: &str = &self.name;
        manager::delete(self.manager.as_fd(), name).map_err(|errno| match errno {
            Errno::BUSY => Error::Busy { name: name.into() },
            Errno::OWNERDEAD => Error::StillDeviceOwned { name: name.into() },
            errno => Error::os(name, "delete", errno),
        })
    }
}

impl Drop for Deleter {
    fn drop(&mut self) {
        if !self.is_deleted {
            // Who wants to know calls `Created::delete`.
            let _ = self.delete();
        }
    }
}
