//! One process of the fuzzer: operation after operation, each checked against the
//! model, and now and then all that should not have changed.

use std::collections::VecDeque;

use anyhow::{Context, Result, bail, ensure};
use rustix::fd::{AsFd, AsRawFd};
use udmabuf_sys::{abi, ioctl};

use super::{
    arena::{Arena, PAGE, Place},
    guards::{Guard, Reserved},
    manager::Manager,
    model::{Id, Model},
    op::Op,
    random::Random,
    raw::{self, Outcome},
};

/// How many operations a failure shows.
const SHOWN: usize = 24;

/// What the model says of a result.
pub(crate) enum Expect {
    Is(Outcome),
    Error,
}

/// Where only the outcome of the checks counts.
pub(crate) fn done() -> Outcome {
    Ok(0)
}

pub(crate) struct Fuzz {
    pub(crate) model: Model,
    pub(crate) arena: Arena,
    /// The platform device of each kind; empty if it is deleted.
    pub(crate) devices: Vec<String>,
    /// What was in each when it went.
    pub(crate) kept: Vec<Vec<u8>>,
    pub(crate) guards: Vec<Guard>,
    pub(crate) reserved: Vec<Reserved>,
    pub(crate) manager: Manager,
    /// Another module imports what this process exports.
    pub(crate) importer: bool,
    random: Random,
    last: VecDeque<(u64, Op)>,
    /// Of all outcomes so far: two runs of a seed have the same.
    digest: u64,
    fds: usize,
}

impl Fuzz {
    pub(crate) fn new(id: u64, seed: u64) -> Result<Self> {
        Ok(Self {
            model: Model::default(),
            arena: Arena::new()?,
            devices: Vec::new(),
            kept: Vec::new(),
            guards: Vec::new(),
            reserved: Vec::new(),
            manager: Manager::new(id),
            importer: false,
            random: Random(seed ^ id << 48),
            last: VecDeque::new(),
            digest: 0,
            fds: 0,
        })
    }

    /// Gives the digest of what happened.
    pub(crate) fn run(&mut self, operations: u64) -> Result<u64> {
        self.fds = open_fds()?;
        self.kept = vec![Vec::new(); self.devices.len()];
        for number in 0..operations {
            let op = Op::random(&mut self.random, &self.model, &self.manager);
            if self.last.len() == SHOWN {
                self.last.pop_front();
            }
            self.last.push_back((number, op.clone()));
            let result = self.step(&op).and_then(|outcome| self.after(number, outcome));
            if let Err(error) = result {
                let last: Vec<_> =
                    self.last.iter().map(|(number, op)| format!("{number} {op:?}\n")).collect();
                eprintln!("{}{error:#}", last.concat());
                return Err(error.context(format!("operation {number}, {op:?}")));
            }
        }
        self.end().context("at the end")?;
        Ok(self.digest)
    }

    pub(crate) fn check(&self, expected: Expect, found: Outcome) -> Result<()> {
        match expected {
            Expect::Is(expected) => ensure!(found == expected, "{found:?}, expected {expected:?}"),
            Expect::Error => ensure!(found.is_err(), "{found:?}, expected an error"),
        }
        Ok(())
    }

    /// A buffer that was removed refuses everything; which of its errors comes
    /// first is not promised.
    pub(crate) fn check_gone(&self, file: Id, expected: Outcome, found: Outcome) -> Result<()> {
        let gone = self.model.life_of(file).gone;
        self.check(if gone { Expect::Error } else { Expect::Is(expected) }, found)
    }

