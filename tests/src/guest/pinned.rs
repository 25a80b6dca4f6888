//! Mode *page*: pages that the kernel can hold for direct I/O and sockets. A pipe
//! that has them spliced in holds them as those do.
#![allow(unsafe_code, reason = "vmsplice")]

use std::{
    fs::{self, File},
    io::Read,
    os::fd::OwnedFd,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};
use rustix::{
    io::Errno,
    mm::MapFlags,
    pipe::{IoSliceRaw, SpliceFlags, pipe, vmsplice},
};

use super::{
    Tests,
    manager::Created,
    map::Map,
    module::{CLASS, attribute, bind, open, unbind},
};

pub(crate) fn tests(run: &mut Tests, name: &'static str) {
    run.test("fault 18 mode page", || holds(name));
    run.test("fault 06 held pages", removed);
    run.test("a delete that waits", waiting_delete);
}

const PAGE: usize = 4096;
/// More than the page allocator has in one block, where there is contiguous
/// memory (CMA) for that: not on a PC, nor by Debian on RISC-V.
const LARGE: usize = if cfg!(any(target_arch = "x86_64", target_arch = "riscv64")) {
    1024 * PAGE
} else if cfg!(target_arch = "arm") {
    2048 * PAGE // all that Debian's kernel sets aside is 16 MiB
} else {
    4096 * PAGE
};

/// The pages of `offsets`, in a pipe.
fn spliced(map: &mut Map, offsets: &[usize]) -> Result<(OwnedFd, OwnedFd), Errno> {
    let (reader, writer) = pipe()?;
    for &offset in offsets {
        let page = IoSliceRaw::from_slice(&map.for_system_calls()[offset..offset + PAGE]);
        // SAFETY: into the pipe, without GIFT: the memory is only read.
        let len = unsafe { vmsplice(&writer, &[page], SpliceFlags::NONBLOCK) }?;
        assert_eq!(len, PAGE);
    }
    Ok((reader, writer))
}

/// What the page at this offset is filled with.
fn value_of(offset: usize) -> u8 {
    u8::try_from(offset / PAGE % 251).unwrap_or_default()
}

fn check(reader: OwnedFd, offsets: &[usize]) -> Result<()> {
    let mut pages = vec![0; offsets.len() * PAGE];
    File::from(reader).read_exact(&mut pages)?;
    for (page, offset) in pages.chunks(PAGE).zip(offsets) {
        let value = value_of(*offset);
        ensure!(page.iter().all(|&byte| byte == value), "other bytes of the page at {offset:#x}");
    }
    Ok(())
}

fn filled(name: &str, size: usize) -> Result<Map> {
    let map = Map::new(&open(name)?, size, MapFlags::empty())?;
    for offset in 0..size {
        map.set(offset, value_of(offset));
    }
    Ok(map)
}

/// Every page of a block can be held, and only in this mode.
fn holds(name: &str) -> Result<String> {
    let mut plain = filled(name, 65536)?;
    match spliced(&mut plain, &[0]) {
        Err(Errno::FAULT) => {}
        other => bail!("pages without references were had: {other:?}"),
    }

    let mut sizes = Vec::new();
    for size in [PAGE, 16 * PAGE, 5 * PAGE, LARGE / 2] {
        let made = Created::new("udmabuf_page", (size) as u64, "quirk-mmap-page")?;
        ensure!(attribute(made.name, "quirk_mmap_mode")? == "4\n", "another mode");
        let mut map = filled(made.name, size)?;
        let offsets: Vec<_> = [0, (size / 2) & !(PAGE - 1), size - PAGE].to_vec();
        let (reader, writer) = spliced(&mut map, &offsets)?;
        drop(writer);
        check(reader, &offsets)?;
        sizes.push(size / 1024);
    }
    Ok(format!("buffers of {sizes:?} KiB"))
}

/// fault 6, for held pages: a removal neither frees them nor, where it has to
/// wait, ends before they are given back.
fn removed() -> Result<String> {
    let mut waited = Vec::new();
    for size in [16 * PAGE, LARGE] {
        let made = Created::new("udmabuf_page", (size) as u64, "quirk-mmap-page")?;
        let mut map = filled(made.name, size)?;
        let offsets = [PAGE, size - PAGE];
        let (reader, writer) = spliced(&mut map, &offsets)?;
        drop(writer);

        let name = made.name;
        let removal = thread::spawn(move || unbind(name));
        let started = Instant::now();
        // Long where it ends by itself, as it decides only how long the failure takes.
        let patience = Duration::from_millis(if size == LARGE { 700 } else { 60_000 });
        while !removal.is_finished() && started.elapsed() < patience {
            thread::sleep(Duration::from_millis(20));
        }
        waited.push(!removal.is_finished());
        // Whoever gets the pages next writes them.
        let other = Created::new("udmabuf_next", (size) as u64, "quirk-mmap-page")?;
        let next = Map::new(&open(other.name)?, size, MapFlags::empty())?;
        (0..size).step_by(64).for_each(|offset| next.set(offset, 0xff));
        check(reader, &offsets)?;

        let device = match removal.join() {
            Ok(device) => device?,
            Err(_) => bail!("the removal panicked"),
        };
        drop(map);
        bind(&device)?;
    }
    ensure!(!waited[0], "pages of the page allocator's were waited for");
    Ok(format!("small, large waited: {waited:?}"))
}

/// The manager serves others meanwhile.
fn waiting_delete() -> Result<String> {
    let made = Created::new("udmabuf_page", LARGE as u64, "quirk-mmap-page")?;
    let mut map = filled(made.name, LARGE)?;
    let (reader, writer) = spliced(&mut map, &[0])?;
    drop((map, writer));

    let deletion = thread::spawn(move || drop(made));
    while fs::exists(format!("{CLASS}/udmabuf_page"))? {
        thread::sleep(Duration::from_millis(10));
    }
    let other = thread::spawn(|| Created::new("udmabuf_next", PAGE as u64, "").map(drop));
    // Long, as it decides only how long the failure takes.
    let started = Instant::now();
    while !other.is_finished() && started.elapsed() < Duration::from_secs(20) {
        thread::sleep(Duration::from_millis(10));
    }
    let (served, waited) = (other.is_finished(), !deletion.is_finished());
    drop(reader);
    if deletion.join().is_err() {
        bail!("the deletion panicked");
    }
    match other.join() {
        Ok(made) => made?,
        Err(_) => bail!("the creation panicked"),
    }
    ensure!(served, "nothing was created before the deletion ended");
    Ok(format!("another was created and deleted; the first waited: {waited}"))
}
