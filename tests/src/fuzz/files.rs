//! Open files: opening, closing, reading, writing, and what they refuse.

use std::{
    fs,
    os::fd::{AsFd, AsRawFd},
};

use anyhow::{Context, Result, ensure};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{
        Advice, FallocateFlags, FlockOperation, Mode, OFlags, fadvise, fallocate, flock, ftruncate,
    },
    io::Errno,
    pipe::{PipeFlags, SpliceFlags, pipe_with, splice},
};

use super::{
    arena::Place,
    model::{File, Id},
    raw::{self, Outcome},
    run::{Expect, Fuzz, done},
};

impl Fuzz {
    pub(crate) fn open(&mut self, kind: usize, flags: u32) -> Result<Outcome> {
        let path = format!("/dev/{}", self.model.kinds[kind].name);
        let opened = rustix::fs::open(path, OFlags::from_bits_retain(flags), Mode::empty());
        let found = opened.as_ref().map(|_| 0).map_err(|&error| error);
        let Some(id) = self.model.now[kind] else {
            self.check(Expect::Error, found)?;
            return Ok(found);
        };
        let claimed = self.model.claimed_by_other(id, None);
        self.check(Expect::Is(if claimed { Err(Errno::BUSY) } else { Ok(0) }), found)?;
        let Ok(fd) = opened else { return Ok(found) };

        let first = self.model.files_of(id) == 0;
        let zero = self.model.kinds[kind].zero_between_users;
        let Some(life) = self.model.lives.get_mut(&id) else { return Ok(found) };
        if zero && life.used && first {
            life.bytes.fill(0);
        }
        let fresh = !std::mem::replace(&mut life.used, true);
        let access = flags & 3;
        let file = File {
            life: id,
            fd: Some(fd),
            read: access != 1,
            write: access != 0,
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
        if (fresh || (zero && first)) && access != 1 {
            self.compare(number)?;
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
        let one = &self.model.files[&file];
        let (life, fd) = (self.model.life_of(file), one.fd.as_ref());
        let size = usize::try_from(self.model.kind_of(file).size)?;
        let blocked = self.model.check_claims(one.life, Some(file), 0, size as u64).is_err();
        let Some(fd) = fd.filter(|_| one.read && !life.gone && !blocked) else { return Ok(()) };
        let mut bytes = vec![0; size];
        let read = rustix::io::pread(fd, &mut bytes, 0)?;
        ensure!(read == size, "read {read} of {size} bytes");
        let wrong = bytes.iter().zip(&life.bytes).position(|(found, expected)| found != expected);
        if let Some(at) = wrong {
            let (found, expected) = (bytes[at], life.bytes[at]);
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
            splice(&out, None, fd, None, len, flags).map(|count| bytes[..count].to_vec())
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
            7 => drop(fadvise(fd, 0, None, Advice::WillNeed)),
            8 => drop(fadvise(fd, 0, None, Advice::DontNeed)),
            9 => {
                flock(fd, FlockOperation::NonBlockingLockExclusive)?;
                flock(fd, FlockOperation::Unlock)?;
            }
            10 => drop(rustix::fs::fsync(fd)),
            11 => drop(rustix::fs::fcntl_setfl(fd, OFlags::NONBLOCK)),
            12 => drop(rustix::fs::copy_file_range(fd, None, fd, None, 4096)),
            _ => drop(rustix::fs::fcntl_setfl(fd, OFlags::DIRECT)),
        }
        Ok(done())
    }
}
