//! The ioctls: what each is to answer, and what it changes.

use std::os::fd::AsFd;

use anyhow::{Result, ensure};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};
use udmabuf_sys::abi;

use super::{
    arena::{PAGE, Place},
    model::{Export, Id, Use},
    raw::{self, Outcome},
    run::{Expect, Fuzz, done},
};

const GETS: [(u32, usize); 8] = [
    (abi::GET_DRV_INFO, 24),
    (abi::GET_SIZE, 8),
    (abi::GET_DMA_ADDR, 8),
    (abi::GET_SYNC_OWNER, 4),
    (abi::GET_DEV_INFO, 24),
    (abi::GET_SYNC, 24),
    (abi::GET_CAPS, 16),
    (abi::GET_PARENT, 128),
];
/// Not the descriptor that follows: the answer's last word has padding in it.
const EXPORT_LEN: usize = 36;

impl Fuzz {
    pub(crate) fn control(&self, file: Id, opcode: u32, place: Place) -> Outcome {
        match &self.model.files[&file].fd {
            Some(fd) => raw::control(fd.as_fd(), opcode, self.arena.address(place)),
            None => Err(Errno::BADF),
        }
    }

    /// What a request that the module fetches from the program is answered before
    /// anything is looked at.
    fn fetched(
        &self,
        file: Id,
        read: bool,
        write: bool,
        place: Place,
        len: usize,
    ) -> Result<(), Errno> {
        let file = &self.model.files[&file];
        if (read && !file.read) || (write && !file.write) {
            return Err(Errno::BADF);
        }
        if self.arena.readable(place) < len { Err(Errno::FAULT) } else { Ok(()) }
    }

    fn gone(&self, file: Id) -> bool {
        self.model.life_of(file).gone
    }

    pub(crate) fn get(&mut self, file: Id, which: usize, place: Place) -> Result<Outcome> {
        let (opcode, len) = GETS[which];
        self.arena.put(place, [0x5a; 32]);
        let found = self.control(file, opcode, place);
        let expected = if self.gone(file) {
            Err(Errno::NODEV)
        } else if self.arena.writable(place) < len {
            Err(Errno::FAULT)
        } else {
            Ok(0)
        };
        self.check(Expect::Is(expected), found)?;
        if found.is_err() {
            return Ok(found);
        }
        let words = self.arena.words(place, 3);
        let life_id = self.model.files[&file].life;
        let (life, kind) = (self.model.life_of(file), self.model.kind_of(file));
        let expected = match opcode {
            abi::GET_SIZE => Some(vec![kind.size]),
            abi::GET_SYNC => Some(self.sync_words(life_id)),
            abi::GET_DEV_INFO => Some(vec![kind.flags, kind.size]),
            abi::GET_CAPS => Some(vec![kind.caps]),
            _ => None,
        };
        if let Some(expected) = expected {
            ensure!(words.starts_with(&expected), "{words:x?} of {expected:x?}, {life:?}");
        }
        if opcode == abi::GET_SYNC_OWNER {
            let (found, owner) = (self.arena.bytes(place, 4), self.model.owner(life_id));
            ensure!(found[..] == owner.to_le_bytes()[..4], "the owner {found:?}, not {owner}");
        }
        Ok(found)
    }

    /// What GET_SYNC is to give.
    pub(crate) fn sync_words(&self, life: Id) -> Vec<u64> {
        let s = self.model.lives[&life].settings;
        let flags = s.direction << 2 | s.mode << 8 | self.model.owner(life) << 16;
        vec![flags, s.size, s.offset]
    }

    pub(crate) fn sync_value(
        &mut self,
        file: Id,
        for_device: bool,
        value: u64,
        place: Place,
    ) -> Result<Outcome> {
        self.arena.put_words(place, &[value]);
        let opcode = if for_device { abi::SET_SYNC_FOR_DEVICE } else { abi::SET_SYNC_FOR_CPU };
        let found = self.control(file, opcode, place);
        let fetched = self.fetched(file, false, true, place, 8);
        let life = self.model.files[&file].life;
        let expected = fetched.and_then(|()| self.expect_value(life, Some(file), value));
        self.check_gone(file, expected.map(|_| 0), found)?;
        if let (Ok(_), Ok(Some(range))) = (found, expected) {
            self.model.sync(life, Some(file), for_device, &[range]);
        }
        Ok(found)
    }

