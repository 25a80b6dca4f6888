//! The class directory: which buffers there are, and their attributes.

use std::{ffi::CStr, mem::MaybeUninit};

use rustix::{
    fs::{CWD, Mode, OFlags, RawDir, openat},
    io::{Errno, Result, read, retry_on_intr},
};

/// Where the buffers are listed: this module and the existing driver from 2.0
/// on, then the driver's predecessor.
pub const CLASSES: [&CStr; 2] = [c"/sys/class/u-dma-buf", c"/sys/class/udmabuf"];

/// The longest attribute line that is read, in bytes.
pub const ATTRIBUTE_MAX: usize = 64;

/// Calls `visit` with the name of each buffer and says whether a driver is
/// loaded at all.
///
/// ```
/// use udmabuf_sys::sysfs;
///
/// let loaded = sysfs::for_each_device(|name| {
///     if let Ok(bytes) = sysfs::attribute(name, "size", sysfs::number) {
///         println!("{name}: {bytes} bytes");
///     }
/// })?;
/// println!("a driver is loaded: {loaded}");
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// What opening or reading the directory gives, except that a missing one is
/// no error.
pub fn for_each_device(mut visit: impl FnMut(&str)) -> Result<bool> {
    let mut loaded = false;
    for class in CLASSES {
        let dir = match openat(CWD, class, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(dir) => dir,
            Err(Errno::NOENT) => continue,
            Err(error) => return Err(error),
        };
        loaded = true;
        let mut space = [MaybeUninit::uninit(); 2048];
        let mut entries = RawDir::new(dir, &mut space);
        while let Some(entry) = entries.next() {
            match entry?.file_name().to_str() {
                Ok("." | "..") | Err(_) => {}
                Ok(name) => visit(name),
            }
        }
    }
    Ok(loaded)
}

/// Reads one attribute of buffer `name` and parses it.
///
/// # Errors
/// `NOENT` if there is no such buffer or attribute, `INVAL` if `parse` does
/// not understand it.
pub fn attribute<T>(name: &str, attribute: &str, parse: impl Fn(&[u8]) -> Option<T>) -> Result<T> {
    for class in CLASSES {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = openat(CWD, class, flags | OFlags::DIRECTORY, Mode::empty())
            .and_then(|dir| openat(dir, name, flags | OFlags::DIRECTORY, Mode::empty()))
            .and_then(|dir| openat(dir, attribute, flags, Mode::empty()));
        let file = match file {
            Ok(file) => file,
            Err(Errno::NOENT) => continue,
            Err(error) => return Err(error),
        };
        let mut text = [0; ATTRIBUTE_MAX];
        let mut len = 0;
        // A read may give less than the line.
        while let Some(rest @ [_, ..]) = text.get_mut(len..) {
            let more = retry_on_intr(|| read(&file, &mut *rest))?;
            len += more;
            if more == 0 || text.get(..len).is_some_and(|text| text.ends_with(b"\n")) {
                break;
            }
        }
        return text.get(..len).and_then(parse).ok_or(Errno::INVAL);
    }
    Err(Errno::NOENT)
}

/// A number as the module prints it: decimal, or hexadecimal after `0x`, with
/// at most one newline at the end.
///
/// ```
/// use udmabuf_sys::sysfs::number;
///
/// assert_eq!(number(b"0x000000005c000000\n"), Some(0x5c00_0000));
/// assert_eq!(number(b"4 KiB"), None);
/// ```
#[must_use]
pub fn number(text: &[u8]) -> Option<u64> {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    let (digits, radix) = match text.strip_prefix(b"0x") {
        Some(hex) => (hex, 16),
        None => (text, 10),
    };
    if !digits.first()?.is_ascii_hexdigit() {
        return None; // `from_str_radix` would take a sign
    }
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, radix).ok()
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn numbers_as_the_module_prints_them() {
        assert_eq!(number(b"1048576\n"), Some(1_048_576));
        assert_eq!(number(b"0x000000005c000000\n"), Some(0x5c00_0000));
        assert_eq!(number(b"18446744073709551615"), Some(u64::MAX));
        for wrong in
            ["", "\n", "0x", "+1", "-1", "0x-1", "1\n\n", " 1", "1 ", "12a", "18446744073709551616"]
        {
            assert_eq!(number(wrong.as_bytes()), None, "{wrong:?}");
        }
    }
}
