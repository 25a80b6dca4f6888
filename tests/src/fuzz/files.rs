//! Open files: opening, closing, reading, writing, and what they refuse.

use std::{
    fs,
    os::fd::{AsFd, AsRawFd},
};

use anyhow::{Context, Result, ensure};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{FallocateFlags, FlockOperation, Mode, OFlags, fallocate, flock, ftruncate},
    io::{Errno, retry_on_intr},
    pipe::{PipeFlags, SpliceFlags, pipe_with, splice},
};

use udmabuf_sys::abi;

use super::{
    arena::{PAGE, Place},
    model::{File, Id},
    raw::{self, Outcome},
    run::{Expect, Fuzz, done},
};

impl Fuzz {
    pub(crate) fn open(&mut self, kind: usize, flags: u32) -> Result<Outcome> {
        let path = format!("/dev/{}", self.model.kinds[kind].name);
        let flags = OFlags::from_bits_retain(flags);
        let opened = rustix::fs::open(path, flags, Mode::empty());
        let found = opened.as_ref().map(|_| 0).map_err(|&error| error);
        let Some(id) = self.model.now[kind] else {
            self.check(Expect::Error, found)?;
            return Ok(found);
        };
        // The kernel finds only behind the module's own open that there is no direct I/O.
        let expected = if self.model.claimed_by_other(id, None) {
            Err(Errno::BUSY)
        } else if flags.contains(OFlags::DIRECT) {
            Err(Errno::INVAL)
        } else {
            Ok(0)
        };
        self.check(Expect::Is(expected), found)?;
        if found == Err(Errno::BUSY) {
            return Ok(found);
        }

        let first = self.model.files_of(id) == 0;
        let zero = self.model.kinds[kind].zero_between_users;
        let Some(life) = self.model.lives.get_mut(&id) else { return Ok(found) };
        if zero && life.used && first {
            life.bytes.fill(0);
        }
        let fresh = !std::mem::replace(&mut life.used, true);
        let Ok(fd) = opened else { return Ok(found) };
        // 3 is for neither.
        let access = flags.bits() & 3;
        let read = matches!(access, 0 | 2);
        let file = File {
            life: id,
            fd: Some(fd),
            read,
            write: matches!(access, 1 | 2),
            append: flags.contains(OFlags::APPEND),
            position: 0,
            claims: false,
            whole: false,
            lent: 0,
            holders: 0,
            parts: None,
        };
        let number = self.model.id();
        self.model.files.insert(number, file);
        // What the memory was before is nobody's business.
        if (fresh || (zero && first)) && read {
            self.compare(number)?;
        }
        Ok(found)
    }

    /// A descriptor of the file's name: nobody has the buffer open by it, even if it is
    /// claimed, and nothing can be done with it.
    pub(crate) fn open_path(&mut self, kind: usize) -> Result<Outcome> {
        let path = format!("/dev/{}", self.model.kinds[kind].name);
        let opened = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        let found = opened.as_ref().map(|_| 0).map_err(|&error| error);
        let there = self.model.now[kind].is_some();
        self.check(if there { Expect::Is(Ok(0)) } else { Expect::Error }, found)?;
        let Ok(fd) = opened else { return Ok(found) };
        let address = self.arena.address(Place::Good(0));
        for refused in [
            raw::control(fd.as_fd(), abi::GET_SIZE, address),
            raw::transfer(fd.as_fd(), false, Some(0), address, 8),
            raw::map(fd.as_fd(), raw::PROT_READ, raw::MAP_SHARED, 0, PAGE),
        ] {
            self.check(Expect::Is(Err(Errno::BADF)), refused)?;
        }
        Ok(found)
    }

    pub(crate) fn close(&mut self, file: Id) -> Outcome {
        if let Some(file) = self.model.files.get_mut(&file) {
            file.fd = None;
        }
        self.model.settle(file);
        Ok(0)
    }

    /// The bytes of a file are those of the model.
    pub(crate) fn compare(&mut self, file: Id) -> Result<()> {
        self.compare_range(file, 0, usize::MAX)
    }

    /// All of them, or of a large buffer mostly a part.
    pub(crate) fn compare_some(&mut self, file: Id, choice: u64) -> Result<()> {
        const PART: u64 = 1 << 18;
        let size = self.model.kind_of(file).size;
        if size <= PART || choice % 32 == 0 {
            return self.compare(file);
        }
        self.compare_range(file, choice % (size - PART), usize::try_from(PART)?)
    }

