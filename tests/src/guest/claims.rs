//! Claims of ranges, and the page in which a claimant counts.

use std::{
    fs::{self, File},
    os::{
        fd::{AsFd, AsRawFd},
        unix::fs::FileExt,
    },
    process::{Command, ExitCode},
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use memmap2::{MmapOptions, MmapRaw};
use rustix::{
    fs::{Advice, Mode, OFlags, fadvise},
    io::Errno,
};
use udmabuf_sys::{
    abi::{self, Direction, SyncArgs, SyncRange},
    ioctl,
    map::LentPage,
};

use super::{
    Tests,
    existing::traced,
    manager::{Created, command},
    module::{CLASS, open},
};

pub(crate) fn tests(run: &mut Tests, name: &str) {
    run.test("claim a range", || range_claims(name));
    run.test("claims of what others sync", contended);
    run.test("claims beside many mappings", beside_mappings);
    run.test("uncached beside a claim", uncached_beside);
    run.test("advice of a claimant", || advice(name));
    run.test("a range's claimant crashed", || crashed_range(name));
    run.test("a crash outlasts another's sync", outlasts);
    run.test("delete after a crash", deleted_after);
    run.test("lent page", || lent_page(name));
    run.test("lent page of a removed buffer", removed);
}

fn map(file: &File, offset: u64, len: usize) -> std::io::Result<MmapRaw> {
    MmapOptions::new().offset(offset).len(len).map_raw(file)
}

fn busy<T>(what: &str, result: Result<T, Errno>) -> Result<()> {
    let error = result.err();
    ensure!(error == Some(Errno::BUSY), "{what}: {error:?}");
    Ok(())
}

fn busy_io<T>(what: &str, result: std::io::Result<T>) -> Result<()> {
    busy(what, result.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO)))
}

fn range_claims(name: &str) -> Result<String> {
    let (a, b) = (open(name)?, open(name)?);
    let size = ioctl::size(a.as_fd())?;
    ensure!(ioctl::capabilities(a.as_fd())?.flags & abi::CAP_CLAIM_RANGE != 0, "no capability");
    for (offset, len) in [(0, 0), (1, 4096), (0, 4097), (size, 4096), (u64::MAX - 4095, 8192)] {
        let result = ioctl::claim_range(a.as_fd(), offset, len, false);
        ensure!(result == Err(Errno::INVAL), "{len:#x} at {offset:#x}: {result:?}");
    }
    let read_only = File::open(format!("/dev/{name}"))?;
    ensure!(ioctl::claim_range(read_only.as_fd(), 0, 4096, false) == Err(Errno::BADF), "read-only");
    drop(read_only);

    // In another's way: a mapping, an export, a claim.
    let mapped = map(&b, 8192, 4096)?;
    busy("claimed what is mapped", ioctl::claim_range(a.as_fd(), 4096, 8192, false))?;
    drop(mapped);
    let exported = ioctl::export(b.as_fd(), OFlags::RDWR, 8192, 4096)?;
    busy("claimed what is exported", ioctl::claim_range(a.as_fd(), 4096, 8192, false))?;
    drop(exported);
    ioctl::claim_range(a.as_fd(), 4096, 8192, false).context("claim")?;
    ioctl::claim_range(a.as_fd(), 8192, 4096, false).context("claim again")?;
    busy("claimed twice", ioctl::claim_range(b.as_fd(), 8192, 8192, false))?;
    ioctl::claim_range(b.as_fd(), 12288, 4096, false).context("beside it")?;
    busy("the whole beside a range", ioctl::claim(b.as_fd(), false))?;

    // What others cannot do.
    busy_io("mapped", map(&b, 4096, 4096))?;
    busy_io("mapped all", map(&b, 0, 16384))?;
    busy_io("read", b.read_at(&mut [0; 16], 4096))?;
    busy_io("written", b.write_at(&[1; 16], 12280))?;
    busy("exported", ioctl::export(b.as_fd(), OFlags::RDWR, 8192, 4096))?;
    busy("synced", ioctl::sync_value_for_cpu(b.as_fd(), 0x1ff0 << 32 | 0x20))?;
    let flags = abi::SYNC_FOR_CPU;
    let ranges = [
        SyncRange { offset: 0, size: 64, command: 3, direction: 0 },
        SyncRange { offset: 4096, size: 64, command: 3, direction: 0 },
    ];
    busy("synced in a batch", ioctl::sync_batch(b.as_fd(), &ranges))?;
    ensure!(ioctl::sync_owner(a.as_fd())? == abi::OWNER_CPU, "half of a refused batch was done");
    let args = SyncArgs { flags, size: 64, offset: 0 };
    busy("changed the settings", ioctl::set_sync_settings(b.as_fd(), args))?;
    busy_io("sysfs settings", fs::write(format!("{CLASS}/{name}/sync_direction"), "1"))?;
    busy_io("sysfs sync", fs::write(format!("{CLASS}/{name}/sync_for_cpu"), "0x0000100000001001"))?;

    // What they can, and the claimant.
    map(&b, 0, 4096).context("beside it")?;
    b.read_at(&mut [0; 16], 0)?;
    ioctl::sync_value_for_cpu(b.as_fd(), 64)?;
    // A size that no sync value can name.
    ioctl::sync_for_device(b.as_fd(), Direction::Bidirectional, 0, 40).context("40 bytes")?;
    ioctl::sync_for_cpu(b.as_fd(), Direction::Bidirectional, 0, 40).context("40 bytes back")?;
    fs::write(format!("{CLASS}/{name}/sync_for_cpu"), "64")?;
    let mapped = map(&a, 4096, 8192).context("the claimant's mapping")?;
    a.write_at(&[7; 16], 4096)?;
    ioctl::sync_value_for_device(a.as_fd(), 4096 << 32 | 64)?;
    ioctl::sync_value_for_cpu(a.as_fd(), 4096 << 32 | 64)?;
    ensure!(ioctl::sync_owner(a.as_fd())? == abi::OWNER_CPU, "not back at the CPU");

    // Whose pages the first mapping without cache must not mind.
    let uncached =
        rustix::fs::open(format!("/dev/{name}"), OFlags::RDWR | OFlags::SYNC, Mode::empty())?;
    map(&uncached.into(), 0, 4096).context("O_SYNC beside it")?;

    // A mapping keeps it.
    drop(a);
    busy("claimed what a mapping holds", ioctl::claim_range(b.as_fd(), 4096, 4096, false))?;
    drop(mapped);
    ioctl::claim_range(b.as_fd(), 4096, 4096, false).context("after the last of it")?;
    Ok("enforced for mapping, reading, writing, export, sync and settings".into())
}

