//! What the module promises of buffers that nobody else uses: what each has in it,
//! what is stored, who has claimed what, and what a request is therefore answered.

use std::{collections::BTreeMap, os::fd::OwnedFd};

use rustix::io::Errno;
use udmabuf_sys::abi;

use super::arena::PAGE;

pub(crate) type Id = u32;

/// What sysfs and GET_SYNC show.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Settings {
    pub(crate) mode: u64,
    pub(crate) offset: u64,
    pub(crate) size: u64,
    pub(crate) direction: u64,
}

/// What a buffer is whenever it is there.
#[derive(Clone, Debug)]
pub(crate) struct Kind {
    pub(crate) name: String,
    /// The manager's command; none for a buffer of the device tree.
    pub(crate) create: Option<String>,
    pub(crate) size: u64,
    pub(crate) settings: Settings,
    pub(crate) flags: u64,
    pub(crate) caps: u64,
    pub(crate) zero_between_users: bool,
    pub(crate) keep_contents: bool,
}

impl Kind {
    /// No cache, no pages.
    pub(crate) fn uncached(&self) -> bool {
        self.caps & abi::CAP_EXPORT == 0
    }

    pub(crate) fn can_map_uncached(&self) -> bool {
        let coherent = self.flags & abi::DEV_INFO_COHERENT != 0;
        !cfg!(target_arch = "x86_64") && (!coherent || self.uncached())
    }

    /// Bytes that can be mapped and synced.
    pub(crate) fn memory(&self) -> u64 {
        self.size.next_multiple_of(PAGE as u64)
    }
}

/// A buffer from the time it is bound until it is unbound.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) kind: usize,
    pub(crate) gone: bool,
    pub(crate) used: bool,
    pub(crate) settings: Settings,
    pub(crate) astray: bool,
    /// A claimant ended with something at the device, and nobody vouched since.
    pub(crate) orphaned: bool,
    pub(crate) lent: u64,
    /// Ranges and bytes synced for the CPU and for the device.
    pub(crate) counters: [[u64; 2]; 2],
    pub(crate) bytes: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct File {
    pub(crate) life: Id,
    pub(crate) fd: Option<OwnedFd>,
    pub(crate) read: bool,
    pub(crate) write: bool,
    /// O_APPEND, which the module has no use for, but splice() has.
    pub(crate) append: bool,
    pub(crate) position: u64,
    pub(crate) claims: bool,
    pub(crate) whole: bool,
    pub(crate) lent: u64,
    /// Mappings and exports.
    pub(crate) holders: u32,
    /// What the lent page says, once there is one.
    pub(crate) parts: Option<u32>,
}

/// A claimed range, a mapping or an export.
#[derive(Debug)]
pub(crate) struct Use {
    pub(crate) file: Id,
    pub(crate) offset: u64,
    pub(crate) size: u64,
    pub(crate) claim: bool,
    /// Of a mapping.
    pub(crate) pieces: u32,
    /// Through which it is mapped.
    pub(crate) export: Option<Id>,
}

#[derive(Debug)]
pub(crate) struct Export {
    pub(crate) fd: Option<OwnedFd>,
    pub(crate) part: Id,
    pub(crate) read: bool,
    pub(crate) write: bool,
    pub(crate) mappings: u32,
}

/// One VMA.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    pub(crate) file: Id,
    /// None for the lent page.
    pub(crate) part: Option<Id>,
    pub(crate) address: usize,
    pub(crate) offset: u64,
    pub(crate) len: usize,
    pub(crate) prot: i32,
    /// PROT_WRITE is possible.
    pub(crate) may_write: bool,
}

#[derive(Default)]
pub(crate) struct Model {
    next: Id,
    pub(crate) kinds: Vec<Kind>,
    /// Which life each has now.
    pub(crate) now: Vec<Option<Id>>,
    pub(crate) lives: BTreeMap<Id, Life>,
    pub(crate) files: BTreeMap<Id, File>,
    pub(crate) uses: BTreeMap<Id, Use>,
    pub(crate) exports: BTreeMap<Id, Export>,
    pub(crate) pieces: BTreeMap<Id, Piece>,
}

