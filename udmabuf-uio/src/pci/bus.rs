//! Which PCI functions there are, and what they have.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use crate::{
    Error,
    sysfs::{self, Roots},
};

/// A PCI function, as the kernel describes it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PciDevice {
    /// Domain, bus, device and function: `0000:00:02.0`.
    pub address: String,
    /// Vendor number.
    pub vendor: u16,
    /// Device number.
    pub device: u16,
    /// The kernel driver that it is bound to.
    pub driver: Option<String>,
    /// Its base address registers, as far as they are used.
    pub bars: Vec<Bar>,
    pub(crate) dir: PathBuf,
    is_translated: bool,
}

/// A range of a PCI function's memory or I/O ports.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Bar {
    /// Number of the base address register, the first of two for 64 bits.
    pub number: usize,
    /// Physical address, or first port.
    pub start: u64,
    /// Bytes, or ports.
    pub size: u64,
    /// Whether it is of I/O ports.
    pub is_ports: bool,
}

impl PciDevice {
    /// Whether an IOMMU gives it bus addresses of its own, so that it reaches only
    /// memory that was allocated for it.
    #[must_use]
    pub fn is_translated(&self) -> bool {
        self.is_translated
    }
}

impl Bar {
    /// The kernel maps whole pages, which a BAR may be smaller than.
    pub(super) fn offset_in_page(&self, page_size: usize) -> usize {
        #[allow(clippy::cast_possible_truncation, reason = "less than a page")]
        let offset = (self.start % page_size as u64) as usize;
        offset
    }
}

impl fmt::Display for PciDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:04x}:{:04x}, ", self.address, self.vendor, self.device)?;
        write!(f, "{})", self.driver.as_deref().unwrap_or("no driver"))
    }
}

impl fmt::Display for Bar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.is_ports { "ports" } else { "bytes" };
        write!(f, "BAR {} of {:#x} {kind}", self.number, self.size)
    }
}

/// All PCI functions, by address; none where there is no bus.
pub(super) fn list(roots: &Roots) -> Result<Vec<PciDevice>, Error> {
    let devices = roots.sys.join("bus/pci/devices");
    let names = sysfs::names(&devices).map_err(Error::os("PCI devices", "listing"))?;
    // One that is removed meanwhile is not there.
    let described = names.into_iter().map(|address| {
        let device = describe(devices.join(&address), address.clone());
        device.map_err(Error::os(address, "reading what it has"))
    });
    described.filter_map(Result::transpose).collect()
}

fn describe(dir: PathBuf, address: String) -> io::Result<Option<PciDevice>> {
    let id = |name| -> io::Result<Option<u16>> {
        let number = sysfs::told(sysfs::number(&dir.join(name)))?;
        Ok(number.and_then(|number| u16::try_from(number).ok()))
    };
    let driver = sysfs::told(fs::read_link(dir.join("driver")))?;
    let resources = sysfs::told(fs::read_to_string(dir.join("resource")))?;
    let (Some(vendor), Some(device), Some(resources)) = (id("vendor")?, id("device")?, resources)
    else {
        return Ok(None);
    };
    Ok(Some(PciDevice {
        address,
        vendor,
        device,
        driver: driver.and_then(|link| Some(link.file_name()?.to_str()?.to_owned())),
        bars: resources.lines().take(6).enumerate().filter_map(bar).collect(),
        is_translated: is_translated(&dir.join("iommu_group"))?,
        dir,
    }))
}

fn is_translated(group: &Path) -> io::Result<bool> {
    let says = |file: &str, what| -> io::Result<bool> {
        Ok(sysfs::told(sysfs::line(&group.join(file)))?.as_deref() == Some(what))
    };
    // vfio-pci makes a group where there is no IOMMU, if it is told to.
    Ok(fs::exists(group)? && !says("type", "identity")? && !says("name", "vfio-noiommu")?)
}

/// From a line of first address, last address and flags (`IORESOURCE_*` of the
/// kernel's `include/linux/ioport.h`).
fn bar((number, line): (usize, &str)) -> Option<Bar> {
    const IO: u64 = 0x100;
    const MEM: u64 = 0x200;
    let mut words = line.split_ascii_whitespace().map(sysfs::parse);
    let (start, end, flags) = (words.next()??, words.next()??, words.next()??);
    let size = end.checked_sub(start)?.checked_add(1)?;
    (flags & (IO | MEM) != 0).then_some(Bar { number, start, size, is_ports: flags & IO != 0 })
}
