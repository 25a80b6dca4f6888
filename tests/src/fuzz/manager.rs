//! The manager's file, kept open, and what text does to it: the module's grammar once
//! more, from its documentation. Commands come in pieces and several at a time, right
//! and wrong; the model knows which buffers there are afterwards, and no others.

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
    random::Random,
    raw::Outcome,
    run::{Expect, Fuzz, done},
};

const COMMAND_MAX: usize = 1024;
const NAME_MAX: usize = 63;
/// Larger ones are not made here, up to what no machine has.
const SIZE_MAX: u64 = 65536;
const NO_MACHINE_HAS: u64 = 1 << 40;

/// What an open manager file has of commands, and for its reader.
#[derive(Clone, Default)]
struct Pending {
    command: Vec<u8>,
    answer: Option<BTreeMap<String, u64>>,
}

pub(crate) struct Manager {
    /// What the names of this process's buffers begin with.
    prefix: String,
    /// edu's name on the PCI bus.
    parent: Option<String>,
    /// Buffers that are there by text alone, and their sizes.
    made: BTreeMap<String, u64>,
    held: BTreeMap<String, File>,
    kept: Option<File>,
    pending: Pending,
    /// Since the last write, nothing of the answer was read.
    unread: bool,
}

/// One text would do what the model has no place for; nothing of it is written.
struct Strange;

enum Fails {
    With(Errno),
    Strange,
}

impl From<Errno> for Fails {
    fn from(error: Errno) -> Self {
        Self::With(error)
    }
}

fn bad<T>() -> Result<T, Fails> {
    Err(Errno::INVAL.into())
}

/// What stands behind `key=`.
fn option<'a>(word: &'a [u8], key: &str) -> Option<&'a [u8]> {
    word.strip_prefix(key.as_bytes())?.strip_prefix(b"=")
}

fn number(word: &[u8]) -> Result<u64, Fails> {
    match std::str::from_utf8(word).ok().map(admin::number) {
        Some(Ok(number)) => Ok(number),
        _ => bad(),
    }
}

