//! `/dev/u-dma-buf-mgr`.

use std::{
    fs::{self, File},
    io::{ErrorKind, Read, Write},
    os::fd::{AsFd, AsRawFd},
    sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::io::Errno;
use udmabuf_sys::{
    ioctl,
    manager::{self, Options, Quirk},
};

use super::{
    Tests,
    module::{self, CLASS, log, open},
    peer::{peer_must, unload_peer},
};

pub(crate) fn tests(run: &mut Tests) {
    run.test("manager", commands);
    run.test("manager grammar", grammar);
    run.test("manager sdk", sdk);
    run.test("fault 07 delete while in use", busy);
    run.test("delete of what is being unbound", unbound);
    run.test("fault 11 deletes at once", at_once);
    run.test("fault 13 an endless command", endless);
    run.test("fault 24 names", names);
    run.test("fault 20 sysfs while it comes and goes", coming_and_going);
}

fn manager() -> Result<File> {
    File::options().read(true).write(true).open(manager::PATH).context(manager::PATH)
}

/// The errno of the command, 0 for success.
pub(crate) fn command(text: &str) -> Result<i32> {
    errno(manager()?.write(text.as_bytes()), text.len())
}

fn errno(result: std::io::Result<usize>, len: usize) -> Result<i32> {
    match result {
        Ok(written) if written == len => Ok(0),
        Ok(written) => bail!("wrote {written} of {len}"),
        Err(error) => error.raw_os_error().context("no errno"),
    }
}

fn exists(name: &str) -> bool {
    fs::exists(format!("{CLASS}/{name}")).unwrap_or(false)
}

/// A buffer of the manager's, deleted on drop.
pub(crate) struct Created {
    pub(crate) name: &'static str,
}

impl Created {
    pub(crate) fn new(name: &'static str, size: u64, options: &str) -> Result<Self> {
        let errno = command(&format!("create {name} {size} {options}\n"))?;
        ensure!(errno == 0, "create {name} {size} {options}: errno {errno}");
        Ok(Self { name })
    }
}

impl Drop for Created {
    fn drop(&mut self) {
        if !matches!(command(&format!("delete {}\n", self.name)), Ok(0)) {
            println!("{} could not be deleted", self.name);
        }
    }
}

fn commands() -> Result<String> {
    let mut manager = manager()?;
    // Several in one write, each ending in its way; a part for later.
    manager.write_all(b"create m0 0x10000\ncreate m1 size=8192;create m2 010000\0 \n crea")?;
    ensure!(exists("m0") && exists("m1") && exists("m2"), "not all were created");
    manager.write_all(b"te m3 4096")?;
    ensure!(!exists("m3"), "created before the command ended");
    // Another open file has a line of its own.
    ensure!(command("delete m0\n")? == 0, "delete");
    manager.write_all(b"\n")?;
    ensure!(exists("m3"), "a command in pieces");
    for (name, size) in [("m1", 8192), ("m2", 4096), ("m3", 4096)] {
        let found = ioctl::size(open(name)?.as_fd())?;
        ensure!(found == size, "{name} has {found} bytes");
    }

    manager.write_all(b"list\n")?;
    let mut list = String::new();
    manager.read_to_string(&mut list)?;
    ensure!(list == "m1 8192\nm2 4096\nm3 4096\n", "list: {list:?}");
    // The next answer, too, is read from its start.
    manager.write_all(b"delete m1\nlist\n")?;
    list.clear();
    manager.read_to_string(&mut list)?;
    ensure!(list == "m2 4096\nm3 4096\n", "list: {list:?}");
    manager.write_all(b"delete m2;delete m3\n")?;
    manager.write_all(b"list\n")?;
    list.clear();
    manager.read_to_string(&mut list)?;
    ensure!(list.is_empty(), "list: {list:?}");

    // After an error, the next command starts clean.
    for wrong in ["create m4 4096 bad", "create", "delete nobody", "nonsense"] {
        let error = manager.write(format!("{wrong}\ncreate m5 4096\n").as_bytes());
        ensure!(error.is_err_and(|e| e.kind() == ErrorKind::InvalidInput), "{wrong:?} was taken");
        ensure!(!exists("m5"), "went on after {wrong:?}");
        manager.write_all(b"create m6 4096\ndelete m6\n")?;
    }
    Ok("several, in pieces, list, clean after errors".into())
}

fn grammar() -> Result<String> {
    let inval = Errno::INVAL.raw_os_error();
    for wrong in [
        "create m0",
        "create m0 0",
        "create m0 -4096",
        "create m0 4096x",
        "create m0 +-4096",
        "create m0 +",
        "create m0 0x",
        "create m0 18446744073709551616",
        "create m0 size=",
        "create m0 size=4096 size=zero",
        "create m0 4096 dma-mask=",
        "create m0 4096 dma-mask=0",
        "create m0 4096 dma-mask=11",
        "create m0 4096 dma-mask=65",
        "create m0 4096 dma-mask=100",
        "create m0 4096 dma-mask=200",
        "create m0 4096 quirk-mmap",
        "create m0 4096 quirk-mmap-onn",
        "create m0 4096 quirk-mmap-o",
        "create m0 4096 bus=usb device=1-1",
        "create m0 4096 bus=pci",
        "create m0 4096 device=",
        "create m0 4096 device=no-such-device",
        "create m0 4096 bus=pci device=ffff:ff:1f.7",
        "created m0 4096",
        "CREATE m0 4096",
        "delete",
        "delete m0",
        "delete udmabuf0",
        "delete udmabuf0 m0",
        "list all",
    ] {
        let errno = command(&format!("{wrong}\n"))?;
        ensure!(errno == inval, "{wrong:?}: errno {errno}");
        ensure!(!exists("m0"), "{wrong:?} created it");
    }
    ensure!(exists("udmabuf0"), "another's buffer was deleted");

    for (options, file, value) in [
        ("quirk-mmap-off", "quirk_mmap_mode", "1\n"),
        ("quirk-mmap-on", "quirk_mmap_mode", "2\n"),
        ("quirk-mmap-auto", "quirk_mmap_mode", "3\n"),
        ("quirk-mmap-page", "quirk_mmap_mode", "4\n"),
        ("dma-mask=40 size=8192", "size", "8192\n"),
        ("size=+0x3000", "size", "12288\n"),
        ("size=010000", "size", "4096\n"),
    ] {
        let made = Created::new("m0", 4096, options)?;
        let found = fs::read_to_string(format!("{CLASS}/{}/{file}", made.name))?;
        ensure!(found == value, "{options}: {file} is {found:?}");
    }
    ensure!(command("create m0 +0x3000\n")? == 0, "a size with a plus");
    ensure!(ioctl::size(open("m0")?.as_fd())? == 12288, "another size");
    ensure!(command("delete m0\n")? == 0, "delete");
    let masked = Created::new("m0", 4096, "dma-mask=40")?;
    let info = ioctl::device_info(open(masked.name)?.as_fd())?;
    ensure!(info.flags & 0xff == 40, "a mask of {} bits", info.flags & 0xff);

    let taken = command("create m0 4096\n")?;
    ensure!(taken == Errno::EXIST.raw_os_error(), "a name twice: errno {taken}");
    ensure!(command("create udmabuf0 4096\n")? == Errno::EXIST.raw_os_error(), "udmabuf0 twice");
    let huge = command("create m9 1099511627776\n")?;
    ensure!(huge == Errno::NOMEM.raw_os_error(), "1 TiB: errno {huge}");
    let large = command("create m9 0x10000000\n")?;
    ensure!(large == Errno::NOMEM.raw_os_error(), "256 MiB: errno {large}");
    ensure!(log()?.contains("raise cma= on the kernel command line"), "no advice in the log");
    Ok("bad grammar is EINVAL, each option does what it says".into())
}

fn sdk() -> Result<String> {
    let manager = manager()?;
    let options = Options { dma_mask: Some(36), mapping: Some(Quirk::Page), ..Options::default() };
    manager::create(manager.as_fd(), "m0", 12345, options)?;
    ensure!(ioctl::size(open("m0")?.as_fd())? == 12345, "another size");
    manager::delete(manager.as_fd(), "m0")?;
    ensure!(!exists("m0"), "still there");
    for name in ["", "a b", "a;b", "a\nb", "../zz"] {
        let result = manager::create(manager.as_fd(), name, 4096, Options::default());
        ensure!(result == Err(Errno::INVAL), "the name {name:?}: {result:?}");
    }
    let result = manager::create(manager.as_fd(), &"a".repeat(1020), 4096, Options::default());
    ensure!(result == Err(Errno::NOSPC), "too long: {result:?}");
    Ok("created and deleted by its functions".into())
}

fn busy() -> Result<String> {
    let ebusy = Errno::BUSY.raw_os_error();
    let made = Created::new("m0", 8192, "")?;
    let file = open(made.name)?;
    ensure!(command("delete m0\n")? == ebusy, "deleted while open");
    let map = udmabuf_sys::map::Mapping::new(file.as_fd(), 8192)?;
    drop(file);
    ensure!(command("delete m0\n")? == ebusy, "deleted while mapped");
    drop(map);
    let (dma_buf, _) =
        ioctl::export(open(made.name)?.as_fd(), rustix::fs::OFlags::RDWR, 4096, 4096)?;
    ensure!(command("delete m0\n")? == ebusy, "deleted while exported");
    let map = udmabuf_sys::map::Mapping::new(dma_buf.as_fd(), 4096)?;
    drop(dma_buf);
    ensure!(command("delete m0\n")? == ebusy, "deleted while the export is mapped");
    drop(map);
    Ok("open, mapped, exported, the export mapped: EBUSY".into())
}

/// An importer keeps the unbinding waiting, and nobody else.
fn unbound() -> Result<String> {
    let made = Created::new("m0", 8192, "")?;
    let (dma_buf, _) = ioctl::export(open(made.name)?.as_fd(), rustix::fs::OFlags::RDWR, 0, 4096)?;
    peer_must(&format!("attach {} 0", dma_buf.as_raw_fd()))?;
    drop(dma_buf);
    let (deleted, created) = thread::scope(|scope| {
        let unbinder = scope.spawn(|| module::unbind(made.name));
        let begun = module::wait_for_removal(made.name);
        let others = scope
            .spawn(|| -> Result<_> { Ok((command("delete m0\n")?, command("create m1 4096\n")?)) });
        // Long, as it decides only how long the failure takes.
        let started = Instant::now();
        while !others.is_finished() && started.elapsed() < Duration::from_secs(20) {
            thread::sleep(Duration::from_millis(10));
        }
        let (served, waits) = (others.is_finished(), !unbinder.is_finished());
        // In any case, or the scope would wait for ever.
        peer_must("detach")?;
        unbinder.join().ok().context("panicked")??;
        let others = others.join().ok().context("panicked")??;
        begun?;
        ensure!(served && waits, "served: {served}, still unbinding: {waits}");
        anyhow::Ok(others)
    })?;
    ensure!(deleted == Errno::BUSY.raw_os_error(), "deleted: errno {deleted}");
    ensure!(created == 0 && command("delete m1\n")? == 0, "created: errno {created}");
    drop(made);
    unload_peer()?;
    Ok("EBUSY, and others are served".into())
}

fn at_once() -> Result<String> {
    for _ in 0..20 {
        ensure!(command("create m0 4096\n")? == 0, "create");
        let deleted = AtomicU32::new(0);
        let opened = AtomicU32::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| match command("delete m0\n") {
                    Ok(0) => deleted.fetch_add(1, Relaxed),
                    _ => 0,
                });
            }
            scope.spawn(|| opened.fetch_add(open("m0").is_ok().into(), Relaxed));
        });
        let deleted = deleted.into_inner();
        // A file that was open for a moment may have kept all of them out.
        ensure!(deleted == 1 || deleted + opened.into_inner() == 1, "deleted {deleted} times");
        if deleted == 0 {
            ensure!(command("delete m0\n")? == 0, "delete");
        }
        ensure!(!exists("m0"), "still there");
    }
    Ok("one wins".into())
}