/// Whoever is given a claim finds the buffer at the CPU, although another file was
/// handing that range over at that time: one of the two was refused.
fn contended() -> Result<String> {
    const LARGE: u64 = 4 << 20;
    const LAST: u64 = LARGE - 4096;
    let range = |offset, size, command| SyncRange { offset, size, command, direction: 0 };
    let made = Created::new("contended", LARGE, "")?;
    // Others come in between while it takes back; then it hands over.
    let mut long = vec![range(0, LAST, 1); 16];
    long.push(range(LAST, 4096, 3));
    let short = [range(LAST, 4096, 3)];
    let (done, file) = (AtomicBool::new(false), open(made.name)?);
    for (batch, adopt, rounds) in [(&long[..], true, 20), (&short[..], false, 200)] {
        done.store(false, SeqCst);
        let (syncer, given) = thread::scope(|scope| {
            let syncer = scope.spawn(|| {
                while !done.load(SeqCst) {
                    for ranges in [batch, &[range(LAST, 4096, 1)]] {
                        match ioctl::sync_batch(file.as_fd(), ranges) {
                            Ok(()) | Err(Errno::BUSY) => {}
                            Err(error) => return Err(error),
                        }
                    }
                }
                Ok(())
            });
            let claimed = || -> Result<u32> {
                let mut given = 0;
                for _ in 0..rounds {
                    thread::sleep(Duration::from_millis(1));
                    let claimant = open(made.name)?;
                    match ioctl::claim_range(claimant.as_fd(), LAST, 4096, adopt) {
                        Err(Errno::OWNERDEAD) if !adopt => continue,
                        result => result?,
                    }
                    given += 1;
                    // What was refused meanwhile has ended.
                    thread::sleep(Duration::from_millis(20));
                    let owner = ioctl::sync_owner(claimant.as_fd())?;
                    ensure!(owner == abi::OWNER_CPU, "claim {given}: handed over by another");
                }
                Ok(given)
            };
            let given = claimed();
            done.store(true, SeqCst);
            (syncer.join(), given)
        });
        ensure!(syncer.is_ok_and(|result| result.is_ok()), "a sync failed");
        ensure!(given? > 0, "no claim was given");
    }
    Ok("at the CPU".into())
}

