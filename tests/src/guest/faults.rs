//! Each allocation that the module asks for fails in turn, where the kernel can do
//! that: the request fails with ENOMEM and leaves nothing half made, and the next
//! one succeeds. Leaks are what the kernel's own search finds at the end.

use std::{
    cell::RefCell,
    fs::{self, File},
    io::{Read, Write},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::fs::MetadataExt,
    },
};

use anyhow::{Context, Result, bail, ensure};
use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::OFlags,
    io::Errno,
    mm::MapFlags,
    pipe::{SpliceFlags, pipe, splice},
};
use udmabuf_sys::{
    abi::SyncRange,
    ioctl,
    manager::{self, Options},
};

use super::{
    Tests,
    manager::Created,
    map::Map,
    module::{CLASS, bind, open, unbind},
    peer::{self, load_peer, unload_peer},
};

/// The next allocation of this thread that fails, by number; 0 once it has.
/// (Documentation/fault-injection/fault-injection.rst)
const NTH: &str = "/proc/thread-self/fail-nth";
const INJECTORS: [&str; 2] = ["failslab", "fail_page_alloc"];
/// No path has as many.
const MOST: u32 = 5000;

pub(crate) fn are_possible() -> bool {
    fs::exists(NTH).unwrap_or(false)
}

pub(crate) fn tests(run: &mut Tests) {
    if !are_possible() {
        return;
    }
    run.test("faults set up", || set_up().map(|()| "every kind of allocation".into()));
    run.test("faults of a file", files);
    run.test("faults of an import", imports);
    run.test("faults of the manager", managed);
    run.test("faults of creating", creations);
    run.test("faults of a probe", probes);
}

pub(crate) fn set_up() -> Result<()> {
    for injector in INJECTORS {
        let folder = format!("/sys/kernel/debug/{injector}");
        // Also what may wait for memory; and no stack for each.
        fs::write(format!("{folder}/ignore-gfp-wait"), "N")?;
        fs::write(format!("{folder}/verbose"), "0")?;
    }
    fs::write("/sys/kernel/debug/fail_page_alloc/min-order", "0")?;
    fs::write("/sys/kernel/debug/fail_page_alloc/ignore-gfp-highmem", "N")?;
    Ok(())
}

/// What happened to `work` with its `nth` allocation failing, and how many are left
/// until then: 0 if it did.
pub(crate) fn failing<T>(nth: u32, work: impl FnOnce() -> T) -> Result<(T, u32)> {
    let mut file = File::options().read(true).write(true).open(NTH)?;
    write!(file, "{nth}")?;
    let result = work();
    let mut left = String::new();
    file.read_to_string(&mut left)?;
    write!(file, "0")?;
    Ok((result, left.trim().parse()?))
}

/// How many allocations `work` makes, each of which failed once. `again` undoes it,
/// or, after an error, makes sure that there is nothing to undo.
fn each<T>(
    name: &str,
    may_be: &[Errno],
    work: impl FnMut() -> rustix::io::Result<T>,
    again: impl FnMut(Option<T>) -> Result<()>,
) -> Result<u32> {
    each_and(1, name, may_be, work, again)
}

/// As `each`, but the next attempt, that succeeds, follows one fault of so many. What
/// the others leave, the last attempt finds, which nothing disturbs.
fn each_and<T>(
    retried: u32,
    name: &str,
    may_be: &[Errno],
    mut work: impl FnMut() -> rustix::io::Result<T>,
    mut again: impl FnMut(Option<T>) -> Result<()>,
) -> Result<u32> {
    for nth in 1..MOST {
        let (result, left) = failing(nth, &mut work)?;
        let failed = left == 0;
        let context = || format!("{name}, allocation {nth}");
        match result {
            // Some have a second way to get memory, or do without.
            Ok(value) => again(Some(value)).with_context(context)?,
            Err(error) if failed && (error == Errno::NOMEM || may_be.contains(&error)) => {
                again(None).with_context(context)?;
                if nth % retried != 0 {
                    continue;
                }
                let value = work().with_context(|| format!("{name} after allocation {nth}"))?;
                again(Some(value)).with_context(context)?;
            }
            Err(error) => bail!("{name}, allocation {nth}: {error:?}"),
        }
        if !failed {
            return Ok(nth - 1);
        }
    }
    bail!("{name}: more than {MOST} allocations")
}

fn said(counts: &[(&str, u32)]) -> Result<String> {
    let sum: u32 = counts.iter().map(|&(_, count)| count).sum();
    ensure!(sum > 10, "no more than {sum} faults");
    let each: Vec<String> = counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
    Ok(format!("{sum} faults: {}", each.join(", ")))
}