fn endless() -> Result<String> {
    let enospc = Errno::NOSPC.raw_os_error();
    let mut manager = manager()?;
    for len in [1025, 4096, 100_000] {
        let text = vec![b'x'; len];
        ensure!(errno(manager.write(&text), len)? == enospc, "{len} bytes were taken");
        manager.write_all(b"create m0 4096\ndelete m0\n")?;
    }
    // In pieces; and exactly as much as is allowed.
    for _ in 0..4 {
        manager.write_all(&[b' '; 256])?;
    }
    ensure!(errno(manager.write(b" "), 1)? == enospc, "1025 bytes in pieces");
    let mut longest = b"create m0 4096".to_vec();
    longest.resize(1024, b' ');
    longest.push(b'\n');
    manager.write_all(&longest)?;
    manager.write_all(b"delete m0\n")?;
    Ok("more than 1024 bytes: ENOSPC, and clean after it".into())
}

fn names() -> Result<String> {
    let inval = Errno::INVAL.raw_os_error();
    let long = "n".repeat(64);
    for name in ["../../tmp/zz", "a/b", "..", ".", "a!b", "\u{fc}", "a\u{1b}b", &long] {
        let errno = command(&format!("create {name} 4096\n"))?;
        ensure!(errno == inval, "{name:?}: errno {errno}");
    }
    ensure!(!fs::exists("/tmp/zz")?, "a node outside /dev");
    Ok("checked".into())
}

