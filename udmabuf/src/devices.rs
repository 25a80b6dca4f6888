//! Which buffers the kernel module has made.

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
    let loaded = sysfs::for_each_device(|name| {
        // One that is removed meanwhile is not there.
        if let Ok(size) = sysfs::attribute(name, "size", sysfs::number) {
            let number = |attribute| sysfs::attribute(name, attribute, sysfs::number).ok();
            devices.push(Device {
                name: name.into(),
                size,
                dma_addr: number("phys_addr"),
                is_coherent: number("dma_coherent").map(|value| value != 0),
                is_device_owned: number("sync_owner").map(|value| value != 0),
            });
        }
    })
    .map_err(|errno| Error::os("u-dma-buf", "listing", errno))?;
    devices.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(loaded.then_some(devices))
}
