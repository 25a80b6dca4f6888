//! Buffers that several processes use, claim, unbind and delete at the same time.
//! Nobody knows what is in them, but some things hold all the same: what is
//! claimed nobody else changes, settings are stored as a whole, and a request that
//! is right fails only because the buffer is claimed or gone.
#![allow(unsafe_code, reason = "syncs dma-bufs, to which there are no references")]

use std::{
    collections::VecDeque,
    fs::{self, File},
    io::Write,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::FileExt,
    },
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use rustix::{
    fs::OFlags,
    io::Errno,
    pipe::{PipeFlags, pipe_with},
};
use udmabuf_sys::{
    abi::{SyncArgs, SyncRange},
    dma_buf, ioctl,
};

use super::{
    admin::{self, command},
    arena::PAGE,
    random::Random,
    raw,
};

/// Shared by all, with the manager's options.
pub(crate) const SHARED: [(&str, &str); 2] =
    [("shared0", "16384"), ("shared1", "16384 quirk-mmap-page")];
const MEMORY: u64 = 16384;
/// Where processes count what they have done, a byte for so many.
pub(crate) const COUNT: &str = "/tmp/operations";
pub(crate) const COUNTED: u64 = 8;

struct Chaos {
    random: Random,
    files: VecDeque<File>,
    exports: VecDeque<OwnedFd>,
    maps: VecDeque<(usize, usize)>,
}

/// Until it is killed, or finds something. A brief user has nothing open now and then.
pub(crate) fn run(seed: u64, brief: bool) -> Result<()> {
    let (files, exports, maps) = (VecDeque::new(), VecDeque::new(), VecDeque::new());
    let mut chaos = Chaos { random: Random(seed), files, exports, maps };
    let mut count = File::options().append(true).create(true).open(COUNT)?;
    for number in 1.. {
        let which = chaos.random.below(100);
        chaos.step(which).with_context(|| format!("operation {number}, {which}"))?;
        if number % COUNTED == 0 {
            count.write_all(b".")?;
        }
        if brief && chaos.random.one_in(32) {
            chaos.leave()?;
        }
    }
    Ok(())
}

/// A request that is right: it was done, or the buffer is claimed or gone.
fn allowed<T>(result: rustix::io::Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Errno::BUSY | Errno::NODEV | Errno::OWNERDEAD) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn plain<T>(result: std::io::Result<T>) -> Result<Option<T>> {
    allowed(result.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO)))
}

/// Of an open device: the kernel's name for its number.
fn is_called(fd: &OwnedFd, name: &str) -> Result<bool> {
    let number = rustix::fs::fstat(fd)?.st_rdev;
    let [major, minor] = [rustix::fs::major(number), rustix::fs::minor(number)];
    let device = fs::read_link(format!("/sys/dev/char/{major}:{minor}"));
    Ok(device.is_ok_and(|device| device.file_name().is_some_and(|found| found == name)))
}

