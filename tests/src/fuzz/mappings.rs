//! Mappings, and all that can be done to one.

use std::os::fd::AsFd;

use anyhow::{Result, ensure};
use rustix::{
    io::Errno,
    pipe::{PipeFlags, pipe_with},
};

use super::{
    arena::PAGE,
    model::{Id, Piece, Use},
    raw::{self, MAP_PRIVATE, Outcome, PROT_WRITE},
    run::{Expect, Fuzz, done},
};

impl Fuzz {
    pub(crate) fn map(
        &mut self,
        file: Id,
        [first, count]: [u64; 2],
        prot: i32,
        flags: i32,
    ) -> Result<Outcome> {
        let one = &self.model.files[&file];
        let Some(fd) = &one.fd else { return Ok(done()) };
        let len = usize::try_from(count)? * PAGE;
        let offset = first * PAGE as u64;
        let mapped = raw::map(fd.as_fd(), prot, flags, raw::signed(offset), len);
        let (memory, shared) = (self.model.kind_of(file).memory(), flags & MAP_PRIVATE == 0);
        let may_write = one.write;
        let lent = offset == memory;
        let expected = if !one.read || (shared && prot & PROT_WRITE != 0 && !may_write) {
            Err(Errno::ACCESS)
        } else if !shared
            || (lent && (count != 1 || !one.whole))
            || (!lent && (offset > memory || len as u64 > memory - offset))
        {
            Err(Errno::INVAL)
        } else {
            self.model.check_claims(one.life, Some(file), offset, len as u64).map(|()| 0)
        };
        let found = mapped.map(|_| 0);
        self.check_gone(file, expected, found)?;
        let Ok(address) = mapped else { return Ok(found) };

        let part = (!lent).then(|| self.model.id());
        if let Some(part) = part {
            let size = len as u64;
            let one = Use { file, offset, size, claim: false, pieces: 1, export: None };
            self.model.uses.insert(part, one);
        }
        if let Some(one) = self.model.files.get_mut(&file) {
            one.holders += 1;
            if lent {
                one.parts.get_or_insert(0);
            }
        }
        let piece = Piece { file, part, address, offset, len, prot, may_write };
        let id = self.model.id();
        self.model.pieces.insert(id, piece);
        Ok(found)
    }

    pub(crate) fn map_export(
        &mut self,
        export: Id,
        [first, count]: [u64; 2],
        prot: i32,
        flags: i32,
    ) -> Result<Outcome> {
        let one = &self.model.exports[&export];
        let Some(fd) = &one.fd else { return Ok(done()) };
        let Use { file, offset, size, .. } = self.model.uses[&one.part];
        let len = usize::try_from(count)? * PAGE;
        let at = first * PAGE as u64;
        let mapped = raw::map(fd.as_fd(), prot, flags, raw::signed(at), len);
        let shared = flags & MAP_PRIVATE == 0;
        let may_write = one.write;
        let expected = if !one.read || (shared && prot & PROT_WRITE != 0 && !may_write) {
            Err(Errno::ACCESS)
        } else if !shared || at + len as u64 > size {
            Err(Errno::INVAL)
        } else {
            Ok(0)
        };
        let found = mapped.map(|_| 0);
        self.check_gone(file, expected, found)?;
        let Ok(address) = mapped else { return Ok(found) };

        let part = self.model.id();
        let (offset, size) = (offset + at, len as u64);
        let one = Use { file, offset, size, claim: false, pieces: 1, export: Some(export) };
        self.model.uses.insert(part, one);
        if let Some(export) = self.model.exports.get_mut(&export) {
            export.mappings += 1;
        }
        let piece = Piece { file, part: Some(part), address, offset, len, prot, may_write };
        let id = self.model.id();
        self.model.pieces.insert(id, piece);
        Ok(found)
    }

    pub(crate) fn touch(&mut self, piece: Id, offset: usize, value: Option<u8>) -> Result<Outcome> {
        let Piece { file, part, address, offset: start, prot, .. } = self.model.pieces[&piece];
        let id = self.model.files[&file].life;
        let gone = self.model.life_of(file).gone;
        if part.is_none() {
            return self.touch_lent(file, address, prot, gone, value);
        }
        if gone || prot & if value.is_some() { 2 } else { 1 } == 0 {
            return Ok(done());
        }
        let at = usize::try_from(start)? + offset;
        let Some(life) = self.model.lives.get_mut(&id) else { return Ok(done()) };
        match value {
            Some(value) => {
                raw::set(address + offset, value);
                life.bytes[at] = value;
            }
            None => {
                let (found, expected) = (raw::get(address + offset), life.bytes[at]);
                ensure!(found == expected, "byte {at:#x} is {found:#x}, not {expected:#x}");
            }
        }
        Ok(done())
    }

