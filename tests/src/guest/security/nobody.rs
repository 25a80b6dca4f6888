//! A user who has one device file and nothing else tries everything.

use std::{
    fs::{self, File},
    io::ErrorKind,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::{
            fs::{FileExt, MetadataExt},
            process::CommandExt,
        },
    },
    path::Path,
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, ensure};
use rustix::{fs::OFlags, io::Errno, mm::MapFlags};
use udmabuf::Buffer;
use udmabuf_sys::{
    abi::{self, SyncArgs, SyncRange},
    ioctl, manager,
};

use super::{Given, PAGE, directories, each_file, look};
use crate::{
    Pair,
    map::{map_at, map_with},
    module::{attribute, open},
    raw,
};

const NOBODY: u32 = 65534;
/// What the neighbour's memory is full of.
const PATTERN: u8 = 0xc5;

/// As root: `name` is given to nobody; `other`, made next to it, is claimed by
/// this process, and full of a pattern.
pub(super) fn tries([name, other]: Pair) -> Result<String> {
    let mut neighbour = Buffer::open(other)?;
    neighbour.as_mut_slice().fill(PATTERN);
    let settings = || ["sync_mode", "sync_owner"].map(|file| attribute(other, file));
    let before = settings().into_iter().collect::<Result<Vec<_>>>()?;

    let given = Given::to(name, NOBODY)?;
    // Permitted, and claimed by another: that alone keeps it out.
    let also_given = Given::to(other, NOBODY)?;
    let run = |what: &str| -> Result<String> {
        let output = Command::new("/proc/self/exe")
            .args(["nobody", &format!("{what}:{name}:{other}")])
            .uid(NOBODY)
            .gid(NOBODY)
            .output()?;
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        ensure!(output.status.success(), "{what}: {}: {said}", output.status);
        Ok(said)
    };
    run("claimed")?;
    drop(also_given);
    let said = run("everything")?;
    drop(given);

    ensure!(neighbour.as_slice().iter().all(|&byte| byte == PATTERN), "the neighbour changed");
    let after = settings().into_iter().collect::<Result<Vec<_>>>()?;
    ensure!(after == before, "the neighbour's settings: {before:?}, {after:?}");
    Ok(said)
}