impl Chaos {
    fn open(&mut self) -> Result<Option<File>> {
        let (name, _) = self.random.of(&SHARED);
        let path = format!("/dev/{name}");
        match rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, rustix::fs::Mode::empty()) {
            // Between the look at its node and the opening, its number may have become
            // another buffer's.
            Ok(fd) => Ok(is_called(&fd, name)?.then(|| fd.into())),
            // Its node went before the buffer did, or the other way round.
            Err(Errno::NOENT | Errno::NXIO | Errno::BUSY | Errno::NODEV) => Ok(None),
            Err(error) => Err(error).context("open"),
        }
    }

    fn pages(&mut self) -> [u64; 2] {
        let first = self.random.below(MEMORY / PAGE as u64);
        let count = 1 + self.random.below(MEMORY / PAGE as u64 - first);
        [first * PAGE as u64, count * PAGE as u64]
    }

    fn step(&mut self, which: u64) -> Result<()> {
        let file = self.random.index(self.files.len());
        let file = self.files.get(file).map(File::try_clone).transpose()?;
        let [offset, size] = self.pages();
        match (which, file) {
            (0..12, _) => {
                let opened = self.open()?;
                self.files.extend(opened);
                if self.files.len() > 4 {
                    self.files.pop_front();
                }
            }
            (12..20, _) => drop(self.files.pop_front()),
            (20..28, Some(file)) => self.settings(&file, 1)?,
            // So many that another process is between two of its own.
            (28..30, Some(file)) => self.settings(&file, 64)?,
            (30..40, Some(file)) => {
                let range = |command| SyncRange { offset, size, command, direction: 0 };
                let ranges = [range(3), range(1)];
                allowed(ioctl::sync_batch(
                    file.as_fd(),
                    &ranges.repeat(1 + self.random.index(40)),
                ))?;
            }
            (40..50, Some(file)) => {
                let mut bytes = vec![self.random.byte(); usize::try_from(size)?];
                if self.random.one_in(2) {
                    plain(file.write_at(&bytes, offset))?;
                } else {
                    plain(file.read_at(&mut bytes, offset))?;
                }
            }
            (50..58, Some(file)) => {
                let len = usize::try_from(size)?;
                let populate = self.random.of(&[0, 0x8000]);
                let at = raw::signed(offset);
                if let Some(address) =
                    allowed(raw::map(file.as_fd(), 3, raw::MAP_SHARED | populate, at, len))?
                {
                    self.maps.push_back((address, len));
                }
            }
            (58..66, _) => {
                if let Some((address, len)) = self.maps.pop_front() {
                    raw::unmap(address, len)?;
                }
            }
            (66..72, _) => self.touch()?,
            (72..77, Some(file)) => {
                if let Some((fd, _)) =
                    allowed(ioctl::export(file.as_fd(), OFlags::RDWR, offset, size))?
                {
                    self.exports.push_back(fd);
                }
            }
            (77..80, _) => {
                if let Some(fd) = self.exports.front() {
                    // SAFETY: mappings are accessed by pointer here.
                    allowed(unsafe { dma_buf::begin_cpu_access(fd.as_fd()) })?;
                    // SAFETY: as above.
                    allowed(unsafe { dma_buf::end_cpu_access(fd.as_fd()) })?;
                }
            }
            (80..84, _) => drop(self.exports.pop_front()),
            (84..88, _) => self.claim_whole()?,
            (88..94, _) => self.claim_range()?,
            (94..96, _) => {
                let path =
                    format!("{}/{}/sync_for_device", admin::CLASS, self.random.of(&SHARED).0);
                let _ = fs::write(path, "1");
            }
            (96, _) => {
                let (name, options) = self.random.of(&SHARED);
                let _ = command(format!("create {name} {options}\n").as_bytes());
            }
            (97, _) if self.random.one_in(2) => {
                let (name, _) = self.random.of(&SHARED);
                let _ = command(format!("delete {name}\n").as_bytes());
            }
            (98, _) if self.random.one_in(2) => self.rebind(),
            _ => {}
        }
        Ok(())
    }

    /// Stored again and again, and read: always those of one request.
    fn settings(&mut self, file: &File, times: u32) -> Result<()> {
        for _ in 0..times {
            let [offset, _] = self.pages();
            let direction = offset / PAGE as u64 % 3;
            // A size beyond the end is fine, as nothing is synced.
            let args = SyncArgs { flags: direction << 2, offset, size: offset + 64 };
            allowed(ioctl::set_sync_settings(file.as_fd(), args))?;
            let Some(found) = allowed(ioctl::sync_settings(file.as_fd()))? else { break };
            let first = found.offset == 0 && found.size == MEMORY;
            let direction = found.flags >> 2 & 3;
            let whole =
                found.size == found.offset + 64 && direction == found.offset / PAGE as u64 % 3;
            ensure!(first || whole, "settings of two: {found:x?}");
        }
        Ok(())
    }

    /// By system calls: the buffer may be gone.
    fn touch(&mut self) -> Result<()> {
        let Some(&(address, len)) = self.maps.front() else { return Ok(()) };
        let (out, into) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
        let at = self.random.index(len - 64);
        for error in [
            raw::transfer(into.as_fd(), true, None, address + at, 64).err(),
            raw::transfer(out.as_fd(), false, None, address + at, 64).err(),
            raw::splice_pages(into.as_fd(), address + at, 64).err(),
        ] {
            ensure!(
                matches!(error, None | Some(Errno::FAULT | Errno::AGAIN | Errno::EXIST)),
                "{error:?}"
            );
        }
        Ok(())
    }

    /// With all of it claimed, nobody else has it, whatever they do.
    fn claim_whole(&mut self) -> Result<()> {
        let Some(file) = self.open()? else { return Ok(()) };
        if allowed(ioctl::claim(file.as_fd(), true))?.is_none() {
            return Ok(());
        }
        self.hold(&file, 0, MEMORY)
    }

    fn claim_range(&mut self) -> Result<()> {
        let [offset, size] = self.pages();
        let Some(file) = self.open()? else { return Ok(()) };
        if allowed(ioctl::claim_range(file.as_fd(), offset, size, true))?.is_none() {
            return Ok(());
        }
        self.hold(&file, offset, size)
    }

    fn hold(&mut self, file: &File, offset: u64, size: u64) -> Result<()> {
        let mine: Vec<u8> = (0..size).map(|_| self.random.byte()).collect();
        let gone =
            |error: &std::io::Error| error.raw_os_error() == Some(Errno::NODEV.raw_os_error());
        match file.write_at(&mine, offset) {
            Err(error) if gone(&error) => return Ok(()),
            written => ensure!(written? == mine.len(), "claimed and not written"),
        }
        for _ in 0..self.random.below(8) {
            std::thread::yield_now();
            if self.random.one_in(2) {
                allowed(ioctl::advise_for_device(file.as_fd(), offset, size))?;
                allowed(ioctl::advise_for_cpu(file.as_fd(), offset, size))?;
            }
            let mut bytes = vec![0; mine.len()];
            match file.read_at(&mut bytes, offset) {
                Err(error) if gone(&error) => return Ok(()),
                read => ensure!(read? == mine.len(), "claimed and not read"),
            }
            ensure!(bytes == mine, "claimed bytes changed, from {offset:#x}");
        }
        Ok(())
    }

    fn leave(&mut self) -> Result<()> {
        self.files.clear();
        self.exports.clear();
        for (address, len) in self.maps.drain(..) {
            raw::unmap(address, len)?;
        }
        let rest = Duration::from_millis(self.random.below(20));
        std::thread::sleep(rest);
        // The module may have gone, and the buffers with it.
        for (name, options) in SHARED {
            let _ = command(format!("create {name} {options}\n").as_bytes());
        }
        Ok(())
    }

    fn rebind(&mut self) {
        let (name, _) = self.random.of(&SHARED);
        let Ok(device) = admin::device(name) else { return };
        let _ = fs::write(format!("{}/unbind", admin::DRIVER), &device);
        let _ = fs::write(format!("{}/bind", admin::DRIVER), &device);
    }
}
