//! What an administrator does: sysfs, the manager, bind and unbind, the module.

use std::{fs, io, process::Command, thread::sleep, time::Duration};

use anyhow::{Context, Result, ensure};
use rustix::io::Errno;
use udmabuf_sys::{abi, ioctl, manager};

use super::{
    model::{Kind, Settings},
    raw::Outcome,
    run::{Expect, Fuzz, done},
};

pub(crate) const CLASS: &str = "/sys/class/u-dma-buf";
pub(crate) const DRIVER: &str = "/sys/bus/platform/drivers/u-dma-buf";
const INFO_ENABLE: &str = "/sys/module/u_dma_buf/parameters/info_enable";

/// Those that can be written come first.
const ATTRIBUTES: [&str; 19] = [
    "sync_mode",
    "sync_offset",
    "sync_size",
    "sync_direction",
    "sync_for_cpu",
    "sync_for_device",
    "sync_owner",
    "size",
    "counters/ranges_for_cpu",
    "counters/bytes_for_cpu",
    "counters/ranges_for_device",
    "counters/bytes_for_device",
    "capabilities",
    "phys_addr",
    "driver_version",
    "ioctl_version",
    "cache_alignment",
    "dma_coherent",
    "quirk_mmap_mode",
];

fn outcome(result: io::Result<impl Sized>) -> Outcome {
    result.map(|_| 0).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

/// A number as the kernel reads it.
pub(crate) fn number(text: &str) -> Result<u64, Errno> {
    let text = text.split('\0').next().unwrap_or_default();
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_prefix('+').unwrap_or(text);
    let hex = text.get(..2).is_some_and(|x| x.eq_ignore_ascii_case("0x"))
        && text[2..].starts_with(|c: char| c.is_ascii_hexdigit());
    let (digits, base) = match text {
        _ if hex => (&text[2..], 16),
        _ if text.starts_with('0') => (text, 8),
        _ => (text, 10),
    };
    let end = digits.find(|c: char| !c.is_digit(base)).unwrap_or(digits.len());
    if end == 0 {
        return Err(Errno::INVAL);
    }
    match u64::from_str_radix(&digits[..end], base) {
        Err(_) => Err(Errno::RANGE),
        Ok(_) if end < digits.len() => Err(Errno::INVAL),
        Ok(value) => Ok(value),
    }
}

/// To the manager, through a file of its own.
pub(crate) fn command(text: &[u8]) -> Outcome {
    use io::Write;
    let file = fs::File::options().write(true).open(manager::PATH);
    match file.and_then(|mut file| file.write(text)) {
        Ok(written) => Ok(written),
        Err(error) => outcome(Err::<(), _>(error)),
    }
}

impl Fuzz {
    /// Takes a buffer that is there into the model, with what it is like.
    pub(crate) fn adopt(&mut self, name: &str, create: Option<String>) -> Result<()> {
        let file = fs::File::open(format!("/dev/{name}")).with_context(|| name.to_owned())?;
        let fd = std::os::fd::AsFd::as_fd(&file);
        let info = ioctl::device_info(fd)?;
        let caps = ioctl::capabilities(fd)?.flags;
        let sync = ioctl::sync_settings(fd)?;
        ensure!(sync.flags & abi::SYNC_OWNER == 0, "{name} is at the device");
        let settings = Settings {
            mode: sync.flags >> 8 & 0xff,
            offset: sync.offset,
            size: sync.size,
            direction: sync.flags >> 2 & 3,
        };
        let kind = Kind {
            name: name.to_owned(),
            create,
            size: info.size,
            settings,
            flags: info.flags,
            caps,
            zero_between_users: name == "udmabuf_zeroed",
            keep_contents: name == "udmabuf_kept",
        };
        let mut bytes = vec![0; usize::try_from(kind.memory())?];
        if kind.keep_contents {
            rustix::io::pread(fd, &mut bytes, 0)?;
        }
        self.model.kinds.push(kind);
        self.model.now.push(None);
        let number = self.model.kinds.len() - 1;
        self.devices.push(device(name)?);
        self.model.born(number, Some(bytes));
        if let Some(life) = self.model.now[number].and_then(|id| self.model.lives.get_mut(&id)) {
            life.used = true; // just now
        }
        Ok(())
    }

    /// Takes a buffer of the device tree, as new.
    pub(crate) fn renew(&mut self, name: &str) -> Result<()> {
        let device = device(name)?;
        fs::write(format!("{DRIVER}/unbind"), &device)?;
        fs::write(format!("{DRIVER}/bind"), &device)?;
        self.adopt(name, None)
    }

    pub(crate) fn sys_read(&mut self, kind: usize, which: usize) -> Result<Outcome> {
        let name = ATTRIBUTES[which];
        let read = fs::read_to_string(format!("{CLASS}/{}/{name}", self.model.kinds[kind].name));
        let Some(id) = self.model.now[kind] else {
            ensure!(read.is_err(), "{name} of what is gone: {read:?}");
            return Ok(done());
        };
        let read = read.with_context(|| name.to_owned())?;
        let (life, s) = (&self.model.lives[&id], self.model.lives[&id].settings);
        let [for_cpu, for_device] = life.counters;
        let expected = match which {
            0 => s.mode.to_string(),
            1 => format!("{:#x}", s.offset),
            2 => s.size.to_string(),
            3 => s.direction.to_string(),
            4 | 5 => "0".to_owned(),
            6 => self.model.owner(id).to_string(),
            7 => self.model.kinds[kind].size.to_string(),
            8 | 9 => for_cpu[which - 8].to_string(),
            10 | 11 => for_device[which - 10].to_string(),
            12 => format!("{:#x}", self.model.kinds[kind].caps),
            _ => read.trim_end().to_owned(),
        };
        // Sums of bytes may go round.
        ensure!(read == format!("{expected}\n"), "{name} is {read:?}, not {expected}");
        Ok(done())
    }

    pub(crate) fn sys_write(&mut self, kind: usize, which: usize, text: &str) -> Result<Outcome> {
        use io::Write;
        let path = format!("{CLASS}/{}/{}", self.model.kinds[kind].name, ATTRIBUTES[which]);
        let file = fs::File::options().write(true).open(path);
        let found = outcome(file.and_then(|mut file| file.write(text.as_bytes())));
        let Some(id) = self.model.now[kind] else {
            self.check(Expect::Error, found)?;
            return Ok(found);
        };
        let most = [7, u64::MAX, u64::MAX, 2, u64::MAX, u64::MAX][which];
        let memory = self.model.kinds[kind].memory();
        let value = if text.is_empty() { None } else { Some(number(text)) };
        let expected = match value {
            None => Ok(None),
            Some(Err(error)) => Err(error),
            Some(Ok(value)) if value > most => Err(Errno::INVAL),
            Some(Ok(_)) if self.model.claimed_by_other(id, None) => Err(Errno::BUSY),
            Some(Ok(value)) if which < 4 => {
                self.model.check_claims(id, None, 0, memory).map(|()| Some([value, 0]))
            }
            Some(Ok(value)) => self.expect_value(id, None, value),
        };
        self.check(Expect::Is(expected.map(|_| 0)), found)?;
        let Ok(Some([value, size])) = expected else { return Ok(found) };
        if which >= 4 {
            self.model.sync(id, None, which == 5, &[[value, size]]);
        } else if let Some(life) = self.model.lives.get_mut(&id) {
            let s = &mut life.settings;
            *[&mut s.mode, &mut s.offset, &mut s.size, &mut s.direction][which] = value;
        }
        Ok(found)
    }

    pub(crate) fn unbind(&mut self, kind: usize) -> Result<Outcome> {
        if self.deleted(kind) {
            return Ok(done());
        }
        let found = outcome(fs::write(format!("{DRIVER}/unbind"), &self.devices[kind]));
        let bound = self.model.now[kind].is_some();
        self.check(if bound { Expect::Is(Ok(0)) } else { Expect::Error }, found)?;
        if let Some(bytes) = self.model.dies(kind) {
            self.kept[kind] = bytes;
        }
        Ok(found)
    }

    pub(crate) fn bind(&mut self, kind: usize) -> Result<Outcome> {
        if self.deleted(kind) {
            return Ok(done());
        }
        let found = outcome(fs::write(format!("{DRIVER}/bind"), &self.devices[kind]));
        let there = self.model.now[kind].is_some();
        self.check(if there { Expect::Error } else { Expect::Is(Ok(0)) }, found)?;
        if found.is_ok() {
            let keep = self.model.kinds[kind].keep_contents;
            let bytes = keep.then(|| std::mem::take(&mut self.kept[kind]));
            self.model.born(kind, bytes);
        }
        Ok(found)
    }

    /// Deleted buffers have no device.
    pub(crate) fn deleted(&self, kind: usize) -> bool {
        self.devices[kind].is_empty()
    }

    pub(crate) fn create(&mut self, kind: usize) -> Result<Outcome> {
        let one = &self.model.kinds[kind];
        let Some(text) = &one.create else { return Ok(done()) };
        let there = self.model.now[kind].is_some();
        // Unbound, its name is free; a second one would be in the way later.
        if !there && !self.deleted(kind) {
            return Ok(done());
        }
        let found = command(text.as_bytes()).map(|_| 0);
        self.check(Expect::Is(if there { Err(Errno::EXIST) } else { Ok(0) }), found)?;
        if found.is_ok() {
            self.devices[kind] = device(&one.name)?;
            self.model.born(kind, None);
        }
        Ok(found)
    }

    pub(crate) fn delete(&mut self, kind: usize) -> Result<Outcome> {
        let one = &self.model.kinds[kind];
        let found = command(format!("delete {}\n", one.name).as_bytes()).map(|_| 0);
        let used = self.model.now[kind].is_some_and(|life| self.model.files_of(life) > 0);
        let expected = if one.create.is_none() || self.deleted(kind) {
            Err(Errno::INVAL)
        } else if used {
            Err(Errno::BUSY)
        } else if self.model.now[kind].is_some_and(|life| self.model.lives[&life].orphaned) {
            Err(Errno::OWNERDEAD)
        } else {
            Ok(0)
        };
        self.check(Expect::Is(expected), found)?;
        if found.is_ok() {
            self.model.dies(kind);
            self.devices[kind].clear();
        }
        Ok(found)
    }

    /// What is logged of buffers that come and go.
    pub(crate) fn info_enable(&mut self, text: &str) -> Result<Outcome> {
        use io::Write;
        let file = fs::File::options().write(true).open(INFO_ENABLE);
        let found = outcome(file.and_then(|mut file| file.write(text.as_bytes())));
        let expected = match number(text) {
            Ok(value) if value > i32::MAX.unsigned_abs().into() => Err(Errno::RANGE),
            Ok(_) => Ok(0),
            Err(error) => Err(error),
        };
        self.check(Expect::Is(expected), found)?;
        Ok(found)
    }

    /// Not while anything is open.
    pub(crate) fn unload(&mut self) -> Result<Outcome> {
        if self.model.files.is_empty() {
            return Ok(done());
        }
        let nonblock = 0o4000;
        let found = rustix::system::delete_module(c"u_dma_buf", nonblock).map(|()| 0);
        self.check(Expect::Is(Err(Errno::AGAIN)), found)?;
        Ok(found)
    }
}

/// Loads a module of which this is a driver. Where life times are watched, the last of
/// a driver goes seconds after its module, and one of the same name cannot come before.
pub(crate) fn insmod(driver: &str, arguments: &[&str]) -> Result<()> {
    for _ in 0..100 {
        if !fs::exists(driver)? {
            break;
        }
        sleep(Duration::from_millis(100));
    }
    let status = Command::new("insmod").args(arguments).status()?;
    ensure!(status.success(), "insmod {arguments:?}: {status}");
    Ok(())
}

/// The platform device behind a name.
pub(crate) fn device(name: &str) -> Result<String> {
    let link = fs::read_link(format!("{CLASS}/{name}/device")).with_context(|| name.to_owned())?;
    Ok(link.file_name().context("no device")?.to_string_lossy().into_owned())
}