/// As nobody.
pub(crate) fn report(what: &str) -> ExitCode {
    let words: Vec<_> = what.split(':').collect();
    let result = match words[..] {
        ["claimed", _, other] => claimed(other),
        ["everything", name, other] => everything(name, other),
        _ => Err(anyhow::anyhow!("{what:?}")),
    };
    match result {
        Ok(said) => println!("{said}"),
        Err(error) => {
            println!("{error:#}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn claimed(other: &str) -> Result<String> {
    for flags in [OFlags::RDONLY, OFlags::WRONLY, OFlags::RDWR, OFlags::RDWR | OFlags::SYNC] {
        let opened =
            rustix::fs::open(format!("/dev/{other}"), flags, rustix::fs::Mode::empty()).err();
        ensure!(opened == Some(Errno::BUSY), "opening a claimed buffer, {flags:?}: {opened:?}");
    }
    Ok("busy".into())
}

fn denied(path: &Path, write: bool) -> Result<()> {
    let opened = File::options().read(!write).write(write).open(path);
    let error = opened.err().map(|error| error.kind());
    ensure!(error == Some(ErrorKind::PermissionDenied), "{}: {error:?}", path.display());
    Ok(())
}

fn everything(name: &str, other: &str) -> Result<String> {
    ensure!(rustix::process::geteuid().as_raw() == NOBODY, "not nobody");
    denied(Path::new(&format!("/dev/{other}")), false)?;
    for write in [false, true] {
        denied(Path::new(manager::PATH), write)?;
    }
    let mut files = 0;
    for directory in directories()? {
        each_file(&directory, &mut |path| {
            files += 1;
            denied(path, true)
        })?;
    }

    let file = open(name)?;
    let fd = file.as_fd();
    let size = ioctl::size(fd)?;
    let maps = maps_outside(&file, size)?;
    let requests = requests_outside(fd, size)?;
    let pointers = kernel_pointers(fd)?;
    bytes_outside(&file, size)?;
    nodes(name)?;
    // Its own buffer it may have.
    ioctl::claim(fd, false).context("claim")?;
    look(name).map(drop).err().context("another open file beside a claim")?;
    Ok(format!(
        "{files} attributes, {maps} mappings, {requests} requests and {pointers} pointers refused"
    ))
}

/// Mappings of anything but the buffer.
fn maps_outside(file: &File, size: u64) -> Result<u32> {
    let pages = usize::try_from(size)?.div_ceil(PAGE);
    let mut refused = 0;
    let mut outside = |page: u64, count: usize| -> Result<()> {
        let map = map_at(file, page * PAGE as u64, count * PAGE, MapFlags::SHARED);
        ensure!(map.is_err(), "mapped {count} pages from page {page:#x}");
        refused += 1;
        Ok(())
    };
    for start in 0..pages + 4 {
        // The same request, inside.
        if start < pages {
            map_at(file, (start * PAGE) as u64, (pages - start) * PAGE, MapFlags::SHARED)?;
        }
        for count in pages.saturating_sub(start) + 1..pages + 4 {
            outside(start as u64, count)?;
        }
    }
    // Offsets of 32 and 64 bits that wrap, and the first frame of memory.
    for page in [1 << 19, 1 << 20, 1 << 31, 1 << 32, 1 << 44, (1 << 51) - 1] {
        for count in [1, pages] {
            outside(page, count)?;
        }
    }
    for flags in [MapFlags::SHARED, MapFlags::SHARED | MapFlags::POPULATE] {
        let mut map = map_with(file, pages * PAGE, flags)?;
        for grown in [pages + 1, 2 * pages, 1 << 18] {
            ensure!(map.grow(grown * PAGE).is_err(), "{flags:?}: grown to {grown} pages");
            refused += 1;
        }
    }
    Ok(refused)
}

/// Syncs, exports and claims of anything but the buffer.
fn requests_outside(fd: BorrowedFd<'_>, size: u64) -> Result<u32> {
    let end = size.next_multiple_of(PAGE as u64);
    let edges = [0, 1, 4096, end - 4096, end - 1, end, end + 1, end + 4096, 1 << 32, 1 << 63];
    let numbers: Vec<_> = edges.iter().flat_map(|&edge| [edge, edge.wrapping_neg()]).collect();
    let mut refused = 0;
    for &offset in &numbers {
        for &len in &numbers {
            if offset.checked_add(len).is_some_and(|last| last <= end) {
                continue;
            }
            let range = |command| SyncRange { offset, size: len, command, direction: 0 };
            let args = |flags| SyncArgs { flags, size: len, offset };
            for (what, result) in [
                ("batch", ioctl::sync_batch(fd, &[range(3)])),
                ("batch", ioctl::sync_batch(fd, &[range(1)])),
                ("sync", ioctl::set_sync_settings(fd, args(abi::SYNC_FOR_DEVICE))),
                ("sync", ioctl::set_sync_settings(fd, args(abi::SYNC_FOR_CPU))),
                ("export", ioctl::export(fd, OFlags::RDWR, offset, len).map(drop)),
                ("claim", ioctl::claim_range(fd, offset, len, false)),
            ] {
                // A length of 0 leaves the stored one, which is inside.
                if what == "sync" && len == 0 && offset <= end {
                    continue;
                }
                ensure!(result == Err(Errno::INVAL), "{what} {len:#x} at {offset:#x}: {result:?}");
                refused += 1;
            }
        }
    }
    ensure!(ioctl::sync_owner(fd)? == abi::OWNER_CPU, "something was handed over");
    Ok(refused)
}

/// Linear maps and images of arm64 and x86, and the end.
#[cfg(target_pointer_width = "64")]
const KERNEL_ADDRESSES: &[usize] =
    &[0xffff_0000_0000_0000, 0xffff_8000_0800_0000, 0xffff_8880_0000_0000, usize::MAX - 63];
#[cfg(target_pointer_width = "32")]
const KERNEL_ADDRESSES: &[usize] = &[0xc000_8000, 0xe000_0000, usize::MAX - 63];

/// The kernel's own memory as the argument of each command.
fn kernel_pointers(fd: BorrowedFd<'_>) -> Result<u32> {
    let mut refused = 0;
    for &address in KERNEL_ADDRESSES {
        for opcode in raw::COMMANDS {
            let result = raw::call_kernel(fd, opcode, address);
            ensure!(result == Err(Errno::FAULT), "{opcode:#x} at {address:#x}: {result:?}");
            refused += 1;
        }
        let mut batch = [0; 24];
        batch[..8].copy_from_slice(&(address as u64).to_ne_bytes());
        batch[8] = 1;
        let result = raw::call(fd, abi::SYNC_BATCH, &mut batch);
        ensure!(result == Err(Errno::FAULT), "a batch at {address:#x}: {result:?}");
        refused += 1;
    }
    Ok(refused)
}

fn bytes_outside(file: &File, size: u64) -> Result<()> {
    for offset in [size, size + 1, size + 4096, 1 << 40, i64::MAX as u64] {
        let read = file.read_at(&mut [0; 64], offset);
        ensure!(!matches!(read, Ok(1..)), "read {read:?} at {offset:#x}");
        let written = file.write_at(&[1; 64], offset);
        ensure!(!matches!(written, Ok(1..)), "wrote {written:?} at {offset:#x}");
    }
    let across = file.read_at(&mut [0; 64], size - 32)?;
    ensure!(across == 32, "read {across} of the last 32 bytes");
    Ok(())
}

/// Nobody can make a device node of the buffer for others.
fn nodes(name: &str) -> Result<()> {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    let number = fs::metadata(format!("/dev/{name}"))?.rdev();
    let made = mknodat(CWD, "/tmp/node", FileType::CharacterDevice, Mode::RWXU, number);
    ensure!(made == Err(Errno::PERM), "made a device node: {made:?}");
    Ok(())
}