fn name_is_good(name: &[u8]) -> bool {
    name.len() <= NAME_MAX
        && name != b"."
        && !name.windows(2).any(|two| two == b"..")
        && name.iter().all(|&byte| byte.is_ascii_graphic() && byte != b'/' && byte != b'!')
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

    fn names(&self) -> [String; 4] {
        let longest = "n".repeat(NAME_MAX - self.prefix.len());
        ["t0", "t1", "t=2%", longest.as_str()].map(|rest| format!("{}{rest}", self.prefix))
    }

    /// Texts for one file, one write each.
    pub(crate) fn texts(&self, random: &mut Random) -> Vec<Vec<u8>> {
        let mut text = Vec::new();
        if random.one_in(12) {
            text.extend((0..random.index(1100)).map(|_| random.byte()));
        } else {
            for _ in 0..random.of(&[1, 1, 1, 2, 3, 5]) {
                text.extend(self.command(random).into_bytes());
                text.extend((0..1 + random.index(2)).map(|_| b"\n;\0"[random.index(3)]));
            }
            // Unfinished, for now.
            text.truncate(text.len() - if random.one_in(6) { random.index(8) } else { 0 });
        }
        if random.one_in(5) {
            // No digit: the sizes stay those of the grammar.
            let byte = b" \t\r\n;\0=+-/!.,%xz\x7f\xff"[random.index(18)];
            let at = random.index(text.len() + 1);
            match text.get_mut(at) {
                Some(place) if random.one_in(2) => *place = byte,
                Some(_) if random.one_in(2) => drop(text.remove(at)),
                _ => text.insert(at, byte),
            }
        }
        let mut texts = Vec::new();
        while random.one_in(2) && text.len() > 1 {
            let rest = text.split_off(1 + random.index(text.len() - 1));
            texts.push(std::mem::replace(&mut text, rest));
        }
        texts.push(text);
        texts.retain(|text| !text.is_empty());
        texts
    }

    fn command(&self, random: &mut Random) -> String {
        let blank = |random: &mut Random| random.of(&[" ", " ", " ", "  ", "\t", " \r "]);
        let some = self.names();
        let wrong =
            ["", ".", "a..b", "../x", "a/b", "a!b", "nobody", &"n".repeat(NAME_MAX + 1), "\u{e9}"];
        let own = &some[random.index(some.len())];
        let name = if random.one_in(8) { wrong[random.index(wrong.len())] } else { own };
        let mut words = match random.below(16) {
            0 => vec!["list".to_owned()],
            1 => {
                let wrong =
                    ["lists", "Create", "create", "delete", "list all", "create=x", "\u{7f}"];
                vec![wrong[random.index(wrong.len())].to_owned()]
            }
            2..7 => vec!["delete".to_owned(), name.to_owned()],
            _ => self.create(random, name),
        };
        if random.one_in(24) {
            words.push("more".to_owned());
        }
        let mut text = String::new();
        for word in words {
            text += &word;
            text += blank(random);
        }
        // Near the longest that there is.
        if random.one_in(16) {
            let len = COMMAND_MAX - 3 + random.index(6);
            text += &" ".repeat(len.saturating_sub(text.len()));
        }
        text
    }

    fn create(&self, random: &mut Random, name: &str) -> Vec<String> {
        let mut words = vec!["create".to_owned(), name.to_owned()];
        let size = 1 + random.below(SIZE_MAX);
        let size = match random.below(16) {
            0 => format!("{size:#x}"),
            1 => format!("0{size:o}"),
            2 => format!("+{size}"),
            3 => ["0", "-1", "ten", "08", "4096k", "0x", "", "99999999999999999999"]
                [random.index(8)]
            .to_owned(),
            4 => format!("{}", NO_MACHINE_HAS << random.below(24)),
            _ => format!("{size}"),
        };
        let mut options = Vec::new();
        match random.below(8) {
            0 => options.push(format!("size={size}")),
            1 => {
                words.push("123".to_owned());
                options.push(format!("size={size}"));
            }
            2 if random.one_in(3) => {}
            _ => words.push(size),
        }
        if random.one_in(4) {
            let bits = random.of(&["32", "40", "64", "0x40", "0", "11", "65", "x", "-1", ""]);
            options.push(format!("dma-mask={bits}"));
        } else if random.one_in(4) {
            let parent = self.parent.as_deref().unwrap_or("0000:ff:1f.7");
            let (bus, device) = match random.below(8) {
                0 => (Some("usb"), Some(parent)),
                1 => (Some("pci"), None),
                2 => (Some("platform"), Some("nobody")),
                3 => (None, Some(parent)),
                4 => (Some("pci"), Some("")),
                _ => (Some("pci"), Some(parent)),
            };
            options.extend(bus.map(|bus| format!("bus={bus}")));
            options.extend(device.map(|device| format!("device={device}")));
        }
        if random.one_in(2) {
            let quirk = random.of(&["on", "off", "auto", "page", "page", "", "o"]);
            options.push(format!("quirk-mmap-{quirk}"));
        }
        if random.one_in(16) {
            let other = ["nonsense", "size", "sizes=4096", "=", "bus=", "zero-between-users"];
            options.push(other[random.index(other.len())].to_owned());
        }
        for last in (1..options.len()).rev() {
            options.swap(last, random.index(last + 1));
        }
        words.extend(options);
        words
    }

    pub(crate) fn some_made(&self, random: &mut Random) -> Option<String> {
        self.made.keys().nth(random.index(self.made.len())).cloned()
    }
}

impl Fuzz {
    /// One command of a file, done to `made`.
    fn expect_command(
        &self,
        pending: &mut Pending,
        made: &mut BTreeMap<String, u64>,
    ) -> Result<(), Fails> {
        let command = std::mem::take(&mut pending.command);
        let blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r');
        let mut words = command.split(blank).filter(|word| !word.is_empty());
        match words.next() {
            None => Ok(()),
            Some(b"create") => {
                let (name, size) = self.expect_create(words, made)?;
                made.insert(name, size);
                Ok(())
            }
            Some(b"delete") => {
                let (Some(name), None) = (words.next(), words.next()) else { return bad() };
                let Ok(name) = std::str::from_utf8(name) else { return bad() };
                if self.manager.held.contains_key(name) {
                    return Err(Errno::BUSY.into());
                }
                match made.remove(name) {
                    Some(_) => Ok(()),
                    // Of the model, or another process's.
                    None if name.starts_with("fz") => Err(Fails::Strange),
                    None => bad(),
                }
            }
            Some(b"list") if words.next().is_none() => {
                pending.answer = Some(self.listed(made));
                Ok(())
            }
            Some(_) => bad(),
        }
    }