    /// A claimant's is a sync.
    pub(crate) fn file_advice(
        &mut self,
        file: Id,
        [offset, size]: [u64; 2],
        advice: i32,
    ) -> Result<Outcome> {
        const DONT_NEED: i32 = 4;
        const NO_REUSE: i32 = 5;
        let one = &self.model.files[&file];
        let Some(fd) = &one.fd else { return Ok(done()) };
        let found = raw::file_advice(fd.as_fd(), raw::signed(offset), raw::signed(size), advice);
        let life = one.life;
        let sync = one.claims && matches!(advice, DONT_NEED | NO_REUSE);
        if !sync {
            let good = (0..=NO_REUSE).contains(&advice) && raw::signed(size) >= 0;
            self.check(Expect::Is(if good { Ok(0) } else { Err(Errno::INVAL) }), found)?;
            return Ok(found);
        }
        let expected = if size == 0 || !self.model.range_ok(life, offset, size) {
            Err(Errno::INVAL)
        } else {
            self.model.check_claims(life, Some(file), offset, size).map(|()| 0)
        };
        self.check_gone(file, expected, found)?;
        if found.is_ok() {
            self.model.sync(life, Some(file), advice == DONT_NEED, &[[offset, size]]);
        }
        Ok(found)
    }

    /// The range of a sync value; none for 0.
    pub(crate) fn expect_value(
        &self,
        life: Id,
        file: Option<Id>,
        value: u64,
    ) -> Result<Option<[u64; 2]>, Errno> {
        let stored = self.model.lives[&life].settings;
        let [offset, size] = match value {
            0 => return Ok(None),
            1 => [stored.offset, stored.size],
            _ => [value >> 32, value & 0xffff_fff0],
        };
        if !self.model.range_ok(life, offset, size) {
            return Err(Errno::INVAL);
        }
        self.model.check_claims(life, file, offset, size)?;
        Ok(Some([offset, size]))
    }

    pub(crate) fn set_sync(&mut self, file: Id, words: [u64; 3], place: Place) -> Result<Outcome> {
        self.arena.put_words(place, &words);
        let found = self.control(file, abi::SET_SYNC, place);
        let [flags, size, offset] = words;
        let (command, direction, mode) = (flags & 3, flags >> 2 & 3, flags >> 8 & 0xff);
        let run = command & 1 == 1;
        let id = self.model.files[&file].life;
        let mut new = self.model.lives[&id].settings;
        new.offset = offset;
        if direction != 3 {
            new.direction = direction;
        }
        if size != 0 {
            new.size = size;
        }
        if mode != 0 {
            new.mode = mode;
        }
        let memory = self.model.kind_of(file).memory();
        let expected = self.fetched(file, false, true, place, 24).and_then(|()| {
            if mode > 7 {
                return Err(Errno::INVAL);
            }
            self.model.check_claims(id, Some(file), 0, memory)?;
            if run && !self.model.range_ok(id, new.offset, new.size) {
                return Err(Errno::INVAL);
            }
            Ok(0)
        });
        self.check_gone(file, expected, found)?;
        if found.is_ok() {
            if let Some(life) = self.model.lives.get_mut(&id) {
                life.settings = new;
            }
            if run {
                self.model.sync(id, Some(file), command == 3, &[[new.offset, new.size]]);
            }
        }
        Ok(found)
    }

