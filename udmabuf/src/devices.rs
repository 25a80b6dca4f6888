//! Which buffers the kernel module has made.

use rustix::io::Errno;
use udmabuf_sys::sysfs;

use crate::Error;

/// A buffer of the kernel module, not opened, and its attributes; `None` is what
/// the driver does not tell.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Device {
    /// Its name, for [`Buffer::open`](crate::Buffer::open).
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// Where the device finds the first byte.
    pub dma_addr: Option<u64>,
    /// Whether hardware keeps the CPU's caches coherent with the device.
    pub is_coherent: Option<bool>,
    /// Whether a device has it, as far as the driver was told.
    pub is_device_owned: Option<bool>,
}

/// Lists the kernel module's buffers, by name; `None` where the module is not
/// loaded.
///
/// ```
/// match udmabuf::devices()? {
///     None => println!("the module is not loaded"),
///     Some(devices) => devices.iter().for_each(|d| println!("{}: {} bytes", d.name, d.size)),
/// }
/// # Ok::<(), udmabuf::Error>(())
/// ```
///
/// # Errors
/// [`Error::Os`] where sysfs cannot be read.
pub fn devices() -> Result<Option<Vec<Device>>, Error> {
    let mut devices = Vec::new();
    let mut failed = None;
    let loaded = sysfs::for_each_device(|name| match device(name) {
        Ok(device) => devices.extend(device),
        Err(error) => {
            failed.get_or_insert(error);
        }
    })
    .map_err(|errno| Error::os("u-dma-buf", "listing", errno))?;
    if let Some(error) = failed {
        return Err(error);
    }
    devices.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(loaded.then_some(devices))
}

/// `None` where it was removed meanwhile.
fn device(name: &str) -> Result<Option<Device>, Error> {
    let number = |attribute: &str| match sysfs::attribute(name, attribute, sysfs::number) {
        Ok(number) => Ok(Some(number)),
        // Of a driver without it, or with other words; or of a device that is gone.
        Err(Errno::NOENT | Errno::INVAL | Errno::NODEV | Errno::NXIO) => Ok(None),
        Err(errno) => Err(Error::os(name, format!("reading {attribute} in sysfs"), errno)),
    };
    let Some(size) = number("size")? else { return Ok(None) };
    Ok(Some(Device {
        name: name.into(),
        size,
        dma_addr: number("phys_addr")?,
        is_coherent: number("dma_coherent")?.map(|value| value != 0),
        is_device_owned: number("sync_owner")?.map(|value| value != 0),
    }))
}
