//! A buffer of more than 4 GiB: `large` in `tests/boards/arm64-large.dts`.

use std::{
    fs::File,
    io::{Seek, SeekFrom},
    os::{
        fd::{AsFd, AsRawFd},
        unix::fs::FileExt,
    },
};

use anyhow::{Context, Result, ensure};
use rustix::{fs::OFlags, io::Errno, mm::MapFlags};
use udmabuf_sys::{
    abi::{self, Direction, SyncArgs, SyncRange},
    dma_buf, ioctl,
};

use super::{
    Tests,
    existing::traced,
    export::dma_buf_sync,
    map::{load_pages, map_at},
    module::{attribute, busybox, open},
    peer::{peek, peer_must, results, unload_peer},
};

pub(crate) fn tests(run: &mut Tests) {
    run.test("page tables", load_pages);
    run.test("fault 16 a buffer of more than 4 GiB", sizes);
    run.test("fault 22 an export of more than 4 GiB", exported);
}

const NAME: &str = "large";
const FAR: u64 = 4 << 30;
const SIZE: u64 = FAR + (64 << 20);

/// Sizes and offsets keep all their bits, wherever they go.
fn sizes() -> Result<String> {
    for (file, expected) in [
        ("size", format!("{SIZE}\n")),
        // The node's.
        ("sync_offset", format!("{FAR:#x}\n")),
        ("sync_size", format!("{}\n", SIZE - FAR)),
    ] {
        let found = attribute(NAME, file)?;
        ensure!(found == expected, "{file} is {found:?}");
    }
    let mut file = open(NAME)?;
    let fd = file.as_fd();
    ensure!(ioctl::size(fd)? == SIZE && ioctl::device_info(fd)?.size == SIZE, "another size");

    file.write_all_at(b"near", 5)?;
    file.write_all_at(b"far!", FAR + 5)?;
    let read = |file: &File, at| -> Result<[u8; 4]> {
        let mut bytes = [0; 4];
        file.read_exact_at(&mut bytes, at)?;
        Ok(bytes)
    };
    ensure!(read(&file, 5)? == *b"near" && read(&file, FAR + 5)? == *b"far!", "other bytes");
    ensure!(file.read_at(&mut [0; 8], SIZE - 3)? == 3, "another end");
    let map = map_at(&file, FAR, 4096, MapFlags::SHARED)?;
    ensure!(map.get(5) == b'f' && map.page(0)?.0 == "cached", "mapped elsewhere");
    let beyond = map_at(&file, SIZE, 4096, MapFlags::SHARED).err();
    ensure!(beyond == Some(Errno::INVAL), "mapped beyond the end: {beyond:?}");
    drop(map);

    let trace = traced(|| {
        ioctl::sync_value_for_device(fd, 1)?;
        let before = ioctl::sync_settings(fd)?;
        ioctl::sync_for_device(fd, Direction::ToDevice, FAR + 128, 64)?;
        ioctl::sync_for_cpu(fd, Direction::ToDevice, FAR + 128, 64)?;
        let after = ioctl::sync_settings(fd)?;
        ensure!((after.size, after.offset) == (before.size, before.offset), "{after:?} stored");
        let range = SyncRange { offset: FAR + 64, size: 128, command: 1, direction: 2 };
        ioctl::sync_batch(fd, &[range])?;
        ioctl::set_sync_settings(fd, SyncArgs { flags: abi::SYNC_FOR_CPU, size: SIZE, offset: 0 })?;
        Ok(())
    })?;
    for event in [
        format!("sync_for_device: minor=0 offset={FAR:#x} size={} how=0", SIZE - FAR),
        format!("sync_for_device: minor=0 offset={:#x} size=64 how=1", FAR + 128),
        format!("sync_for_cpu: minor=0 offset={:#x} size=64 how=1", FAR + 128),
        format!("sync_for_cpu: minor=0 offset={:#x} size=128 how=2", FAR + 64),
        format!("sync_for_cpu: minor=0 offset=0x0 size={SIZE} how=0"),
    ] {
        ensure!(trace.contains(&event), "no {event:?} in {trace}");
    }
    for offset in [SIZE, SIZE + FAR, u64::MAX - 63] {
        let range = SyncRange { offset, size: 64, command: 1, direction: 2 };
        let result = ioctl::sync_batch(fd, &[range]);
        ensure!(result == Err(Errno::INVAL), "a sync at {offset:#x}: {result:?}");
    }
    ioctl::claim_range(fd, FAR, 4096, false)?;
    let other = open(NAME)?;
    let far = ioctl::sync_batch(
        other.as_fd(),
        &[SyncRange { offset: FAR, size: 64, command: 1, direction: 2 }],
    );
    ensure!(far == Err(Errno::BUSY), "another's claim at {FAR:#x}: {far:?}");
    ensure!(read(&other, 5)? == *b"near", "the claim is of another page");
    drop(other);
    ensure!(file.seek(SeekFrom::End(0))? == SIZE, "another end");
    Ok(format!("{SIZE} bytes read, written, mapped, synced, claimed"))
}

fn exported() -> Result<String> {
    let file = open(NAME)?;
    file.write_all_at(&[42], FAR + 5)?;
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let (export, _) = ioctl::export(file.as_fd(), flags, 0, SIZE)?;
    ensure!(dma_buf::size(export.as_fd())? == SIZE, "another size");
    let map = map_at(&File::from(export.try_clone()?), FAR, 4096, MapFlags::SHARED)?;
    ensure!(map.get(5) == 42, "mapped elsewhere");
    drop(map);

    peer_must(&format!("attach {} 0", export.as_raw_fd())).context("attach")?;
    let [entries, largest, _] = results()?;
    ensure!(entries >= 5 && largest <= 1 << 30, "{entries} entries, up to {largest:#x}");
    ensure!(peek(FAR + 5)? == 42, "another byte for an importer");
    ensure!(peek(SIZE).is_err(), "beyond its end");
    dma_buf_sync(export.as_fd())?;
    peer_must("detach")?;

    // A part, the offset of which takes more than 32 bits.
    let (part, addr) = ioctl::export(file.as_fd(), flags, FAR, 8192)?;
    ensure!(addr == ioctl::dma_addr(file.as_fd())? + FAR, "a part at {addr:#x}");
    peer_must(&format!("attach {} 0", part.as_raw_fd())).context("attach")?;
    ensure!(peek(5)? == 42, "another part");
    peer_must("detach")?;
    unload_peer()?;
    drop((part, export, file));
    busybox("rmmod", &["u_dma_buf"])?;
    Ok(format!("{SIZE} bytes in {entries} entries"))
}