/// In another process: claims, hands over, ends.
pub(crate) fn lend(what: &str) -> ExitCode {
    let Some((name, how)) = what.split_once(':') else { return ExitCode::FAILURE };
    let lend = || -> Result<()> {
        let file = open(name)?;
        if how == "page" {
            ioctl::claim(file.as_fd(), false)?;
            LentPage::new(file.as_fd(), ioctl::size(file.as_fd())?)?.lent().parts.store(1, SeqCst);
        } else {
            ioctl::claim_range(file.as_fd(), 4096, 4096, false)?;
            ioctl::sync_value_for_device(file.as_fd(), 4096 << 32 | 4096)?;
        }
        Ok(())
    };
    if lend().is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Another process claims, hands over and ends.
pub(crate) fn crash(name: &str, how: &str) -> Result<()> {
    let status =
        Command::new("/proc/self/exe").args(["lend", &format!("{name}:{how}")]).status()?;
    ensure!(status.success(), "lending in another process: {status}");
    Ok(())
}

fn crashed_range(name: &str) -> Result<String> {
    crash(name, "range")?;
    let file = open(name)?;
    let fd = file.as_fd();
    ensure!(ioctl::sync_owner(fd)? == abi::OWNER_DEVICE, "forgotten");
    let dead = Err(Errno::OWNERDEAD);
    ensure!(ioctl::claim_range(fd, 0, 4096, false) == dead, "another range was claimed");
    ensure!(ioctl::claim(fd, false) == dead, "the whole was claimed");
    ioctl::claim_range(fd, 0, 4096, true)?;
    ensure!(ioctl::sync_owner(fd)? == abi::OWNER_CPU, "adopted, but still the device's");

    // One claimant's bytes do not come back with another's.
    let other = open(name)?;
    ioctl::claim_range(other.as_fd(), 8192, 4096, false)?;
    ioctl::sync_value_for_device(other.as_fd(), 8192 << 32 | 64)?;
    ioctl::sync_value_for_device(fd, 64)?;
    ioctl::sync_value_for_cpu(fd, 64)?;
    ensure!(ioctl::sync_owner(fd)? == abi::OWNER_DEVICE, "the other's bytes are back");
    ioctl::sync_value_for_cpu(other.as_fd(), 8192 << 32 | 64)?;
    ensure!(ioctl::sync_owner(fd)? == abi::OWNER_CPU, "nothing is out any more");
    Ok("remembered for the whole buffer, until adopted".into())
}

/// Who has no claim takes back what it did not hand over: that is the owner's turn,
/// but no word for the one who died.
fn outlasts() -> Result<String> {
    let made = Created::new("orphan", 16384, "")?;
    let by_file = || -> Result<()> {
        Ok(ioctl::sync_value_for_cpu(open(made.name)?.as_fd(), 8192 << 32 | 64)?)
    };
    let by_sysfs =
        || -> Result<()> { Ok(fs::write(format!("{CLASS}/orphan/sync_for_cpu"), "64")?) };
    for (how, syncs) in [("range", &by_file as &dyn Fn() -> _), ("page", &by_sysfs)] {
        crash(made.name, how)?;
        syncs()?;
        let file = open(made.name)?;
        let fd = file.as_fd();
        ensure!(ioctl::sync_owner(fd)? == abi::OWNER_CPU, "{how}: taken back, but not the CPU's");
        let dead = Err(Errno::OWNERDEAD);
        ensure!(ioctl::claim(fd, false) == dead, "{how}: forgotten");
        ensure!(ioctl::claim_range(fd, 0, 4096, false) == dead, "{how}: forgotten for a range");
        ioctl::claim(fd, true)?;
        drop(file);
        ioctl::claim(open(made.name)?.as_fd(), false).context("after it was adopted")?;
    }

    // Of who had no claim, nobody is told more than the owner.
    let file = open(made.name)?;
    ioctl::sync_value_for_device(file.as_fd(), 64)?;
    ioctl::sync_value_for_cpu(file.as_fd(), 4096 << 32 | 64)?;
    ioctl::claim(file.as_fd(), false).context("handed over and taken back without a claim")?;
    Ok("until adopted".into())
}

/// What a device may still write is not freed by the manager.
fn deleted_after() -> Result<String> {
    let dead = Errno::OWNERDEAD.raw_os_error();
    let delete = || command("delete orphan\n");
    let made = Created::new("orphan", 16384, "")?;
    for how in ["range", "page"] {
        crash(made.name, how)?;
        let errno = delete()?;
        ensure!(errno == dead, "deleted after a crash ({how}): errno {errno}");
        let claimed = ioctl::claim(open(made.name)?.as_fd(), false);
        ensure!(claimed == Err(Errno::OWNERDEAD), "after the refused delete: {claimed:?}");
        let file = open(made.name).context("the refused buffer")?;
        ioctl::claim(file.as_fd(), true)?;
        ensure!(delete()? == Errno::BUSY.raw_os_error(), "deleted while open");
        drop(file);
        made_again(&delete)?;
    }

    // Existing programs leave a buffer as the device's, and delete it.
    let file = open(made.name)?;
    ioctl::sync_value_for_device(file.as_fd(), 64)?;
    drop(file);
    made_again(&delete)?;

    // By force it goes in any case.
    crash(made.name, "range")?;
    unbind(made.name)?;
    let errno = delete()?;
    ensure!(errno == 0, "after its device was unbound: errno {errno}");
    std::mem::forget(made);
    Ok("EOWNERDEAD until adopted".into())
}

/// Deletes the buffer, which has to be possible, and makes it again.
fn made_again(delete: &dyn Fn() -> Result<i32>) -> Result<()> {
    let errno = delete()?;
    ensure!(errno == 0, "delete: errno {errno}");
    let errno = command("create orphan 16384\n")?;
    ensure!(errno == 0, "create: errno {errno}");
    Ok(())
}

/// Mappings, of which anybody can have many, are not looked through for claims.
fn beside_mappings() -> Result<String> {
    const MAPPINGS: usize = 2_000;
    let made = Created::new("crowded", 16384, "")?;
    let (claimant, file) = (open(made.name)?, open(made.name)?);
    ioctl::claim_range(claimant.as_fd(), 12288, 4096, false)?;
    let ranges = vec![SyncRange { offset: 64, size: 64, command: 1, direction: 2 }; 4096];
    let fastest = || -> Result<Duration> {
        let mut least = Duration::MAX;
        for _ in 0..5 {
            let started = Instant::now();
            ioctl::sync_batch(file.as_fd(), &ranges)?;
            least = least.min(started.elapsed());
        }
        Ok(least)
    };
    let alone = fastest()?;
    let maps = (0..MAPPINGS)
        .map(|_| map(&file, 4096, 4096))
        .collect::<std::io::Result<Vec<_>>>()
        .context("many mappings")?;
    let beside = fastest()?;
    let seen = fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd()))?;
    drop(maps);
    ensure!(
        beside < alone * 10 + Duration::from_millis(10),
        "4096 ranges took {beside:?} beside {MAPPINGS} mappings, and {alone:?} without"
    );
    let line = format!("in-use:\t{MAPPINGS} {}\n", MAPPINGS * 4096);
    ensure!(seen.contains(&line) && seen.len() < 1024, "{} bytes of fdinfo", seen.len());
    Ok(format!("{alone:?} without {MAPPINGS} mappings, {beside:?} with"))
}

