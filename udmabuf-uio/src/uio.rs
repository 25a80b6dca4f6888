//! A device of the kernel's UIO framework.
//!
//! The files are described in the kernel's `Documentation/driver-api/uio-howto.rst`.
#![allow(unsafe_code, reason = "declares the promise by which registers are created")]

use std::sync::Arc;

use crate::{
    Block, By, Error, Interrupt, Map, Mmio, Port, Registers, UioDevice, devices,
    handle::Handle,
    pci::{self, Config},
    sysfs::Roots,
};

/// An open UIO device, which no other [`Uio`] has open.
#[derive(Debug)]
pub struct Uio {
    device: UioDevice,
    handle: Arc<Handle>,
}

/// Which of a device's maps: its number or its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapId<'a> {
    /// The number in sysfs, `maps/mapN`.
    Number(usize),
    /// The name that its kernel driver gave it.
    Name(&'a str),
}

impl From<usize> for MapId<'_> {
    fn from(number: usize) -> Self {
        Self::Number(number)
    }
}

impl<'a> From<&'a str> for MapId<'a> {
    fn from(name: &'a str) -> Self {
        Self::Name(name)
    }
}

impl Uio {
    /// Opens the first device that is found by its name, or [by](By) something
    /// else, and is not in use.
    ///
    /// ```no_run
    /// use udmabuf_uio::{By, Uio};
    ///
    /// let by_name = Uio::open("dma")?;
    /// let by_address = Uio::open(By::Address(0xa000_0000))?;
    /// let by_compatible = Uio::open(By::Compatible("acme,adder-1.0"))?;
    /// # Ok::<(), udmabuf_uio::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NotFound`], which lists what there is; [`Error::Busy`] if all
    /// that were found are in use; [`Error::PermissionDenied`].
    pub fn open<'a>(by: impl Into<By<'a>>) -> Result<Self, Error> {
        Self::open_in(&Roots::system(), by.into())
    }

    /// All UIO devices.
    ///
    /// # Errors
    /// [`Error::Os`]
    pub fn list() -> Result<Vec<UioDevice>, Error> {
        devices::list(&Roots::system())
    }

    pub(crate) fn open_in(roots: &Roots, by: By<'_>) -> Result<Self, Error> {
        let devices = devices::list(roots)?;
        let mut busy = None;
        for device in devices.iter().filter(|device| by.finds(device)) {
            match Self::open_device(roots, device.clone()) {
                Err(error @ Error::Busy { .. }) => busy = Some(error),
                result => return result,
            }
        }
        let found: Vec<_> = devices.iter().map(ToString::to_string).collect();
        Err(busy.unwrap_or_else(|| Error::NotFound {
            wanted: by.to_string(),
            searched: roots.sys.join("class/uio"),
            cure: if found.is_empty() {
                "no UIO device exists: load `uio_pdrv_genirq` with `of_id=generic-uio` and give the \
                 device-tree node that compatible"
                    .into()
            } else {
                format!("there is: {}", found.join(", "))
            },
        }))
    }

    pub(crate) fn open_device(roots: &Roots, device: UioDevice) -> Result<Self, Error> {
        let label = format!("{} ({})", device.file, device.name);
        let handle = Arc::new(Handle::open(roots, label, &device)?);
        // Meanwhile the number may have become another device's. What was opened stays
        // what it was, or is gone.
        match devices::describe(roots, device.dir.clone())? {
            Some(now) if now == device => Ok(Self { device, handle }),
            _ => Err(handle.removed()),
        }
    }

    /// What the kernel says of it.
    #[must_use]
    pub fn device(&self) -> &UioDevice {
        &self.device
    }

    /// Maps the registers in a map, by number or name; each time that it is asked
    /// to. Two that are mapped from one map know nothing of each other: to
    /// [`modify`](Registers::modify) a register in one while it is written in the
    /// other loses one of the two.
    ///
    /// # Safety
    /// The device's registers are as the driver declares them for `K`. Where
    /// they can start DMA, the driver starts it only into buffers that were
    /// handed to the device, as `udmabuf`'s `Engine` asks for.
    ///
    /// Of a device that was found by its name, that is as true as the name, which
    /// whoever wrote the device tree has given. If nodes name the core besides
    /// `generic-uio`, a driver can look for it in [`UioDevice::compatible`].
    ///
    /// # Errors
    /// [`Error::NoRegisters`] if there is no such map, it is smaller than the
    /// block, or what the device has is I/O ports. How large a map is only the
    /// kernel knows; what is inside a block is checked when it is compiled.
    pub unsafe fn registers<'a, K: Block>(
        &self,
        map: impl Into<MapId<'a>>,
    ) -> Result<Registers<K>, Error> {
        let id = map.into();
        let missing = |found: String| Error::NoRegisters {
            device: self.handle.label.clone(),
            wanted: K::SIZE,
            place: match id {
                MapId::Number(number) => format!("map {number}"),
                MapId::Name(name) => format!("map {name:?}"),
            },
            found,
        };
        let is_it = |map: &&Map| match id {
            MapId::Number(number) => map.number == number,
            MapId::Name(name) => map.name == name,
        };
        let map = self.device.maps.iter().find(is_it).ok_or_else(|| missing(self.other_maps()))?;
        if map.len() < K::SIZE as u64 {
            return Err(missing(format!("it is {map}")));
        }
        let Ok(offset) = usize::try_from(map.offset) else {
            return Err(missing(format!("its registers start at {:#x}", map.offset)));
        };
        let file_offset = file_offset(map.number, rustix::param::page_size());
        Mmio::map::<K>(&self.handle.uio, file_offset, offset, &self.handle)
            .map_err(self.handle.error(format!("mmap of map {}", map.number)))
    }

    /// What there is instead of the map that was asked for.
    fn other_maps(&self) -> String {
        if let Some(port) = self.device.ports.first() {
            let Port { start, size } = port;
            return format!(
                "it has {size} I/O ports from {start:#x}, which cannot be mapped; this crate does not access ports"
            );
        }
        let maps: Vec<_> = self.device.maps.iter().map(ToString::to_string).collect();
        if maps.is_empty() {
            "it has no maps".into()
        } else {
            format!("it has {}", maps.join(", "))
        }
    }

    /// The device's interrupt, masked.
    ///
    /// # Errors
    /// [`Error::NoInterrupt`], [`Error::Removed`]
    pub fn into_interrupt(self) -> Result<Interrupt, Error> {
        let config = match self.device.name == pci::GENERIC && self.device.pci.is_some() {
            true => {
                Some(Arc::new(Config::open(&self.device.dir.join("device"), self.handle.clone())?))
            }
            false => None,
        };
        Interrupt::new(self.handle, config)
    }

    pub(crate) fn handle(&self) -> &Arc<Handle> {
        &self.handle
    }
}

/// The kernel numbers the maps by whole pages of the file, whatever their size.
pub(crate) fn file_offset(map: usize, page_size: usize) -> u64 {
    map as u64 * page_size as u64
}
