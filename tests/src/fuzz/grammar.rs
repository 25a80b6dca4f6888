//! What a text does to the manager: the module's grammar once more, from its
//! documentation. The model knows which buffers there are afterwards, and no others.

use std::collections::BTreeMap;

use rustix::io::Errno;

use super::{admin, raw::Outcome, run::Fuzz};

pub(crate) const COMMAND_MAX: usize = 1024;
pub(crate) const NAME_MAX: usize = 63;
/// Larger ones are not made here, up to what no machine has.
pub(crate) const SIZE_MAX: u64 = 65536;
pub(crate) const NO_MACHINE_HAS: u64 = 1 << 40;

/// What an open manager file has of commands, and for its reader.
#[derive(Clone, Default)]
pub(crate) struct Pending {
    command: Vec<u8>,
    pub(crate) answer: Option<BTreeMap<String, u64>>,
}

/// One text would do what the model has no place for; nothing of it is written.
pub(crate) struct Strange;

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
    pub(crate) fn expect_text(
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
}