    pub(crate) fn batch(
        &mut self,
        file: Id,
        ranges: &[[u64; 3]],
        count: u32,
        flags: u32,
        [place, header]: [Place; 2],
    ) -> Result<Outcome> {
        // What can be read only is a view of what is good: not both there.
        let first = |place| matches!(place, Place::Good(_) | Place::ReadOnly);
        let header = match (place, header) {
            (Place::Cut(_), Place::Cut(_)) => Place::Good(0),
            _ if first(place) && first(header) => Place::Cut(16),
            _ => header,
        };
        let words: Vec<u64> = ranges.iter().flatten().copied().collect();
        let array = self.arena.put_words(place, &words);
        let last = u64::from(count) | u64::from(flags) << 32;
        self.arena.put_words(header, &[array as u64, last]);
        let found = self.control(file, abi::SYNC_BATCH, header);

        let id = self.model.files[&file].life;
        let len = ranges.len() * 24;
        let expected = self.fetched(file, false, true, header, 16).and_then(|()| {
            if flags != 0 || count > abi::SYNC_BATCH_MAX {
                return Err(Errno::INVAL);
            }
            if self.arena.readable(place) < len {
                return Err(Errno::FAULT);
            }
            let wrong = |&[offset, size, how]: &[u64; 3]| {
                !matches!(how & 0xffff_ffff, 1 | 3)
                    || how >> 32 > 2
                    || !self.model.range_ok(id, offset, size)
            };
            if ranges.iter().any(wrong) {
                return Err(Errno::INVAL);
            }
            let claimed =
                |range: &[u64; 3]| self.model.check_claims(id, Some(file), range[0], range[1]);
            ranges.iter().try_for_each(claimed).map(|()| 0)
        });
        self.check_gone(file, expected, found)?;
        if found.is_ok() {
            for same in ranges.chunk_by(|a, b| a[2] & 3 == b[2] & 3) {
                let plain: Vec<_> = same.iter().map(|&[offset, size, _]| [offset, size]).collect();
                self.model.sync(id, Some(file), same[0][2] & 3 == 3, &plain);
            }
        }
        Ok(found)
    }

    pub(crate) fn claim(&mut self, file: Id, flags: u64, place: Place) -> Result<Outcome> {
        self.arena.put_words(place, &[flags]);
        let found = self.control(file, abi::CLAIM, place);
        let expected = match self.fetched(file, true, true, place, 8) {
            Ok(()) if self.gone(file) => Err(Errno::NODEV),
            Ok(()) => self.model.claim(file, flags).map(|()| 0),
            Err(error) => Err(error),
        };
        self.check_gone(file, expected, found)?;
        Ok(found)
    }

    pub(crate) fn claim_range(
        &mut self,
        file: Id,
        words: [u64; 3],
        place: Place,
    ) -> Result<Outcome> {
        self.arena.put_words(place, &words);
        let found = self.control(file, abi::CLAIM_RANGE, place);
        let [offset, size, flags] = words;
        let expected = match self.fetched(file, true, true, place, 24) {
            Ok(()) if self.gone(file) => Err(Errno::NODEV),
            Ok(()) => self.model.claim_range(file, [offset, size], flags).map(|()| 0),
            Err(error) => Err(error),
        };
        self.check_gone(file, expected, found)?;
        Ok(found)
    }

    pub(crate) fn map_mode(&mut self, file: Id, mode: u64, place: Place) -> Result<Outcome> {
        self.arena.put_words(place, &[mode]);
        let found = self.control(file, abi::SET_MAP_MODE, place);
        let kind = self.model.kind_of(file);
        let expected = self.fetched(file, false, false, place, 8).and_then(|()| match mode {
            4.. => Err(Errno::INVAL),
            abi::MAP_CACHED if kind.uncached() => Err(Errno::OPNOTSUPP),
            abi::MAP_UNCACHED.. if !kind.can_map_uncached() => Err(Errno::OPNOTSUPP),
            _ => Ok(0),
        });
        self.check_gone(file, expected, found)?;
        Ok(found)
    }

