//! An open device, and the lock that keeps other drivers off it.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use rustix::{fs::FlockOperation, io::Errno};

use crate::{Error, sysfs};

/// A UIO device that no other [`Handle`], here or in another process, has open.
#[derive(Debug)]
pub(crate) struct Handle {
    /// Dropped before the lock: closing it can act on the device.
    pub(crate) uio: File,
    /// `/sys/class/uio/uioN`
    pub(crate) dir: PathBuf,
    _pci_lock: Option<File>,
}

impl Handle {
    /// Opens the device that sysfs describes in `dir`, `/sys/class/uio/uioN`.
    pub(crate) fn open(label: &str, dir: PathBuf) -> Result<Self, Error> {
        // Closing the last descriptor of a `uio_pci_generic` device switches
        // its bus mastering off, though another driver may be at work. So that
        // one is locked before it is opened, by a file that root alone can
        // open, as the device itself.
        let pci_lock = match first_resource(&dir.join("device")) {
            Some(resource) => Some(locked(label, open_file(label, resource)?)?),
            None => None,
        };
        let device = Path::new("/dev").join(dir.file_name().unwrap_or_default());
        let uio = locked(label, open_file(label, device)?)?;
        Ok(Self { uio, dir, _pci_lock: pci_lock })
    }

    /// The kernel's count of the device's interrupts, which wraps.
    pub(crate) fn interrupts(&self) -> io::Result<u32> {
        let count = sysfs::number(&self.dir.join("event"))?;
        u32::try_from(count).map_err(io::Error::other)
    }
}

/// A PCI device's first base address register.
fn first_resource(device: &Path) -> Option<PathBuf> {
    let names = sysfs::names(device).ok()?;
    let is_resource = |name: &&String| {
        name.strip_prefix("resource").is_some_and(|number| number.parse::<u8>().is_ok())
    };
    names.iter().find(is_resource).map(|name| device.join(name))
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