/// The first mapping without cache of a part minds only claims of that part.
fn uncached_beside() -> Result<String> {
    let made = Created::new("beside", 16384, "")?;
    let claimant = open(made.name)?;
    ioctl::claim_range(claimant.as_fd(), 4096, 4096, false)?;
    let uncached = File::from(rustix::fs::open(
        format!("/dev/{}", made.name),
        OFlags::RDWR | OFlags::SYNC,
        Mode::empty(),
    )?);
    map(&uncached, 0, 4096).context("before the claim")?;
    map(&uncached, 8192, 8192).context("behind it")?;
    busy_io("mapped what is claimed", map(&uncached, 4096, 4096))?;
    Ok("mapped".into())
}

/// A claimant's advice is a sync, checked and told of like the others; that of the
/// rest is not.
fn advice(name: &str) -> Result<String> {
    let file = open(name)?;
    let fd = file.as_fd();
    ensure!(ioctl::capabilities(fd)?.flags & abi::CAP_ADVICE != 0, "no capability bit");
    let owner_is = |wanted| -> Result<()> {
        ensure!(ioctl::sync_owner(fd)? == wanted, "the owner is not {wanted}");
        Ok(())
    };
    let trace = traced(|| {
        ioctl::advise_for_device(fd, 0, 64)?;
        ioctl::advise_for_cpu(fd, 0, 64)?;
        Ok(())
    })?;
    ensure!(!trace.contains("u_dma_buf_sync"), "synced without a claim: {trace}");

    let other = open(name)?;
    ioctl::claim_range(fd, 4096, 4096, false)?;
    ioctl::claim_range(other.as_fd(), 8192, 4096, false)?;
    busy("another's range", ioctl::advise_for_device(fd, 8192, 64))?;
    busy("another's range", ioctl::advise_for_cpu(fd, 4096, 8192))?;
    owner_is(abi::OWNER_CPU)?;
    let trace = traced(|| {
        ioctl::advise_for_device(fd, 4096, 40)?;
        owner_is(abi::OWNER_DEVICE)?;
        ioctl::advise_for_cpu(fd, 4096, 40)?;
        owner_is(abi::OWNER_CPU)
    })?;
    for to in ["device", "cpu"] {
        let event = format!("u_dma_buf_sync_for_{to}: minor=0 offset=0x1000 size=40 how=0\n");
        ensure!(trace.contains(&event), "no {event:?} in {trace}");
    }

    let end = ioctl::size(fd)?.next_multiple_of(4096);
    for (offset, size) in [(end, 16), (0, end + 1), (0, 1 << 63), (u64::MAX - 63, 128), (64, 0)] {
        for advise in [ioctl::advise_for_device, ioctl::advise_for_cpu] {
            let result = advise(fd, offset, size);
            ensure!(result == Err(Errno::INVAL), "{size} bytes at {offset:#x}: {result:?}");
        }
    }
    let all = fadvise(fd, 4096, None, Advice::DontNeed);
    ensure!(all == Err(Errno::INVAL), "up to the end: {all:?}");
    // As `cp` has it.
    fadvise(fd, 0, None, Advice::Sequential)?;
    owner_is(abi::OWNER_CPU)?;
    ioctl::advise_for_device(fd, 4096, 64)?;
    // madvise() is advice of the same file.
    for advice in [memmap2::Advice::WillNeed, memmap2::Advice::Sequential] {
        map(&file, 4096, 4096)?.advise(advice)?;
        owner_is(abi::OWNER_DEVICE).with_context(|| format!("madvise, {advice:?}"))?;
    }
    drop(file);
    ensure!(ioctl::sync_owner(other.as_fd())? == abi::OWNER_DEVICE, "forgotten");
    drop(other);
    ioctl::claim(open(name)?.as_fd(), true)?;
    Ok("a sync, like the ioctls".into())
}