    fn step(&mut self, op: &Op) -> Result<Outcome> {
        Ok(match *op {
            Op::Open { kind, flags } => self.open(kind, flags)?,
            Op::Close { file } => self.close(file),
            Op::Get { file, which, place } => self.get(file, which, place)?,
            Op::SyncValue { file, for_device, value, place } => {
                self.sync_value(file, for_device, value, place)?
            }
            Op::SetSync { file, words, place } => self.set_sync(file, words, place)?,
            Op::Batch { file, ref ranges, claimed_count, flags, place, header } => {
                self.batch(file, ranges, claimed_count, flags, [place, header])?
            }
            Op::Claim { file, flags, place } => self.claim(file, flags, place)?,
            Op::ClaimRange { file, words, place } => self.claim_range(file, words, place)?,
            Op::MapMode { file, mode, place } => self.map_mode(file, mode, place)?,
            Op::Export { file, words, place } => self.export(file, words, place)?,
            Op::Unknown { file, opcode, place } => self.unknown(file, opcode, place)?,
            Op::CloseExport { export } => {
                if let Some(export) = self.model.exports.get_mut(&export) {
                    export.fd = None;
                }
                self.model.settle_export(export);
                done()
            }
            Op::ExportSync { export, flags, place } => self.export_sync(export, flags, place)?,
            Op::ExportOther { export, which, place } => self.export_other(export, which, place)?,
            Op::Transfer { file, write, at, len, place, fill } => {
                self.transfer(file, write, at, len, (place, fill))?
            }
            Op::Seek { file, offset, whence } => self.seek(file, offset, whence)?,
            Op::Map { file, pages, prot, flags } => self.map(file, pages, prot, flags)?,
            Op::MapExport { export, pages, prot, flags } => {
                self.map_export(export, pages, prot, flags)?
            }
            Op::Touch { piece, offset, value, each } => self.touch(piece, offset, value, each)?,
            Op::PipeTouch { piece, offset, pages } => self.pipe_touch(piece, offset, pages)?,
            Op::Unmap { piece, pages } => self.unmap(piece, pages)?,
            Op::Move { piece, pages, how } => self.remap(piece, pages, how)?,
            Op::Protect { piece, pages, prot } => self.protect(piece, pages, prot)?,
            Op::Advise { piece, pages, advice } => self.advise(piece, pages, advice),
            Op::Lock { piece } => self.lock(piece),
            Op::SysRead { kind, which } => self.sys_read(kind, which)?,
            Op::SysWrite { kind, which, ref text } => self.sys_write(kind, which, text)?,
            Op::Splice { file, write, len } => self.splice(file, write, len)?,
            Op::Other { file, which } => self.other(file, which)?,
            Op::FileAdvice { file, range, advice } => self.file_advice(file, range, advice)?,
            Op::Unbind { kind } => self.unbind(kind)?,
            Op::Bind { kind } => self.bind(kind)?,
            Op::Create { kind } => self.create(kind)?,
            Op::Delete { kind } => self.delete(kind)?,
            Op::Text { ref texts, kept } => self.text(texts, kept)?,
            Op::ReadManager { piece } => self.read_manager(piece)?,
            Op::CloseManager => self.close_manager(),
            Op::HoldMade { ref name } => self.hold_made(name)?,
            Op::InfoEnable { ref text } => self.info_enable(text)?,
            Op::Unload => self.unload()?,
            Op::Fork { file, value } => self.fork(file, value)?,
            Op::Pass { file, drop } => self.pass(file, drop)?,
            Op::OpenPath { kind } => self.open_path(kind)?,
            Op::Import { export, how, offset, value } => self.import(export, how, offset, value)?,
        })
    }

    /// A refused request changed nothing; now and then, nothing else did either.
    fn after(&mut self, number: u64, outcome: Outcome) -> Result<()> {
        let code = match outcome {
            Ok(value) => value as u64,
            Err(error) => u64::MAX - u64::from(error.raw_os_error().unsigned_abs()),
        };
        self.digest = Random(self.digest ^ code).next();
        let often = if outcome.is_err() { 1 } else { 8 };
        if self.random.one_in(often) {
            let files: Vec<Id> = self.model.files.keys().copied().collect();
            if let Some(&file) = files.get(self.random.index(files.len())) {
                self.settings(file).context("the settings")?;
                if self.random.one_in(4) {
                    let from = self.random.next();
                    self.compare_some(file, from)?;
                }
            }
        }
        if number % 512 == 511 {
            let held = self.model.files.values().filter(|file| file.fd.is_some()).count()
                + self.model.exports.values().filter(|export| export.fd.is_some()).count()
                + self.manager.open_files();
            let there = open_fds()?;
            ensure!(there == self.fds + held, "{there} descriptors, not {}", self.fds + held);
            // Nor are numbers taken without a descriptor: of so many, one is free.
            let next = rustix::io::dup(self.arena.file())?.as_raw_fd();
            ensure!(usize::try_from(next)? <= there, "descriptor {next} is the next of {there}");
            self.mapped()?;
            self.guards.iter().try_for_each(Guard::check)?;
            self.reserved.iter().try_for_each(Reserved::check)?;
        }
        Ok(())
    }

