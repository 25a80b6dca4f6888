//! A PCI device, through `uio_pci_generic` and sysfs.
#![allow(unsafe_code, reason = "declares the promise by which registers are created")]

use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    Block, Error, Interrupt, Mmio, Registers, Uio,
    handle::{Handle, open_file},
    sysfs,
};

const DEVICES: &str = "/sys/bus/pci/devices";

/// A PCI function bound to `uio_pci_generic`, which no other [`Pci`] has open.
#[derive(Debug)]
pub struct Pci {
    /// Domain, bus, device and function: `0000:00:02.0`.
    address: String,
    dir: PathBuf,
    uio: Uio,
}

impl Pci {
    /// Opens the first device with these vendor and device numbers that is not
    /// in use.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is none, or none is bound to
    /// `uio_pci_generic`; [`Error::Busy`], [`Error::PermissionDenied`].
    pub fn open(vendor: u16, device: u16) -> Result<Self, Error> {
        let devices = Path::new(DEVICES);
        let mut cure = "no such device is on the bus".to_owned();
        let mut busy = None;
        for address in sysfs::names(devices).map_err(Error::os("PCI devices", "listing"))? {
            let dir = devices.join(&address);
            let id = |name| sysfs::number(&dir.join(name)).ok();
            if id("vendor") != Some(vendor.into()) || id("device") != Some(device.into()) {
                continue;
            }
            let driver = std::fs::read_link(dir.join("driver")).unwrap_or_default();
            let uio = sysfs::names(&dir.join("uio"))
                .map_err(Error::os(&*address, "listing uio"))?
                .into_iter()
                .find(|_| driver.ends_with("uio_pci_generic"));
            let Some(uio) = uio else {
                cure = format!(
                    "{address} is not bound to uio_pci_generic: `modprobe uio_pci_generic`, then \
                     `echo {vendor:04x} {device:04x} > /sys/bus/pci/drivers/uio_pci_generic/new_id`"
                );
                continue;
            };
            match Uio::open_dir(Path::new("/sys/class/uio").join(uio)) {
                Ok(uio) => return Ok(Self { address, dir, uio }),
                Err(error @ Error::Busy { .. }) => busy = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(busy.unwrap_or_else(|| Error::NotFound {
            wanted: format!("{vendor:04x}:{device:04x}"),
            searched: devices.into(),
            cure,
        }))
    }

    /// Maps the registers in base address register number `bar`.
    ///
    /// # Safety
    /// As [`Uio::registers`].
    ///
    /// # Errors
    /// [`Error::NoRegisters`] if there is no such BAR or it is smaller than the
    /// block; [`Error::Os`] if the kernel does not let it be mapped.
    pub unsafe fn registers<K: Block>(&self, bar: usize) -> Result<Registers<K>, Error> {
        let missing = |found: String| Error::NoRegisters {
            device: self.address.clone(),
            wanted: K::SIZE,
            place: format!("BAR {bar}"),
            found,
        };
        let path = self.dir.join(format!("resource{bar}"));
        if !path.exists() {
            return Err(missing("there is no such BAR".into()));
        }
        let file = open_file(&self.address, path)?;
        let size = file.metadata().map_err(Error::os(&*self.address, "stat of a BAR"))?.len();
        if size < K::SIZE as u64 {
            return Err(missing(format!("it has {size:#x} bytes")));
        }
        Mmio::map(&file, 0, 0, K::SIZE, self.uio.handle().clone())
            .map(Registers::new)
            .map_err(Error::os(&*self.address, format!("mmap of BAR {bar}")))
    }

    /// Whether the device may access memory: not, until [`BusMaster::allow`]
    /// says so.
    ///
    /// # Errors
    /// [`Error::PermissionDenied`], [`Error::Os`]
    pub fn bus_master(&self) -> Result<BusMaster, Error> {
        let guard = BusMaster {
            address: self.address.clone(),
            config: self.config()?,
            _handle: self.uio.handle().clone(),
        };
        guard.forbid()?;
        Ok(guard)
    }

    /// The device's interrupt, masked: INTx, the only kind that `uio_pci_generic` has.
    ///
    /// # Errors
    /// [`Error::PermissionDenied`], [`Error::Os`]
    pub fn into_interrupt(self) -> Result<Interrupt, Error> {
        let config = self.config()?;
        Interrupt::new(self.address, self.uio.handle().clone(), Some(config))
    }

    fn config(&self) -> Result<File, Error> {
        open_file(&self.address, self.dir.join("config"))
    }
}

/// Whether a PCI device may access memory; dropping it forbids that.
#[derive(Debug)]
pub struct BusMaster {
    address: String,
    config: File,
    /// Other drivers are let in only after the device was cut off.
    _handle: Arc<Handle>,
}

impl BusMaster {
    /// Lets the device access memory.
    ///
    /// # Safety
    /// Whatever the device is still programmed to access, it may: nothing, or
    /// buffers that were handed to it.
    ///
    /// # Errors
    /// [`Error::Os`]
    pub unsafe fn allow(&self) -> Result<(), Error> {
        self.set(true)
    }

    /// Cuts the device off from memory. What it was about to write is lost.
    ///
    /// # Errors
    /// [`Error::Os`]
    pub fn forbid(&self) -> Result<(), Error> {
        self.set(false)
    }

    /// Writes "bus master", bit 2 of the command register at 0x04 (PCI Local
    /// Bus Specification 3.0, 6.2.2), of which only this half is written.
    fn set(&self, allowed: bool) -> Result<(), Error> {
        let set = || {
            let mut low = [0];
            self.config.read_exact_at(&mut low, 0x04)?;
            let command = if allowed { low[0] | 0x04 } else { low[0] & !0x04 };
            self.config.write_all_at(&[command], 0x04)?;
            // The read comes back only after the write has reached the device.
            self.config.read_exact_at(&mut low, 0x04)
        };
        set().map_err(Error::os(&*self.address, "setting bus mastering"))
    }
}

impl Drop for BusMaster {
    fn drop(&mut self) {
        // A device that is gone masters nothing.
        let _ = self.forbid();
    }
}
