//! Reserved memory and the options of a device-tree node; the nodes are in
//! `tests/boards/arm64.dts`.

use std::{
    fs::{self, File},
    os::{
        fd::AsFd,
        unix::fs::{FileExt, MetadataExt},
    },
};

use anyhow::{Result, ensure};
use rustix::{io::Errno, mm::MapFlags};
use udmabuf_sys::{
    abi::{self, Direction},
    ioctl,
};

use super::{
    Tests,
    existing::traced,
    map::Map,
    module::{CLASS, attribute, bind, log, open, unbind},
};

pub(crate) fn tests(run: &mut Tests) {
    run.test("fault 14 a region without pages", no_map);
    run.test("fault 19 a region twice", twice);
    run.test("keep-contents", kept);
    run.test("zero-between-users", zeroed_between);
    run.test("properties", properties);
    run.test("fault 12 wrong nodes", wrong_nodes);
}

fn sync_all(file: &File) -> Result<()> {
    let size = ioctl::device_info(file.as_fd())?.size;
    for direction in [Direction::Bidirectional, Direction::ToDevice, Direction::FromDevice] {
        ioctl::sync_for_device(file.as_fd(), direction, 0, size)?;
        ioctl::sync_for_cpu(file.as_fd(), direction, 0, size)?;
    }
    Ok(())
}

/// Is all of it inside the region of this size there?
fn inside(name: &str, base: u64, size: u64) -> Result<()> {
    let info = ioctl::device_info(open(name)?.as_fd())?;
    ensure!(
        (base..base + size).contains(&info.dma_addr) && info.dma_addr + info.size <= base + size,
        "{name} is at {:#x}",
        info.dma_addr
    );
    Ok(())
}

fn no_map() -> Result<String> {
    let name = "udmabuf_nomap";
    inside(name, 0x5000_0000, 0x10_0000)?;
    let file = open(name)?;
    let map = Map::new(&file, 65536, MapFlags::empty())?;
    ensure!((0..65536).all(|at| map.get(at) == 0), "not zeroed");
    ensure!(map.page(0)?.0 == "write-combined", "mapped {:?}", map.page(0)?);
    let cached = ioctl::set_map_mode(file.as_fd(), abi::MAP_CACHED);
    ensure!(cached == Err(Errno::OPNOTSUPP), "mapped cached: {cached:?}");
    ioctl::set_map_mode(file.as_fd(), abi::MAP_UNCACHED)?;
    let uncached = Map::new(&file, 65536, MapFlags::empty())?;
    uncached.set(9, 9);
    ensure!(uncached.page(0)?.0 == "uncached", "mapped {:?}", uncached.page(0)?);
    ensure!(map.get(9) == 9, "another memory");

    sync_all(&file)?;
    let text = b"through the kernel's own mapping";
    file.write_all_at(text, 4090)?;
    let mut back = [0; 32];
    file.read_exact_at(&mut back, 4090)?;
    ensure!(back == *text && map.get(4090) == text[0], "read, write and mapping differ");
    let flags = ioctl::capabilities(file.as_fd())?.flags;
    ensure!(flags & abi::CAP_USER_SYNC == 0, "USER_SYNC without a cache");
    Ok("uncached and write-combined, synced, read and written".into())
}

/// Its region is given back at removal, or it could not be had again.
fn twice() -> Result<String> {
    for (name, base, size) in
        [("udmabuf_nomap", 0x5000_0000, 0x10_0000), ("udmabuf_region", 0x5400_0000, 0x400_0000)]
    {
        for _ in 0..3 {
            let device = unbind(name)?;
            bind(&device)?;
            inside(name, base, size)?;
        }
    }
    Ok("no-map and reusable, three times".into())
}

fn kept() -> Result<String> {
    let name = "udmabuf_kept";
    inside(name, 0x5010_0000, 0x10_0000)?;
    open(name)?.write_all_at(b"kept", 65532)?;
    bind(&unbind(name)?)?;
    let mut back = [0; 4];
    open(name)?.read_exact_at(&mut back, 65532)?;
    ensure!(back == *b"kept", "lost: {back:?}");
    // Of ordinary memory nobody can promise it.
    ensure!(refused("udmabuf_keep_cma"), "promised for memory that others use");
    Ok("over an unbind".into())
}