/// fault 20: whoever sees a file of sysfs finds it ready, and may use it until it
/// is gone.
fn coming_and_going() -> Result<String> {
    const ROUNDS: usize = 30;
    let done = AtomicBool::new(false);
    let seen = AtomicU32::new(0);
    let watch = || -> Result<()> {
        let directory = format!("{CLASS}/m0");
        while !done.load(Relaxed) {
            let size = fs::read_to_string(format!("{directory}/size"));
            ensure!(size.as_ref().map_or(true, |size| size == "4096\n"), "size: {size:?}");
            if size.is_ok() {
                seen.fetch_add(1, Relaxed);
            }
            for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
                // Gone in the middle, or no file.
                let _ = fs::read(entry.path());
            }
            let _ = fs::write(format!("{directory}/sync_mode"), "2");
            let _ = fs::write(format!("{directory}/sync_for_device"), "1");
        }
        Ok(())
    };
    thread::scope(|scope| {
        let watchers = [scope.spawn(watch), scope.spawn(watch)];
        let made = (0..ROUNDS).try_for_each(|_| -> Result<()> {
            ensure!(command("create m0 4096\n")? == 0, "create");
            // A sysfs write under way is a user.
            while command("delete m0\n")? == Errno::BUSY.raw_os_error() {}
            ensure!(!exists("m0"), "still there");
            Ok(())
        });
        done.store(true, Relaxed);
        for watcher in watchers {
            watcher.join().map_err(|_| anyhow::anyhow!("panicked"))??;
        }
        made
    })?;
    Ok(format!("{ROUNDS} times, seen {} times", seen.into_inner()))
}

pub(crate) fn all_minors() -> Result<String> {
    let count = || -> Result<usize> { Ok(fs::read_dir(CLASS)?.count()) };
    let before = count()?;
    let mut made = 0;
    let errno = loop {
        let errno = command(&format!("create many{made} 4096\n"))?;
        if errno != 0 || made > 256 {
            break errno;
        }
        made += 1;
    };
    let all = count()?;
    for number in 0..made {
        ensure!(command(&format!("delete many{number}\n"))? == 0, "delete many{number}");
    }
    ensure!(errno == Errno::BUSY.raw_os_error(), "one too many: errno {errno}");
    ensure!(all == 256 && count()? == before, "{all} buffers");
    drop(Created::new("m0", 4096, "")?);
    Ok(format!("{made} more than {before}"))
}
