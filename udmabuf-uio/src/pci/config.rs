//! The command register of a PCI function's configuration space, at 0x04 (PCI
//! Local Bus Specification 3.0, 6.2.2), and whether anything answers there.
//!
//! Each half is written alone: the kernel's interrupt handler changes "interrupt
//! disable", in the upper half, at any time.
#![allow(unsafe_code, reason = "declares the promise by which a device may access memory")]

use std::{fs::File, io, os::unix::fs::FileExt, path::Path, sync::Arc};

use rustix::io::Errno;

use crate::{
    Error,
    emulator::Shared,
    handle::{Handle, open_file},
    vfio::Vfio,
};

const LOW: u64 = 0x04;
const HIGH: u64 = 0x05;
/// The header's type: never all ones, and what `vfio-pci` shows of it is the
/// device's own, while of the vendor's number and of "interrupt disable" it is what
/// was there before.
const HEADER: u64 = 0x0e;
/// Bit 1.
const MEMORY: u8 = 0x02;
/// Bit 2.
const BUS_MASTER: u8 = 0x04;
/// Bit 10.
const INTX_DISABLE: u8 = 0x04;

/// The command register; dropping it restores what was found.
#[derive(Debug)]
pub(crate) struct Config {
    file: File,
    /// Where the configuration space is in it.
    base: u64,
    found: [u8; 2],
    /// Other drivers are let in only after the register is restored.
    handle: Arc<Handle>,
}

impl Config {
    /// Of the function that sysfs describes in `dir`.
    pub(crate) fn open(dir: &Path, handle: Arc<Handle>) -> Result<Self, Error> {
        let file = open_file(&handle.label, dir.join("config"))?;
        Self::new(file, 0, handle)
    }

    /// Of a function of VFIO, whose memory is enabled by this.
    pub(crate) fn of_vfio(vfio: &Vfio) -> Result<Self, Error> {
        let handle = vfio.handle().clone();
        let file = handle.uio.try_clone().map_err(handle.error("duplicating the descriptor"))?;
        let mut config = Self::new(file, vfio.config()?, handle)?;
        config.set(LOW, MEMORY, true).map_err(config.handle.error("enabling its memory"))?;
        config.found[0] |= MEMORY;
        Ok(config)
    }

    fn new(file: File, base: u64, handle: Arc<Handle>) -> Result<Self, Error> {
        let mut found = [0; 2];
        file.read_exact_at(&mut found, base + LOW)
            .map_err(handle.error("reading the command register"))?;
        Ok(Self { file, base, found, handle })
    }

    fn set(&self, half: u64, bit: u8, on: bool) -> io::Result<()> {
        let value = self.get(half)?;
        let value = if on { value | bit } else { value & !bit };
        self.file.write_all_at(&[value], self.base + half)
    }

    fn get(&self, half: u64) -> io::Result<u8> {
        let mut value = [0];
        self.file.read_exact_at(&mut value, self.base + half)?;
        match value[0] {
            // Nothing answers: it was pulled out, though the kernel may not know yet.
            u8::MAX => Err(Errno::NODEV.into()),
            value => Ok(value),
        }
    }

    /// Written without a read: of that half, the kernel changes only this bit.
    #[inline]
    pub(crate) fn set_intx_disable(&self, disable: bool) -> io::Result<()> {
        let [_, high] = self.found;
        let value = if disable { high | INTX_DISABLE } else { high & !INTX_DISABLE };
        rustix::io::pwrite(&self.file, &[value], self.base + HIGH)?;
        Ok(())
    }

    /// Whether anything answers.
    pub(crate) fn check(&self) -> io::Result<()> {
        self.get(HEADER).map(drop)
    }

    pub(crate) fn set_bus_master(&self, allowed: bool) -> Result<(), Error> {
        let set = || {
            self.set(LOW, BUS_MASTER, allowed)?;
            // The read comes back only after the write has reached the device.
            self.get(LOW)
        };
        set().map(drop).map_err(|error| match Errno::from_io_error(&error) {
            Some(Errno::NODEV) => self.handle.removed(),
            _ => self.handle.error("setting bus mastering")(error),
        })
    }
}

impl Drop for Config {
    fn drop(&mut self) {
        let [low, high] = self.found;
        // A device that is gone has nothing to restore.
        let _ = self.file.write_all_at(&[low & !BUS_MASTER], self.base + LOW);
        let _ = self.file.write_all_at(&[high], self.base + HIGH);
    }
}

/// Whether a PCI device may access memory; dropping it forbids that.
#[derive(Debug)]
pub struct BusMaster(Of);

#[derive(Debug)]
enum Of {
    Function(Arc<Config>),
    Model(Arc<Shared>),
}

impl BusMaster {
    pub(super) fn new(config: Arc<Config>) -> Result<Self, Error> {
        Self::forbidding(Of::Function(config))
    }

    pub(crate) fn emulated(device: Arc<Shared>) -> Result<Self, Error> {
        Self::forbidding(Of::Model(device))
    }

    fn forbidding(of: Of) -> Result<Self, Error> {
        let guard = Self(of);
        guard.forbid()?;
        Ok(guard)
    }

    /// Lets the device access memory.
    ///
    /// # Safety
    /// Whatever the device is still programmed to access, it may: nothing, or
    /// buffers that were handed to it.
    ///
    /// # Errors
    /// [`Error::Os`], [`Error::Removed`]
    pub unsafe fn allow(&self) -> Result<(), Error> {
        self.set(true)
    }

    /// Cuts the device off from memory. What it was about to write is lost.
    ///
    /// # Errors
    /// [`Error::Os`], [`Error::Removed`]
    pub fn forbid(&self) -> Result<(), Error> {
        self.set(false)
    }

    fn set(&self, allowed: bool) -> Result<(), Error> {
        match &self.0 {
            Of::Function(config) => config.set_bus_master(allowed),
            Of::Model(device) => device.set_bus_master(allowed),
        }
    }
}

impl Drop for BusMaster {
    fn drop(&mut self) {
        // A device that is gone masters nothing.
        let _ = self.forbid();
    }
}
