//! What the device file of a buffer gives, and what it does not: the statements
//! of HARDENING.md, "Who may do what".

mod charged;
mod nobody;

use std::{
    fs::{self, File},
    io::Read,
    os::{
        fd::AsFd,
        unix::fs::{FileExt, MetadataExt, PermissionsExt, chown},
    },
    path::Path,
};

use anyhow::{Context, Result, bail, ensure};
pub(crate) use charged::report as report_charges;
pub(crate) use nobody::report;
use rustix::{io::Errno, mm::MapFlags};
use udmabuf::Buffer;
use udmabuf_sys::{abi, ioctl, manager};

use super::{
    Pair, Tests,
    manager::Created,
    map::{Map, map_at},
    module::{CLASS, log, open},
};

const PAGE: usize = 4096;

pub(crate) fn tests(run: &mut Tests, board: &str, [name, other]: Pair) {
    run.test("security: files belong to root", || belongs_to_root(name));
    run.test("security: a mapping is the buffer", || is_the_buffer(name));
    run.test("security: nobody with a device file", || nobody::tries([name, other]));
    run.test("security: claims are bounded", bounded_claims);
    // Tens of thousands of files and mappings: once is enough.
    if board == "arm64" {
        run.test("security: memory is charged", charged::all);
    }
    run.test("security: no kernel addresses", no_addresses);
}

/// Calls `visit` with every file below a directory, not following links.
fn each_file(directory: &Path, visit: &mut dyn FnMut(&Path) -> Result<()>) -> Result<()> {
    for entry in fs::read_dir(directory).with_context(|| directory.display().to_string())? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            each_file(&entry.path(), visit)?;
        } else if kind.is_file() {
            visit(&entry.path())?;
        }
    }
    Ok(())
}

/// The directories of all buffers.
fn directories() -> Result<Vec<std::path::PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(CLASS)? {
        found.push(fs::canonicalize(entry?.path())?);
    }
    ensure!(found.len() >= 2, "{found:?}");
    Ok(found)
}

fn belongs_to_root(name: &str) -> Result<String> {
    for path in [format!("/dev/{name}"), manager::PATH.into()] {
        let found = fs::metadata(&path)?;
        let (mode, user, group) = (found.mode() & 0o7777, found.uid(), found.gid());
        ensure!((mode, user, group) == (0o600, 0, 0), "{path}: {mode:o} of {user}:{group}");
    }
    let mut files = 0;
    for directory in directories()? {
        each_file(&directory, &mut |path| {
            let found = fs::metadata(path)?;
            let mode = found.permissions().mode();
            ensure!(mode & 0o002 == 0 && found.uid() == 0, "{}: {mode:o}", path.display());
            files += 1;
            Ok(())
        })?;
    }
    Ok(format!("two devices and {files} attributes"))
}

/// Page by page, what is mapped at any offset is what the kernel reads there.
fn is_the_buffer(name: &str) -> Result<String> {
    let file = open(name)?;
    let size = usize::try_from(ioctl::size(file.as_fd())?)?;
    for page in 0..size / PAGE {
        file.write_all_at(&(page as u64 + 1).to_le_bytes(), (page * PAGE) as u64)?;
    }
    for offset in (0..size).step_by(PAGE) {
        let map = map_at(&file, offset as u64, size - offset, MapFlags::SHARED)?;
        for page in (0..map.len()).step_by(PAGE) {
            let found = u64::from_le_bytes(std::array::from_fn(|at| map.get(page + at)));
            let expected = ((offset + page) / PAGE) as u64 + 1;
            ensure!(found == expected, "page {page:#x} of a mapping at {offset:#x} is {found}");
        }
    }
    Ok(format!("{} pages from each offset", size / PAGE))
}