    /// All that the manager made for this process.
    fn listed(&self, made: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
        let kinds = self.model.kinds.iter().enumerate();
        let kinds = kinds.filter(|(at, kind)| kind.create.is_some() && !self.deleted(*at));
        let kinds = kinds.map(|(_, kind)| (kind.name.clone(), kind.size));
        let guards = self.guards.iter().map(|guard| (guard.name().to_owned(), guard.size()));
        made.iter().map(|(name, &size)| (name.clone(), size)).chain(kinds).chain(guards).collect()
    }

    fn expect_create<'a>(
        &self,
        words: impl Iterator<Item = &'a [u8]>,
        made: &BTreeMap<String, u64>,
    ) -> Result<(String, u64), Fails> {
        let mut words = words.peekable();
        let Some(name) = words.next() else { return bad() };
        let mut size = 0;
        if let Some(word) = words.next_if(|word| word[0].is_ascii_digit() || word[0] == b'+') {
            size = number(word)?;
        }
        let (mut mask, mut bus, mut device) = (None, None, None);
        for word in words {
            if let Some(value) = option(word, "size") {
                size = number(value)?;
            } else if let Some(value) = option(word, "dma-mask") {
                mask = match number(value)? {
                    1..=0xffff_ffff => Some(number(value)?),
                    _ => return bad(),
                };
            } else if let Some(value) = option(word, "bus") {
                if !matches!(value, b"platform" | b"pci") {
                    return bad();
                }
                bus = Some(value);
            } else if let Some(value) = option(word, "device") {
                if value.is_empty() {
                    return bad();
                }
                device = Some(value);
            } else {
                let quirk = word.strip_prefix(b"quirk-mmap-");
                if !quirk.is_some_and(|quirk| matches!(quirk, b"on" | b"off" | b"auto" | b"page")) {
                    return bad();
                }
            }
        }
        if size == 0 || (bus.is_some() && device.is_none()) {
            return bad();
        }
        // The grammar is right; now what it asks for.
        if size > u64::MAX - 4096 {
            return Err(Errno::NOMEM.into());
        }
        if mask.is_some_and(|bits| !(12..=64).contains(&bits)) || !name_is_good(name) {
            return bad();
        }
        let parent = self.manager.parent.as_deref().map(str::as_bytes);
        if device.is_some() && (bus != Some(b"pci") || device != parent) {
            return bad();
        }
        // A device's own mask is raised, and a narrow one may be impossible.
        if mask.is_some_and(|bits| device.is_some() || !matches!(bits, 32 | 40 | 64)) {
            return Err(Fails::Strange);
        }
        match size {
            0..=SIZE_MAX => {}
            NO_MACHINE_HAS.. => return Err(Errno::NOMEM.into()),
            _ => return Err(Fails::Strange),
        }
        let Ok(name) = String::from_utf8(name.to_vec()) else { return bad() };
        if made.contains_key(&name) {
            return Err(Errno::EXIST.into());
        }
        // A name of the model's is free while its buffer is unbound.
        if !name.starts_with(&self.manager.prefix) || self.listed(made).contains_key(&name) {
            return Err(Fails::Strange);
        }
        Ok((name, size))
    }

    /// What a write is answered, and what there is afterwards.
    fn expect_text(
        &self,
        text: &[u8],
        pending: &mut Pending,
        made: &mut BTreeMap<String, u64>,
    ) -> Result<Outcome, Strange> {
        for &byte in text {
            let result = match byte {
                0 | b'\n' | b';' => self.expect_command(pending, made),
                _ if pending.command.len() == COMMAND_MAX => Err(Errno::NOSPC.into()),
                _ => {
                    pending.command.push(byte);
                    Ok(())
                }
            };
            match result {
                Ok(()) => {}
                Err(Fails::Strange) => return Err(Strange),
                Err(Fails::With(error)) => {
                    pending.command.clear();
                    return Ok(Err(error));
                }
            }
        }
        Ok(Ok(text.len()))
    }

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
