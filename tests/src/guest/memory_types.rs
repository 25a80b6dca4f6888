//! How a mapping reaches memory: the types that `O_SYNC`, `sync_mode` and the
//! map mode ask for, found in the page table.

use std::{
    fs::{self, File},
    os::{
        fd::{AsFd, AsRawFd},
        unix::fs::{FileExt, OpenOptionsExt},
    },
};

use anyhow::{Context, Result, ensure};
use rustix::{fs::OFlags, io::Errno, mm::MapFlags};
use udmabuf_sys::{abi, ioctl};

use super::{
    Pair, Tests,
    existing::traced,
    manager::Created,
    map::{Map, load_pages, map_with},
    module::{self, CLASS, attribute, open},
    peer::{peer_must, unload_peer},
};

pub(crate) fn tests(run: &mut Tests, pairs: &[Pair]) {
    run.test("page tables", load_pages);
    for [name, _] in pairs {
        run.test(&format!("memory types of {name}"), || cells(name));
        run.test(&format!("one memory of {name}"), || one_memory(name));
        run.test(&format!("memory types of {name}, exported"), || exported(name));
    }
    let name = pairs[0][0];
    run.test("emptied after a cached user", emptied);
    run.test("fault 01 private mappings", || private(name));
    run.test("fault 24 first touch", || populated(name));
    run.test("large pages", large);
    run.test("fault 06 taken away in use", module::taken_away);
}

/// By `sync_mode`; see the header.
const CELLS: [[&str; 2]; 8] = [
    ["cached", "cached"],
    ["cached", "uncached"],
    ["cached", "write-combined"],
    ["cached", "write-combined"],
    ["cached", "cached"],
    ["uncached", "uncached"],
    ["write-combined", "write-combined"],
    ["write-combined", "write-combined"],
];

fn is_coherent(name: &str) -> Result<bool> {
    Ok(attribute(name, "dma_coherent")? == "1\n")
}

/// x86 maps RAM in one way only, and so does RISC-V without Svpbmt; elsewhere a
/// coherent device's cache cannot be emptied for it, but on arm64.
fn has_types(name: &str) -> Result<bool> {
    Ok(cfg!(target_arch = "aarch64")
        || (!is_coherent(name)? && (cfg!(target_arch = "arm") || has_svpbmt()?)))
}

/// RISC-V's page-based memory types.
pub(crate) fn has_svpbmt() -> Result<bool> {
    let is_there = || fs::read_to_string("/proc/cpuinfo").map(|text| text.contains("svpbmt"));
    Ok(cfg!(target_arch = "riscv64") && is_there()?)
}

fn open_sync(name: &str, flag: OFlags) -> Result<File> {
    let flags = i32::from_ne_bytes(flag.bits().to_ne_bytes());
    File::options()
        .read(true)
        .write(true)
        .custom_flags(flags)
        .open(format!("/dev/{name}"))
        .context("open")
}

fn type_of(file: &File) -> Result<String> {
    let map = Map::new(file, 4096, MapFlags::empty())?;
    map.set(0, map.get(0));
    Ok(map.page(0)?.0)
}

/// All 16 cells, O_DSYNC as O_SYNC, and the map modes, which win over them.
fn cells(name: &str) -> Result<String> {
    let types = has_types(name)?;
    let mode_file = format!("{CLASS}/{name}/sync_mode");
    for (mode, cell) in CELLS.iter().enumerate() {
        fs::write(&mode_file, mode.to_string())?;
        for (flag, expected) in
            [(OFlags::empty(), cell[0]), (OFlags::SYNC, cell[1]), (OFlags::DSYNC, cell[1])]
        {
            let expected = if types { expected } else { "cached" };
            let kind = type_of(&open_sync(name, flag)?)?;
            ensure!(kind == expected, "sync_mode {mode}, {flag:?}: {kind}, not {expected}");
        }
    }

    fs::write(&mode_file, "6")?;
    let file = open(name)?;
    for (mode, expected) in [
        (abi::MAP_CACHED, "cached"),
        (abi::MAP_UNCACHED, "uncached"),
        (abi::MAP_WRITE_COMBINED, "write-combined"),
        (abi::MAP_BY_FLAGS, "write-combined"),
    ] {
        // What is coherent has the cached mode alone, whatever the table gives.
        if mode > abi::MAP_CACHED && (!types || is_coherent(name)?) {
            let refused = ioctl::set_map_mode(file.as_fd(), mode);
            ensure!(refused == Err(Errno::OPNOTSUPP), "map mode {mode}: {refused:?}");
            continue;
        }
        ioctl::set_map_mode(file.as_fd(), mode).with_context(|| format!("map mode {mode}"))?;
        let kind = type_of(&file)?;
        let expected = if types { expected } else { "cached" };
        ensure!(kind == expected, "map mode {mode}: {kind}, not {expected}");
    }
    let error = ioctl::set_map_mode(file.as_fd(), 4);
    ensure!(error == Err(Errno::INVAL), "map mode 4: {error:?}");
    fs::write(&mode_file, "1")?;

    let flags = ioctl::capabilities(file.as_fd())?.flags;
    ensure!(flags & abi::CAP_MAP_MODE != 0, "no MAP_MODE in {flags:#x}");
    let by_user = cfg!(target_arch = "aarch64") && attribute(name, "dma_coherent")? == "0\n";
    ensure!((flags & abi::CAP_USER_SYNC != 0) == by_user, "USER_SYNC in {flags:#x}");
    Ok(if types { "each as the header says" } else { "all cached" }.into())
}

