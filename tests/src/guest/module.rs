//! The kernel module, below the SDK: loading, attributes, ranges, mappings.

use std::{
    fs::{self, File},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::{FileExt, MetadataExt},
    },
    process::Command,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::{io::Errno, mm::MapFlags};
use udmabuf::{Buffer, devices};
use udmabuf_sys::{
    abi::{self, Direction},
    ioctl,
    map::Mapping,
    sysfs,
};

use super::{Pair, existing::traced, manager::Created, map::Map};

pub(crate) const MODULE: &str = "/modules/u-dma-buf.ko";
pub(crate) const CLASS: &str = "/sys/class/u-dma-buf";
/// Where there is no device tree, parameters make the buffers; where there is,
/// they make one more.
const PC_PARAMETERS: [&str; 2] = ["udmabuf0=65536", "udmabuf1=65536"];
const PARAMETERS: [&str; 1] = ["udmabuf7=8192"];

/// Waits until a driver has gone. Where life times are watched, the last of it goes
/// seconds after its module; and one of the same name cannot come until then.
pub(crate) fn await_gone(driver: &str) -> Result<()> {
    let path = format!("/sys/bus/platform/drivers/{driver}");
    for _ in 0..100 {
        if !fs::exists(&path)? {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(100));
    }
    bail!("{path} is still there")
}

fn insmod(parameters: &[&str]) -> Result<()> {
    await_gone("u-dma-buf")?;
    busybox("insmod", [MODULE].iter().chain(parameters))
}

pub(crate) fn load(board: &str) -> Result<String> {
    let pc = board == "x86_64";
    insmod(if pc { &PC_PARAMETERS } else { &PARAMETERS })?;
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
                thread::sleep(Duration::from_micros(50));
            }
            opened.is_some()
        });
        let loaded = insmod(&["udmabuf6=65536", "udmabuf7=1099511627776"]);
        done.store(true, Relaxed);
        (loaded, opener.join())
    });
    let Err(error) = loaded else { bail!("1 TiB of memory was had") };
    ensure!(!opened.unwrap_or(true), "a buffer was opened before loading failed");
    ensure!(devices()?.is_none(), "the class is still there");
    Ok(format!("{error:#}"))
}

/// fault 16: a size that 32 bits do not hold is not taken for a smaller one.
pub(crate) fn too_large() -> Result<String> {
    let mut errors = Vec::new();
    for (size, why) in [
        (1u64 << 32, "4294967296 bytes are more than this machine has"),
        ((1 << 32) + 4096, "4294971392 bytes are more than a DMA mask of 32 bits reaches"),
    ] {
        let Err(error) = insmod(&[&format!("udmabuf6={size}")]) else {
            bail!("{size} bytes were had");
        };
        ensure!(devices()?.is_none(), "the class is still there");
        // A 32-bit kernel does not even take the number.
        ensure!(usize::BITS == 32 || log()?.contains(why), "the log does not say: {why}");
        errors.push(error.to_string());
    }
    Ok(errors.join("; "))
}

/// fault 24: what is no size, mask, mode or device fails the load.
pub(crate) fn wrong_parameters() -> Result<String> {
    let wrong = [
        "dma_mask_bit=11",
        "dma_mask_bit=200",
        "quirk_mmap_mode=0",
        "quirk_mmap_mode=5",
        "quirk_mmap_mode=on",
        "bind=usb/1-1",
        "udmabuf6_bind=platform/nobody",
        "udmabuf5=-1",
    ];
    for parameter in wrong {
        let loaded = insmod(&["udmabuf6=4096", parameter]);
        ensure!(loaded.is_err(), "loaded with {parameter}");
        ensure!(devices()?.is_none(), "{parameter}: the class is still there");
    }
    Ok(format!("{} refused", wrong.len()))
}

pub(crate) fn log() -> Result<String> {
    Ok(String::from_utf8_lossy(&Command::new("dmesg").output()?.stdout).into_owned())
}