    pub(crate) fn export(&mut self, file: Id, words: [u64; 3], place: Place) -> Result<Outcome> {
        let [flags, size, offset] = words;
        self.arena.put_words(place, &[flags, size, offset, !0, !0]);
        let found = self.control(file, abi::EXPORT, place);
        let (fetched, access) = (self.fetched(file, false, false, place, EXPORT_LEN), flags & 3);
        let (one, kind) = (&self.model.files[&file], self.model.kind_of(file));
        let life = one.life;
        let expected = fetched.and_then(|()| {
            let known = 0o2_000_000 | 0o4_010_000 | 3;
            if flags & !known != 0 || access == 3 {
                return Err(Errno::INVAL);
            }
            let pages = (offset | size) % PAGE as u64 == 0;
            if size == 0 || !pages || !self.model.range_ok(life, offset, size) {
                return Err(Errno::INVAL);
            }
            if kind.uncached() {
                return Err(Errno::OPNOTSUPP);
            }
            if (access != 1 && !one.read) || (access != 0 && !one.write) {
                return Err(Errno::BADF);
            }
            self.model.check_claims(life, Some(file), offset, size)?;
            if self.arena.writable(place) < EXPORT_LEN { Err(Errno::FAULT) } else { Ok(0) }
        });
        self.check_gone(file, expected, found)?;
        if found.is_ok() {
            let bytes = self.arena.bytes(place, EXPORT_LEN);
            let number = bytes[32..].iter().rev().fold(0, |n, &byte| n << 8 | i32::from(byte));
            let part = self.model.id();
            let one = Use { file, offset, size, claim: false, pieces: 0, export: None };
            self.model.uses.insert(part, one);
            if let Some(file) = self.model.files.get_mut(&file) {
                file.holders += 1;
            }
            let fd = raw::own(number);
            let export =
                Export { fd: Some(fd), part, read: access != 1, write: access != 0, mappings: 0 };
            let id = self.model.id();
            self.model.exports.insert(id, export);
        }
        Ok(found)
    }

    pub(crate) fn unknown(&mut self, file: Id, opcode: u32, place: Place) -> Result<Outcome> {
        let known = GETS.iter().any(|&(known, _)| known == opcode) || (opcode & 0xff) == 10;
        let sets = [
            abi::SET_SYNC_FOR_CPU,
            abi::SET_SYNC_FOR_DEVICE,
            abi::SET_SYNC,
            abi::CLAIM,
            abi::SYNC_BATCH,
            abi::CLAIM_RANGE,
            abi::SET_MAP_MODE,
        ];
        if known || sets.contains(&opcode) {
            return Ok(done());
        }
        let found = self.control(file, opcode, place);
        self.check(Expect::Is(Err(Errno::NOTTY)), found)?;
        Ok(found)
    }

    pub(crate) fn export_sync(&mut self, export: Id, flags: u64, place: Place) -> Result<Outcome> {
        self.arena.put_words(place, &[flags]);
        let address = self.arena.address(place);
        let one = &self.model.exports[&export];
        let Some(fd) = &one.fd else { return Ok(done()) };
        let found = raw::control(fd.as_fd(), udmabuf_sys::dma_buf::SYNC, address);
        let expected = if self.arena.readable(place) < 8 {
            Err(Errno::FAULT)
        } else if flags > 7 || flags & 3 == 0 {
            Err(Errno::INVAL)
        } else {
            Ok(0)
        };
        let file = self.model.uses[&one.part].file;
        self.check_gone(file, expected, found)?;
        Ok(found)
    }

    /// Naming, and the fences that the module has nothing to do with.
    pub(crate) fn export_other(&mut self, export: Id, which: u64, place: Place) -> Result<Outcome> {
        self.arena.put(place, b"name\0".iter().copied().chain([0; 59]));
        let address = self.arena.address(place);
        let one = &self.model.exports[&export];
        let Some(fd) = &one.fd else { return Ok(done()) };
        let size = self.model.uses[&one.part].size;
        match which {
            0 => Ok(raw::control(fd.as_fd(), 0x4008_6201, address)),
            1 => Ok(raw::control(fd.as_fd(), 0xc008_6202, address)),
            2 => Ok(raw::control(fd.as_fd(), 0x4008_6203, address)),
            3 => {
                let end = raw::seek(fd.as_fd(), 0, 2);
                ensure!(end == Ok(size), "the dma-buf has {end:?} of {size} bytes");
                Ok(done())
            }
            4 => Ok(raw::transfer(fd.as_fd(), true, None, address, 8)),
            // No fence is ever in it.
            5 => {
                let mut fds = [PollFd::new(fd, PollFlags::IN | PollFlags::OUT)];
                let ready = poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
                ensure!(ready == 1, "the dma-buf is not ready");
                Ok(done())
            }
            _ => Ok(raw::transfer(fd.as_fd(), false, None, address, 8)),
        }
    }
}
