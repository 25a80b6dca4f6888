//! The small text files that describe devices.

use std::{fs, io, path::Path};

/// Reads a line.
pub(crate) fn line(path: &Path) -> io::Result<String> {
    Ok(fs::read_to_string(path)?.trim_end().to_owned())
}

/// Reads a number, decimal or hexadecimal after `0x`.
pub(crate) fn number(path: &Path) -> io::Result<u64> {
    let text = line(path)?;
    let number = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    number.map_err(|_| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{} is {text:?}, not a number", path.display()),
        )
    })
}

/// The names in a directory, sorted; none if it is not there.
pub(crate) fn names(dir: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = entries
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<io::Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}
