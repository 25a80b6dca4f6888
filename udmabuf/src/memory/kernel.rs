//! A buffer of the kernel module.
#![allow(unsafe_code, reason = "vouches for the mapping when it is put on an emulated bus")]

use std::{fs::File, io, os::fd::AsFd, path::PathBuf, ptr::NonNull};

use rustix::{fs::OFlags, io::Errno};
use udmabuf_sys::{abi::DevInfo, ioctl, map::Mapping};

use crate::{
    Error, devices,
    direction::Kind,
    emulator::{Bus, Tap},
};

/// An open, claimed and mapped buffer.
///
/// # Invariants
/// This file holds the module's claim: no other open file can map, write or
/// sync the buffer. `tap` is dropped before `mapping` (fields drop in order).
#[derive(Debug)]
pub(crate) struct Kernel {
    tap: Option<Tap>,
    mapping: Mapping,
    file: File,
}

impl Kernel {
    pub(crate) fn open(name: &str, adopt: bool) -> Result<(Self, DevInfo), Error> {
        let file = open_file(name)?;
        ioctl::claim(file.as_fd(), adopt).map_err(|errno| claim_error(name, errno))?;
        let info = ioctl::device_info(file.as_fd())
            .map_err(|errno| Error::os(name, "ioctl GET_DEV_INFO", errno))?;
        let len = usize::try_from(info.size)
            .ok()
            .filter(|&len| isize::try_from(len).is_ok())
            .ok_or(Error::Unsupported {
                name: name.into(),
                what: "larger than this process can map; a 64-bit program can",
            })?;
        let mapping = Mapping::new(file.as_fd(), len)
            .map_err(|error| Error::os(name, format!("mmap ({len:#x} bytes)"), error))?;
        Ok((Self { tap: None, mapping, file }, info))
    }

    pub(crate) fn start(&self) -> NonNull<u8> {
        self.mapping.start()
    }

    pub(crate) fn len(&self) -> usize {
        self.mapping.len()
    }

    pub(crate) fn bus(&self) -> Option<&Bus> {
        self.tap.as_ref().map(Tap::bus)
    }

    pub(crate) fn attach(&mut self, bus: &Bus, addr: u64) -> bool {
        if self.tap.is_some() {
            return false;
        }
        // SAFETY: the mapping outlives the tap and nobody else accesses it while
        // it is handed over (the invariants here and of `Memory`).
        self.tap = unsafe { Tap::new(bus, addr, self.start(), self.len()) };
        self.tap.is_some()
    }

    pub(crate) fn sync_for_device(&self, name: &str, direction: Kind) -> Result<(), Error> {
        let len = self.len() as u64;
        ioctl::sync_for_device(self.file.as_fd(), direction, 0, len).map_err(|errno| {
            Error::os(name, format!("sync for the device ({len:#x} bytes)"), errno)
        })?;
        if let Some(tap) = &self.tap {
            tap.hand_over(0, self.len(), direction);
        }
        Ok(())
    }

    pub(crate) fn sync_for_cpu(&self, name: &str, direction: Kind) -> Result<(), Error> {
        if let Some(tap) = &self.tap {
            tap.take_back(0, self.len());
        }
        let len = self.len() as u64;
        ioctl::sync_for_cpu(self.file.as_fd(), direction, 0, len)
            .map_err(|errno| Error::os(name, format!("sync for the CPU ({len:#x} bytes)"), errno))
    }
}

fn open_file(name: &str) -> Result<File, Error> {
    if name.is_empty() || name.contains('/') {
        let what = "not a buffer's name: give it as in /dev, without a path, like udmabuf0";
        return Err(Error::Unsupported { name: name.into(), what });
    }
    let path = PathBuf::from("/dev").join(name);
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::fs::open(&path, flags, rustix::fs::Mode::empty()) {
        Ok(fd) => Ok(fd.into()),
        Err(Errno::NOENT) => Err(Error::NotFound { name: name.into(), path, cure: cure(name) }),
        Err(Errno::ACCESS | Errno::PERM) => {
            Err(Error::PermissionDenied { name: name.into(), path })
        }
        Err(Errno::BUSY) => Err(Error::Busy { name: name.into() }),
        Err(errno) => Err(Error::os(name, format!("open {}", path.display()), errno)),
    }
}

/// Why there is no device file, as far as sysfs tells.
fn cure(name: &str) -> String {
    match devices() {
        Err(error) => format!("and {error}"),
        Ok(None) => "the kernel module is not loaded: `insmod u-dma-buf.ko udmabuf0=1048576` \
                     makes /dev/udmabuf0 with 1 MiB"
            .into(),
        Ok(Some(found)) if found.is_empty() => {
            "the kernel module is loaded but has made no buffer: give it `udmabuf0=SIZE`, or a \
             device-tree node with compatible \"ikwzm,u-dma-buf\"; the kernel log says if one failed"
                .into()
        }
        Ok(Some(found)) if found.iter().any(|device| device.name == name) => {
            "the buffer exists but its device file does not: is devtmpfs mounted on /dev, or udev running?".into()
        }
        Ok(Some(found)) => {
            let names: Vec<_> = found.iter().map(|device| device.name.as_str()).collect();
            format!("there is: {}", names.join(", "))
        }
    }
}

fn claim_error(name: &str, errno: Errno) -> Error {
    let name = name.to_owned();
    match errno {
        Errno::BUSY => Error::Busy { name },
        Errno::OWNERDEAD => Error::StillDeviceOwned { name },
        Errno::NOTTY => Error::Unsupported {
            name,
            what: "not a DMA buffer of a module with exclusive claims; load the u-dma-buf.ko of this project",
        },
        errno => {
            Error::Os { operation: "ioctl CLAIM".into(), name, source: io::Error::from(errno) }
        }
    }
}