/// What each parameter does, and what is logged.
pub(crate) fn parameters(board: &str) -> Result<String> {
    let is = |name: &str, file: &str, expected: &str| -> Result<()> {
        let found = attribute(name, file)?;
        ensure!(found == expected, "{name}: {file} is {found:?}");
        Ok(())
    };
    let said = |name: &str, what: &str| -> Result<bool> {
        Ok(log()?.lines().any(|line| line.contains(&format!("u-dma-buf {name}: {what}"))))
    };

    insmod(&["udmabuf5=12345", "dma_mask_bit=40", "quirk_mmap_mode=4", "info_enable=7"])?;
    is("udmabuf5", "size", "12345\n")?;
    is("udmabuf5", "quirk_mmap_mode", "4\n")?;
    let mask = ioctl::device_info(open("udmabuf5")?.as_fd())?.flags & abi::DEV_INFO_DMA_MASK;
    ensure!(mask == 40, "a mask of {mask} bits");
    let number = fs::metadata("/dev/udmabuf5")?.rdev();
    ensure!(rustix::fs::minor(number) == 5, "the minor number {}", rustix::fs::minor(number));
    for line in [
        "driver version = ".to_owned(),
        format!("major number   = {}", rustix::fs::major(number)),
        "minor number   = 5".to_owned(),
        format!("phys address   = {}", attribute("udmabuf5", "phys_addr")?.trim()),
        "buffer size    = 12345".to_owned(),
        "dma mask bits  = 40".to_owned(),
        "ioctl version  = 2".to_owned(),
    ] {
        ensure!(said("udmabuf5", &line)?, "the log does not say {line:?}");
    }
    ensure!(log()?.contains("u-dma-buf u-dma-buf.5: driver installed."), "not installed");
    busybox("rmmod", &["u_dma_buf"])?;
    ensure!(log()?.contains("u-dma-buf u-dma-buf.5: driver removed."), "not removed");

    // Its own `bind` wins over that of all.
    let bind = match super::parent::edu() {
        Ok(edu) => format!("udmabuf4_bind=pci/{edu}"),
        Err(_) => "udmabuf4_bind=u-dma-buf-nobody".to_owned(),
    };
    let loaded = insmod(&["udmabuf4=8192", "bind=platform/nobody", &bind, "info_enable=0"]);
    if board == "versal" {
        ensure!(loaded.is_err(), "loaded for nobody");
        return Ok("size, mask, mode, log".into());
    }
    loaded?;
    is("udmabuf4", "size", "8192\n")?;
    ensure!(!said("udmabuf4", "")?, "logged with info_enable=0");
    busybox("rmmod", &["u_dma_buf"])?;
    ensure!(!log()?.contains("u-dma-buf u-dma-buf.4: driver removed."), "logged at removal");
    Ok("size, mask, mode, bind, log".into())
}

/// fault 6: a buffer that is taken away while it is open and mapped is gone for
/// whoever has it, and whoever gets its memory next is not seen by them.
pub(crate) fn taken_away() -> Result<String> {
    let made = Created::new("m0", 8192, "")?;
    let file = open(made.name)?;
    let mut map = Map::new(&file, 8192, MapFlags::empty())?;
    map.set(0, 1);
    let device = unbind(made.name)?;
    ensure!(map.page(0)?.0 == "absent", "still mapped");
    // It would be SIGBUS here; the kernel says EFAULT.
    let (_reader, writer) = rustix::pipe::pipe()?;
    let touched = rustix::io::write(&writer, map.for_system_calls());
    ensure!(touched == Err(Errno::FAULT), "touched after removal: {touched:?}");
    let fd = file.as_fd();
    let nodev = Some(Errno::NODEV);
    let of = |result: std::io::Result<usize>| result.err().and_then(|e| Errno::from_io_error(&e));
    for (what, error) in [
        ("ioctl", ioctl::size(fd).err()),
        ("sync", ioctl::sync_value_for_cpu(fd, 64).err()),
        ("claim", ioctl::claim(fd, false).err()),
        ("export", ioctl::export(fd, rustix::fs::OFlags::RDWR, 0, 4096).err()),
        ("mmap", Map::new(&file, 4096, MapFlags::empty()).err()),
        ("read", of(file.read_at(&mut [0; 8], 0))),
        ("write", of(file.write_at(&[0; 8], 0))),
    ] {
        ensure!(error == nodev, "{what}: {error:?}");
    }
    bind(&device)?;
    open(made.name)?.write_all_at(&[9; 8192], 0)?;
    ensure!(map.page(0)?.0 == "absent", "mapped again");
    ensure!(ioctl::size(fd).err() == nodev, "the file has the new buffer");
    drop((map, file));
    Ok("ENODEV, EFAULT; the next one is another's".into())
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

pub(crate) const DRIVER: &str = "/sys/bus/platform/drivers/u-dma-buf";

/// Takes a buffer away as an administrator can; gives its platform device.
pub(crate) fn unbind(name: &str) -> Result<String> {
    let link = fs::read_link(format!("{CLASS}/{name}/device"))?;
    let device = link.file_name().unwrap_or_default().to_string_lossy().into_owned();
    fs::write(format!("{DRIVER}/unbind"), &device).context("unbind")?;
    Ok(device)
}

/// Until a removal that waits has begun.
pub(crate) fn wait_for_removal(name: &str) -> Result<()> {
    let start = Instant::now();
    while fs::exists(format!("{CLASS}/{name}"))? {
        ensure!(start.elapsed() < Duration::from_secs(20), "the device file stays");
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
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
    ensure!(addr.starts_with("0x"), "phys_addr is {addr:?}");
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
        for (sync, to, owner) in
            [(ioctl::sync_for_device as Sync, "device", "1\n"), (ioctl::sync_for_cpu, "cpu", "0\n")]
        {
            for (offset, len) in good {
                let trace = traced(|| Ok(sync(file.as_fd(), direction, offset, len)?))
                    .with_context(|| format!("{len:#x} bytes at {offset:#x}"))?;
                let how = direction as u64;
                let event = format!(
                    "u_dma_buf_sync_for_{to}: minor=0 offset={offset:#x} size={len} how={how}\n"
                );
                ensure!(trace.contains(&event), "no {event:?} in {trace}");
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
    // "de": does not grow by mremap; "dd": not in a core dump.
    for wanted in ["dc", "de", "dd"] {
        ensure!(flags.split(' ').any(|flag| flag == wanted), "no {wanted} in {flags}");
    }
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