/// Two of a buffer's file, that of its mapping included.
fn files() -> Result<String> {
    let made = Created::new("m0", 65536, "quirk-mmap-page")?;
    let path = format!("/dev/{}", made.name);
    let mut counts = Vec::new();
    let opened = || rustix::fs::open(&path, OFlags::RDWR, rustix::fs::Mode::empty());
    counts.push(("open", each("open", &[], opened, |_| Ok(()))?));

    let file = open(made.name)?;
    let mapped = || Map::new(&file, 65536, MapFlags::empty());
    counts.push(("mmap", each("mmap", &[], mapped, |_| Ok(()))?));
    // The kernel says EFAULT of a fault that fails.
    let (reader, writer) = pipe()?;
    // Unmapped later, which may fail for lack of memory, too.
    let kept = RefCell::new(None);
    let touched = || {
        let mut map = Map::new(&file, 65536, MapFlags::empty())?;
        let written = rustix::io::write(&writer, &map.for_system_calls()[..64]);
        kept.replace(Some(map));
        written
    };
    let drained = |written: Option<usize>| {
        kept.replace(None);
        rustix::io::read(&reader, &mut vec![0; written.unwrap_or(0)])?;
        Ok(())
    };
    counts.push(("touch", each("touch", &[Errno::FAULT], touched, drained)?));
    let spliced = || splice(&file, Some(&mut 0), &writer, None, 8192, SpliceFlags::empty());
    // A pipe takes what it got, and says EAGAIN if that is nothing.
    counts.push(("splice", each("splice", &[Errno::AGAIN, Errno::FAULT], spliced, drained)?));

    // Into and from memory that is not there yet.
    let copied = |copy: fn(&File, &mut [u8]) -> rustix::io::Result<usize>| {
        let mut memory = Map::anonymous(65536)?;
        let done = copy(&file, memory.for_system_calls());
        kept.replace(Some(memory));
        done
    };
    let some = |done: Option<usize>| {
        kept.replace(None);
        ensure!(done != Some(0), "no bytes, and no error");
        Ok(())
    };
    let read = || copied(|file, memory| rustix::io::pread(file, memory, 0));
    counts.push(("read", each("read", &[Errno::FAULT], read, some)?));
    let write = || copied(|file, memory| rustix::io::pwrite(file, memory, 0));
    counts.push(("write", each("write", &[Errno::FAULT], write, some)?));
    let many = vec![PollFd::new(&file, PollFlags::IN); 1000];
    let polled = || poll(&mut many.clone(), None);
    counts.push(("poll", each("poll", &[], polled, |_| Ok(()))?));

    let ranges = vec![SyncRange { offset: 0, size: 64, command: 3, direction: 0 }; 4096];
    let batch = || ioctl::sync_batch(file.as_fd(), &ranges);
    counts.push(("batch", each("batch", &[], batch, |_| Ok(()))?));
    drop(file);
    let claimed = || {
        let file = rustix::fs::open(&path, OFlags::RDWR, rustix::fs::Mode::empty())?;
        ioctl::claim_range(file.as_fd(), 0, 4096, true)?;
        Ok(file)
    };
    counts.push(("claim", each("claim", &[], claimed, |_| Ok(()))?));
    let file = open(made.name)?;
    let fds = || Ok::<_, anyhow::Error>(fs::read_dir("/proc/self/fd")?.count());
    let before = fds()?;
    let exported = || ioctl::export(file.as_fd(), OFlags::RDWR, 0, 8192);
    let gone = |exported: Option<(OwnedFd, u64)>| {
        drop(exported);
        ensure!(fds()? == before, "a descriptor is left");
        Ok(())
    };
    counts.push(("export", each("export", &[], exported, gone)?));
    said(&counts)
}

/// By another driver, and as a mapping.
fn imports() -> Result<String> {
    load_peer()?;
    let made = Created::new("m0", 65536, "")?;
    let file = open(made.name)?;
    // Not from the start, where the kernel's watch over the DMA API has the buffer's
    // own mapping. And no `vmap`: of one that fails dma-buf's core complains itself.
    let (exported, _) = ioctl::export(file.as_fd(), OFlags::RDWR, 4096, 8192)?;
    let mut peer = File::options().write(true).open(peer::RUN)?;
    let mut counts = Vec::new();
    let writer = peer.try_clone()?;
    let text = format!("attach {} 0", exported.as_raw_fd());
    let work = || rustix::io::write(&writer, text.as_bytes());
    let back = |done: Option<usize>| {
        if done.is_some() {
            peer.write_all(b"detach")?;
        }
        Ok(())
    };
    counts.push(("attach", each("attach", &[], work, back)?));
    let map = File::from(exported);
    let mapped = || Map::new(&map, 8192, MapFlags::empty());
    counts.push(("mmap", each("mmap", &[], mapped, |_| Ok(()))?));
    drop((map, file, made, peer, writer));
    unload_peer()?;
    said(&counts)
}