fn lent_page(name: &str) -> Result<String> {
    let file = open(name)?;
    let fd = file.as_fd();
    let size = ioctl::size(fd)?;
    let mapped = LentPage::new(fd, size).map_err(|error| error.raw_os_error());
    ensure!(mapped.err() == Some(Some(Errno::INVAL.raw_os_error())), "mapped without a claim");
    ioctl::claim(fd, false)?;
    let page = LentPage::new(fd, size)?;
    ensure!(page.lent().parts.load(SeqCst) == 0, "does not begin at 0");
    ensure!(page.lent().gone.load(SeqCst) == 0, "gone from the start");
    page.lent().parts.store(1, SeqCst);
    ensure!(
        LentPage::new(fd, size)?.lent().parts.load(SeqCst) == 1,
        "another page the second time"
    );
    ensure!(map(&file, size, 8192).is_err() && map(&file, size - 4096, 8192).is_err(), "two pages");
    page.lent().parts.store(0, SeqCst);
    drop((page, file));
    ensure!(ioctl::sync_owner(open(name)?.as_fd())? == abi::OWNER_CPU, "nothing was out");

    crash(name, "page")?;
    let file = open(name)?;
    ensure!(ioctl::sync_owner(file.as_fd())? == abi::OWNER_DEVICE, "forgotten");
    ensure!(ioctl::claim(file.as_fd(), false) == Err(Errno::OWNERDEAD), "claimed");
    ioctl::claim(file.as_fd(), true)?;
    ensure!(
        LentPage::new(file.as_fd(), ioctl::size(file.as_fd())?)?.lent().parts.load(SeqCst) == 0,
        "not at 0 again"
    );
    Ok("counts, for the claimant alone, and is remembered".into())
}

fn removed() -> Result<String> {
    let made = Created::new("m0", 4096, "")?;
    let file = open(made.name)?;
    ioctl::claim(file.as_fd(), false)?;
    let page = LentPage::new(file.as_fd(), ioctl::size(file.as_fd())?)?;
    page.lent().parts.store(3, SeqCst);
    unbind(made.name)?;
    ensure!(page.lent().gone.load(SeqCst) != 0, "not told");
    ensure!(page.lent().parts.load(SeqCst) == 3, "another page now");
    ensure!(ioctl::size(file.as_fd()) == Err(Errno::NODEV), "still there");
    drop((page, file));
    Ok("says so, and stays".into())
}

/// Takes the buffer's device from the driver.
pub(crate) fn unbind(name: &str) -> Result<()> {
    let device = fs::read_link(format!("{CLASS}/{name}/device"))?;
    let device = device.file_name().and_then(|name| name.to_str()).context("no device")?.to_owned();
    fs::write("/sys/bus/platform/drivers/u-dma-buf/unbind", device).context("unbind")
}
