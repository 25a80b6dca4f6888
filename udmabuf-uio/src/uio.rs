//! A device of the kernel's UIO framework, found by name.
//!
//! The files are described in the kernel's `Documentation/driver-api/uio-howto.rst`.
#![allow(unsafe_code, reason = "declares the promise by which registers are created")]

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{Block, Error, Interrupt, Mmio, Registers, handle::Handle, sysfs};

const CLASS: &str = "/sys/class/uio";

/// An open UIO device, which no other [`Uio`] has open.
#[derive(Debug)]
pub struct Uio {
    /// As in error messages: `uio0 (dma)`.
    label: String,
    handle: Arc<Handle>,
}

impl Uio {
    /// Opens the first device with this name (the `name` file in sysfs; for a
    /// device-tree node, the node's name without its address) that is not in
    /// use.
    ///
    /// # Errors
    /// [`Error::NotFound`], which lists what there is; [`Error::Busy`] if all
    /// with this name are in use; [`Error::PermissionDenied`].
    pub fn open(name: &str) -> Result<Self, Error> {
        let class = Path::new(CLASS);
        let listing = Error::os("UIO devices", "listing");
        let mut found = Vec::new();
        let mut busy = None;
        for entry in sysfs::names(class).map_err(listing)? {
            let dir = class.join(&entry);
            // One that is removed meanwhile is not there.
            let Ok(its_name) = sysfs::line(&dir.join("name")) else {
                continue;
            };
            if its_name == name {
                match Self::open_dir(dir) {
                    Err(error @ Error::Busy { .. }) => busy = Some(error),
                    result => return result,
                }
            }
            found.push(format!("{entry} ({its_name})"));
        }
        Err(busy.unwrap_or_else(|| Error::NotFound {
            wanted: name.into(),
            searched: class.into(),
            cure: if found.is_empty() {
                "no UIO device exists: load `uio_pdrv_genirq` with `of_id=generic-uio` and give the \
                 device-tree node that compatible"
                    .into()
            } else {
                format!("there is: {}", found.join(", "))
            },
        }))
    }

    /// Opens the device that sysfs describes in `dir`.
    pub(crate) fn open_dir(dir: PathBuf) -> Result<Self, Error> {
        let entry = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let label = match sysfs::line(&dir.join("name")) {
            Ok(name) => format!("{entry} ({name})"),
            Err(_) => entry,
        };
        let handle = Arc::new(Handle::open(&label, dir)?);
        Ok(Self { label, handle })
    }

    /// Maps the registers in map number `map`.
    ///
    /// # Safety
    /// The device's registers are as the driver declares them for `K`. Where
    /// they can start DMA, the driver starts it only into buffers that were
    /// handed to the device, as `udmabuf`'s `Engine` asks for.
    ///
    /// # Errors
    /// [`Error::NoRegisters`] if there is no such map or it is smaller than the
    /// block.
    pub unsafe fn registers<K: Block>(&self, map: usize) -> Result<Registers<K>, Error> {
        let dir = self.handle.dir.join(format!("maps/map{map}"));
        let missing = |found: String| Error::NoRegisters {
            device: self.label.clone(),
            wanted: K::SIZE,
            place: format!("map {map}"),
            found,
        };
        let attribute = |name| sysfs::number(&dir.join(name));
        let Ok(size) = attribute("size") else {
            let maps = sysfs::names(&self.handle.dir.join("maps")).unwrap_or_default();
            return Err(missing(format!("its maps are: {}", maps.join(", "))));
        };
        // Where in the first page the registers start, if not at its start.
        let offset = attribute("offset").map_err(Error::os(&*self.label, "reading maps/offset"))?;
        let (Ok(size), Ok(offset)) = (usize::try_from(size), usize::try_from(offset)) else {
            return Err(missing("it is too large to map".into()));
        };
        if size < K::SIZE {
            return Err(missing(format!("it has {size:#x} bytes")));
        }
        // The kernel numbers the maps by whole pages of the file.
        let file_offset = map as u64 * rustix::param::page_size() as u64;
        Mmio::map(&self.handle.uio, file_offset, offset, K::SIZE, self.handle.clone())
            .map(Registers::new)
            .map_err(Error::os(&*self.label, format!("mmap of map {map}")))
    }

    /// The device's interrupt, masked.
    ///
    /// # Errors
    /// [`Error::Os`]: the device has none.
    pub fn into_interrupt(self) -> Result<Interrupt, Error> {
        Interrupt::new(self.label, self.handle, None)
    }

    pub(crate) fn handle(&self) -> &Arc<Handle> {
        &self.handle
    }
}
