//! An open device, and the lock that keeps other drivers off it.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError, Weak},
};

use memmap2::MmapRaw;
use rustix::{
    fs::{FlockOperation, OFlags},
    io::Errno,
};

use crate::{
    Error, UioDevice, mmio,
    sysfs::{self, Roots},
};

/// A UIO device that no other [`Handle`], here or in another process, has open.
#[derive(Debug)]
pub(crate) struct Handle {
    /// As in error messages: `uio0 (dma)`.
    pub(crate) label: String,
    /// Of UIO or VFIO. Dropped before the rest: closing it can act on the device.
    pub(crate) uio: File,
    /// `/sys/class/uio/uioN`, or of VFIO the PCI device's.
    dir: PathBuf,
    maps: Mutex<Vec<Weak<MmapRaw>>>,
    /// What keeps others off it: a lock, or VFIO's group and container.
    _keeps: Vec<File>,
}

impl Handle {
    pub(crate) fn open(roots: &Roots, label: String, device: &UioDevice) -> Result<Self, Error> {
        let dir = device.dir.clone();
        // Closing the last descriptor of a `uio_pci_generic` device switches
        // its bus mastering off, though another driver may be at work. So that
        // one is locked before it is opened, by a file that root alone can
        // open, as the device itself.
        let resource = first_resource(&dir.join("device"))
            .map_err(Error::os(&label, "listing what the device has"))?;
        let pci_lock = match resource {
            Some(resource) => vec![locked(&label, open_file(&label, resource)?)?],
            None => Vec::new(),
        };
        let uio = locked(&label, open_file(&label, roots.dev.join(&device.file))?)?;
        // Whether it has fired is asked by reading.
        rustix::fs::fcntl_setfl(&uio, OFlags::NONBLOCK)
            .map_err(|errno| Error::os(&label, "fcntl F_SETFL")(errno.into()))?;
        Ok(Self::of(label, uio, dir, pci_lock))
    }

    pub(crate) fn of(label: String, uio: File, dir: PathBuf, keeps: Vec<File>) -> Self {
        Self { label, uio, dir, maps: Mutex::default(), _keeps: keeps }
    }

    /// The kernel's count of the device's interrupts, which wraps.
    pub(crate) fn interrupts(&self) -> io::Result<u32> {
        let count = sysfs::number(&self.dir.join("event"))?;
        u32::try_from(count).map_err(io::Error::other)
    }

    /// Remembers a mapping of the device, for when it is removed.
    pub(crate) fn mapped(&self, map: Weak<MmapRaw>) {
        let mut maps = self.maps.lock().unwrap_or_else(PoisonError::into_inner);
        maps.retain(|map| map.strong_count() > 0);
        maps.push(map);
    }

    /// What it means that an operation failed: that the device was removed, or
    /// what the operating system says.
    pub(crate) fn error(&self, operation: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
        move |source| match self.is_there() {
            true => Error::os(&self.label, operation)(source),
            false => self.removed(),
        }
    }

    pub(crate) fn is_there(&self) -> bool {
        self.dir.exists()
    }

    /// The device was removed: its registers are no longer there.
    pub(crate) fn removed(&self) -> Error {
        for map in &*self.maps.lock().unwrap_or_else(PoisonError::into_inner) {
            if let Some(map) = map.upgrade() {
                mmio::unplug(&map);
            }
        }
        Error::Removed { device: self.label.clone() }
    }
}

/// A PCI device's first base address register.
fn first_resource(device: &Path) -> io::Result<Option<PathBuf>> {
    let resources = sysfs::numbered(device, "resource")?;
    Ok(resources.into_iter().next().map(|(_, path)| path))
}

/// The file, with the lock that goes with its last user.
fn locked(device: &str, file: File) -> Result<File, Error> {
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => Err(Error::Busy { device: device.into() }),
        Err(errno) => Err(Error::os(device, "flock")(errno.into())),
    }
}

/// Opens a device's file for reading and writing.
pub(crate) fn open_file(device: &str, path: PathBuf) -> Result<File, Error> {
    File::options().read(true).write(true).open(&path).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => Error::PermissionDenied { path },
        _ => Error::os(device, format!("open {}", path.display()))(error),
    })
}
