//! The command register of a PCI function's configuration space, at 0x04 (PCI
//! Local Bus Specification 3.0, 6.2.2).
//!
//! Each half is written alone: the kernel's interrupt handler changes "interrupt
//! disable", in the upper half, at any time.
#![allow(unsafe_code, reason = "declares the promise by which a device may access memory")]

use std::{fs::File, io, os::unix::fs::FileExt, path::Path, sync::Arc};

use rustix::io::Errno;

use crate::{
    Error,
    handle::{Handle, open_file},
};

const LOW: u64 = 0x04;
const HIGH: u64 = 0x05;
/// Bit 2.
const BUS_MASTER: u8 = 0x04;
/// Bit 10.
const INTX_DISABLE: u8 = 0x04;

/// The command register; dropping it restores what was found.
#[derive(Debug)]
pub(crate) struct Config {
    file: File,
    found: [u8; 2],
    /// Other drivers are let in only after the register is restored.
    handle: Arc<Handle>,
}

impl Config {
    /// Of the function that sysfs describes in `dir`.
    pub(crate) fn open(dir: &Path, handle: Arc<Handle>) -> Result<Self, Error> {
        let file = open_file(&handle.label, dir.join("config"))?;
        let mut found = [0; 2];
        file.read_exact_at(&mut found, LOW)
            .map_err(handle.error("reading the command register"))?;
        Ok(Self { file, found, handle })
    }

    fn set(&self, half: u64, bit: u8, on: bool) -> io::Result<()> {
        let value = self.get(half)?;
        let value = if on { value | bit } else { value & !bit };
        self.file.write_all_at(&[value], half)
    }

    fn get(&self, half: u64) -> io::Result<u8> {
        let mut value = [0];
        self.file.read_exact_at(&mut value, half)?;
        match value[0] {
            // Nothing answers: it was pulled out, though the kernel may not know yet.
            u8::MAX => Err(Errno::NODEV.into()),
            value => Ok(value),
        }
    }

    /// Written without a read: of that half, the kernel changes only this bit.
    pub(crate) fn set_intx_disable(&self, disable: bool) -> io::Result<()> {
        let [_, high] = self.found;
        let value = if disable { high | INTX_DISABLE } else { high & !INTX_DISABLE };
        self.file.write_all_at(&[value], HIGH)
    }

    /// Whether anything answers.
    pub(crate) fn check(&self) -> io::Result<()> {
        self.get(HIGH).map(drop)
    }

    fn set_bus_master(&self, allowed: bool) -> Result<(), Error> {
        let set = || {
            self.set(LOW, BUS_MASTER, allowed)?;
            // The read comes back only after the write has reached the device.
            self.file.read_exact_at(&mut [0], LOW)
        };
        set().map_err(|error| match Errno::from_io_error(&error) {
            Some(Errno::NODEV) => self.handle.removed(),
            _ => self.handle.error("setting bus mastering")(error),
        })
    }
}

impl Drop for Config {
    fn drop(&mut self) {
        let [low, high] = self.found;
        // A device that is gone has nothing to restore.
        let _ = self.file.write_all_at(&[low & !BUS_MASTER], LOW);
        let _ = self.file.write_all_at(&[high], HIGH);
    }
}

/// Whether a PCI device may access memory; dropping it forbids that.
#[derive(Debug)]
pub struct BusMaster(Arc<Config>);

impl BusMaster {
    pub(super) fn new(config: Arc<Config>) -> Result<Self, Error> {
        let guard = Self(config);
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
        self.0.set_bus_master(true)
    }

    /// Cuts the device off from memory. What it was about to write is lost.
    ///
    /// # Errors
    /// [`Error::Os`], [`Error::Removed`]
    pub fn forbid(&self) -> Result<(), Error> {
        self.0.set_bus_master(false)
    }
}

impl Drop for BusMaster {
    fn drop(&mut self) {
        // A device that is gone masters nothing.
        let _ = self.forbid();
    }
}