    /// The first byte of the count of parts; the module's answer follows.
    fn touch_lent(
        &mut self,
        file: Id,
        address: usize,
        prot: i32,
        gone: bool,
        value: Option<u8>,
    ) -> Result<Outcome> {
        let Some(one) = self.model.files.get_mut(&file) else { return Ok(done()) };
        let parts = one.parts.get_or_insert(0);
        match value {
            Some(value) if prot & 2 != 0 => {
                raw::set(address, value);
                *parts = value.into();
            }
            None if prot & 1 != 0 => {
                let found = u32::from(raw::get(address));
                ensure!(found == *parts, "{found} parts, not {parts}");
                let says = raw::get(address + 4) != 0;
                ensure!(says == gone, "the lent page says gone: {says}");
            }
            _ => {}
        }
        Ok(done())
    }

    /// The kernel reads it; or, of whole pages, has them in a pipe for a moment.
    pub(crate) fn pipe_touch(&mut self, piece: Id, offset: usize, pages: bool) -> Result<Outcome> {
        let Piece { file, part, address, offset: start, len, prot, .. } = self.model.pieces[&piece];
        let (out, into) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
        let count = (len - offset).min(64);
        let found = if pages {
            raw::splice_pages(into.as_fd(), address + offset, count)
        } else {
            raw::transfer(into.as_fd(), true, None, address + offset, count)
        };
        let life = self.model.life_of(file);
        if part.is_none() {
            return Ok(done());
        }
        if life.gone || prot == 0 {
            self.check(Expect::Error, found)?;
        } else if !pages {
            self.check(Expect::Is(Ok(count)), found)?;
        }
        if let Ok(count) = found {
            let mut bytes = vec![0; count];
            rustix::io::read(&out, &mut bytes)?;
            let at = usize::try_from(start)? + offset;
            ensure!(bytes == life.bytes[at..at + count], "other bytes came through the pipe");
        }
        // Whether pages can be had depends on how they are mapped.
        Ok(if pages { done() } else { found })
    }

    pub(crate) fn unmap(&mut self, piece: Id, [first, count]: [usize; 2]) -> Result<Outcome> {
        let Some(one) = self.model.pieces.get_mut(&piece) else { return Ok(done()) };
        let (start, len) = (first * PAGE, count * PAGE);
        let found = raw::unmap(one.address + start, len);
        ensure!(found == Ok(0), "munmap: {found:?}");
        let end = start + len;
        let rest = (end < one.len).then(|| Piece {
            address: one.address + end,
            offset: one.offset + end as u64,
            len: one.len - end,
            ..one.clone()
        });
        let part = one.part;
        one.len = start;
        if let Some(rest) = rest {
            let id = self.model.id();
            self.model.pieces.insert(id, rest);
            if let Some(part) = part.and_then(|part| self.model.uses.get_mut(&part)) {
                part.pieces += 1;
            }
        }
        if start == 0 {
            self.model.unmapped(piece);
        }
        Ok(found)
    }

    pub(crate) fn remap(&mut self, piece: Id, grow: bool) -> Result<Outcome> {
        let Some(one) = self.model.pieces.get_mut(&piece) else { return Ok(done()) };
        if grow {
            let found = raw::remap(one.address, one.len, one.len + PAGE, None);
            ensure!(found == Err(Errno::FAULT), "a mapping grew: {found:?}");
            return Ok(found);
        }
        let to = self.arena.spare(one.len)?;
        let found = raw::remap(one.address, one.len, one.len, Some(to));
        ensure!(found == Ok(to), "mremap: {found:?}");
        one.address = to;
        Ok(done())
    }

    pub(crate) fn protect(&mut self, piece: Id, prot: i32) -> Result<Outcome> {
        let Some(one) = self.model.pieces.get_mut(&piece) else { return Ok(done()) };
        let found = raw::protect(one.address, one.len, prot);
        let expected = if prot & 2 != 0 && !one.may_write { Err(Errno::ACCESS) } else { Ok(0) };
        ensure!(found == expected, "mprotect: {found:?}");
        if found.is_ok() {
            one.prot = prot;
        }
        Ok(found)
    }

    /// Whatever the kernel says to it: the bytes stay.
    pub(crate) fn advise(&mut self, piece: Id, advice: i32) -> Outcome {
        let one = &self.model.pieces[&piece];
        let _ = raw::advise(one.address, one.len, advice);
        done()
    }

    pub(crate) fn lock(&mut self, piece: Id) -> Outcome {
        let one = &self.model.pieces[&piece];
        let _ = raw::lock(one.address, one.len);
        let _ = raw::sync(one.address, one.len);
        done()
    }

    /// A child that inherits everything, gives up what is mapped, and ends.
    pub(crate) fn fork(&mut self) -> Result<Outcome> {
        let pieces = &self.model.pieces;
        raw::in_a_child(|| {
            for piece in pieces.values() {
                let _ = raw::unmap(piece.address, piece.len);
            }
        })?;
        rustix::process::wait(rustix::process::WaitOptions::empty())?;
        Ok(done())
    }
}
