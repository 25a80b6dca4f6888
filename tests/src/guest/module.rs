//! The kernel module, below the SDK: loading, attributes, ranges, mappings.

use std::{
    fs::{self, File},
    os::fd::{AsFd, BorrowedFd},
    process::Command,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
};

use anyhow::{Context, Result, bail, ensure};
use udmabuf::{Buffer, devices};
use udmabuf_sys::{abi::Direction, ioctl, map::Mapping, sysfs};

use super::Pair;

const MODULE: &str = "/modules/u-dma-buf.ko";
pub(crate) const CLASS: &str = "/sys/class/u-dma-buf";
/// Where there is no device tree, parameters make the buffers; where there is,
/// they make one more.
const PC_PARAMETERS: [&str; 2] = ["udmabuf0=65536", "udmabuf1=65536"];
const PARAMETERS: [&str; 1] = ["udmabuf7=8192"];

pub(crate) fn load(board: &str) -> Result<String> {
    let pc = board == "x86_64";
    busybox("insmod", [MODULE].iter().chain(if pc { &PC_PARAMETERS[..] } else { &PARAMETERS }))?;
    let devices = devices()?.context("loaded, but there is no class directory")?;
    let extra = devices.iter().find(|device| device.name == "udmabuf7");
    ensure!(pc || extra.is_some_and(|device| device.size == 8192), "no udmabuf7 in {devices:?}");
    ensure!(devices.len() >= 2, "{devices:?}");
    let names: Vec<_> = devices.iter().map(|device| device.name.as_str()).collect();
    Ok(names.join(", "))
}

/// Loading fails as a whole, also while somebody tries to open the buffer that
/// could be made: a file of a module that is then thrown away would crash.
pub(crate) fn failed_load() -> Result<String> {
    let done = AtomicBool::new(false);
    let (loaded, opened) = thread::scope(|scope| {
        let opener = scope.spawn(|| {
            let mut opened = None;
            while opened.is_none() && !done.load(Relaxed) {
                opened = File::open("/dev/udmabuf6").ok();
            }
            opened.is_some()
        });
        let loaded = busybox("insmod", &[MODULE, "udmabuf6=65536", "udmabuf7=1099511627776"]);
        done.store(true, Relaxed);
        (loaded, opener.join())
    });
    let Err(error) = loaded else { bail!("1 TiB of memory was had") };
    ensure!(!opened.unwrap_or(true), "a buffer was opened before loading failed");
    ensure!(devices()?.is_none(), "the class is still there");
    Ok(format!("{error:#}"))
}

pub(crate) fn unload(name: &str) -> Result<String> {
    let buffer = Buffer::open(name)?;
    ensure!(busybox("rmmod", &["u_dma_buf"]).is_err(), "unloaded under an open buffer");
    drop(buffer);
    busybox("rmmod", &["u_dma_buf"])?;
    ensure!(devices()?.is_none(), "the class is still there");
    ensure!(!fs::exists(format!("/dev/{name}"))?, "the device file is still there");
    Ok("refused while open, clean after".into())
}