fn nothing_of(name: &str) -> Result<()> {
    ensure!(!fs::exists(format!("{CLASS}/{name}"))?, "{name} is still in the class");
    ensure!(!fs::exists(format!("/dev/{name}"))?, "/dev/{name} is still there");
    Ok(())
}

fn managed() -> Result<String> {
    let mut counts = Vec::new();
    let opened = || rustix::fs::open(manager::PATH, OFlags::RDWR, rustix::fs::Mode::empty());
    counts.push(("open", each("open", &[], opened, |_| Ok(()))?));
    let manager = File::options().read(true).write(true).open(manager::PATH)?;
    let listed = || rustix::io::write(&manager, b"list\n");
    counts.push(("list", each("list", &[], listed, |_| Ok(()))?));

    let create = || manager::create(manager.as_fd(), "m0", 8192, Options::default());
    create()?;
    let work = || manager::delete(manager.as_fd(), "m0");
    let back = |deleted: Option<()>| {
        nothing_of("m0")?;
        ensure!(deleted.is_some(), "a deletion failed");
        create().context("create")
    };
    counts.push(("delete", each("delete", &[], work, back)?));
    manager::delete(manager.as_fd(), "m0")?;
    said(&counts)
}

/// What the device model says without memory: for a name, and before it probes.
pub(crate) const NO_DEVICE: [Errno; 2] = [Errno::INVAL, Errno::NXIO];

/// By the manager, for a device, too; and by another module.
fn creations() -> Result<String> {
    let manager = File::options().read(true).write(true).open(manager::PATH)?;
    let edu = super::parent::edu()?;
    let for_edu = Options { parent: Some(("pci", &edu)), ..Options::default() };
    let mut counts = Vec::new();
    for (kind, options) in [("plain", Options::default()), ("for a device", for_edu)] {
        let create = || manager::create(manager.as_fd(), "m0", 8192, options);
        let delete = |made: Option<()>| {
            made.map_or(Ok(()), |()| manager::delete(manager.as_fd(), "m0")).context("delete")?;
            nothing_of("m0")
        };
        counts.push((kind, each_and(10, kind, &NO_DEVICE, create, delete)?));
    }
    load_peer()?;
    let peer = File::options().write(true).open(peer::RUN)?;
    let say = |text: &str| rustix::io::write(&peer, text.as_bytes()).map(drop);
    let remove = |made: Option<()>| {
        made.map_or(Ok(()), |()| say("remove")).context("remove")?;
        nothing_of("m0")
    };
    let create = || say("create m0 8192 -1");
    let kind = "in the kernel";
    counts.push((kind, each_and(10, kind, &NO_DEVICE, create, remove)?));
    drop(peer);
    unload_peer()?;
    said(&counts)
}

/// Of device-tree nodes, and of what the manager made.
fn probes() -> Result<String> {
    const DRIVER: &str = "/sys/bus/platform/drivers/u-dma-buf";
    let mut counts = Vec::new();
    let for_edu = format!("bus=pci device={}", super::parent::edu()?);
    let _made = [
        Created::new("m_page", 65536, "quirk-mmap-page")?,
        Created::new("m_bound", 8192, &for_edu)?,
    ];
    for name in ["udmabuf0", "udmabuf_nomap", "udmabuf_region", "m_page", "m_bound"] {
        // Then it has the lowest number that is free.
        bind(&unbind(name)?)?;
        let minor = fs::metadata(format!("/dev/{name}"))?.rdev();
        let device = unbind(name)?;
        let binder = File::options().write(true).open(format!("{DRIVER}/bind"))?;
        let work = || rustix::io::write(&binder, device.as_bytes());
        let back = |bound: Option<usize>| {
            if bound.is_some() {
                let now = fs::metadata(format!("/dev/{name}")).context("no device file")?.rdev();
                ensure!(now == minor, "a minor number was lost: {now:#x} after {minor:#x}");
                unbind(name)?;
            }
            nothing_of(name)
        };
        // A probe that fails is ENODEV or ENXIO for who asked for it.
        let refused = [Errno::NODEV, Errno::NXIO];
        counts.push((name, each_and(10, name, &refused, work, back)?));
        bind(&device)?;
    }
    said(&counts)
}
