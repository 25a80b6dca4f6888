//! A PCI device, through `uio_pci_generic` and sysfs, or through `vfio-pci`.
#![allow(unsafe_code, reason = "declares the promise by which registers are created")]

mod bus;
mod config;

use std::{fs, sync::Arc};

pub use bus::{Bar, PciDevice};
pub use config::BusMaster;

use crate::{
    Block, Error, Interrupt, Mmio, Registers, Uio, devices,
    handle::{Handle, open_file},
    sysfs::{self, Roots},
    vfio::{self, Irq, Vfio, VfioLine},
};
pub(crate) use config::Config;

/// The kernel driver, and the name of its UIO devices.
pub(crate) const GENERIC: &str = "uio_pci_generic";

/// A PCI function bound to `uio_pci_generic` or `vfio-pci`, which no other [`Pci`]
/// has open.
///
/// | bound to | interrupts | memory that it can access |
/// |---|---|---|
/// | `uio_pci_generic` | INTx | all, or behind an IOMMU what the kernel maps for it: buffers that were made for this device |
/// | `vfio-pci` without an IOMMU | INTx, messages | all |
/// | `vfio-pci` behind an IOMMU | INTx, messages | none: [`bus_master`](Self::bus_master) is refused |
///
/// To give a device to `vfio-pci`, whichever driver it has:
///
/// ```sh
/// modprobe vfio-pci
/// cd /sys/bus/pci/devices/0000:00:02.0
/// echo vfio-pci > driver_override
/// echo 0000:00:02.0 > driver/unbind # if it has a driver
/// echo 0000:00:02.0 > /sys/bus/pci/drivers_probe
/// ```
///
/// Without an IOMMU, `vfio-pci` wants a kernel with `CONFIG_VFIO_NOIOMMU` and
/// `enable_unsafe_noiommu_mode` of module `vfio`. Behind one, a driver would have to
/// map each buffer at an address of its own choice; this crate knows no buffers and
/// does not: such a device has registers and interrupts, but moves no data.
///
/// The functions of an IOMMU group are not kept apart by the IOMMU, and the kernel
/// lets a group be opened once: through `vfio-pci`, one of them can be open at a time,
/// and the others are [`Error::Busy`].
///
/// When the last is dropped of this, its [`BusMaster`] and its [`Interrupt`],
/// the command register is again as it was found, but for bus mastering, which
/// is off.
#[derive(Debug)]
pub struct Pci {
    device: PciDevice,
    handle: Arc<Handle>,
    config: Arc<Config>,
    vfio: Option<Vfio>,
}

impl Pci {
    /// Opens the first device with these vendor and device numbers that is not
    /// in use.
    ///
    /// ```no_run
    /// # udmabuf_uio::block! { struct Regs: 4 bytes { 0 => IDENTIFICATION: ReadOnly<u32> } }
    /// use udmabuf_uio::Pci;
    ///
    /// let edu = Pci::open(0x1234, 0x11e8)?;
    /// let bus_master = edu.bus_master()?;
    /// // SAFETY: its first register is as declared, and starts nothing.
    /// let registers = unsafe { edu.registers::<Regs>(0)? };
    /// // SAFETY: its DMA engine is idle.
    /// unsafe { bus_master.allow()? };
    /// let interrupt = edu.into_interrupt()?;
    /// println!("{:#x}, {interrupt:?}", registers.read(Regs::IDENTIFICATION));
    /// # Ok::<(), udmabuf_uio::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is none, or none is bound to one of the two
    /// drivers; [`Error::Busy`], [`Error::PermissionDenied`].
    pub fn open(vendor: u16, device: u16) -> Result<Self, Error> {
        let wanted = format!("{vendor:04x}:{device:04x}");
        Self::open_in(&Roots::system(), &wanted, |it| it.vendor == vendor && it.device == device)
    }