pub(crate) fn busybox<'a>(
    applet: &str,
    arguments: impl IntoIterator<Item = &'a &'a str>,
) -> Result<()> {
    let output =
        Command::new(applet).args(arguments).output().with_context(|| applet.to_owned())?;
    ensure!(
        output.status.success(),
        "{applet}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

pub(crate) fn attribute(name: &str, file: &str) -> Result<String> {
    fs::read_to_string(format!("{CLASS}/{name}/{file}")).with_context(|| format!("{name}/{file}"))
}

pub(crate) fn open(name: &str) -> Result<File> {
    File::options().read(true).write(true).open(format!("/dev/{name}")).context("open")
}

const DRIVER: &str = "/sys/bus/platform/drivers/u-dma-buf";

/// Takes a buffer away as an administrator can; gives its platform device.
pub(crate) fn unbind(name: &str) -> Result<String> {
    let link = fs::read_link(format!("{CLASS}/{name}/device"))?;
    let device = link.file_name().unwrap_or_default().to_string_lossy().into_owned();
    fs::write(format!("{DRIVER}/unbind"), &device).context("unbind")?;
    Ok(device)
}

pub(crate) fn bind(device: &str) -> Result<()> {
    fs::write(format!("{DRIVER}/bind"), device).with_context(|| format!("bind {device}"))
}

/// What existing programs parse.
pub(crate) fn attributes(name: &str) -> Result<String> {
    for (file, expected) in [
        ("ioctl_version", "2\n"),
        ("size", "65536\n"),
        ("sync_mode", "1\n"),
        ("sync_offset", "0x0\n"),
        ("sync_size", "65536\n"),
        ("sync_direction", "0\n"),
        ("sync_owner", "0\n"),
        ("sync_for_cpu", "0\n"),
        ("sync_for_device", "0\n"),
    ] {
        let value = attribute(name, file)?;
        ensure!(value == expected, "{file} is {value:?}, not {expected:?}");
    }
    let addr = attribute(name, "phys_addr")?;
    ensure!(addr.len() == 19 && addr.starts_with("0x"), "phys_addr is {addr:?}");
    let info = ioctl::device_info(open(name)?.as_fd())?;
    ensure!(Some(info.dma_addr) == sysfs::number(addr.as_bytes()), "ioctl and sysfs disagree");
    ensure!(info.size == 65536, "the ioctl says {} bytes", info.size);

    // The C programs' way to sync, and what a refused value leaves behind.
    let write = |file, value| fs::write(format!("{CLASS}/{name}/{file}"), value);
    write("sync_for_device", "1")?;
    ensure!(attribute(name, "sync_owner")? == "1\n", "sync_for_device did not set the owner");
    write("sync_for_cpu", "0x0000100000001001\n")?;
    ensure!(attribute(name, "sync_owner")? == "0\n", "sync_for_cpu did not set the owner");
    for (file, value) in [
        ("sync_mode", "8"),
        ("sync_direction", "3"),
        ("sync_size", "ten"),
        ("sync_for_cpu", "0x0000FFF000002001"),
    ] {
        let before = attribute(name, file)?;
        ensure!(write(file, value).is_err(), "{file} took {value}");
        ensure!(attribute(name, file)? == before, "{file} changed by a refused value");
    }
    Ok(format!("as existing programs parse them; at {}", addr.trim()))
}

/// What was in the memory before is nobody's business.
pub(crate) fn zeroed(name: &str) -> Result<String> {
    let buffer = Buffer::open(name)?;
    let dirty = buffer.as_slice().iter().filter(|&&byte| byte != 0).count();
    ensure!(dirty == 0, "{dirty} bytes are not zero");
    Ok(format!("{} bytes", buffer.len()))
}

type Sync = fn(BorrowedFd<'_>, Direction, u64, u64) -> rustix::io::Result<()>;

/// Requests outside the buffer, also where offset + size wraps around.
pub(crate) fn ranges(name: &str) -> Result<String> {
    let file = open(name)?;
    let size = ioctl::device_info(file.as_fd())?.size;
    let good = [(0, size), (size - 64, 64), (4096, 4096), (1, 1)];
    let bad = [
        (0, size + 1),
        (size, 1),
        (size - 63, 64),
        (u64::MAX, 2),
        (0u64.wrapping_sub(0x1000), 0x2000),
        (0x1000, u64::MAX),
        (u64::MAX - 0xfff, u64::MAX),
    ];
    for direction in [Direction::Bidirectional, Direction::ToDevice, Direction::FromDevice] {
        for (sync, owner) in [(ioctl::sync_for_device as Sync, "1\n"), (ioctl::sync_for_cpu, "0\n")]
        {
            for (offset, len) in good {
                sync(file.as_fd(), direction, offset, len)
                    .with_context(|| format!("{len:#x} bytes at {offset:#x}"))?;
                let stored = attribute(name, "sync_direction")?;
                let expected = match direction {
                    Direction::Bidirectional => "0\n",
                    Direction::ToDevice => "1\n",
                    Direction::FromDevice => "2\n",
                };
                ensure!(stored == expected, "{direction:?} arrived as {stored:?}");
                ensure!(attribute(name, "sync_owner")? == owner, "the other sync was done");
            }
            for (offset, len) in bad {
                let result = sync(file.as_fd(), direction, offset, len);
                ensure!(result.is_err(), "synced {len:#x} bytes at {offset:#x} of {size:#x}");
            }
        }
    }
    Ok(format!("{} kept, {} refused, each way and direction", good.len(), bad.len()))
}

/// What one program leaves in the buffer, the next finds; a mapping has the
/// buffer's bounds and does not reach a child process.
pub(crate) fn mapping(name: &str) -> Result<String> {
    let mut buffer = Buffer::open(name)?;
    let len = buffer.len();
    buffer.as_mut_slice().iter_mut().zip((0..=250).cycle()).for_each(|(byte, value)| *byte = value);
    // "dc": not copied over fork.
    let maps = fs::read_to_string("/proc/self/smaps")?;
    let flags = maps
        .split_once(&format!("/dev/{name}"))
        .and_then(|(_, rest)| rest.lines().find(|line| line.starts_with("VmFlags:")))
        .context("the mapping is not in smaps")?;
    ensure!(flags.split(' ').any(|flag| flag == "dc"), "inherited over fork: {flags}");
    drop(buffer);

    let buffer = Buffer::open(name)?;
    let wrong =
        buffer.as_slice().iter().zip((0..=250).cycle()).filter(|&(&byte, value)| byte != value);
    ensure!(wrong.count() == 0, "another opening sees other bytes");
    drop(buffer);

    let file = open(name)?;
    for beyond in [len + 1, len * 2] {
        if Mapping::new(file.as_fd(), beyond).is_ok() {
            bail!("mapped {beyond:#x} bytes of {len:#x}");
        }
    }
    Ok("kept over a reopening, bounded, not inherited".into())
}

pub(crate) fn coherence(plain: Pair, coherent: Pair) -> Result<String> {
    for (pair, expected) in [(plain, "0\n"), (coherent, "1\n")] {
        for name in pair {
            let value = attribute(name, "dma_coherent")?;
            ensure!(value == expected, "{name} says {value:?}");
            ensure!(
                Buffer::open(name)?.is_coherent() == (expected == "1\n"),
                "{name}: SDK differs"
            );
        }
    }
    Ok("as the device tree says".into())
}
