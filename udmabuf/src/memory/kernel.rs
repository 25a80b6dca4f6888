//! A buffer of the kernel module.
#![allow(unsafe_code, reason = "vouches for the mapping when it is put on an emulated bus")]

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
    ptr::NonNull,
    sync::Arc,
};

use rustix::{
    fs::{FlockOperation, OFlags},
    io::Errno,
};
use udmabuf_sys::{
    abi::{self, Caps, DevInfo, SyncArgs},
    ioctl,
    map::{LentPage, Mapping},
};

use super::{Direct, Lent, check_addresses};
use crate::{
    Error,
    create::Deleter,
    devices,
    direction::Kind,
    emulator::{Bus, Tap},
    maintenance::Cpu,
};

/// How a buffer is to be opened.
#[derive(Debug)]
pub(crate) struct Opening {
    pub(crate) exclusive: Exclusive,
    /// `abi::MAP_*`
    pub(crate) map_mode: u64,
    /// The `sync_mode` that does the same on a driver without map modes.
    pub(crate) sync_mode: u64,
    pub(crate) expected_size: Option<u64>,
    pub(crate) maintenance: Maintenance,
    /// What is to be deleted once the buffer is closed.
    pub(crate) created: Option<Arc<Deleter>>,
}

/// Why nobody else uses the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exclusive {
    /// The module grants the claim.
    Claim,
    /// As above, and the caller vouches that no device accesses it.
    Adopt,
    /// The caller vouches; programs that do the same are kept out by a lock.
    Promise,
}

/// Who maintains the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Maintenance {
    /// The program, if the driver says that it is enough.
    AsTold,
    /// The program.
    Own,
    /// The kernel.
    Kernels,
}

/// An open, claimed and mapped buffer.
///
/// # Invariants
/// This file holds the module's claim: no other open file can map, write or
/// sync the buffer; or the caller of `open_unclaimed` vouched for as much. Fields
/// drop in order: `tap` before `mapping`, and `_created` when all is closed.
#[derive(Debug)]
pub(crate) struct Kernel {
    tap: Option<Tap>,
    mapping: Mapping,
    file: OwnedFd,
    has_batch: bool,
    made_for: MadeFor,
    _created: Option<Arc<Deleter>>,
}

/// Whose bus addresses a buffer has.
#[derive(Debug)]
enum MadeFor {
    /// The module's own, as any device has them that no IOMMU is in front of.
    None,
    /// This device's, as `GET_PARENT` names it.
    Device(Box<str>),
    /// Those of the engines that it will be given to: whoever opened it vouched.
    Vouched,
}

/// What opening finds out.
pub(crate) struct Opened {
    pub(crate) kernel: Kernel,
    pub(crate) dma_addr: u64,
    pub(crate) is_coherent: bool,
    pub(crate) line: usize,
    pub(crate) direct: Direct,
    /// Whether the module takes a claimant's advice for a sync.
    pub(crate) has_advice: bool,
    pub(crate) lent: Lent,
}

/// Whether write-combined stores may stay, for all that a program can do, in the buffer
/// of an outer cache: on 32-bit ARM with a PL310 (Zynq-7000, Cyclone V), which no
/// program can tell from others. The module's sync empties it.
pub(crate) const HAS_OUTER_BUFFER: bool = cfg!(target_arch = "arm");

/// Parts do not share a line of this many bytes, where nobody says more.
const USUAL_LINE: usize = 64;

