//! read, write and splice, and what they do with memory that cannot be had.
#![allow(unsafe_code, reason = "faults that a test serves")]

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom, Write},
    os::{fd::AsFd, unix::fs::FileExt},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{Mode, OFlags},
    io::{Errno, pread, pwrite},
    ioctl::{Opcode, Updater, ioctl, opcode},
    mm::{MapFlags, UserfaultfdFlags, userfaultfd},
    pipe::{SpliceFlags, pipe, splice},
};

use udmabuf_sys::ioctl as commands;

use super::{
    Tests,
    existing::traced,
    map::Map,
    module::{bind, open, unbind},
    random::Random,
    raw,
};

pub(crate) fn tests(run: &mut Tests, name: &'static str) {
    run.test("read and write", || moves_bytes(name));
    run.test("read only, and synced", || read_only(name));
    run.test("fault 24 bad memory", || bad_memory(name));
    run.test("splice", || splices(name));
    run.test("fault 23 slow memory", || slow_memory(name));
}

const SIZE: usize = 65536;
const PAGE: usize = 4096;

/// At every kind of offset, and over the end.
fn moves_bytes(name: &str) -> Result<String> {
    let mut file = open(name)?;
    let (mut random, seed) = Random::new();
    let mut model = vec![0; SIZE];
    random.fill(&mut model);
    file.write_all(&model)?;
    ensure!(file.write(&[1]).is_ok_and(|len| len == 0), "written beyond the end");

    for (at, len) in [(0, 1), (4095, 2), (4097, 8191), (1, SIZE - 2), (SIZE - 3, 3)] {
        let mut part = vec![0; len];
        random.fill(&mut part);
        file.write_all_at(&part, at as u64)?;
        model[at..at + len].copy_from_slice(&part);
        let mut back = vec![0; len];
        file.read_exact_at(&mut back, at as u64)?;
        ensure!(back == part, "{len} bytes at {at} came back otherwise, seed {seed}");
    }
    let mut all = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.read_to_end(&mut all)?;
    ensure!(all == model, "other bytes, seed {seed}");
    let map = Map::new(&file, SIZE, MapFlags::empty())?;
    ensure!((0..SIZE).all(|at| map.get(at) == model[at]), "the mapping differs, seed {seed}");
    Ok(format!("{SIZE} bytes, seed {seed}"))
}

/// A reader cannot drop what others wrote and is still in the cache: that is
/// written back first, and nothing is only dropped.
fn read_only(name: &str) -> Result<String> {
    let path = format!("/dev/{name}");
    let file = rustix::fs::open(&path, OFlags::RDONLY | OFlags::SYNC, Mode::empty())?;
    let (dma_buf, _) = commands::export(file.as_fd(), OFlags::RDONLY, 4096, 4096)?;
    let by_file = || Ok(pread(&file, &mut [0; 4096], 4096).map(drop)?);
    let by_export = || {
        // Begin and end, of reading.
        for flags in [1u64, 4 | 1] {
            raw::call(dma_buf.as_fd(), 0x4008_6200, &mut flags.to_ne_bytes())?;
        }
        Ok(())
    };
    let ways: [(&str, &dyn Fn() -> Result<()>); 2] = [("file", &by_file), ("export", &by_export)];
    for (what, reads) in ways {
        let trace = traced(reads)?;
        let at = |event: &str| trace.find(&format!("{event} offset=0x1000 size=4096 how="));
        let (Some(cleaned), Some(dropped)) =
            (at("u_dma_buf_sync_for_device: minor=0"), at("u_dma_buf_sync_for_cpu: minor=0"))
        else {
            bail!("{what}: not both ways: {trace}");
        };
        ensure!(cleaned < dropped, "{what}: dropped before it was written back: {trace}");
        // On some machines, to give a device what it will write is to drop it.
        let given =
            trace.lines().find(|line| line.contains("for_device") && line.contains("how=2"));
        ensure!(given.is_none(), "{what}: {given:?}");
    }
    Ok("written back first".into())
}

/// fault 24: memory that cannot be accessed is EFAULT, and what is before it counts.
fn bad_memory(name: &str) -> Result<String> {
    let file = open(name)?;
    let mut bad = Map::anonymous(2 * PAGE)?;
    bad.forbid_from(PAGE)?;
    let slice = bad.for_system_calls();
    for (from, expected) in [(PAGE, Err(Errno::FAULT)), (0, Ok(PAGE)), (PAGE - 7, Ok(7))] {
        let got = pread(&file, &mut slice[from..], 5);
        ensure!(got == expected, "read: {got:?}, not {expected:?}");
        let got = pwrite(&file, &slice[from..], 5);
        ensure!(got == expected, "write: {got:?}, not {expected:?}");
    }
    // The buffer's own mapping is memory like other.
    let mut own = Map::new(&file, SIZE, MapFlags::empty())?;
    let got = pread(&file, own.for_system_calls(), 0);
    ensure!(got == Ok(SIZE), "into itself: {got:?}");
    let own = Map::new(&file, SIZE, MapFlags::empty())?;
    ensure!(own.len() == SIZE, "mapped less");
    Ok("EFAULT, or the bytes before it".into())
}

