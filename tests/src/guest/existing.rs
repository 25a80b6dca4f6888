//! What existing programs (C, Python, shell scripts) do with a buffer, and the
//! formats and errors that they rely on.

use std::{
    fs::{self, File},
    io::{Seek, SeekFrom},
    os::{
        fd::AsFd,
        unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    },
};

use anyhow::{Context, Result, ensure};
use memmap2::MmapOptions;
use rustix::{fs::OFlags, io::Errno, mm::MapFlags};
use udmabuf_sys::{
    abi::{self, SyncArgs},
    ioctl,
};

use super::{
    Tests,
    map::Map,
    module::{CLASS, attribute, busybox, open},
    raw,
};

pub(crate) fn tests(run: &mut Tests, name: &str) {
    run.test("sysfs files", || files(name));
    run.test("sysfs numbers", || numbers(name));
    run.test("sync values", || sync_values(name));
    run.test("SET_SYNC and flags", || settings(name));
    run.test("lseek", || seeks(name));
    run.test("read and write with O_SYNC", || synced_access(name));
    run.test("a C program", || as_in_c(name));
    run.test("a Python program", || as_in_python(name));
    run.test("a shell script", || as_in_shell(name));
}

const SIZE: u64 = 65536;

fn write(name: &str, file: &str, text: &str) -> Result<(), Errno> {
    fs::write(format!("{CLASS}/{name}/{file}"), text)
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

/// The settings that a test may have changed.
fn restore(name: &str) -> Result<()> {
    for (file, value) in
        [("sync_mode", "1"), ("sync_offset", "0"), ("sync_size", "65536"), ("sync_direction", "0")]
    {
        write(name, file, value)?;
    }
    Ok(())
}

/// What the module traces meanwhile.
pub(crate) fn traced(what: impl FnOnce() -> Result<()>) -> Result<String> {
    const TRACING: &str = "/sys/kernel/debug/tracing";
    let enable = format!("{TRACING}/events/u_dma_buf/enable");
    fs::write(format!("{TRACING}/trace"), "")?;
    fs::write(&enable, "1").context("trace events")?;
    let done = what();
    fs::write(&enable, "0")?;
    done?;
    Ok(fs::read_to_string(format!("{TRACING}/trace"))?)
}

fn files(name: &str) -> Result<String> {
    for (mode, files) in [
        (
            0o444,
            &[
                "driver_version",
                "ioctl_version",
                "size",
                "phys_addr",
                "dma_coherent",
                "quirk_mmap_mode",
                "sync_owner",
                "capabilities",
                "cache_alignment",
                "counters/bytes_for_cpu",
            ][..],
        ),
        (
            0o664,
            &[
                "sync_mode",
                "sync_offset",
                "sync_size",
                "sync_direction",
                "sync_for_cpu",
                "sync_for_device",
            ],
        ),
    ] {
        for file in files {
            let found = fs::metadata(format!("{CLASS}/{name}/{file}"))?.mode() & 0o777;
            ensure!(found == mode, "{file} has mode {found:o}");
            let text = attribute(name, file)?;
            ensure!(text.ends_with('\n') && text.lines().count() == 1, "{file} reads {text:?}");
        }
    }
    let file = open(name)?;
    let caps = ioctl::capabilities(file.as_fd())?;
    ensure!(attribute(name, "capabilities")? == format!("{:#x}\n", caps.flags), "capabilities");
    let alignment = attribute(name, "cache_alignment")?;
    ensure!(alignment == format!("{}\n", caps.cache_alignment), "cache_alignment {alignment:?}");
    let version = ioctl::driver_info(file.as_fd())?.version;
    let text = attribute(name, "driver_version")?;
    ensure!(version.starts_with(text.trim().as_bytes()), "driver_version {text:?}");
    Ok("modes and one line each".into())
}

/// Every way to write a number, and what is none.
fn numbers(name: &str) -> Result<String> {
    for (text, offset, size) in [
        ("4096", "0x1000\n", "4096\n"),
        ("0x2000", "0x2000\n", "8192\n"),
        ("010000", "0x1000\n", "4096\n"),
        ("+64\n", "0x40\n", "64\n"),
        ("18446744073709551615", "0xffffffffffffffff\n", "18446744073709551615\n"),
    ] {
        for (file, expected) in [("sync_offset", offset), ("sync_size", size)] {
            write(name, file, text).with_context(|| format!("{text:?} to {file}"))?;
            let found = attribute(name, file)?;
            ensure!(found == expected, "{file} after {text:?}: {found:?}");
        }
    }
    // Checked when used.
    for file in ["sync_for_cpu", "sync_for_device"] {
        let result = write(name, file, "1");
        ensure!(result == Err(Errno::INVAL), "{file} of a range beyond the end: {result:?}");
        ensure!(attribute(name, file)? == "0\n", "{file} kept a refused value");
    }
    restore(name)?;

    let files = [
        "sync_mode",
        "sync_offset",
        "sync_size",
        "sync_direction",
        "sync_for_cpu",
        "sync_for_device",
    ];
    let too_long = ["18446744073709551616", "0x10000000000000000"];
    let wrong = ["\n", "-1", "12x", "0x", " 1", "1 ", "1\n\n", "1 2", "++1", "08", "1.0"];
    for file in files {
        let before = attribute(name, file)?;
        let texts = wrong.iter().map(|text| (text, Errno::INVAL));
        for (text, error) in texts.chain(too_long.iter().map(|text| (text, Errno::RANGE))) {
            let result = write(name, file, text);
            ensure!(result == Err(error), "{text:?} to {file}: {result:?}");
        }
        ensure!(attribute(name, file)? == before, "{file} was changed by what is refused");
    }
    for (file, text) in [
        ("sync_mode", "8"),
        ("sync_mode", "257"),
        ("sync_direction", "3"),
        ("sync_mode", "4294967296"),
    ] {
        let result = write(name, file, text);
        ensure!(result == Err(Errno::INVAL), "{text} to {file}: {result:?}");
    }
    for mode in 0..=7 {
        write(name, "sync_mode", &mode.to_string())?;
        ensure!(attribute(name, "sync_mode")? == format!("{mode}\n"), "sync_mode {mode}");
    }
    restore(name)?;
    Ok("decimal, hexadecimal, octal; the rest EINVAL or ERANGE".into())
}

/// 0, 1 and ranges in a value, by sysfs and by ioctl; the trace says what was done.
fn sync_values(name: &str) -> Result<String> {
    let file = open(name)?;
    let fd = file.as_fd();
    for (setting, value) in
        [("sync_offset", "8192"), ("sync_size", "4096"), ("sync_direction", "2")]
    {
        write(name, setting, value)?;
    }
    let stored = "offset=0x2000 size=4096 how=2";
    for (value, range) in [
        (1u64, stored),
        (4096 << 32 | 0x40 | 2 << 2 | 1, "offset=0x1000 size=64 how=2"),
        (0x1008 << 32 | 0x40 | 1 << 2, "offset=0x1008 size=64 how=1"),
        (0x40 | 3 << 2 | 1, "offset=0x0 size=64 how=0"),
        (0x40, "offset=0x0 size=64 how=0"),
        (SIZE, "offset=0x0 size=65536 how=0"),
    ] {
        for (what, owner) in [("device", abi::OWNER_DEVICE), ("cpu", abi::OWNER_CPU)] {
            let by_ioctl = if what == "cpu" {
                ioctl::sync_value_for_cpu
            } else {
                ioctl::sync_value_for_device
            };
            let trace = traced(|| {
                by_ioctl(fd, value)?;
                Ok(write(
                    name,
                    &format!("sync_for_{what}"),
                    &format!("{value:#018X}").replace('X', "x"),
                )?)
            })?;
            let event = format!("u_dma_buf_sync_for_{what}: minor=0 {range}\n");
            ensure!(
                trace.matches(&event).count() == 2,
                "{value:#x}: not twice {event:?} in {trace}"
            );
            ensure!(ioctl::sync_owner(fd)? == owner, "{value:#x}: another owner");
        }
    }
    let trace = traced(|| {
        ioctl::sync_value_for_device(fd, 0)?;
        Ok(write(name, "sync_for_device", "0")?)
    })?;
    ensure!(!trace.contains("u_dma_buf_sync"), "the value 0 did something: {trace}");
    ensure!(ioctl::sync_owner(fd)? == abi::OWNER_CPU, "the value 0 changed the owner");
    ensure!(attribute(name, "sync_offset")? == "0x2000\n", "a range of its own was stored");
    ensure!(attribute(name, "sync_size")? == "4096\n", "a range of its own was stored");
    ensure!(attribute(name, "sync_direction")? == "2\n", "a direction of its own was stored");
    restore(name)?;
    Ok("nothing, the stored range, and their own".into())
}

fn settings(name: &str) -> Result<String> {
    let file = open(name)?;
    let fd = file.as_fd();
    let set = |flags, size, offset| ioctl::set_sync_settings(fd, SyncArgs { flags, size, offset });
    let is = |flags, size, offset| -> Result<()> {
        let found = ioctl::sync_settings(fd)?;
        ensure!(
            found.flags == flags && found.size == size && found.offset == offset,
            "{found:?}, not {flags:#x}, {size}, {offset}"
        );
        Ok(())
    };
    let flags = |mode: u64, direction: u64| {
        mode << abi::SYNC_MODE_SHIFT | direction << abi::SYNC_DIRECTION_SHIFT
    };

    // Only stored, whatever the range; then left: direction 3, size 0, mode 0.
    set(flags(6, 2), u64::MAX, 1 << 40)?;
    is(flags(6, 2), u64::MAX, 1 << 40)?;
    set(flags(0, 3) | 2, 8192, 4096)?;
    is(flags(6, 2), 8192, 4096)?;
    set(flags(0, 3), 0, 8192)?;
    is(flags(6, 2), 8192, 8192)?;
    ensure!(attribute(name, "sync_mode")? == "6\n", "sysfs has another mode");

    // Stored and done; the owner is a flag.
    let trace = traced(|| Ok(set(flags(1, 1) | abi::SYNC_FOR_DEVICE, 64, 128)?))?;
    let event = "u_dma_buf_sync_for_device: minor=0 offset=0x80 size=64 how=1\n";
    ensure!(trace.contains(event), "no {event:?} in {trace}");
    is(flags(1, 1) | abi::SYNC_OWNER, 64, 128)?;
    // Refused: neither.
    let refused = set(flags(2, 2) | abi::SYNC_FOR_CPU, SIZE, 1);
    ensure!(refused == Err(Errno::INVAL), "beyond the end: {refused:?}");
    is(flags(1, 1) | abi::SYNC_OWNER, 64, 128)?;
    set(flags(1, 0) | abi::SYNC_FOR_CPU, SIZE, 0)?;
    is(flags(1, 0), SIZE, 0)?;

    let info = ioctl::device_info(fd)?;
    let mode = info.flags >> abi::DEV_INFO_MMAP_MODE_SHIFT & 7;
    ensure!(attribute(name, "quirk_mmap_mode")? == format!("{mode}\n"), "mode {mode}");
    let coherent = u8::from(info.flags & abi::DEV_INFO_COHERENT != 0);
    ensure!(attribute(name, "dma_coherent")? == format!("{coherent}\n"), "coherent {coherent}");
    let mask = info.flags & abi::DEV_INFO_DMA_MASK;
    ensure!((12..=64).contains(&mask), "{mask} bits in the mask");
    let driver = ioctl::driver_info(fd)?.flags;
    for flag in [abi::DRV_IN_KERNEL, abi::DRV_QUIRK_MMAP, abi::DRV_QUIRK_MMAP_PAGE] {
        ensure!(driver & flag != 0, "no {flag:#x} in {driver:#x}");
    }
    if fs::exists("/proc/device-tree")? {
        for flag in [abi::DRV_OF_DMA_CONFIG, abi::DRV_OF_RESERVED_MEM] {
            ensure!(driver & flag != 0, "no {flag:#x} in {driver:#x}");
        }
    }
    for unknown in [0x5500, 0x550b, 0x5545] {
        let result = raw::call(fd, unknown, &mut [0; 64]);
        ensure!(result == Err(Errno::NOTTY), "the command {unknown:#x}: {result:?}");
    }
    restore(name)?;
    Ok("stored, left, done; flags as in sysfs".into())
}

fn seeks(name: &str) -> Result<String> {
    let mut file = open(name)?;
    let end = i64::try_from(SIZE)?;
    for (to, expected) in [
        (SeekFrom::End(0), Some(SIZE)),
        (SeekFrom::Current(0), Some(SIZE)),
        (SeekFrom::Start(100), Some(100)),
        (SeekFrom::Current(-100), Some(0)),
        (SeekFrom::Current(-1), None),
        (SeekFrom::Start(SIZE), Some(SIZE)),
        (SeekFrom::Start(SIZE + 1), None),
        (SeekFrom::Current(1), None),
        (SeekFrom::End(1), None),
        (SeekFrom::End(-end), Some(0)),
        (SeekFrom::End(-end - 1), None),
        (SeekFrom::Current(i64::MIN), None),
        (SeekFrom::Current(i64::MAX), None),
    ] {
        let before = file.stream_position()?;
        match (file.seek(to), expected) {
            (Ok(found), Some(expected)) => ensure!(found == expected, "{to:?}: {found}"),
            (Err(error), None) => {
                ensure!(Errno::from_io_error(&error) == Some(Errno::INVAL), "{to:?}: {error}");
                ensure!(file.stream_position()? == before, "{to:?} moved");
            }
            (found, expected) => anyhow::bail!("{to:?}: {found:?}, not {expected:?}"),
        }
    }
    // Shortened at the end, and nothing there.
    let mut bytes = [0; 16];
    ensure!(file.read_at(&mut bytes, SIZE - 3)? == 3, "read over the end");
    ensure!(file.write_at(&bytes, SIZE - 3)? == 3, "written over the end");
    for at in [SIZE, SIZE + 4096] {
        ensure!(file.read_at(&mut bytes, at)? == 0, "read at {at}");
        ensure!(file.write_at(&bytes, at)? == 0, "written at {at}");
    }
    Ok("within 0 and the size, EINVAL outside".into())
}

/// With O_SYNC, O_DSYNC or sync-always what is touched is synced, and only that.
fn synced_access(name: &str) -> Result<String> {
    let trace_of = |flag: OFlags| -> Result<String> {
        let file = File::options()
            .read(true)
            .write(true)
            .custom_flags(i32::try_from(flag.bits())?)
            .open(format!("/dev/{name}"))?;
        traced(|| {
            file.write_all_at(&[7; 100], 4090)?;
            let mut back = [0; 10];
            file.read_exact_at(&mut back, 4100)?;
            ensure!(back == [7; 10], "other bytes");
            ensure!(file.read_at(&mut [0; 64], SIZE - 5)? == 5, "over the end");
            Ok(())
        })
    };
    let all = |trace: &str| -> Result<()> {
        for event in [
            "sync_for_cpu: minor=0 offset=0xffa size=100 how=0",
            "sync_for_device: minor=0 offset=0xffa size=100 how=0",
            "sync_for_cpu: minor=0 offset=0x1004 size=10 how=2",
            "sync_for_cpu: minor=0 offset=0xfffb size=5 how=2",
        ] {
            ensure!(trace.contains(event), "no {event:?} in {trace}");
        }
        Ok(())
    };
    ensure!(!trace_of(OFlags::empty())?.contains("sync_for"), "synced without being asked");
    all(&trace_of(OFlags::SYNC)?).context("O_SYNC")?;
    all(&trace_of(OFlags::DSYNC)?).context("O_DSYNC")?;
    write(name, "sync_mode", "5")?;
    all(&trace_of(OFlags::empty())?).context("sync-always")?;
    restore(name)?;
    ensure!(attribute(name, "sync_owner")? == "0\n", "an access is no handover");
    Ok("what they touch, no more".into())
}

/// The numbers as `sscanf` reads them, and a range in a value.
fn as_in_c(name: &str) -> Result<String> {
    let text = attribute(name, "phys_addr")?;
    let digits = text.trim().strip_prefix("0x").context("no 0x")?;
    ensure!(digits.len() == 16 || (digits.len() == 8 && usize::BITS == 32), "{text:?}");
    let address = u64::from_str_radix(digits, 16)?;
    ensure!(address == ioctl::dma_addr(open(name)?.as_fd())?, "another address: {text:?}");
    let size: i32 = attribute(name, "size")?.trim().parse()?;
    for flag in [OFlags::empty(), OFlags::SYNC] {
        let file = File::options()
            .read(true)
            .write(true)
            .custom_flags(i32::try_from(flag.bits())?)
            .open(format!("/dev/{name}"))?;
        let map = Map::new(&file, usize::try_from(size)?, MapFlags::empty())?;
        drop(file);
        map.set(4096, 1);
        for (file, direction) in [("sync_for_device", 1), ("sync_for_cpu", 2)] {
            // Bit 0 says that there is a command.
            let (offset, size) = (4096, 8192);
            write(name, file, &format!("0x{offset:08X}{:08X}", size | direction << 2 | 1))?;
        }
        ensure!(map.get(4096) == 1, "the byte is gone");
    }
    for (file, value) in
        [("sync_offset", 0), ("sync_size", size), ("sync_direction", 2), ("sync_for_cpu", 1)]
    {
        write(name, file, &value.to_string())?;
    }
    restore(name)?;
    Ok(format!("{size} bytes at {}", text.trim()))
}

/// `numpy.memmap` finds the size by seeking, and maps shared in every mode but one.
fn as_in_python(name: &str) -> Result<String> {
    let mut file = open(name)?;
    let len = file.seek(SeekFrom::End(0))?;
    ensure!(attribute(name, "size")?.trim_end().parse() == Ok(len), "seek and sysfs differ");
    file.seek(SeekFrom::Start(0))?;
    let map = Map::new(&file, usize::try_from(len)?, MapFlags::empty())?;
    (0..map.len()).zip((0..=252).cycle()).for_each(|(at, value)| map.set(at, value));
    drop(map);

    // mode='r'
    let file = File::open(format!("/dev/{name}"))?;
    let map = MmapOptions::new().len(usize::try_from(len)?).map_raw_read_only(&file)?;
    ensure!(map.len() as u64 == len, "mapped less");
    let error = Map::new(&file, 4096, MapFlags::empty()).err();
    ensure!(error == Some(Errno::ACCESS), "mapped for writing, read-only: {error:?}");
    let mut bytes = [0; 253];
    file.read_exact_at(&mut bytes, 253)?;
    ensure!(bytes.iter().copied().eq(0..=252), "other bytes");
    Ok(format!("{len} bytes"))
}

fn as_in_shell(name: &str) -> Result<String> {
    let script = "set -e; class=/sys/class/u-dma-buf; cd /tmp
        dd if=/dev/urandom of=/dev/$0 bs=4096 count=16 2>/dev/null
        echo 1 > $class/$0/sync_for_device
        [ $(cat $class/$0/sync_owner) = 1 ]
        echo 1 > $class/$0/sync_for_cpu
        dd if=/dev/$0 of=whole bs=4096 count=16 2>/dev/null
        [ $(wc -c < whole) = $(cat $class/$0/size) ]
        cat /dev/$0 > again; cmp whole again
        dd if=whole of=/dev/$0 bs=4096 skip=2 seek=1 count=1 conv=notrunc 2>/dev/null
        dd if=/dev/$0 of=part bs=4096 skip=1 count=1 2>/dev/null
        dd if=whole bs=4096 skip=2 count=1 2>/dev/null | cmp - part
        echo 'create udmabuf8 0x10000' > /dev/u-dma-buf-mgr
        [ -c /dev/udmabuf8 ]; [ $(cat $class/udmabuf8/size) = 65536 ]
        [ $(stat -c %a /dev/udmabuf8) = 600 ]
        echo 'delete udmabuf8' > /dev/u-dma-buf-mgr
        [ ! -e /dev/udmabuf8 ]
        if echo 'delete udmabuf8' > /dev/u-dma-buf-mgr; then exit 1; fi
        rm whole again part";
    busybox("sh", &["-c", script, name])?;
    Ok("dd, cat, echo".into())
}
