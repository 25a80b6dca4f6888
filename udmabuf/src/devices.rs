//! Which buffers the kernel module has made.

use udmabuf_sys::sysfs;

use crate::Error;

/// A buffer of the kernel module, not opened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Device {
    /// Its name, for [`Buffer::open`](crate::Buffer::open).
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
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
            devices.push(Device { name: name.into(), size });
        }
    })
    .map_err(|errno| Error::os("u-dma-buf", "listing", errno))?;
    devices.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(loaded.then_some(devices))
}