fn splices(name: &str) -> Result<String> {
    let file = open(name)?;
    let (mut random, seed) = Random::new();
    let mut sent = vec![0; 3 * PAGE];
    random.fill(&mut sent);
    file.write_all_at(&sent, 100)?;

    let (reader, writer) = pipe()?;
    let (mut from, mut to) = (100, 20000);
    let mut moved = 0;
    while moved < sent.len() {
        let len =
            splice(&file, Some(&mut from), &writer, None, sent.len() - moved, SpliceFlags::empty())
                .context("out of the buffer")?;
        ensure!(len > 0, "nothing more after {moved} bytes");
        let mut left = len;
        while left > 0 {
            left -= splice(&reader, None, &file, Some(&mut to), left, SpliceFlags::empty())
                .context("into the buffer")?;
        }
        moved += len;
    }
    let mut received = vec![0; sent.len()];
    file.read_exact_at(&mut received, 20000)?;
    ensure!(sent == received, "other bytes, seed {seed}");
    Ok(format!("{moved} bytes, seed {seed}"))
}

#[repr(C)]
struct UffdioApi {
    api: u64,
    features: u64,
    ioctls: u64,
}

#[repr(C)]
struct UffdioRegister {
    start: u64,
    len: u64,
    mode: u64,
    ioctls: u64,
}

#[repr(C)]
struct UffdioZeropage {
    start: u64,
    len: u64,
    mode: u64,
    zeropage: i64,
}

const UFFDIO: u8 = 0xaa;
const UFFDIO_API: Opcode = opcode::read_write::<UffdioApi>(UFFDIO, 0x3f);
const UFFDIO_REGISTER: Opcode = opcode::read_write::<UffdioRegister>(UFFDIO, 0);
const UFFDIO_ZEROPAGE: Opcode = opcode::read_write::<UffdioZeropage>(UFFDIO, 4);

/// fault 23: who reads into memory whose page faults nobody serves holds up no
/// removal.
fn slow_memory(name: &str) -> Result<String> {
    // SAFETY: the faults it takes are those of a mapping that only this test uses.
    let Ok(faults) =
        (unsafe { userfaultfd(UserfaultfdFlags::CLOEXEC | UserfaultfdFlags::NONBLOCK) })
    else {
        return Ok("skipped: the kernel has no userfaultfd".into());
    };
    let mut slow = Map::anonymous(PAGE)?;
    let start = slow.address() as u64;
    let mut api = UffdioApi { api: 0xaa, features: 0, ioctls: 0 };
    // SAFETY: the opcode is that of the structure, which it takes and fills.
    let api = unsafe { Updater::<UFFDIO_API, _>::new(&mut api) };
    // SAFETY: it is a userfaultfd.
    unsafe { ioctl(&faults, api) }?;
    let mut register = UffdioRegister { start, len: PAGE as u64, mode: 1, ioctls: 0 };
    // SAFETY: the opcode is that of the structure, which it takes and fills.
    let register = unsafe { Updater::<UFFDIO_REGISTER, _>::new(&mut register) };
    // SAFETY: it is a userfaultfd, and the range is `slow`.
    unsafe { ioctl(&faults, register) }?;

    let file = open(name)?;
    let took = thread::scope(|scope| -> Result<Duration> {
        let reader = scope.spawn(|| pread(file.as_fd(), slow.for_system_calls(), 0));
        let fault = &mut [PollFd::new(&faults, PollFlags::IN)];
        let patience = Timespec::try_from(Duration::from_secs(20))?;
        let polled = poll(fault, Some(&patience))?;
        let is_slow = polled == 1 && fault[0].revents() == PollFlags::IN;
        ensure!(is_slow, "nothing was slow: {:?}", fault[0].revents());
        let started = Instant::now();
        let device = unbind(name)?;
        let took = started.elapsed();
        let waiting = !reader.is_finished();

        let mut zero = UffdioZeropage { start, len: PAGE as u64, mode: 0, zeropage: 0 };
        // SAFETY: the opcode is that of the structure, which it takes and fills.
        let zero = unsafe { Updater::<UFFDIO_ZEROPAGE, _>::new(&mut zero) };
        // SAFETY: it is a userfaultfd, and the range is `slow`.
        unsafe { ioctl(&faults, zero) }?;
        let result = reader.join();
        bind(&device)?;
        ensure!(waiting, "the reader had ended before its fault was served");
        match result {
            Ok(Err(Errno::NODEV)) => Ok(took),
            other => bail!("the reader got {other:?}"),
        }
    })?;
    let mut again = [1; 8];
    File::open(format!("/dev/{name}"))?.read_exact(&mut again)?;
    ensure!(again == [0; 8], "the new buffer has old bytes");
    Ok(format!("removed after {took:?}, with the reader still waiting"))
}
