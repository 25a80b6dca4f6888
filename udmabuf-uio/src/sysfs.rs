//! The small text files that describe devices.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rustix::io::Errno;

/// Where the kernel shows its devices: elsewhere only in tests.
#[derive(Clone, Debug)]
pub(crate) struct Roots {
    pub(crate) sys: PathBuf,
    pub(crate) dev: PathBuf,
}

impl Roots {
    pub(crate) fn system() -> Self {
        Self { sys: "/sys".into(), dev: "/dev".into() }
    }
}

/// Reads a line.
pub(crate) fn line(path: &Path) -> io::Result<String> {
    Ok(fs::read_to_string(path)?.trim_end().to_owned())
}

/// What was read of a device, if it is there and makes sense: one may be removed at
/// any time.
///
/// # Errors
/// It is there, and cannot be read.
pub(crate) fn told<T>(read: io::Result<T>) -> io::Result<Option<T>> {
    use io::ErrorKind::{InvalidData, NotADirectory, NotFound};
    match read {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.kind(), NotFound | NotADirectory | InvalidData) => Ok(None),
        Err(error) if Errno::from_io_error(&error) == Some(Errno::NODEV) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads a number, decimal or hexadecimal after `0x`.
pub(crate) fn number(path: &Path) -> io::Result<u64> {
    let text = line(path)?;
    parse(&text).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{} is {text:?}, not a number", path.display()),
        )
    })
}

pub(crate) fn parse(text: &str) -> Option<u64> {
    let (digits, radix) = match text.strip_prefix("0x") {
        Some(digits) => (digits, 16),
        None => (text, 10),
    };
    // `from_str_radix` would take a sign.
    if digits.starts_with('+') { None } else { u64::from_str_radix(digits, radix).ok() }
}

/// The names in a directory, `uio2` before `uio10`; none if it is not there.
pub(crate) fn names(dir: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = entries
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<io::Result<Vec<_>>>()?;
    names.sort_by(|a, b| a.len().cmp(&b.len()).then_with(|| a.cmp(b)));
    Ok(names)
}

/// The entries of `dir` that are `prefix` and a number, with that number.
pub(crate) fn numbered(dir: &Path, prefix: &str) -> io::Result<Vec<(usize, PathBuf)>> {
    let number = |name: &String| {
        let digits = name.strip_prefix(prefix)?;
        digits.bytes().all(|byte| byte.is_ascii_digit()).then_some(digits)?.parse().ok()
    };
    let names = names(dir)?;
    Ok(names.iter().filter_map(|name| Some((number(name)?, dir.join(name)))).collect())
}
