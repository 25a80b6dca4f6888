//! The manager's file, which may be kept open: what is written to it, and what is there
//! afterwards.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{Read, Seek, Write},
};

use anyhow::{Context, Result, ensure};
use rustix::io::Errno;
use udmabuf_sys::manager;

use super::{
    admin::{self, CLASS},
    grammar::Pending,
    random::Random,
    raw::Outcome,
    run::{Expect, Fuzz, done},
};

pub(crate) struct Manager {
    /// What the names of this process's buffers begin with.
    pub(crate) prefix: String,
    /// edu's name on the PCI bus.
    pub(crate) parent: Option<String>,
    /// Buffers that are there by text alone, and their sizes.
    made: BTreeMap<String, u64>,
    pub(crate) held: BTreeMap<String, File>,
    kept: Option<File>,
    pending: Pending,
    /// Since the last write, nothing of the answer was read.
    unread: bool,
}

impl Manager {
    pub(crate) fn new(id: u64) -> Self {
        let edu = |entry: fs::DirEntry| entry.file_name().into_string().ok();
        let devices = fs::read_dir("/sys/bus/pci/drivers/uio_pci_generic");
        let mut names = devices.into_iter().flatten().flatten().filter_map(edu);
        Self {
            prefix: format!("fz{id}"),
            parent: names.find(|name| name.contains(':')),
            made: BTreeMap::new(),
            held: BTreeMap::new(),
            kept: None,
            pending: Pending::default(),
            unread: false,
        }
    }

    pub(crate) fn open_files(&self) -> usize {
        self.held.len() + usize::from(self.kept.is_some())
    }

    pub(crate) fn some_made(&self, random: &mut Random) -> Option<String> {
        self.made.keys().nth(random.index(self.made.len())).cloned()
    }
}

impl Fuzz {
    /// To the kept file, or to one that is opened for it.
    pub(crate) fn text(&mut self, texts: &[Vec<u8>], kept: bool) -> Result<Outcome> {
        let open = || {
            let file = File::options().read(true).write(true).open(manager::PATH);
            file.context("the manager")
        };
        if kept && self.manager.kept.is_none() {
            self.manager.kept = Some(open()?);
            self.manager.pending = Pending::default();
            self.manager.unread = false;
        }
        let mut own = if kept { None } else { Some(open()?) };
        let mut pending = if kept { self.manager.pending.clone() } else { Pending::default() };
        let mut found = done();
        for text in texts {
            let mut made = self.manager.made.clone();
            let mut after = pending.clone();
            let Ok(expected) = self.expect_text(text, &mut after, &mut made) else { break };
            let file = own.as_mut().or(self.manager.kept.as_mut()).context("no file")?;
            found = match file.write(text) {
                Ok(count) => Ok(count),
                Err(error) => Err(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
            };
            self.check(Expect::Is(expected), found)
                .with_context(|| format!("{:?}", String::from_utf8_lossy(text)))?;
            self.made_is_there(&made)?;
            self.manager.made = made;
            pending = after;
            if !kept {
                continue;
            }
            // What is refused leaves the position where it was.
            if let (Err(_), Some(file)) = (found, self.manager.kept.as_mut()) {
                file.rewind()?;
            }
            self.manager.unread = true;
            self.manager.pending = pending.clone();
        }
        Ok(found)
    }

    /// What a text made is there, what it deleted is not, and the rest stayed.
    fn made_is_there(&self, made: &BTreeMap<String, u64>) -> Result<()> {
        for (name, size) in made {
            let found = fs::read_to_string(format!("{CLASS}/{name}/size"));
            let found = found.with_context(|| name.clone())?;
            ensure!(found == format!("{size}\n"), "{name} has {found:?} of {size} bytes");
        }
        for name in self.manager.made.keys().filter(|name| !made.contains_key(*name)) {
            ensure!(!fs::exists(format!("{CLASS}/{name}"))?, "{name} is still there");
        }
        Ok(())
    }

    /// The answer of the last list, read in pieces to its end.
    pub(crate) fn read_manager(&mut self, piece: usize) -> Result<Outcome> {
        let Some(file) = self.manager.kept.as_mut() else { return Ok(done()) };
        let (mut all, mut bytes) = (Vec::new(), vec![0; piece]);
        loop {
            let count = file.read(&mut bytes).context("the answer")?;
            if count == 0 {
                break;
            }
            all.extend_from_slice(&bytes[..count]);
        }
        let text = String::from_utf8(all)?;
        let expected = self.manager.pending.answer.as_ref().filter(|_| self.manager.unread);
        self.manager.unread = false;
        let mut found = BTreeMap::new();
        for line in text.lines().filter(|line| line.starts_with(&self.manager.prefix)) {
            let (name, size) = line.split_once(' ').context("a line without a size")?;
            found.insert(name.to_owned(), size.parse()?);
        }
        let empty = BTreeMap::new();
        let expected = expected.unwrap_or(&empty);
        ensure!(&found == expected, "the list is {found:?}, not {expected:?}");
        Ok(done())
    }

    pub(crate) fn close_manager(&mut self) -> Outcome {
        self.manager.kept = None;
        done()
    }

    /// Opens one of the made buffers, which is then busy, or closes it.
    pub(crate) fn hold_made(&mut self, name: &str) -> Result<Outcome> {
        if self.manager.held.remove(name).is_none() && self.manager.made.contains_key(name) {
            let file = File::open(format!("/dev/{name}")).with_context(|| name.to_owned())?;
            self.manager.held.insert(name.to_owned(), file);
        }
        Ok(done())
    }

    pub(crate) fn end_manager(&mut self) -> Result<()> {
        self.manager.kept = None;
        self.manager.held.clear();
        for name in std::mem::take(&mut self.manager.made).into_keys() {
            admin::command(format!("delete {name}\n").as_bytes()).with_context(|| name.clone())?;
        }
        Ok(())
    }
}
