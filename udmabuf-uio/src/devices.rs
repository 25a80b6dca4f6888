//! Which UIO devices there are, and what they have.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use crate::{
    Error,
    sysfs::{self, Roots},
};

/// A UIO device, as the kernel describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UioDevice {
    /// Its file in `/dev`: `uio0`.
    pub file: String,
    /// For a device-tree node, the node's name without its address.
    pub name: String,
    /// What can be mapped.
    pub maps: Vec<Map>,
    /// x86 I/O ports, which cannot be mapped.
    pub ports: Vec<Port>,
    /// Its node in the device tree: `/axi/dma@a0000000`.
    pub tree_path: Option<String>,
    /// What the node is compatible with, most specific first.
    pub compatible: Vec<String>,
    /// Its address, if it is on a PCI bus: `0000:00:02.0`.
    pub pci: Option<String>,
    pub(crate) dir: PathBuf,
}

/// Memory of a device that can be mapped: its registers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Map {
    /// Its number.
    pub number: usize,
    /// Its name, if its kernel driver gives it one.
    pub name: String,
    /// Physical address of its first page.
    pub address: u64,
    /// Where in that page the registers start, in bytes.
    pub offset: u64,
    /// Bytes from the start of the first page.
    pub size: u64,
}

/// A range of I/O ports.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Port {
    /// The first port.
    pub start: u64,
    /// How many there are.
    pub size: u64,
}

/// What to find a UIO device by. A `&str` is a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum By<'a> {
    /// The `name` file in sysfs; for a device-tree node, the node's name without
    /// its address.
    Name(&'a str),
    /// The name of one of its maps.
    MapName(&'a str),
    /// The physical address at which one of its maps has its registers, as in
    /// the device tree's `reg`.
    Address(u64),
    /// The path of its node in the device tree.
    TreePath(&'a str),
    /// One of the strings in its node's `compatible`.
    Compatible(&'a str),
}

impl<'a> From<&'a str> for By<'a> {
    fn from(name: &'a str) -> Self {
        Self::Name(name)
    }
}

impl fmt::Display for By<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::MapName(name) => write!(f, "with a map {name}"),
            Self::Address(address) => write!(f, "with registers at {address:#x}"),
            Self::TreePath(path) => write!(f, "{path} of the device tree"),
            Self::Compatible(text) => write!(f, "compatible with {text}"),
        }
    }
}

impl By<'_> {
    pub(crate) fn finds(&self, device: &UioDevice) -> bool {
        match *self {
            Self::Name(name) => device.name == name,
            Self::MapName(name) => device.maps.iter().any(|map| map.name == name),
            Self::Address(address) => device.maps.iter().any(|map| map.start() == Some(address)),
            Self::TreePath(path) => device.tree_path.as_deref() == Some(path),
            Self::Compatible(text) => device.compatible.iter().any(|it| it == text),
        }
    }
}

impl Map {
    /// Physical address of the registers.
    fn start(&self) -> Option<u64> {
        self.address.checked_add(self.offset)
    }

    /// Bytes from the first register on.
    pub(crate) fn len(&self) -> u64 {
        self.size.saturating_sub(self.offset)
    }
}

impl fmt::Display for UioDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}", self.file, self.name)?;
        for map in &self.maps {
            write!(f, "; {map}")?;
        }
        if let Some(path) = &self.tree_path {
            write!(f, "; {path} of the device tree")?;
        }
        if !self.compatible.is_empty() {
            write!(f, "; compatible with {}", self.compatible.join(", "))?;
        }
        if let Some(address) = &self.pci {
            write!(f, "; PCI {address}")?;
        }
        f.write_str(")")
    }
}

impl fmt::Display for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "map {}", self.number)?;
        if !self.name.is_empty() {
            write!(f, " {:?}", self.name)?;
        }
        write!(f, " of {:#x} bytes at {:#x}", self.len(), self.start().unwrap_or(u64::MAX))
    }
}

/// All UIO devices, by number.
pub(crate) fn list(roots: &Roots) -> Result<Vec<UioDevice>, Error> {
    let class = roots.sys.join("class/uio");
    let names = sysfs::names(&class).map_err(Error::os("UIO devices", "listing"))?;
    // One that is removed meanwhile is not there.
    Ok(names.iter().filter_map(|name| describe(roots, class.join(name))).collect())
}

/// The device of sysfs directory `dir`, if it is one.
pub(crate) fn describe(roots: &Roots, dir: PathBuf) -> Option<UioDevice> {
    let name = sysfs::line(&dir.join("name")).ok()?;
    let number = |dir: &Path, attribute| sysfs::number(&dir.join(attribute)).ok();
    let numbered = |kind, prefix| sysfs::numbered(&dir.join(kind), prefix).ok();
    let maps = numbered("maps", "map")?.into_iter().filter_map(|(map, dir)| {
        Some(Map {
            number: map,
            name: sysfs::line(&dir.join("name")).unwrap_or_default(),
            address: number(&dir, "addr")?,
            offset: number(&dir, "offset")?,
            size: number(&dir, "size")?,
        })
    });
    let ports = numbered("portio", "port")?.into_iter().filter_map(|(_, dir)| {
        Some(Port { start: number(&dir, "start")?, size: number(&dir, "size")? })
    });
    let parent = dir.join("device");
    let node = parent.join("of_node");
    let compatible = fs::read_to_string(node.join("compatible")).unwrap_or_default();
    Some(UioDevice {
        file: dir.file_name()?.to_str()?.to_owned(),
        name,
        maps: maps.collect(),
        ports: ports.collect(),
        tree_path: tree_path(roots, &node),
        compatible: compatible.split_terminator('\0').map(str::to_owned).collect(),
        pci: pci_address(&parent),
        dir,
    })
}

fn tree_path(roots: &Roots, node: &Path) -> Option<String> {
    let tree = fs::canonicalize(roots.sys.join("firmware/devicetree/base")).ok()?;
    let path = fs::canonicalize(node).ok()?;
    Some(format!("/{}", path.strip_prefix(tree).ok()?.to_str()?))
}

fn pci_address(parent: &Path) -> Option<String> {
    let bus = fs::canonicalize(parent.join("subsystem")).ok()?;
    let device = fs::canonicalize(parent).ok()?;
    bus.ends_with("bus/pci").then(|| device.file_name()?.to_str().map(str::to_owned)).flatten()
}