impl Kernel {
    pub(crate) fn open(name: &str, opening: &Opening) -> Result<Opened, Error> {
        let is_cached = opening.map_mode == abi::MAP_CACHED;
        let file = open_file(name, !is_cached)?;
        exclude_others(name, &file, opening.exclusive)?;
        let info = ioctl::device_info(file.as_fd()).map_err(|errno| match errno {
            Errno::NOTTY => Error::Unsupported {
                name: name.into(),
                what: "not a DMA buffer, or one of a driver older than 5.0, which has no ioctls; \
                       load the u-dma-buf.ko of this project",
            },
            errno => Error::os(name, "ioctl GET_DEV_INFO", errno),
        })?;
        if let Some(expected) = opening.expected_size.filter(|&expected| expected != info.size) {
            return Err(Error::WrongSize { name: name.into(), expected, size: info.size });
        }
        let caps = match ioctl::capabilities(file.as_fd()) {
            Err(Errno::NOTTY) => Caps::default(),
            result => result.map_err(|errno| Error::os(name, "ioctl GET_CAPS", errno))?,
        };
        let made_for = made_for(name, &file, opening.exclusive)?;
        check_addresses(info.dma_addr, info.size)?;
        let len = usize::try_from(info.size)
            .ok()
            .filter(|&len| isize::try_from(len).is_ok())
            .ok_or(Error::Unsupported {
                name: name.into(),
                what: "larger than this process can map; a 64-bit program can",
            })?;
        let mapping = map(name, &file, len, caps, opening)?;

        let is_claimed = opening.exclusive != Exclusive::Promise;
        let lent = match is_claimed && caps.flags & abi::CAP_LENT != 0 {
            true => Some(
                LentPage::new(file.as_fd(), info.size)
                    .map(Lent::new)
                    .map_err(|error| Error::os(name, "mmap of the count of lent parts", error))?,
            ),
            false => None,
        };
        // Without that page only the module's own syncs are remembered.
        let direct = match is_claimed && lent.is_none() {
            true => Direct::No,
            false => handover(name, info, caps, opening)?,
        };
        let line = usize::try_from(caps.cache_alignment)
            .ok()
            .filter(|line| line.is_power_of_two())
            .unwrap_or(USUAL_LINE);
        let line = match direct {
            Direct::Cache(cpu) => line.max(cpu.line()),
            Direct::Barrier | Direct::No => line,
        };
        let has_batch = caps.flags & abi::CAP_SYNC_BATCH != 0;
        let has_advice = is_claimed && caps.flags & abi::CAP_ADVICE != 0;
        let _created = opening.created.clone();
        Ok(Opened {
            kernel: Self { tap: None, mapping, file, has_batch, made_for, _created },
            dma_addr: info.dma_addr,
            is_coherent: info.is_coherent(),
            line,
            direct,
            has_advice,
            lent: lent.unwrap_or_else(Lent::unshared),
        })
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

    /// The device that it was made for, if that is known.
    pub(crate) fn made_for(&self) -> Option<&str> {
        match &self.made_for {
            MadeFor::Device(device) => Some(device),
            MadeFor::None | MadeFor::Vouched => None,
        }
    }

    /// Whether its addresses are those of hardware that finds, at theirs, what was
    /// made for these devices, or for none.
    #[inline]
    pub(crate) fn is_reached(&self, reaches: impl FnOnce(Option<&str>) -> bool) -> bool {
        match &self.made_for {
            MadeFor::None => reaches(None),
            MadeFor::Device(device) => reaches(Some(device)),
            MadeFor::Vouched => true,
        }
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

    /// The file, if it takes many ranges at once and nothing else is to be done.
    pub(crate) fn batch(&self) -> Option<BorrowedFd<'_>> {
        (self.has_batch && self.tap.is_none()).then(|| self.file.as_fd())
    }

    pub(crate) fn hand_over(&self, offset: usize, len: usize, direction: Kind) {
        if let Some(tap) = &self.tap {
            tap.hand_over(offset, len, direction);
        }
    }

    pub(crate) fn share(&self, offset: usize, len: usize) {
        if let Some(tap) = &self.tap {
            tap.share(offset, len);
        }
    }

    pub(crate) fn take_back(&self, offset: usize, len: usize) {
        if let Some(tap) = &self.tap {
            tap.take_back(offset, len);
        }
    }

    /// Whether the module has done it; only where it takes advice.
    #[inline]
    pub(crate) fn advise_for_device(&self, offset: usize, len: usize) -> bool {
        ioctl::advise_for_device(self.file.as_fd(), offset as u64, len as u64).is_ok()
    }

    /// The same, the other way.
    #[inline]
    pub(crate) fn advise_for_cpu(&self, offset: usize, len: usize) -> bool {
        ioctl::advise_for_cpu(self.file.as_fd(), offset as u64, len as u64).is_ok()
    }

    #[inline]
    pub(crate) fn sync_for_device(
        &self,
        name: &str,
        offset: usize,
        len: usize,
        direction: Kind,
    ) -> Result<(), Error> {
        ioctl::sync_for_device(self.file.as_fd(), direction, offset as u64, len as u64)
            .map_err(|errno| failed(name, "the device", offset, len, errno))
    }

    #[inline]
    pub(crate) fn sync_for_cpu(
        &self,
        name: &str,
        offset: usize,
        len: usize,
        direction: Kind,
    ) -> Result<(), Error> {
        ioctl::sync_for_cpu(self.file.as_fd(), direction, offset as u64, len as u64)
            .map_err(|errno| failed(name, "the CPU", offset, len, errno))
    }

    pub(crate) fn export(&self, name: &str, offset: usize, len: usize) -> Result<OwnedFd, Error> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        ioctl::export(self.file.as_fd(), flags, offset as u64, len as u64)
            .map(|(fd, _)| fd)
            .map_err(|errno| {
                Error::os(name, format!("export ({len:#x} bytes at {offset:#x})"), errno)
            })
    }
}

/// Apart, as a message takes more instructions than the rest.
#[cold]
fn failed(name: &str, whom: &str, offset: usize, len: usize, errno: Errno) -> Error {
    Error::os(name, format!("sync for {whom} ({len:#x} bytes at {offset:#x})"), errno)
}

/// Asked of the file, which is claimed by now: the name may be another buffer's.
fn made_for(name: &str, file: &OwnedFd, exclusive: Exclusive) -> Result<MadeFor, Error> {
    match ioctl::parent(file.as_fd()) {
        Ok(parent) => match parent.name() {
            None => Ok(MadeFor::None),
            Some(device) => Ok(MadeFor::Device(String::from_utf8_lossy(device).into())),
        },
        Err(Errno::NOTTY) if exclusive == Exclusive::Promise => Ok(MadeFor::Vouched),
        Err(errno) => Err(Error::os(name, "ioctl GET_PARENT", errno)),
    }
}

