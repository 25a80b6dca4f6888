//! Which UIO devices there are, and what they have.

use std::{
    fmt, fs, io,
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
    let described = names.iter().map(|name| describe(roots, class.join(name)));
    described.filter_map(Result::transpose).collect()
}

/// The device of sysfs directory `dir`, if it is one.
///
/// # Errors
/// [`Error::Os`]: the kernel does not say.
pub(crate) fn describe(roots: &Roots, dir: PathBuf) -> Result<Option<UioDevice>, Error> {
    let Some(file) = dir.file_name().and_then(|name| name.to_str()) else { return Ok(None) };
    let file = file.to_owned();
    let device = read(roots, dir, file.clone());
    device.map_err(Error::os(file, "reading what it has"))
}

fn read(roots: &Roots, dir: PathBuf, file: String) -> io::Result<Option<UioDevice>> {
    let Some(name) = sysfs::told(sysfs::line(&dir.join("name")))? else { return Ok(None) };
    let numbered = |kind, prefix| sysfs::numbered(&dir.join(kind), prefix);
    let maps = numbered("maps", "map")?.into_iter().map(|(number, dir)| map(number, &dir));
    let ports = numbered("portio", "port")?.into_iter().map(|(_, dir)| port(&dir));
    let (maps, ports) = (
        maps.filter_map(Result::transpose).collect::<io::Result<_>>()?,
        ports.filter_map(Result::transpose).collect::<io::Result<_>>()?,
    );
    let parent = dir.join("device");
    let node = parent.join("of_node");
    let compatible = sysfs::told(fs::read_to_string(node.join("compatible")))?.unwrap_or_default();
    Ok(Some(UioDevice {
        file,
        name,
        maps,
        ports,
        tree_path: tree_path(roots, &node)?,
        compatible: compatible.split_terminator('\0').map(str::to_owned).collect(),
        pci: pci_address(&parent)?,
        dir,
    }))
}

fn number(dir: &Path, attribute: &str) -> io::Result<Option<u64>> {
    sysfs::told(sysfs::number(&dir.join(attribute)))
}

fn map(number_of_map: usize, dir: &Path) -> io::Result<Option<Map>> {
    let name = sysfs::told(sysfs::line(&dir.join("name")))?.unwrap_or_default();
    let (address, offset, size) =
        (number(dir, "addr")?, number(dir, "offset")?, number(dir, "size")?);
    let (Some(address), Some(offset), Some(size)) = (address, offset, size) else {
        return Ok(None);
    };
    Ok(Some(Map { number: number_of_map, name, address, offset, size }))
}

fn port(dir: &Path) -> io::Result<Option<Port>> {
    let (start, size) = (number(dir, "start")?, number(dir, "size")?);
    Ok(start.zip(size).map(|(start, size)| Port { start, size }))
}

fn tree_path(roots: &Roots, node: &Path) -> io::Result<Option<String>> {
    let tree = sysfs::told(fs::canonicalize(roots.sys.join("firmware/devicetree/base")))?;
    let Some((tree, path)) = tree.zip(sysfs::told(fs::canonicalize(node))?) else {
        return Ok(None);
    };
    Ok(path.strip_prefix(tree).ok().and_then(Path::to_str).map(|path| format!("/{path}")))
}

fn pci_address(parent: &Path) -> io::Result<Option<String>> {
    let bus = sysfs::told(fs::canonicalize(parent.join("subsystem")))?;
    let device = sysfs::told(fs::canonicalize(parent))?;
    let address = |device: PathBuf| Some(device.file_name()?.to_str()?.to_owned());
    Ok(bus.filter(|bus| bus.ends_with("bus/pci")).and(device).and_then(address))
}
