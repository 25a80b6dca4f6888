//! Export as a dma-buf, with `udb-peer.ko` on the other side.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::{fs::FileExt, process::ExitStatusExt},
    },
    process::{Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use memmap2::{MmapOptions, MmapRaw};
use rustix::{
    fs::OFlags,
    io::{Errno, FdFlags, fcntl_getfd},
    mm::MapFlags,
};
use udmabuf_sys::{
    abi::{self, ExportArgs},
    ioctl,
};

use super::{
    Tests,
    claims::unbind,
    existing::traced,
    manager::Created,
    map::Map,
    module::{CLASS, busybox, log, open},
    peer::{peek, peer, peer_must, results, unload_peer},
    raw,
};

pub(crate) fn tests(run: &mut Tests, board: &str, name: &'static str) {
    ioctls(run, name);
    run.test("export imported", || imported(name));
    run.test("export of a removed buffer", removed);
    if board == "arm64-smmu" {
        run.test("fault 21 export of scattered memory", scattered);
    }
    if board == "x86_64" {
        run.test("a program of 32 bits", || as_32_bits(name));
    }
}

/// Which a program of another word size makes, too.
pub(crate) fn ioctls(run: &mut Tests, name: &str) {
    run.test("export mapped", || mapped(name));
    run.test("export refusals", || refusals(name));
    run.test("fault 02 export without descriptors", || no_descriptors(name));
    run.test("fault 03 export that wraps", || wraps(name));
    run.test("fault 05 export without an answer", || no_answer(name));
    run.test("fault 17 export of a read-only file", || read_only(name));
}

fn export(file: &File, flags: OFlags, offset: u64, size: u64) -> Result<OwnedFd> {
    let (dma_buf, addr) = ioctl::export(file.as_fd(), flags | OFlags::CLOEXEC, offset, size)?;
    let start = ioctl::dma_addr(file.as_fd())?;
    ensure!(addr == start + offset, "the address is {addr:#x}, the buffer's {start:#x}");
    Ok(dma_buf)
}

fn map(fd: BorrowedFd<'_>, offset: u64, len: usize) -> std::io::Result<MmapRaw> {
    MmapOptions::new().offset(offset).len(len).map_raw(fd.as_raw_fd())
}

#[allow(unsafe_code, reason = "a byte of a mapping that nobody else has a reference to")]
fn byte(map: &MmapRaw, at: usize) -> u8 {
    assert!(at < map.len());
    // SAFETY: inside the mapping, as just checked.
    let byte = unsafe { map.as_ptr().add(at) };
    // SAFETY: mapped for reading; other processes write whole bytes.
    unsafe { byte.read_volatile() }
}

/// `DMA_BUF_IOCTL_SYNC`: begin (read and write), then end.
pub(crate) fn dma_buf_sync(fd: BorrowedFd<'_>) -> rustix::io::Result<()> {
    for flags in [3u64, 4 | 3] {
        raw::call(fd, 0x4008_6200, &mut flags.to_ne_bytes())?;
    }
    Ok(())
}

fn mapped(name: &str) -> Result<String> {
    let file = open(name)?;
    for page in 0..4u8 {
        file.write_at(&[page + 1; 4096], u64::from(page) * 4096)?;
    }
    let dma_buf = export(&file, OFlags::RDWR, 4096, 8192)?;
    drop(file);
    let mapping = map(dma_buf.as_fd(), 0, 8192)?;
    ensure!(byte(&mapping, 0) == 2 && byte(&mapping, 8191) == 3, "other pages");
    let second = map(dma_buf.as_fd(), 4096, 4096)?;
    ensure!(byte(&second, 0) == 3, "another second page");
    ensure!(map(dma_buf.as_fd(), 0, 12288).is_err(), "beyond its end");
    ensure!(map(dma_buf.as_fd(), 4096, 8192).is_err(), "beyond its end, from the second page");
    let trace = traced(|| Ok(dma_buf_sync(dma_buf.as_fd())?))?;
    for event in ["sync_for_cpu", "sync_for_device"] {
        let event = format!("u_dma_buf_{event}: minor=0 offset=0x1000 size=8192 how=0\n");
        ensure!(trace.contains(&event), "no {event:?} in {trace}");
    }
    open(name)?.write_at(&[9], 4096)?;
    ensure!(byte(&mapping, 0) == 9, "not the buffer's memory");
    ensure!(raw::map_privately(dma_buf.as_fd(), 4096).is_err(), "mapped privately");
    Ok("its range, no more, after the file was closed".into())
}

fn imported(name: &str) -> Result<String> {
    let file = open(name)?;
    for page in 0..4u8 {
        file.write_at(&[page + 1; 4096], u64::from(page) * 4096)?;
    }
    let dma_buf = export(&file, OFlags::RDWR, 4096, 8192)?;
    peer_must(&format!("attach {} 0", dma_buf.as_raw_fd()))?;
    let [entries, largest, _] = results()?;
    ensure!(entries >= 1 && largest <= 1 << 30, "{entries} entries, up to {largest:#x}");
    ensure!(peek(0)? == 2 && peek(8191)? == 3, "other pages");
    ensure!(peek(8192).is_err(), "beyond its end");
    peer_must("poke 4096 77")?;
    let mut read = [0; 1];
    file.read_at(&mut read, 8192)?;
    ensure!(read == [77], "written elsewhere");
    dma_buf_sync(dma_buf.as_fd())?;
    peer_must("detach")?;

    peer_must(&format!("vmap {}", dma_buf.as_raw_fd()))?;
    ensure!(peek(4096)? == 77, "another mapping");
    peer_must("poke 0 78")?;
    file.read_at(&mut read, 4096)?;
    ensure!(read == [78], "written elsewhere");
    // The importer holds it, whatever the program does.
    drop((dma_buf, file));
    ensure!(peek(0)? == 78, "gone");
    ensure!(busybox("rmmod", &["u_dma_buf"]).is_err(), "unloaded under an importer");
    peer_must("vunmap")?;
    unload_peer()?;
    Ok(format!("through {entries} entries and a kernel mapping"))
}

fn refusals(name: &str) -> Result<String> {
    let file = open(name)?;
    let fd = file.as_fd();
    let size = ioctl::size(fd)?;
    let rdwr = OFlags::RDWR;
    for (flags, offset, len) in [
        (rdwr, 0, 0),
        (rdwr, 0, 100),
        (rdwr, 100, 4096),
        (rdwr, size, 4096),
        (rdwr, 0, size + 4096),
        (rdwr | OFlags::NONBLOCK, 0, 4096),
        (rdwr | OFlags::APPEND, 0, 4096),
        (OFlags::RDWR | OFlags::WRONLY, 0, 4096),
    ] {
        let result = ioctl::export(fd, flags, offset, len);
        ensure!(result.is_err_and(|e| e == Errno::INVAL), "{len:#x} at {offset:#x}, {flags:?}");
    }
    for flags in [rdwr, OFlags::RDONLY, OFlags::WRONLY, rdwr | OFlags::SYNC, rdwr | OFlags::CLOEXEC]
    {
        let (made, _) = ioctl::export(fd, flags, 0, 4096).with_context(|| format!("{flags:?}"))?;
        let on_exec = fcntl_getfd(&made)?.contains(FdFlags::CLOEXEC);
        ensure!(on_exec == flags.contains(OFlags::CLOEXEC), "{flags:?}: closed on exec: {on_exec}");
    }
    ensure!(ioctl::capabilities(fd)?.flags & abi::CAP_EXPORT != 0, "no capability");

    // The layout without padding at the end, of 32-bit x86.
    let mut short = [0; 36];
    short.get_mut(8..10).context("size")?.copy_from_slice(&4096u16.to_ne_bytes());
    raw::call(fd, 0xc024_550a, &mut short).context("36 bytes")?;
    let answer = i32::from_ne_bytes(short.get(32..).context("fd")?.try_into()?);
    ensure!(fs::exists(format!("/proc/self/fd/{answer}"))?, "no descriptor {answer}");
    drop(raw::own(answer));
    Ok("as documented".into())
}

/// Behind an IOMMU, one address range stands for pages from anywhere.
fn scattered() -> Result<String> {
    const NAME: &str = "udmabuf_scattered";
    let file = open(NAME)?;
    let size = ioctl::size(file.as_fd())?;
    let pages = size / 4096;
    let of = |page: u64| u8::try_from(page % 251);
    for page in 0..pages {
        file.write_all_at(&[of(page)?; 4096], page * 4096)?;
    }
    let breaks = breaks(&file, usize::try_from(size)?)?;
    ensure!(!breaks.is_empty(), "{NAME} is in one piece");
    // The first piece with and without its end, and what is behind it.
    for (first, end) in
        [(0, pages), (1, breaks[0]), (breaks[0] - 1, breaks[0] + 1), (breaks[0], pages)]
    {
        let size = (end - first) * 4096;
        let dma_buf = export(&file, OFlags::RDWR, first * 4096, size)?;
        let mapping = map(dma_buf.as_fd(), 0, usize::try_from(size)?)?;
        peer_must(&format!("attach {} 0", dma_buf.as_raw_fd()))?;
        let sides = breaks.iter().flat_map(|&page| [page - 1, page]);
        for page in sides.chain([first, first.midpoint(end), end - 1]) {
            if !(first..end).contains(&page) {
                continue;
            }
            let (at, expected) = ((page - first) * 4096, of(page)?);
            ensure!(peek(at)? == u64::from(expected), "page {page} is another for an importer");
            ensure!(
                byte(&mapping, usize::try_from(at)?) == expected,
                "page {page} is mapped wrong"
            );
        }
        dma_buf_sync(dma_buf.as_fd())?;
        peer_must("detach")?;
    }
    unload_peer()?;
    Ok(format!("{} pieces, each page the right one", breaks.len() + 1))
}

/// The pages that are not where the one before them ends.
fn breaks(file: &File, len: usize) -> Result<Vec<u64>> {
    // Of a mapping that is populated the kernel tells where its pages are.
    let map = Map::new(file, len, MapFlags::POPULATE)?;
    let mut entries = vec![0; len / 4096 * 8];
    let pagemap = File::open("/proc/self/pagemap")?;
    pagemap.read_exact_at(&mut entries, map.address() as u64 / 4096 * 8)?;
    let number = |entry: &[u8]| -> Result<u64> {
        Ok(u64::from_ne_bytes(entry.try_into()?) & ((1 << 55) - 1))
    };
    let numbers = entries.chunks_exact(8).map(number).collect::<Result<Vec<_>>>()?;
    ensure!(numbers.iter().all(|&number| number != 0), "the kernel does not tell where pages are");
    let after = (1..).zip(numbers.windows(2)).filter(|(_, pair)| pair[1] != pair[0] + 1);
    Ok(after.map(|(page, _)| page).collect())
}

/// The same ioctls from 32-bit x86, with its layouts.
fn as_32_bits(name: &str) -> Result<String> {
    let output = Command::new("/guest32").args(["interfaces", name]).output().context("guest32")?;
    let said = String::from_utf8_lossy(&output.stdout);
    let failed = said.lines().find(|line| line.starts_with("FAILED"));
    ensure!(output.status.success() && failed.is_none(), "{}: {failed:?}", output.status);
    Ok(format!("{} tests of its own", said.lines().filter(|line| line.starts_with("ok ")).count()))
}

fn wraps(name: &str) -> Result<String> {
    let file = open(name)?;
    for (offset, size) in [
        (0u64.wrapping_sub(0x1000), 0x2000),
        (0x1000, 0u64.wrapping_sub(0x1000)),
        (0u64.wrapping_sub(0x2000), 0x1000),
        (1 << 32, 0x1000),
        (0, 1 << 32),
    ] {
        let result = ioctl::export(file.as_fd(), OFlags::RDWR, offset, size);
        ensure!(result.is_err_and(|e| e == Errno::INVAL), "{size:#x} at {offset:#x}");
    }
    Ok("refused".into())
}

fn no_descriptors(name: &str) -> Result<String> {
    let file = open(name)?;
    for _ in 0..3 {
        let mut all = Vec::new();
        while let Ok(null) = File::open("/dev/null") {
            all.push(null);
        }
        for _ in 0..10 {
            let result = ioctl::export(file.as_fd(), OFlags::RDWR, 0, 4096);
            ensure!(result.is_err_and(|e| e == Errno::MFILE), "exported");
        }
        drop(all);
        let dma_buf = export(&file, OFlags::RDWR, 0, 4096)?;
        map(dma_buf.as_fd(), 0, 4096)?;
    }
    Ok("EMFILE, and works after it".into())
}

fn no_answer(name: &str) -> Result<String> {
    static ARGS: ExportArgs = ExportArgs { flags: 2, size: 4096, offset: 0, dma_addr: 0, fd: 0 };
    let file = open(name)?;
    let descriptors = || fs::read_dir("/proc/self/fd").map(Iterator::count);
    let before = descriptors()?;
    for _ in 0..10 {
        let result = raw::call_read_only(file.as_fd(), abi::EXPORT, &ARGS);
        ensure!(result == Err(Errno::FAULT), "{result:?}");
    }
    let after = descriptors()?;
    ensure!(before == after, "{} descriptors leaked", after - before);
    drop(file);
    // Nothing holds the buffer.
    let file = open(name)?;
    ioctl::claim(file.as_fd(), false).context("claim")?;
    Ok("EFAULT, and nothing is left of it".into())
}

fn read_only(name: &str) -> Result<String> {
    let file = File::open(format!("/dev/{name}"))?;
    for flags in [OFlags::RDWR, OFlags::WRONLY] {
        let result = ioctl::export(file.as_fd(), flags, 0, 4096);
        ensure!(result.is_err_and(|e| e == Errno::BADF), "{flags:?} of a read-only file");
    }
    let dma_buf = export(&file, OFlags::RDONLY, 0, 4096)?;
    ensure!(map(dma_buf.as_fd(), 0, 4096).is_err_and(|e| e.kind() == ErrorKind::PermissionDenied));
    // A device must not write either.
    let eacces = Errno::ACCESS.raw_os_error();
    ensure!(peer(&format!("attach {} 0", dma_buf.as_raw_fd()))? == eacces, "attached, both ways");
    ensure!(peer(&format!("attach {} 2", dma_buf.as_raw_fd()))? == eacces, "attached for writing");
    peer_must(&format!("attach {} 1", dma_buf.as_raw_fd()))?;
    peer_must("detach")?;
    unload_peer()?;

    for result in [
        ioctl::sync_value_for_cpu(file.as_fd(), 64),
        ioctl::set_sync_settings(file.as_fd(), abi::SyncArgs::default()),
        ioctl::sync_batch(file.as_fd(), &[]),
        ioctl::claim(file.as_fd(), false),
    ] {
        ensure!(result == Err(Errno::BADF), "of a read-only file: {result:?}");
    }
    Ok("nothing is written through it, by nobody".into())
}

/// In another process: maps an export, and touches it once its input ends.
pub(crate) fn touch_when_told(name: &str) -> ExitCode {
    let touch = || -> Result<u8> {
        let file = open(name)?;
        let dma_buf = export(&file, OFlags::RDWR, 0, 4096)?;
        let mapping = map(dma_buf.as_fd(), 0, 4096)?;
        byte(&mapping, 0);
        println!("mapped");
        std::io::stdin().read_line(&mut String::new())?;
        let late = map(dma_buf.as_fd(), 0, 4096).err().and_then(|error| error.raw_os_error());
        ensure!(late == Some(Errno::NODEV.raw_os_error()), "mapped after removal: {late:?}");
        let late = dma_buf_sync(dma_buf.as_fd());
        ensure!(late == Err(Errno::NODEV), "synced after removal: {late:?}");
        println!("refused");
        Ok(byte(&mapping, 0))
    };
    println!("{:?}", touch());
    ExitCode::FAILURE
}

fn removed() -> Result<String> {
    use std::io::{BufRead, BufReader};
    let made = Created::new("m0", 8192, "")?;
    let mut child = Command::new("/proc/self/exe")
        .args(["touch-export", made.name])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut said = BufReader::new(child.stdout.take().context("no output")?).lines();
    let first = said.next().context("nothing said")??;
    ensure!(first == "mapped", "{first}");

    // An importer cannot be thrown out: removal waits for it.
    let file = open(made.name)?;
    let dma_buf = export(&file, OFlags::RDWR, 4096, 4096)?;
    peer_must(&format!("attach {} 0", dma_buf.as_raw_fd()))?;
    let mut removed = || {
        let start = Instant::now();
        while fs::exists(format!("{CLASS}/{}", made.name))? {
            ensure!(start.elapsed() < Duration::from_secs(10), "the device file stays");
            thread::sleep(Duration::from_millis(10));
        }
        // Gone for programs at once.
        child.stdin.take().context("no input")?.write_all(b"\n")?;
        let second = said.next().context("nothing said")??;
        ensure!(second == "refused", "{second}");
        let status = child.wait()?;
        ensure!(status.signal() == Some(7), "touched a removed export: {status}");
        peer_must("poke 0 5")?;
        let start = Instant::now();
        while !log()?.contains("removal waits for udb-peer") {
            ensure!(start.elapsed() < Duration::from_secs(30), "nothing in the log");
            thread::sleep(Duration::from_millis(200));
        }
        ensure!(peek(0)? == 5, "the memory is gone");
        Ok(())
    };
    thread::scope(|scope| {
        let remover = scope.spawn(|| unbind(made.name));
        let outcome = removed();
        let waits = !remover.is_finished();
        // In any case, or the scope would wait for ever.
        peer_must("detach")?;
        remover.join().ok().context("panicked")??;
        outcome?;
        ensure!(waits, "removed under an importer");
        let late = peer(&format!("attach {} 0", dma_buf.as_raw_fd()))?;
        ensure!(late == Errno::NODEV.raw_os_error(), "attached after removal: errno {late}");
        anyhow::Ok(())
    })?;
    drop((dma_buf, file));
    unload_peer()?;
    Ok("SIGBUS and ENODEV at once; waits for the importer, and says so".into())
}