/// What a handover takes where the module need not be told of it.
fn handover(name: &str, info: DevInfo, caps: Caps, opening: &Opening) -> Result<Direct, Error> {
    if opening.map_mode == abi::MAP_WRITE_COMBINED && HAS_OUTER_BUFFER {
        return Ok(Direct::No);
    }
    if opening.map_mode != abi::MAP_CACHED || info.is_coherent() {
        return Ok(Direct::Barrier);
    }
    match (opening.maintenance, Cpu::new()) {
        (Maintenance::Kernels, _) => Ok(Direct::No),
        (Maintenance::Own, None) => {
            let what = "this CPU lets no program maintain its cache; open it without that option";
            Err(Error::Unsupported { name: name.into(), what })
        }
        (Maintenance::Own, Some(cpu)) => Ok(Direct::Cache(cpu)),
        (Maintenance::AsTold, Some(cpu)) if caps.flags & abi::CAP_USER_SYNC != 0 => {
            Ok(Direct::Cache(cpu))
        }
        (Maintenance::AsTold, _) => Ok(Direct::No),
    }
}

fn exclude_others(name: &str, file: &OwnedFd, exclusive: Exclusive) -> Result<(), Error> {
    let adopt = match exclusive {
        Exclusive::Claim => false,
        Exclusive::Adopt => true,
        Exclusive::Promise => {
            return match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => Ok(()),
                Err(Errno::WOULDBLOCK) => Err(Error::Busy { name: name.into() }),
                Err(errno) => Err(Error::os(name, "flock", errno)),
            };
        }
    };
    ioctl::claim(file.as_fd(), adopt).map_err(|errno| claim_error(name, errno))
}

/// Maps the buffer in the mode that is asked for, or not at all.
fn map(
    name: &str,
    file: &OwnedFd,
    len: usize,
    caps: Caps,
    opening: &Opening,
) -> Result<Mapping, Error> {
    let fd = file.as_fd();
    let mmap = || {
        Mapping::new(fd, len)
            .map_err(|error| Error::os(name, format!("mmap ({len:#x} bytes)"), error))
    };
    if caps.flags & abi::CAP_MAP_MODE != 0 {
        ioctl::set_map_mode(fd, opening.map_mode).map_err(|errno| match errno {
            Errno::OPNOTSUPP => Error::Unsupported {
                name: name.into(),
                what: "this memory cannot be mapped in that mode: a no-map region not cached; \
                       a coherent device's buffer not otherwise, nor any on x86 or on RISC-V \
                       without Svpbmt",
            },
            errno => Error::os(name, format!("ioctl SET_MAP_MODE {}", opening.map_mode), errno),
        })?;
        return mmap();
    }

    // The mode of the whole device decides, when it is mapped.
    let failed = |what: &'static str| move |errno| Error::os(name, what, errno);
    let before = ioctl::sync_settings(fd).map_err(failed("ioctl GET_SYNC"))?;
    let mode = before.flags >> abi::SYNC_MODE_SHIFT & 0xff;
    let set = |mode: u64| {
        // Direction 3 leaves it, size 0 too; an offset is always stored.
        let flags = 3 << abi::SYNC_DIRECTION_SHIFT | mode << abi::SYNC_MODE_SHIFT;
        ioctl::set_sync_settings(fd, SyncArgs { flags, size: 0, offset: before.offset })
            .map_err(failed("ioctl SET_SYNC"))
    };
    match opening.sync_mode {
        // Modes 5 to 7 concern files without O_SYNC, too.
        0 if mode < 5 => mmap(),
        // 0 would leave the mode as it is; 4 maps with cache, whatever O_SYNC is.
        wanted => {
            set(if wanted == 0 { 4 } else { wanted })?;
            let mapping = mmap();
            set(mode)?;
            mapping
        }
    }
}

fn open_file(name: &str, sync: bool) -> Result<OwnedFd, Error> {
    if name.is_empty() || name.contains('/') {
        let what = "not a buffer's name: give it as in /dev, without a path, like udmabuf0";
        return Err(Error::Unsupported { name: name.into(), what });
    }
    let path = PathBuf::from("/dev").join(name);
    let mut flags = OFlags::RDWR | OFlags::CLOEXEC;
    flags.set(OFlags::SYNC, sync);
    match rustix::fs::open(&path, flags, rustix::fs::Mode::empty()) {
        Ok(fd) => Ok(fd),
        Err(Errno::NOENT) => {
            Err(Error::NotFound { name: name.into(), path, cure: cure(name).into() })
        }
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
    let name = name.into();
    match errno {
        Errno::BUSY => Error::Busy { name },
        Errno::OWNERDEAD => Error::StillDeviceOwned { name },
        Errno::NOTTY => Error::Unsupported {
            name,
            what: "not a DMA buffer of a module with exclusive claims; load the u-dma-buf.ko of this \
                   project, or use `OpenOptions::open_unclaimed`",
        },
        errno => {
            Error::Os { operation: "ioctl CLAIM".into(), name, source: io::Error::from(errno) }
        }
    }
}