impl Model {
    pub(crate) fn id(&mut self) -> Id {
        self.next += 1;
        self.next
    }

    /// A buffer appears; `bytes` are those of memory that keeps its contents.
    pub(crate) fn born(&mut self, kind: usize, bytes: Option<Vec<u8>>) {
        let id = self.id();
        let memory = usize::try_from(self.kinds[kind].memory()).unwrap_or(0);
        let settings = self.kinds[kind].settings;
        self.now[kind] = Some(id);
        let life = Life {
            kind,
            gone: false,
            used: false,
            settings,
            astray: false,
            orphaned: false,
            lent: 0,
            counters: [[0; 2]; 2],
            bytes: bytes.unwrap_or_else(|| vec![0; memory]),
        };
        self.lives.insert(id, life);
    }

    /// A buffer goes, whoever has it open. Gives the bytes in it.
    pub(crate) fn dies(&mut self, kind: usize) -> Option<Vec<u8>> {
        let id = self.now[kind].take()?;
        let life = self.lives.get_mut(&id)?;
        life.gone = true;
        let bytes = std::mem::take(&mut life.bytes);
        if !self.files.values().any(|file| file.life == id) {
            self.lives.remove(&id);
        }
        Some(bytes)
    }

    pub(crate) fn life_of(&self, file: Id) -> &Life {
        &self.lives[&self.files[&file].life]
    }

    pub(crate) fn kind_of(&self, file: Id) -> &Kind {
        &self.kinds[self.life_of(file).kind]
    }

    pub(crate) fn files_of(&self, life: Id) -> usize {
        self.files.values().filter(|file| file.life == life).count()
    }

    pub(crate) fn claimed_by_other(&self, life: Id, file: Option<Id>) -> bool {
        self.files.iter().any(|(&id, f)| f.life == life && f.whole && Some(id) != file)
    }

    /// Does a use of another file overlap? As the module asks it, also of empty ranges.
    fn overlaps(&self, life: Id, not_by: Option<Id>, claim: bool, offset: u64, size: u64) -> bool {
        self.uses.values().any(|u| {
            self.files[&u.file].life == life
                && Some(u.file) != not_by
                && (u.claim || !claim)
                && u.offset < offset + size
                && offset < u.offset + u.size
        })
    }

    /// EBUSY if another file has claimed any of it.
    pub(crate) fn check_claims(
        &self,
        life: Id,
        file: Option<Id>,
        offset: u64,
        size: u64,
    ) -> Result<(), Errno> {
        if self.overlaps(life, file, true, offset, size) { Err(Errno::BUSY) } else { Ok(()) }
    }

    pub(crate) fn range_ok(&self, life: Id, offset: u64, size: u64) -> bool {
        let end = self.kinds[self.lives[&life].kind].memory();
        offset <= end && size <= end - offset
    }

    pub(crate) fn owner(&self, life: Id) -> u64 {
        let life = &self.lives[&life];
        u64::from(life.astray || life.lent != 0)
    }

    /// A file that does not hold anything any more is released.
    pub(crate) fn settle(&mut self, id: Id) {
        let Some(file) = self.files.get(&id) else { return };
        if file.fd.is_some() || file.holders > 0 {
            return;
        }
        self.uses.retain(|_, part| part.file != id);
        let Some(file) = self.files.remove(&id) else { return };
        let Some(life) = self.lives.get_mut(&file.life) else { return };
        if file.claims {
            let out = file.lent > 0 || file.parts.is_some_and(|parts| parts > 0);
            life.astray |= out;
            life.orphaned |= out;
            life.lent -= file.lent;
        }
        if life.gone && self.files_of(file.life) == 0 {
            self.lives.remove(&file.life);
        }
    }

    pub(crate) fn settle_export(&mut self, id: Id) {
        let Some(export) = self.exports.get(&id) else { return };
        if export.fd.is_some() || export.mappings > 0 {
            return;
        }
        let Some(export) = self.exports.remove(&id) else { return };
        let Some(part) = self.uses.remove(&export.part) else { return };
        if let Some(file) = self.files.get_mut(&part.file) {
            file.holders -= 1;
        }
        self.settle(part.file);
    }

