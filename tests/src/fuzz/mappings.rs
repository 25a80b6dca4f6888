//! Mappings, and all that can be done to one.

use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Result, ensure};
use rustix::{
    io::Errno,
    pipe::{PipeFlags, pipe_with},
};

use super::{
    arena::PAGE,
    model::{Id, Piece, Use},
    op::Move,
    random::Random,
    raw::{self, MAP_FIXED, MAP_PRIVATE, Outcome, PROT_EXEC, PROT_WRITE},
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
        let offset = first.wrapping_mul(PAGE as u64);
        let mapped = self.mmap(fd.as_fd(), prot, flags, offset, len);
        if prot & PROT_EXEC != 0 && mapped == Err(Errno::PERM) {
            // Whether programs may lie there is the file system's business.
            return Ok(mapped);
        }
        let (memory, shared) = (self.model.kind_of(file).memory(), flags & MAP_PRIVATE == 0);
        let may_write = one.write;
        let lent = offset == memory;
        // The kernel's own, before the module is asked.
        if offset.checked_add(len as u64).is_none() || offset > u64::MAX >> 1 {
            let found = mapped.map(|_| 0);
            self.check(Expect::Error, found)?;
            return Ok(found);
        }
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

    /// Where the kernel likes; with MAP_FIXED instead of something else.
    fn mmap(
        &self,
        fd: BorrowedFd<'_>,
        prot: i32,
        flags: i32,
        offset: u64,
        len: usize,
    ) -> Result<usize, Errno> {
        let offset = raw::signed(offset);
        if flags & MAP_FIXED == 0 {
            return raw::map(fd, prot, flags, offset, len);
        }
        // A page more, for an address that is no page's.
        let spare = self.arena.spare(len + PAGE).map_err(|_| Errno::NOMEM)?;
        let refused = raw::map_to(spare + 16, fd, prot, flags, offset, len);
        let mapped = raw::map_to(spare, fd, prot, flags, offset, len);
        // It may have taken away what was there before it failed.
        let rest = if mapped == Ok(spare) { spare + len } else { spare };
        let _ = raw::unmap(rest, spare + len + PAGE - rest);
        match (refused, mapped) {
            (Err(_), Ok(address)) if address != spare => Err(Errno::FAULT),
            (Err(_), mapped) => mapped,
            (Ok(_), _) => Err(Errno::FAULT),
        }
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
        let mapped = self.mmap(fd.as_fd(), prot, flags, at, len);
        if prot & PROT_EXEC != 0 && mapped == Err(Errno::PERM) {
            return Ok(mapped);
        }
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

    /// What was written is there; of each page another byte, as one page may be taken for
    /// another.
    pub(crate) fn touch(
        &mut self,
        piece: Id,
        offset: usize,
        value: Option<u8>,
        each: bool,
    ) -> Result<Outcome> {
        let Piece { file, part, address, offset: start, len, prot, .. } = self.model.pieces[&piece];
        let id = self.model.files[&file].life;
        let gone = self.model.life_of(file).gone;
        if part.is_none() {
            return self.touch_lent(file, address, prot, gone, value);
        }
        if gone || prot & if value.is_some() { 2 } else { 1 } == 0 {
            return Ok(done());
        }
        let Some(life) = self.model.lives.get_mut(&id) else { return Ok(done()) };
        let start = usize::try_from(start)?;
        let offsets = || (offset..if each { len } else { offset + 1 }).step_by(PAGE);
        if let Some(value) = value {
            for offset in offsets() {
                let value = Random((offset as u64) << 8 | u64::from(value)).byte();
                raw::set(address + offset, value);
                life.bytes[start + offset] = value;
            }
        }
        for offset in offsets().filter(|_| prot & 1 != 0) {
            let (at, found) = (start + offset, raw::get(address + offset));
            let expected = life.bytes[at];
            ensure!(found == expected, "byte {at:#x} is {found:#x}, not {expected:#x}");
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

    /// Pages of a piece become one of their own, which the kernel may do with its VMA.
    fn part(&mut self, piece: Id, [first, count]: [usize; 2]) -> Id {
        let Some(whole) = self.model.pieces.remove(&piece) else { return piece };
        let (end, all) = (first + count, whole.len / PAGE);
        let pieces = [[0, first], [first, end], [end, all]].map(|[first, end]| {
            let id = self.model.id();
            let part = Piece {
                address: whole.address + first * PAGE,
                offset: whole.offset + (first * PAGE) as u64,
                len: (end - first) * PAGE,
                ..whole.clone()
            };
            if part.len > 0 {
                self.model.pieces.insert(id, part);
            }
            id
        });
        let more = u32::from(first > 0) + u32::from(end < all);
        if let Some(part) = whole.part.and_then(|part| self.model.uses.get_mut(&part)) {
            part.pieces += more;
        }
        pieces[1]
    }

    pub(crate) fn unmap(&mut self, piece: Id, pages: [usize; 2]) -> Result<Outcome> {
        let part = self.part(piece, pages);
        let Some(one) = self.model.pieces.get(&part) else { return Ok(done()) };
        let found = raw::unmap(one.address, one.len);
        ensure!(found == Ok(0), "munmap: {found:?}");
        self.model.unmapped(part);
        Ok(found)
    }

    pub(crate) fn remap(&mut self, piece: Id, pages: [usize; 2], how: Move) -> Result<Outcome> {
        let Some(one) = self.model.pieces.get(&piece) else { return Ok(done()) };
        let (address, len) = (one.address, one.len);
        // It neither grows nor is there twice.
        let refused = match how {
            Move::Grow => Some((raw::MREMAP_MAYMOVE, len, len + PAGE, Errno::FAULT)),
            Move::Copy => Some((raw::MREMAP_MAYMOVE, 0, len, Errno::FAULT)),
            Move::Leave => {
                let flags = raw::MREMAP_MAYMOVE | raw::MREMAP_DONTUNMAP;
                Some((flags, len, len, Errno::INVAL))
            }
            Move::To | Move::Shrink => None,
        };
        if let Some((flags, old, new, error)) = refused {
            let found = raw::remap_by(flags, address, old, new);
            ensure!(found == Err(error), "mremap, {how:?}: {found:?}");
            return Ok(found);
        }
        if matches!(how, Move::Shrink) {
            // To the pages before those; they go with what follows.
            let kept = pages[0] * PAGE;
            if kept == 0 {
                return Ok(done());
            }
            let found = raw::remap_by(0, address, len, kept);
            ensure!(found == Ok(address), "mremap to fewer pages: {found:?}");
            let rest = self.part(piece, [pages[0], len / PAGE - pages[0]]);
            self.model.unmapped(rest);
            return Ok(done());
        }
        let part = self.part(piece, pages);
        let Some(one) = self.model.pieces.get_mut(&part) else { return Ok(done()) };
        let to = self.arena.spare(one.len)?;
        let found = raw::remap(one.address, one.len, one.len, Some(to));
        ensure!(found == Ok(to), "mremap: {found:?}");
        one.address = to;
        Ok(done())
    }

    pub(crate) fn protect(&mut self, piece: Id, pages: [usize; 2], prot: i32) -> Result<Outcome> {
        let part = self.part(piece, pages);
        let Some(one) = self.model.pieces.get_mut(&part) else { return Ok(done()) };
        let found = raw::protect(one.address, one.len, prot);
        let refused = prot & PROT_WRITE != 0 && !one.may_write;
        let expected = if refused { Err(Errno::ACCESS) } else { Ok(0) };
        // Whether programs may lie there is the file system's business.
        let not_run = prot & PROT_EXEC != 0 && found == Err(Errno::ACCESS);
        ensure!(found == expected || not_run, "mprotect: {found:?}");
        if found.is_ok() {
            one.prot = prot;
        }
        Ok(found)
    }

    /// Whatever the kernel says to it: the bytes stay.
    pub(crate) fn advise(&mut self, piece: Id, pages: [usize; 2], advice: i32) -> Outcome {
        // Of some advice the kernel makes a VMA of its own.
        let part = self.part(piece, pages);
        let one = &self.model.pieces[&part];
        let _ = raw::advise(one.address, one.len, advice);
        done()
    }

    pub(crate) fn lock(&mut self, piece: Id) -> Outcome {
        let one = &self.model.pieces[&piece];
        let _ = raw::lock(one.address, one.len);
        let _ = raw::sync(one.address, one.len);
        done()
    }
}