/// An export's own `O_SYNC` counts, not that of the file it was made through.
fn exported(name: &str) -> Result<String> {
    let types = has_types(name)?;
    for flag in [OFlags::empty(), OFlags::SYNC] {
        for of in [OFlags::empty(), OFlags::SYNC] {
            let file = open_sync(name, of)?;
            let (dma_buf, _) = ioctl::export(file.as_fd(), OFlags::RDWR | flag, 0, 4096)?;
            let kind = type_of(&File::from(dma_buf))?;
            let expected = if types && flag == OFlags::SYNC { "uncached" } else { "cached" };
            ensure!(kind == expected, "exported with {flag:?} of {of:?}: {kind}, not {expected}");
        }
    }
    Ok("by its own O_SYNC".into())
}

/// The lines that a cached user may have left are written back before the next
/// mapping without cache, and not again before there was another.
fn emptied() -> Result<String> {
    let made = Created::new("emptied", 16384, "")?;
    if !has_types(made.name)? {
        return Ok("skipped: no mapping is without cache".into());
    }
    let uncached = || -> Result<bool> {
        let trace = traced(|| {
            Map::new(&open_sync(made.name, OFlags::SYNC)?, 16384, MapFlags::empty())?;
            Ok(())
        })?;
        Ok(trace.contains("u_dma_buf_empty_cache"))
    };
    ensure!(uncached()?, "not emptied for the first");
    ensure!(!uncached()?, "emptied again, although nobody used the cache");
    let mapped = || -> Result<()> {
        Map::new(&open(made.name)?, 16384, MapFlags::empty())?.set(0, 1);
        Ok(())
    };
    let written = || Ok(open(made.name)?.write_all_at(&[1; 64], 4096)?);
    let exported = || -> Result<()> {
        let (dma_buf, _) = ioctl::export(open(made.name)?.as_fd(), OFlags::RDWR, 0, 4096)?;
        Map::new(&File::from(dma_buf), 4096, MapFlags::empty())?.set(0, 1);
        Ok(())
    };
    let mapped_by_kernel = || -> Result<()> {
        let (dma_buf, _) = ioctl::export(open(made.name)?.as_fd(), OFlags::RDWR, 0, 4096)?;
        peer_must(&format!("vmap {}", dma_buf.as_raw_fd()))
    };
    let unmapped_by_kernel = || -> Result<()> {
        peer_must("poke 0 1")?;
        peer_must("vunmap")?;
        unload_peer()
    };
    let by_kernel = || -> Result<()> {
        mapped_by_kernel()?;
        unmapped_by_kernel()
    };
    let users: [(&str, &dyn Fn() -> Result<()>); 4] = [
        ("mapping", &mapped),
        ("write", &written),
        ("export's mapping", &exported),
        ("kernel mapping", &by_kernel),
    ];
    for (what, user) in users {
        user().context(what)?;
        ensure!(uncached()?, "not emptied after a cached {what}");
        ensure!(!uncached()?, "emptied twice after a cached {what}");
    }

    // One that was there at that time may have left lines until it ends.
    let cached = Map::new(&open(made.name)?, 16384, MapFlags::empty())?;
    ensure!(uncached()?, "not emptied beside a cached mapping");
    cached.set(0, 2);
    drop(cached);
    ensure!(uncached()?, "not emptied after a mapping that stayed cached");
    mapped_by_kernel()?;
    let beside = uncached();
    unmapped_by_kernel()?;
    ensure!(beside?, "not emptied beside a kernel mapping");
    ensure!(uncached()?, "not emptied after a kernel mapping that stayed");
    // A part is emptied for itself alone.
    mapped()?;
    let part = traced(|| {
        Map::new(&open_sync(made.name, OFlags::SYNC)?, 4096, MapFlags::empty())?;
        Ok(())
    })?;
    ensure!(part.contains("u_dma_buf_empty_cache"), "not emptied for a part: {part}");
    ensure!(uncached()?, "a part was taken for the whole");
    Ok("after each user of the cache, once".into())
}