    /// A VMA is gone.
    pub(crate) fn unmapped(&mut self, id: Id) {
        let Some(piece) = self.pieces.remove(&id) else { return };
        let Some(part) = piece.part else {
            return self.let_go(piece.file);
        };
        let Some(one) = self.uses.get_mut(&part) else { return };
        one.pieces -= 1;
        if one.pieces > 0 {
            return;
        }
        let Some(ended) = self.uses.remove(&part) else { return };
        match ended.export {
            None => self.let_go(piece.file),
            Some(export) => {
                if let Some(export) = self.exports.get_mut(&export) {
                    export.mappings -= 1;
                }
                self.settle_export(export);
            }
        }
    }

    fn let_go(&mut self, file: Id) {
        if let Some(file) = self.files.get_mut(&file) {
            file.holders -= 1;
        }
        self.settle(file);
    }

    /// Ranges that go the same way, one after the other.
    pub(crate) fn sync(
        &mut self,
        life_id: Id,
        file: Option<Id>,
        for_device: bool,
        ranges: &[[u64; 2]],
    ) {
        let size = self.lives.get(&life_id).map_or(0, |life| self.kinds[life.kind].size);
        let (Some(life), file) =
            (self.lives.get_mut(&life_id), file.and_then(|id| self.files.get_mut(&id)))
        else {
            return;
        };
        let bytes: u64 = ranges.iter().map(|range| range[1]).sum();
        let whole = ranges.iter().any(|range| range[0] == 0 && range[1] >= size);
        life.counters[usize::from(for_device)][0] += ranges.len() as u64;
        life.counters[usize::from(for_device)][1] += bytes;
        match file.filter(|file| file.claims) {
            None => life.astray = if bytes == 0 { life.astray } else { for_device },
            Some(file) if for_device => {
                let bytes = bytes.min(u64::MAX - life.lent);
                file.lent += bytes;
                life.lent += bytes;
            }
            Some(file) => {
                let bytes = if whole { file.lent } else { bytes.min(file.lent) };
                file.lent -= bytes;
                life.lent -= bytes;
            }
        }
    }

    fn claim_begin(&mut self, file: Id, adopt: bool) -> Result<(), Errno> {
        let Some(file) = self.files.get_mut(&file) else { return Ok(()) };
        let Some(life) = self.lives.get_mut(&file.life) else { return Ok(()) };
        if (life.astray || life.orphaned) && !adopt {
            return Err(Errno::OWNERDEAD);
        }
        life.astray = false;
        life.orphaned = false;
        file.claims = true;
        Ok(())
    }

    pub(crate) fn claim(&mut self, id: Id, flags: u64) -> Result<(), Errno> {
        let file = &self.files[&id];
        if flags > abi::CLAIM_ADOPT {
            return Err(Errno::INVAL);
        }
        if file.whole {
            return Ok(());
        }
        if self.files_of(file.life) != 1 {
            return Err(Errno::BUSY);
        }
        self.claim_begin(id, flags == abi::CLAIM_ADOPT)?;
        if let Some(file) = self.files.get_mut(&id) {
            file.whole = true;
        }
        Ok(())
    }

    pub(crate) fn claim_range(&mut self, id: Id, range: [u64; 2], flags: u64) -> Result<(), Errno> {
        let [offset, size] = range;
        let file = &self.files[&id];
        let pages = (offset | size) % PAGE as u64 == 0;
        if flags > abi::CLAIM_ADOPT
            || size == 0
            || !pages
            || !self.range_ok(file.life, offset, size)
        {
            return Err(Errno::INVAL);
        }
        let has = file.whole
            || self.uses.values().any(|u| {
                u.file == id && u.claim && u.offset <= offset && offset + size <= u.offset + u.size
            });
        if has {
            return Ok(());
        }
        if self.overlaps(file.life, Some(id), false, offset, size) {
            return Err(Errno::BUSY);
        }
        self.claim_begin(id, flags == abi::CLAIM_ADOPT)?;
        let part = Use { file: id, offset, size, claim: true, pieces: 0, export: None };
        let number = self.id();
        self.uses.insert(number, part);
        Ok(())
    }
}