    /// Opens the device at an address: domain, bus, device and function, as in
    /// `0000:00:02.0`.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_at(address: &str) -> Result<Self, Error> {
        Self::open_in(&Roots::system(), address, |it| it.address == address)
    }

    /// All PCI functions.
    ///
    /// # Errors
    /// [`Error::Os`]
    pub fn list() -> Result<Vec<PciDevice>, Error> {
        bus::list(&Roots::system())
    }

    pub(crate) fn open_in(
        roots: &Roots,
        wanted: &str,
        is_wanted: impl Fn(&PciDevice) -> bool,
    ) -> Result<Self, Error> {
        let devices = bus::list(roots)?;
        let mut refused = None;
        for device in devices.iter().filter(|device| is_wanted(device)) {
            match Self::open_device(roots, device.clone()) {
                Err(error @ (Error::Busy { .. } | Error::NotFound { .. })) => refused = Some(error),
                result => return result,
            }
        }
        let found: Vec<_> = devices.iter().map(ToString::to_string).collect();
        Err(refused.unwrap_or_else(|| Error::NotFound {
            wanted: wanted.into(),
            searched: roots.sys.join("bus/pci/devices"),
            cure: match &found[..] {
                [] => "the bus is empty".into(),
                _ => format!("there is: {}", found.join(", ")),
            },
        }))
    }

    fn open_device(roots: &Roots, device: PciDevice) -> Result<Self, Error> {
        if device.driver.as_deref() == Some(vfio::DRIVER) {
            let vfio = Vfio::open(roots, &device)?;
            let config = Arc::new(Config::of_vfio(&vfio)?);
            return Ok(Self { device, handle: vfio.handle().clone(), config, vfio: Some(vfio) });
        }
        let bound = device.driver.as_deref() == Some(GENERIC);
        let uio = sysfs::numbered(&device.dir.join("uio"), "uio")
            .map_err(Error::os(&device.address, "listing its UIO devices"))?
            .into_iter()
            .find(|_| bound)
            .map(|(number, _)| {
                devices::describe(roots, roots.sys.join(format!("class/uio/uio{number}")))
            });
        let Some(uio) = uio.transpose()?.flatten() else {
            let PciDevice { address, vendor, device, dir, .. } = &device;
            return Err(Error::NotFound {
                wanted: address.clone(),
                searched: dir.join("uio"),
                cure: format!(
                    "{address} is not bound to uio_pci_generic: `modprobe uio_pci_generic`, then \
                     `echo {vendor:04x} {device:04x} > /sys/bus/pci/drivers/uio_pci_generic/new_id`"
                ),
            });
        };
        let uio = Uio::open_device(roots, uio)?;
        let handle = uio.handle().clone();
        let config = Arc::new(Config::open(&device.dir, handle.clone())?);
        Ok(Self { device, handle, config, vfio: None })
    }

    /// What the kernel says of it.
    #[must_use]
    pub fn device(&self) -> &PciDevice {
        &self.device
    }

    /// Maps the registers in base address register number `bar`.
    ///
    /// # Safety
    /// As [`Uio::registers`].
    ///
    /// # Errors
    /// [`Error::NoRegisters`] if there is no such BAR, it is smaller than the
    /// block, or it is of I/O ports; [`Error::Os`] if the kernel does not let it
    /// be mapped.
    pub unsafe fn registers<K: Block>(&self, bar: usize) -> Result<Registers<K>, Error> {
        let missing = |found: String| Error::NoRegisters {
            device: self.device.address.clone(),
            wanted: K::SIZE,
            place: format!("BAR {bar}"),
            found,
        };
        let Some(bar) = self.device.bars.iter().find(|it| it.number == bar) else {
            let bars: Vec<_> = self.device.bars.iter().map(ToString::to_string).collect();
            return Err(missing(format!("it has {}", bars.join(", "))));
        };
        if bar.is_ports {
            let why =
                "it is of I/O ports, which cannot be mapped; this crate does not access ports";
            return Err(missing(why.into()));
        }
        if bar.size < K::SIZE as u64 {
            return Err(missing(format!("it has {:#x} bytes", bar.size)));
        }
        let failed = || self.handle.error(format!("mmap of BAR {}", bar.number));
        if let Some(vfio) = &self.vfio {
            let region = vfio.bar(bar.number).map_err(failed())?;
            if !region.can_be_mapped || region.size < K::SIZE as u64 {
                return Err(missing("vfio-pci maps only memory that has its pages alone".into()));
            }
            return Mmio::map::<K>(&self.handle.uio, region.offset, 0, &self.handle)
                .map_err(failed());
        }
        let file = self.device.dir.join(format!("resource{}", bar.number));
        let file = open_file(&self.device.address, file)?;
        let offset = bar.offset_in_page(rustix::param::page_size());
        Mmio::map::<K>(&file, 0, offset, &self.handle).map_err(failed())
    }

    /// Whether the device may access memory: not, until [`BusMaster::allow`]
    /// says so.
    ///
    /// # Errors
    /// [`Error::Os`], [`Error::Removed`]; [`Error::Unsupported`] for `vfio-pci`
    /// behind an IOMMU.
    pub fn bus_master(&self) -> Result<BusMaster, Error> {
        if self.vfio.as_ref().is_some_and(|vfio| vfio.is_behind_iommu) {
            return Err(Error::Unsupported {
                device: self.handle.label.clone(),
                wanted: "way through the IOMMU to memory".into(),
                cure: format!(
                    "bind it to uio_pci_generic, and make its buffers for it: `create NAME SIZE \
                     bus=pci device={}` to /dev/u-dma-buf-mgr",
                    self.device.address
                ),
            });
        }
        BusMaster::new(self.config.clone())
    }

    /// Resets the function, if that does not reset others: its registers are as
    /// after power-on, and it accesses memory no more until its driver starts it.
    /// What is in the configuration space stays.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the device has no such reset; [`Error::Os`],
    /// [`Error::Removed`].
    pub fn reset(&self) -> Result<(), Error> {
        match &self.vfio {
            Some(vfio) => vfio.reset(),
            None => {
                let file = self.device.dir.join("reset");
                if !file.exists() && self.handle.is_there() {
                    return Err(Error::no_reset(&self.handle.label));
                }
                fs::write(file, "1").map_err(self.handle.error("reset"))
            }
        }
    }

    /// The device's interrupt, masked: INTx.
    ///
    /// # Errors
    /// [`Error::NoInterrupt`], [`Error::Os`], [`Error::Removed`]
    pub fn into_interrupt(self) -> Result<Interrupt, Error> {
        match &self.vfio {
            Some(vfio) => Interrupt::vfio(VfioLine::new(vfio, self.config.clone(), &[Irq::Intx])?),
            None => Interrupt::new(self.handle, Some(self.config)),
        }
    }

    /// The device's first message-signalled interrupt: of MSI-X, or else of MSI. It
    /// has no mask: what comes while nobody waits ends the next wait.
    ///
    /// A message is a write to memory: none comes before [`BusMaster::allow`]. Behind
    /// an IOMMU it is the only write that gets through, and this allows it.
    ///
    /// ```no_run
    /// # udmabuf_uio::block! { struct Regs: 4 bytes { 0 => EVENTS: ReadEffect<u32> } }
    /// # fn serve(_events: u32) {}
    /// use udmabuf_uio::Pci;
    ///
    /// let pci = Pci::open_at("0000:01:00.0")?; // bound to vfio-pci
    /// let bus_master = pci.bus_master()?;
    /// // SAFETY: its first register is as declared, and starts nothing.
    /// let mut registers = unsafe { pci.registers::<Regs>(0)? };
    /// // SAFETY: it writes nothing but its messages.
    /// unsafe { bus_master.allow()? };
    /// let mut interrupt = pci.into_message_interrupt()?;
    /// loop {
    ///     interrupt.wait(None)?; // for one event or more
    ///     serve(registers.take(Regs::EVENTS));
    /// }
    /// # #[allow(unreachable_code)]
    /// # Ok::<(), udmabuf_uio::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`into_interrupt`](Self::into_interrupt); [`Error::Unsupported`] for
    /// `uio_pci_generic`.
    pub fn into_message_interrupt(self) -> Result<Interrupt, Error> {
        match &self.vfio {
            Some(vfio) => {
                if vfio.is_behind_iommu {
                    self.config.set_bus_master(true)?;
                }
                let irqs = [Irq::MsiX, Irq::Msi];
                Interrupt::vfio(VfioLine::new(vfio, self.config.clone(), &irqs)?)
            }
            None => Err(Error::Unsupported {
                device: self.handle.label.clone(),
                wanted: "message-signalled interrupt".into(),
                cure: "uio_pci_generic has INTx only: bind the device to vfio-pci".into(),
            }),
        }
    }
}