    fn compare_range(&mut self, file: Id, start: u64, len: usize) -> Result<()> {
        let one = &self.model.files[&file];
        let (life, fd) = (self.model.life_of(file), one.fd.as_ref());
        let size = usize::try_from(self.model.kind_of(file).size)?;
        let blocked = self.model.check_claims(one.life, Some(file), 0, size as u64).is_err();
        let Some(fd) = fd.filter(|_| one.read && !life.gone && !blocked) else { return Ok(()) };
        let first = usize::try_from(start)?;
        let mut bytes = vec![0; len.min(size - first)];
        let read = rustix::io::pread(fd, &mut bytes, start)?;
        ensure!(read == bytes.len(), "read {read} of {} bytes at {start:#x}", bytes.len());
        let there = &life.bytes[first..first + read];
        if bytes != there {
            let differs = bytes.iter().zip(there).position(|(found, expected)| found != expected);
            let at = first + differs.unwrap_or(0);
            let (found, expected) = (bytes[at - first], life.bytes[at]);
            anyhow::bail!(
                "{}: byte {at} is {found:#x}, not {expected:#x}",
                self.model.kind_of(file).name
            );
        }
        Ok(())
    }

    /// What reading or writing so much at a position is to give, if the program's
    /// memory is good.
    fn expect_transfer(&self, file: Id, position: u64, len: usize) -> Result<usize, Errno> {
        let (size, life) = (self.model.kind_of(file).size, self.model.files[&file].life);
        if position >= size {
            return Ok(0);
        }
        let len = (len as u64).min(size - position);
        self.model.check_claims(life, Some(file), position, len)?;
        Ok(usize::try_from(len).unwrap_or(0))
    }

    pub(crate) fn transfer(
        &mut self,
        file: Id,
        write: bool,
        at: Option<i64>,
        len: usize,
        (place, fill): (Place, u8),
    ) -> Result<Outcome> {
        let pattern = (0..len).map(|number| fill.wrapping_add(number.to_le_bytes()[0]));
        self.arena.put(place, if write { pattern.collect() } else { vec![0x5a; len] });
        let one = &self.model.files[&file];
        let Some(fd) = &one.fd else { return Ok(done()) };
        let found = raw::transfer(fd.as_fd(), write, at, self.arena.address(place), len);

        let position = at.map_or(one.position, raw::unsigned);
        let reach = if write { self.arena.readable(place) } else { self.arena.writable(place) };
        // Addresses that are not the program's are refused before the file is asked.
        let foreign = matches!(place, Place::Kernel | Place::Top | Place::Nowhere);
        let expected = if at.is_some_and(|at| at < 0) {
            Err(Errno::INVAL)
        } else if (write && !one.write) || (!write && !one.read) {
            Err(Errno::BADF)
        } else {
            match self.expect_transfer(file, position, len) {
                Ok(0) if foreign => Err(Errno::FAULT),
                Ok(0) => Ok(0),
                Ok(_) if reach == 0 => Err(Errno::FAULT),
                Ok(all) => Ok(all.min(reach)),
                Err(_) if foreign => Err(Errno::FAULT),
                Err(error) => Err(error),
            }
        };
        self.check_gone(file, expected, found)?;
        let Ok(count @ 1..) = found else { return Ok(found) };
        let bytes = self.arena.bytes(place, count);
        self.moved(file, at.is_none(), position, write, &bytes)?;
        Ok(found)
    }

    /// Bytes were read or written.
    fn moved(
        &mut self,
        file: Id,
        advances: bool,
        position: u64,
        write: bool,
        bytes: &[u8],
    ) -> Result<()> {
        let Some(one) = self.model.files.get_mut(&file) else { return Ok(()) };
        if advances {
            one.position = position + bytes.len() as u64;
        }
        let life = self.model.lives.get_mut(&one.life).context("no life")?;
        let start = usize::try_from(position)?;
        let place = life.bytes.get_mut(start..start + bytes.len()).context("outside")?;
        if write {
            place.copy_from_slice(bytes);
        } else {
            ensure!(place == bytes, "other bytes were read at {position:#x}");
        }
        Ok(())
    }

    pub(crate) fn seek(&mut self, file: Id, offset: i64, whence: u8) -> Result<Outcome> {
        let size = self.model.kind_of(file).size;
        let Some(one) = self.model.files.get_mut(&file) else { return Ok(done()) };
        let Some(fd) = &one.fd else { return Ok(done()) };
        let found = raw::seek(fd.as_fd(), offset, whence);
        let base = match whence {
            0 => 0,
            1 => one.position,
            _ => size,
        };
        let target = raw::signed(base).wrapping_add(offset);
        let expected = match u64::try_from(target) {
            Ok(target) if target <= size => Ok(target),
            _ => Err(Errno::INVAL),
        };
        ensure!(found == expected, "{found:?}, expected {expected:?}");
        if let Ok(position) = found {
            one.position = position;
        }
        Ok(found.map(|_| 0))
    }