    fn settings(&self, file: Id) -> Result<()> {
        let one = &self.model.files[&file];
        let Some(fd) = one.fd.as_ref().filter(|_| !self.model.life_of(file).gone) else {
            return Ok(());
        };
        let place = Place::Good(0);
        raw::control(fd.as_fd(), abi::GET_SYNC, self.arena.address(place))?;
        let (found, expected) = (self.arena.words(place, 3), self.sync_words(one.life));
        ensure!(found == expected, "{found:x?}, not {expected:x?}");
        Ok(())
    }

    /// As much is mapped as the model thinks.
    fn mapped(&self) -> Result<()> {
        let maps = std::fs::read_to_string("/proc/self/maps")?;
        let pages = |line: &str| {
            let (start, rest) = line.split_once('-')?;
            let end = rest.split(' ').next()?;
            let [start, end] = [start, end].map(|text| usize::from_str_radix(text, 16));
            Some((end.ok()? - start.ok()?) / PAGE)
        };
        let ours = |line: &&str| {
            line.contains("dmabuf")
                || self.model.kinds.iter().any(|k| line.contains(&format!("/dev/{}", k.name)))
        };
        let found: usize = maps.lines().filter(ours).filter_map(pages).sum();
        let expected: usize = self.model.pieces.values().map(|piece| piece.len / PAGE).sum();
        ensure!(found == expected, "{found} pages are mapped, not {expected}: {maps}");
        Ok(())
    }

    /// All is closed; then each buffer still has its bytes, and can be deleted.
    fn end(&mut self) -> Result<()> {
        for piece in self.model.pieces.keys().copied().collect::<Vec<_>>() {
            let pages = self.model.pieces[&piece].len / PAGE;
            let _ = self.unmap(piece, [0, pages])?;
        }
        self.end_manager()?;
        for export in self.model.exports.values_mut() {
            export.fd = None;
        }
        for export in self.model.exports.keys().copied().collect::<Vec<_>>() {
            self.model.settle_export(export);
        }
        for file in self.model.files.keys().copied().collect::<Vec<_>>() {
            let _ = self.close(file);
        }
        ensure!(self.model.files.is_empty() && self.model.uses.is_empty(), "something is left");
        for kind in 0..self.model.kinds.len() {
            if self.model.now[kind].is_none() {
                continue;
            }
            let _ = self.open(kind, 2)?;
            let Some(&file) = self.model.files.keys().next() else { bail!("not opened") };
            self.settings(file)?;
            self.compare(file)?;
            // Nothing is at a device, which the manager wants to hear.
            if let Some(fd) = &self.model.files[&file].fd {
                ioctl::claim(fd.as_fd(), true).context("adopt")?;
            }
            ensure!(self.model.claim(file, abi::CLAIM_ADOPT).is_ok(), "adopted, but not modelled");
            let _ = self.close(file);
        }
        for kind in 0..self.model.kinds.len() {
            if self.model.kinds[kind].create.is_some() {
                let _ = self.delete(kind)?;
            } else if self.model.now[kind].is_none() {
                let _ = self.bind(kind)?;
            }
        }
        let guards = self.guards.len();
        self.guards.drain(..).try_for_each(Guard::end)?;
        self.reserved.iter().try_for_each(Reserved::check)?;
        ensure!(open_fds()? == self.fds - guards, "descriptors are left");
        Ok(())
    }
}

fn open_fds() -> Result<usize> {
    Ok(std::fs::read_dir("/proc/self/fd")?.count())
}