/// Bytes that one mapping wrote, the other types of mapping see.
fn one_memory(name: &str) -> Result<String> {
    let file = open(name)?;
    let mut maps = Vec::new();
    for mode in [abi::MAP_CACHED, abi::MAP_UNCACHED, abi::MAP_WRITE_COMBINED] {
        if ioctl::set_map_mode(file.as_fd(), mode).is_ok() {
            maps.push(Map::new(&file, 65536, MapFlags::empty())?);
        }
    }
    for (value, map) in (1..).zip(&maps) {
        map.set(65535, value);
        let all: Vec<_> = maps.iter().map(|map| map.get(65535)).collect();
        ensure!(all.iter().all(|&seen| seen == value), "{all:?} instead of {value}");
    }
    Ok(format!("{} mappings of one memory", maps.len()))
}

/// fault 24: the first touch brings many pages, and MAP_POPULATE all.
fn populated(name: &str) -> Result<String> {
    let file = open(name)?;
    let map = Map::new(&file, 65536, MapFlags::empty())?;
    ensure!(map.page(0)?.0 == "absent", "there before the first touch");
    map.get(32768);
    // Those around it that are in the same 2 MiB of addresses.
    let window = |offset| (map.address() + offset) >> 21;
    for offset in (0..65536).step_by(4096).filter(|&offset| window(offset) == window(32768)) {
        ensure!(map.page(offset)?.0 != "absent", "not brought by one touch: {offset:#x}");
    }

    let map = Map::new(&file, 65536, MapFlags::POPULATE)?;
    if !cfg!(any(target_arch = "aarch64", target_arch = "x86_64")) {
        return Ok("one touch; this architecture does not populate".into());
    }
    for offset in (0..65536).step_by(4096) {
        ensure!(map.page(offset)?.0 != "absent", "not populated: {offset:#x}");
    }
    Ok("one touch, or none with MAP_POPULATE".into())
}

/// Where kernel and alignment allow it, a large mapping is of large pages.
fn large() -> Result<String> {
    const LARGE: usize = 2 << 20;
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let mut numbers = release.split('.').map_while(|number| number.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let able = version >= (6, 12) && cfg!(any(target_arch = "aarch64", target_arch = "x86_64"));

    // Where there is one, in a region of its own, which is aligned.
    let made = match fs::exists(format!("{CLASS}/udmabuf_region"))? {
        true => None,
        false => Some(Created::new("udmabuf_large", (2 * LARGE) as u64, "")?),
    };
    let file = open(made.as_ref().map_or("udmabuf_region", |made| made.name))?;
    let map = Map::new(&file, 2 * LARGE, MapFlags::empty())?;
    let address = ioctl::dma_addr(file.as_fd())?;
    // A touch brings the next large page, too.
    let (touched, expected) =
        if able && address % LARGE as u64 == 0 { (0, LARGE) } else { (LARGE, 4096) };
    map.set(touched, 1);
    let (_, size) = map.page(LARGE)?;
    ensure!(size == expected, "{size} byte pages at {address:#x}, not {expected}");
    for offset in (0..map.len()).step_by(16 * 4096) {
        map.set(offset, if offset < LARGE { 2 } else { 3 });
        ensure!(map.page(offset)?.0 == "cached", "{:?} at {offset:#x}", map.page(offset)?);
    }
    let mut read = [0; 2];
    for (offset, byte) in [0, LARGE as u64].into_iter().zip(&mut read) {
        file.read_exact_at(std::slice::from_mut(byte), offset)?;
    }
    ensure!(read == [2, 3], "{read:?} in the two");
    // One that is mapped in part is not large.
    let map = Map::new(&file, LARGE + LARGE / 2, MapFlags::empty())?;
    map.set(0, 1);
    ensure!(map.page(LARGE)?.0 == "absent", "beyond the mapping's last large page");
    Ok(format!("{size} byte pages of a buffer at {address:#x}"))
}

/// fault 1: a private mapping would copy what the device never sees.
fn private(name: &str) -> Result<String> {
    let file = open(name)?;
    for flags in [MapFlags::PRIVATE, MapFlags::PRIVATE | MapFlags::POPULATE] {
        let error = map_with(&file, 4096, flags).err();
        ensure!(error == Some(Errno::INVAL), "{flags:?}: {error:?}");
    }
    Ok("refused".into())
}