/// A claim costs the kernel memory, and time to whoever looks for one.
fn bounded_claims() -> Result<String> {
    const PAGES: u64 = 128;
    let buffer = Created::new("claims", PAGES * PAGE as u64, "")?;
    let file = open(buffer.name)?;
    let claim = |(page, count): (u64, u64)| {
        ioctl::claim_range(file.as_fd(), page * 4096, count * 4096, false)
    };
    // None is inside one before it, so each is a claim of its own.
    let mut ranges =
        (1..PAGES).flat_map(|count| (0..=PAGES - count).map(move |page| (page, count)));
    let mut made = 0;
    let refused = loop {
        let Some(range) = ranges.next() else { bail!("no end of claims") };
        match claim(range) {
            Ok(()) => made += 1,
            Err(error) => break error,
        }
    };
    ensure!(refused == Errno::NOSPC && made == abi::CLAIM_RANGES_MAX, "{made}, then {refused}");
    claim((0, 1)).context("what is claimed already")?;
    drop(file);
    let file = open(buffer.name)?;
    ioctl::claim_range(file.as_fd(), 0, 4096, false).context("after the last user left")?;
    Ok(format!("{made} ranges of a buffer"))
}

/// Where the kernel's own addresses begin: the upper half of 64 bits, less what
/// is no address but a small negative number; 3 GiB on 32-bit ARM and x86.
fn is_kernel_address(digits: &str) -> bool {
    let Ok(value) = u64::from_str_radix(digits, 16) else { return false };
    if usize::BITS == 64 {
        digits.len() == 16 && (0xff00_0000_0000_0000..0xffff_ffff_ffff_0000).contains(&value)
    } else {
        digits.len() == 8 && (0xc000_0000..0xffff_0000).contains(&value)
    }
}

fn kernel_address(text: &str) -> Option<&str> {
    text.split(|letter: char| !letter.is_ascii_hexdigit() && letter != 'x')
        .map(|word| word.rsplit('x').next().unwrap_or_default())
        .find(|digits| is_kernel_address(digits))
}

fn no_addresses() -> Result<String> {
    // What is looked for, from where it is.
    let mut symbols = String::new();
    File::open("/proc/kallsyms")?.take(1 << 16).read_to_string(&mut symbols)?;
    ensure!(kernel_address(&symbols).is_some(), "no address in /proc/kallsyms");

    let mut files = 0;
    let mut look = |path: &Path| -> Result<()> {
        // Some refuse to be read.
        let Ok(text) = fs::read(path) else { return Ok(()) };
        let text = String::from_utf8_lossy(&text);
        let found = kernel_address(&text);
        ensure!(found.is_none(), "{}: {found:?} in {text:?}", path.display());
        files += 1;
        Ok(())
    };
    for directory in directories()? {
        each_file(&directory, &mut look)?;
    }
    each_file(Path::new("/sys/module/u_dma_buf/parameters"), &mut look)?;
    // Of an open file, a claim and a mapping.
    let buffer = Buffer::open("udmabuf0")?;
    each_file(Path::new("/proc/self/fdinfo"), &mut look)?;
    drop(buffer);

    let log = log()?;
    let mut lines = 0;
    for line in log.lines().filter(|line| line.contains("u-dma-buf")) {
        let found = kernel_address(line);
        ensure!(found.is_none(), "{found:?} in the log: {line:?}");
        lines += 1;
    }
    ensure!(lines > 0, "nothing in the log");
    Ok(format!("{files} files, {lines} lines of the log"))
}

/// Gives a device file to a user, and back to root when dropped.
struct Given<'a>(&'a str);

impl<'a> Given<'a> {
    fn to(name: &'a str, user: u32) -> Result<Self> {
        chown(format!("/dev/{name}"), Some(user), Some(user))?;
        Ok(Self(name))
    }
}

impl Drop for Given<'_> {
    fn drop(&mut self) {
        let _ = chown(format!("/dev/{}", self.0), Some(0), Some(0));
    }
}

/// A mapping of all of a buffer, for looking at its bytes.
fn look(name: &str) -> Result<Map> {
    let file = open(name)?;
    let size = usize::try_from(ioctl::size(file.as_fd())?)?;
    Ok(Map::new(&file, size, MapFlags::empty())?)
}
