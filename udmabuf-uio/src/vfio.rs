//! PCI functions through `vfio-pci`, by group and container.
//!
//! The kernel's `Documentation/driver-api/vfio.rst` describes the files.

mod ioctl;
mod line;

use std::{
    ffi::CString,
    fs::{self, File},
    io,
    os::fd::AsFd,
    path::Path,
    sync::Arc,
};

use rustix::io::Errno;

pub(crate) use ioctl::{Irq, Region};
pub(crate) use line::VfioLine;

use crate::{
    Error, PciDevice,
    handle::{Handle, open_file},
    sysfs::Roots,
};

/// The kernel driver.
pub(crate) const DRIVER: &str = "vfio-pci";

/// A function that is open through VFIO.
#[derive(Debug)]
pub(crate) struct Vfio {
    /// Its file is the device's.
    handle: Arc<Handle>,
    pub(crate) is_behind_iommu: bool,
}

impl Vfio {
    /// The kernel opens a group once: that is the lock.
    pub(crate) fn open(roots: &Roots, device: &PciDevice) -> Result<Self, Error> {
        let address = &device.address;
        let dir = roots.dev.join("vfio");
        let number = fs::read_link(device.dir.join("iommu_group"))
            .map_err(Error::os(address, "looking for the IOMMU group"))?;
        let number = number.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let without_iommu = dir.join(format!("noiommu-{number}"));
        let is_behind_iommu = !without_iommu.exists();
        let group = if is_behind_iommu { dir.join(&number) } else { without_iommu };
        let group = open_group(address, &group, is_behind_iommu.then_some(&number))?;
        let container = open_file(address, dir.join("vfio"))?;

        let call = |operation| move |errno: Errno| Error::os(address, operation)(errno.into());
        if !ioctl::is_viable(group.as_fd()).map_err(call("VFIO_GROUP_GET_STATUS"))? {
            return Err(Error::Unsupported {
                device: address.clone(),
                wanted: "access from userspace".into(),
                cure: format!(
                    "other devices of its IOMMU group {number} have drivers in the kernel: bind \
                     them to vfio-pci too"
                ),
            });
        }
        ioctl::set_container(group.as_fd(), container.as_fd())
            .map_err(call("VFIO_GROUP_SET_CONTAINER"))?;
        let iommu = if is_behind_iommu { ioctl::Iommu::Type1V2 } else { ioctl::Iommu::None };
        ioctl::set_iommu(container.as_fd(), iommu).map_err(|errno| match errno {
            // Messages of the device could be made to look like another's.
            Errno::PERM if is_behind_iommu => Error::Unsupported {
                device: address.clone(),
                wanted: "interrupts that are kept apart from other devices'".into(),
                cure: "bind it to uio_pci_generic, or load vfio_iommu_type1 with \
                       allow_unsafe_interrupts=1"
                    .into(),
            },
            errno => call("VFIO_SET_IOMMU")(errno),
        })?;
        let name = CString::new(address.as_str()).map_err(|error| {
            Error::os(address, "VFIO_GROUP_GET_DEVICE_FD")(io::Error::other(error))
        })?;
        let file = ioctl::device(group.as_fd(), &name).map_err(call("VFIO_GROUP_GET_DEVICE_FD"))?;
        let label = format!("{address} ({DRIVER})");
        let handle = Handle::of(label, file.into(), device.dir.clone(), vec![group, container]);
        Ok(Self { handle: Arc::new(handle), is_behind_iommu })
    }

    pub(crate) fn handle(&self) -> &Arc<Handle> {
        &self.handle
    }

    pub(crate) fn bar(&self, number: usize) -> io::Result<Region> {
        let index = u32::try_from(number).map_err(io::Error::other)?;
        Ok(ioctl::region(self.handle.uio.as_fd(), index)?)
    }

    /// Where the configuration space is in the device's file.
    pub(crate) fn config(&self) -> Result<u64, Error> {
        let region = ioctl::region(self.handle.uio.as_fd(), ioctl::CONFIG);
        let failed = self.handle.error("looking for the configuration space");
        Ok(region.map_err(|errno| failed(errno.into()))?.offset)
    }

    pub(crate) fn reset(&self) -> Result<(), Error> {
        ioctl::reset(self.handle.uio.as_fd()).map_err(|errno| match errno {
            Errno::INVAL | Errno::NOTTY => Error::no_reset(&self.handle.label),
            _ => self.handle.error("reset")(errno.into()),
        })
    }
}

/// `number`: of a group in which there can be other functions.
fn open_group(device: &str, path: &Path, number: Option<&String>) -> Result<File, Error> {
    open_file(device, path.to_owned()).map_err(|error| match error {
        Error::Os { ref source, .. } if Errno::from_io_error(source) == Some(Errno::BUSY) => {
            let device = match number {
                Some(number) => format!("{device}, or another function of IOMMU group {number},"),
                None => device.into(),
            };
            Error::Busy { device }
        }
        error => error,
    })
}