fn zeroed_between() -> Result<String> {
    let name = "udmabuf_zeroed";
    let first = open(name)?;
    let second = open(name)?;
    first.write_all_at(b"secret", 4093)?;
    drop(first);
    let mut back = [0; 6];
    open(name)?.read_exact_at(&mut back, 4093)?;
    ensure!(back == *b"secret", "zeroed under a user");
    drop(second);
    // A sysfs file is no user.
    attribute(name, "sync_mode")?;
    fs::write(format!("{CLASS}/{name}/sync_mode"), "1")?;
    open(name)?.read_exact_at(&mut back, 4093)?;
    ensure!(back == [0; 6], "the next user found {back:?}");

    // Zeroed through the cache, which is emptied again for a mapping without it.
    for user in ["first", "second", "third"] {
        let trace = traced(|| {
            let file = open(name)?;
            ioctl::set_map_mode(file.as_fd(), abi::MAP_UNCACHED)?;
            Map::new(&file, 4096, MapFlags::empty())?;
            Ok(())
        })?;
        let emptied = trace.contains("u_dma_buf_empty_cache");
        ensure!(emptied, "the {user} user's uncached mapping: the cache was not emptied: {trace}");
    }
    Ok("zeroed after the last user".into())
}

/// Each property of a node does what it says.
fn properties() -> Result<String> {
    for (name, file, expected) in [
        // Named by its minor number.
        ("udmabuf77", "size", "65536\n"),
        ("udmabuf77", "sync_mode", "6\n"),
        ("udmabuf77", "sync_offset", "0x1000\n"),
        ("udmabuf77", "sync_size", "8192\n"),
        ("udmabuf77", "sync_direction", "2\n"),
        ("udmabuf77", "dma_coherent", "1\n"),
        // The last in the order on, off, auto, page.
        ("udmabuf77", "quirk_mmap_mode", "3\n"),
        ("udmabuf_rest", "sync_mode", "1\n"),
        ("udmabuf_rest", "sync_offset", "0x1000\n"),
        ("udmabuf_rest", "sync_size", "61440\n"),
        ("udmabuf_rest", "sync_direction", "0\n"),
        ("udmabuf_rest", "quirk_mmap_mode", "2\n"),
    ] {
        let found = attribute(name, file)?;
        ensure!(found == expected, "{name}: {file} is {found:?}");
    }
    let number = fs::metadata("/dev/udmabuf77")?.rdev();
    ensure!(rustix::fs::minor(number) == 77, "the minor number {}", rustix::fs::minor(number));
    let mask = ioctl::device_info(open("udmabuf77")?.as_fd())?.flags & abi::DEV_INFO_DMA_MASK;
    ensure!(mask == 40, "a mask of {mask} bits");
    Ok("as the device tree says".into())
}

/// Is there a node with this name, and no buffer for it?
fn refused(node: &str) -> bool {
    let device = format!("/sys/bus/platform/devices/{node}");
    fs::exists(&device).unwrap_or(false) && !fs::exists(format!("{device}/driver")).unwrap_or(true)
}

fn wrong_nodes() -> Result<String> {
    let mut count = 0;
    for entry in fs::read_dir("/sys/bus/platform/devices")? {
        let node = entry?.file_name().to_string_lossy().into_owned();
        if node.starts_with("wrong_") {
            ensure!(refused(&node), "{node} was taken");
            // Again: nothing is left of the first time.
            ensure!(bind(&node).is_err() && refused(&node), "{node} was taken in the end");
            count += 1;
        }
    }
    let log = log()?;
    for why in [
        "has no 2097152 contiguous bytes left",
        "property dma-mask: 200 is not in 12...64",
        "minor number 7 is taken",
        "the name udmabuf7 is taken",
    ] {
        ensure!(log.contains(why), "the log does not say: {why}");
    }
    ensure!(count >= 35, "{count} nodes");
    Ok(format!("{count} refused, twice"))
}