    /// Through a pipe, into the buffer or out of it.
    pub(crate) fn splice(&mut self, file: Id, write: bool, len: usize) -> Result<Outcome> {
        let (out, into) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
        let one = &self.model.files[&file];
        let Some(fd) = &one.fd else { return Ok(done()) };
        let position = one.position;
        let flags = SpliceFlags::NONBLOCK;
        let sent = if write {
            let bytes: Vec<u8> = (0..len).map(|number| number.to_le_bytes()[0] ^ 0xa5).collect();
            let len = rustix::io::write(&into, &bytes)?;
            // A signal ends it before it has begun: the kernel asks first of all.
            let sent = retry_on_intr(|| splice(&out, None, fd, None, len, flags));
            sent.map(|count| bytes[..count].to_vec())
        } else {
            splice(fd, None, &into, None, len, flags).and_then(|count| {
                let mut bytes = vec![0; count];
                let read = if count > 0 { rustix::io::read(&out, &mut bytes)? } else { 0 };
                bytes.truncate(read);
                Ok(bytes)
            })
        };
        let found = sent.as_ref().map(Vec::len).map_err(|&error| error);
        let expected = match if write { one.write } else { one.read } {
            false => Err(Errno::BADF),
            true if write && one.append => Err(Errno::INVAL),
            true => self.expect_transfer(file, position, len),
        };
        match (self.model.life_of(file).gone, expected) {
            (true, _) => self.check(Expect::Error, found)?,
            // A pipe takes a page at a time, and not all at once.
            (_, Ok(most @ 1..)) => {
                ensure!(found.is_ok_and(|n| n > 0 && n <= most), "{found:?} of {most}");
            }
            _ => self.check(Expect::Is(expected), found)?,
        }
        if let Ok(bytes) = sent {
            self.moved(file, true, position, write, &bytes)?;
        }
        Ok(found)
    }

    /// What the files refuse, or what has nothing to do with the buffer.
    pub(crate) fn other(&mut self, file: Id, which: u64) -> Result<Outcome> {
        let one = &self.model.files[&file];
        let Some(fd) = &one.fd else { return Ok(done()) };
        match which {
            0 | 1 => {
                let found = ftruncate(fd, which * 4096).map(|()| 0);
                self.check(Expect::Error, found)?;
            }
            2 => {
                let found = fallocate(fd, FallocateFlags::empty(), 0, 4096).map(|()| 0);
                self.check(Expect::Error, found)?;
            }
            3 => {
                let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                let found = fallocate(fd, hole, 0, 4096).map(|()| 0);
                self.check(Expect::Error, found)?;
            }
            4 => {
                let mut fds = [PollFd::new(fd, PollFlags::IN | PollFlags::OUT | PollFlags::PRI)];
                let now = Timespec { tv_sec: 0, tv_nsec: 0 };
                let ready = poll(&mut fds, Some(&now))?;
                ensure!(ready == 1, "not ready");
            }
            5 => drop(rustix::io::dup(fd)?),
            6 => {
                let path = format!("/proc/self/fdinfo/{}", fd.as_raw_fd());
                let lent = one.lent.to_string();
                let text = fs::read_to_string(path)?;
                let said = text.lines().find_map(|line| line.strip_prefix("at-device:\t"));
                ensure!(said == Some(&lent), "{lent} bytes are at the device, not {said:?}");
            }
            7 => {
                let locked = flock(fd, FlockOperation::NonBlockingLockExclusive).map(|()| 0);
                let expected = if one.read || one.write { Ok(0) } else { Err(Errno::BADF) };
                self.check(Expect::Is(expected), locked)?;
                flock(fd, FlockOperation::Unlock)?;
            }
            8 => drop(rustix::fs::fsync(fd)),
            9 => {
                rustix::fs::fcntl_setfl(fd, OFlags::NONBLOCK)?;
                if let Some(one) = self.model.files.get_mut(&file) {
                    one.append = false;
                }
            }
            10 => drop(rustix::fs::copy_file_range(fd, None, fd, None, 4096)),
            _ => drop(rustix::fs::fcntl_setfl(fd, OFlags::DIRECT)),
        }
        Ok(done())
    }
}
