//! Syncs below the SDK: batches, many callers at once, long ones, bad arguments.

use std::{
    fs,
    os::{
        fd::{AsFd, AsRawFd},
        unix::process::ExitStatusExt,
    },
    process::{Command, ExitCode},
    sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use rustix::io::Errno;
use udmabuf_sys::{
    abi::{self, SyncArgs, SyncRange},
    ioctl,
};

use super::{
    Tests,
    existing::traced,
    manager::Created,
    module::{CLASS, open, unbind},
    raw,
};

const FOR_CPU: u32 = 1;
const FOR_DEVICE: u32 = 3;

pub(crate) fn tests(run: &mut Tests, name: &str) {
    ioctls(run, name);
    run.test("fault 23 a long sync", long_sync);
    run.test("removed in the middle of a sync", removed);
}

/// Which a program of another word size makes, too.
pub(crate) fn ioctls(run: &mut Tests, name: &str) {
    run.test("batch", || batch(name));
    run.test("counters, fdinfo, trace", || observed(name));
    run.test("fault 04 ranges that wrap", || wrapping(name));
    run.test("fault 15 many callers at once", || many_callers(name));
    run.test("fault 24 arguments", || arguments(name));
}

const fn range(offset: u64, size: u64, command: u32, direction: u32) -> SyncRange {
    SyncRange { offset, size, command, direction }
}

fn owner(name: &str) -> Result<u32> {
    Ok(ioctl::sync_owner(open(name)?.as_fd())?)
}

fn batch(name: &str) -> Result<String> {
    let file = open(name)?;
    let fd = file.as_fd();
    let size = ioctl::size(fd)?;
    let caps = ioctl::capabilities(fd)?;
    ensure!(caps.flags & abi::CAP_SYNC_BATCH != 0, "no capability bit in {caps:?}");
    ensure!(caps.cache_alignment.is_power_of_two(), "{caps:?}");

    let stored = ioctl::sync_settings(fd)?;
    ioctl::sync_batch(fd, &[])?;
    // Nothing is handed over by no bytes, nor taken back.
    let nothing = |owner_is| -> Result<()> {
        for command in [FOR_DEVICE, FOR_CPU] {
            ioctl::sync_batch(fd, &[range(64, 0, command, 1)])?;
            ensure!(owner(name)? == owner_is, "an empty range, command {command}");
        }
        ioctl::sync_value_for_device(fd, 64 << 32 | 1)?;
        ioctl::sync_value_for_cpu(fd, 64 << 32 | 1)?;
        ensure!(owner(name)? == owner_is, "a sync value without a size");
        Ok(())
    };
    nothing(abi::OWNER_CPU)?;
    let both = [range(0, 64, FOR_DEVICE, 1), range(64, 0, FOR_CPU, 2), range(0, size, FOR_CPU, 0)];
    ioctl::sync_batch(fd, both.get(..1).context("one")?)?;
    ensure!(owner(name)? == abi::OWNER_DEVICE, "handed over, but the CPU is the owner");
    nothing(abi::OWNER_DEVICE)?;
    ioctl::sync_batch(fd, &both)?;
    ensure!(owner(name)? == abi::OWNER_CPU, "the last range went to the CPU");
    for count in [16, 17, 4096] {
        ioctl::sync_batch(fd, &vec![range(0, 64, FOR_CPU, 2); count])
            .with_context(|| format!("{count} ranges"))?;
    }
    // Nor is a range that no sync value can name.
    ioctl::sync_for_device(fd, abi::Direction::ToDevice, 64, 40)?;
    ensure!(owner(name)? == abi::OWNER_DEVICE, "40 bytes, but the CPU is the owner");
    ioctl::sync_for_cpu(fd, abi::Direction::ToDevice, 64, 40)?;
    ensure!(owner(name)? == abi::OWNER_CPU, "40 bytes, but the device is the owner");
    let after = ioctl::sync_settings(fd)?;
    ensure!(after.size == stored.size && after.offset == stored.offset, "the settings changed");

    // A bad one anywhere: nothing is done.
    for bad in [
        range(0, size + 1, FOR_DEVICE, 0),
        range(u64::MAX - 4095, 8192, FOR_DEVICE, 0),
        range(0, 64, 0, 0),
        range(0, 64, 2, 0),
        range(0, 64, FOR_DEVICE, 3),
    ] {
        for at in [1, 40] {
            let mut ranges = vec![range(0, 64, FOR_DEVICE, 1); at];
            ranges.push(bad);
            let result = ioctl::sync_batch(fd, &ranges);
            ensure!(result == Err(Errno::INVAL), "{bad:?}: {result:?}");
            ensure!(owner(name)? == abi::OWNER_CPU, "part of a batch with {bad:?} was done");
        }
    }
    let result = ioctl::sync_batch(fd, &vec![range(0, 64, FOR_CPU, 2); 4097]);
    ensure!(result == Err(Errno::INVAL), "4097 ranges: {result:?}");
    Ok("in order, checked before, at most 4096".into())
}

/// What an administrator can see.
fn observed(name: &str) -> Result<String> {
    let counter = |file: &str| -> Result<u64> {
        Ok(fs::read_to_string(format!("{CLASS}/{name}/counters/{file}"))?.trim().parse()?)
    };
    let files = ["ranges_for_device", "bytes_for_device", "ranges_for_cpu", "bytes_for_cpu"];
    let before = files.map(counter);
    let trace = traced(|| {
        let file = open(name)?;
        let fd = file.as_fd();
        ioctl::claim_range(fd, 4096, 8192, false)?;
        let ranges = [range(4096, 128, FOR_DEVICE, 1), range(8192, 64, FOR_DEVICE, 2)];
        ioctl::sync_batch(fd, &ranges)?;
        let seen = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd()))?;
        for line in ["claimed:\t0x1000 8192\n", "at-device:\t192\n"] {
            ensure!(seen.contains(line), "no {line:?} in fdinfo: {seen:?}");
        }
        ioctl::sync_batch(fd, &[range(4096, 8192, FOR_CPU, 0)])?;
        Ok(())
    })?;
    for ((file, before), more) in files.iter().zip(before).zip([2, 192, 1, 8192]) {
        let (before, after) = (before?, counter(file)?);
        ensure!(after - before == more, "{file} went from {before} to {after}");
    }
    for event in [
        "u_dma_buf_claim: minor=0 offset=0x1000 size=8192 how=0",
        "u_dma_buf_sync_for_device: minor=0 offset=0x2000 size=64 how=2",
        "u_dma_buf_sync_for_cpu: minor=0 offset=0x1000 size=8192 how=0",
    ] {
        ensure!(trace.contains(event), "no {event:?} in the trace");
    }
    let life = traced(|| Created::new("traced", 4096, "").map(drop))?;
    for event in ["u_dma_buf_create: minor=", "u_dma_buf_remove: minor="] {
        let line = life.lines().find(|line| line.contains(event)).context(event)?;
        ensure!(line.contains(" size=4096 addr=0x"), "{line}");
    }
    Ok("right".into())
}

fn wrapping(name: &str) -> Result<String> {
    let file = open(name)?;
    let fd = file.as_fd();
    let size = ioctl::size(fd)?;
    let bad = [
        (0u64.wrapping_sub(0x1000), 0x2000),
        (0, u64::MAX),
        (size, 16),
        (0x1000, u64::MAX - 0xfff),
    ];
    for (offset, len) in bad {
        for flags in [abi::SYNC_FOR_CPU, abi::SYNC_FOR_DEVICE] {
            let result = ioctl::set_sync_settings(fd, SyncArgs { flags, size: len, offset });
            ensure!(result == Err(Errno::INVAL), "{len:#x} at {offset:#x}: {result:?}");
        }
    }
    // Packed: 32 bits of offset, 28 of size.
    for value in [0xffff_f000_0000_2001, 0x0000_0000_ffff_fff1, size << 32 | 0x11] {
        for sync in [ioctl::sync_value_for_cpu, ioctl::sync_value_for_device] {
            let result = sync(fd, value);
            ensure!(result == Err(Errno::INVAL), "the value {value:#x}: {result:?}");
        }
    }
    ensure!(owner(name)? == abi::OWNER_CPU, "a refused sync changed the owner");
    Ok("all refused, all unchanged".into())
}

/// Each caller's answer is about its own request.
fn many_callers(name: &str) -> Result<String> {
    const ROUNDS: u32 = 3000;
    let file = open(name)?;
    let fd = file.as_fd();
    let size = ioctl::size(fd)?;
    let wrong = AtomicU32::new(0);
    thread::scope(|scope| {
        for caller in 0..6u64 {
            let wrong = &wrong;
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let good = (u64::from(round) + caller) % 2 == 0;
                    let offset = if good { caller * 4096 } else { size };
                    let result = match caller % 3 {
                        0 => ioctl::sync_value_for_device(fd, offset << 32 | 64),
                        1 => ioctl::sync_batch(fd, &[range(offset, 64, FOR_CPU, 2)]),
                        _ => ioctl::set_sync_settings(
                            fd,
                            SyncArgs { flags: abi::SYNC_FOR_CPU, size: 64, offset },
                        ),
                    };
                    if result != if good { Ok(()) } else { Err(Errno::INVAL) } {
                        wrong.fetch_add(1, SeqCst);
                    }
                }
            });
        }
    });
    ioctl::set_sync_settings(fd, SyncArgs { flags: abi::SYNC_FOR_CPU, size, offset: 0 })?;
    let wrong = wrong.into_inner();
    ensure!(wrong == 0, "{wrong} of {} answers were another caller's", 6 * ROUNDS);
    Ok(format!("{} answers", 6 * ROUNDS))
}

const LARGE: u64 = 4 << 20;

/// One caller's long sync keeps no other waiting, and ends with its process.
fn long_sync() -> Result<String> {
    let large = Created::new("large", LARGE, "")?;
    let file = open(large.name)?;
    let fd = file.as_fd();
    if ioctl::device_info(fd)?.is_coherent() {
        return Ok("coherent: it takes no time".into());
    }
    let many = vec![range(0, LARGE, FOR_DEVICE, 0); 256];
    let (started, done) = (AtomicBool::new(false), AtomicBool::new(false));
    let start = Instant::now();
    let (result, meanwhile) = thread::scope(|scope| {
        let syncer = scope.spawn(|| {
            started.store(true, SeqCst);
            let result = ioctl::sync_batch(fd, &many);
            done.store(true, SeqCst);
            result
        });
        while !started.load(SeqCst) {
            thread::yield_now();
        }
        let mut meanwhile = 0;
        while !done.load(SeqCst) {
            if ioctl::sync_batch(fd, &[range(64, 64, FOR_CPU, 2)]).is_ok() && !done.load(SeqCst) {
                meanwhile += 1;
            }
        }
        (syncer.join(), meanwhile)
    });
    ensure!(result.is_ok_and(|result| result.is_ok()), "the long sync failed");
    let took = start.elapsed();
    ensure!(meanwhile >= 5, "only {meanwhile} short syncs during the long one");
    drop(file);

    let mut child = Command::new("/proc/self/exe").args(["endless-sync", large.name]).spawn()?;
    thread::sleep(Duration::from_millis(300));
    ensure!(child.try_wait()?.is_none(), "4096 long syncs were over in no time");
    let start = Instant::now();
    child.kill()?;
    let status = child.wait()?;
    ensure!(status.signal() == Some(9), "{status}");
    // The whole batch is sixteen times the one before.
    let limit = took.max(Duration::from_millis(125)) * 4;
    ensure!(start.elapsed() < limit, "killed only after {:?}", start.elapsed());
    Ok(format!("{meanwhile} short syncs during one; can be killed"))
}

/// In another process: syncs until it is killed.
pub(crate) fn endless(name: &str) -> ExitCode {
    let Ok(file) = open(name) else { return ExitCode::FAILURE };
    let many = vec![range(0, LARGE, FOR_DEVICE, 0); 4096];
    while ioctl::sync_batch(file.as_fd(), &many).is_ok() {}
    ExitCode::FAILURE
}

/// Who syncs while the buffer is taken away ends, soon and with ENODEV.
fn removed() -> Result<String> {
    let large = Created::new("large", LARGE, "")?;
    let file = open(large.name)?;
    let many = vec![range(0, LARGE, FOR_DEVICE, 0); 4096];
    let started = Instant::now();
    let (result, took) = thread::scope(|scope| {
        let syncer = scope.spawn(|| {
            loop {
                if let Err(error) = ioctl::sync_batch(file.as_fd(), &many) {
                    break error;
                }
            }
        });
        thread::sleep(Duration::from_millis(50));
        let started = Instant::now();
        let unbound = unbind(large.name);
        let took = started.elapsed();
        anyhow::Ok((syncer.join().map_err(|_| anyhow::anyhow!("panicked"))?, unbound.map(|_| took)))
    })
    .and_then(|(error, took)| Ok((error, took?)))?;
    ensure!(result == Errno::NODEV, "the sync ended with {result}");
    ensure!(took < Duration::from_secs(5), "the removal took {took:?}");
    Ok(format!("removed in {took:?}, over after {:?}", started.elapsed()))
}

fn arguments(name: &str) -> Result<String> {
    let file = open(name)?;
    let fd = file.as_fd();
    let before = ioctl::sync_settings(fd)?;
    for mode in 8..=255 {
        let flags = mode << abi::SYNC_MODE_SHIFT;
        let result = ioctl::set_sync_settings(fd, SyncArgs { flags, size: 64, offset: 64 });
        ensure!(result == Err(Errno::INVAL), "mode {mode}: {result:?}");
    }
    let after = ioctl::sync_settings(fd)?;
    ensure!(before.flags == after.flags && before.offset == after.offset, "a refused mode stuck");

    for opcode in raw::COMMANDS {
        let result = raw::call_nowhere(fd, opcode);
        ensure!(result == Err(Errno::FAULT), "{opcode:#x} with a bad pointer: {result:?}");
        // The same number with another argument size.
        let result = raw::call(fd, opcode + (1 << 16), &mut [0; 64]);
        ensure!(result == Err(Errno::NOTTY), "{opcode:#x} of another size: {result:?}");
    }
    // A batch whose array is nowhere.
    let mut batch = [0; 16];
    batch[0] = 8;
    batch[8] = 1;
    let result = raw::call(fd, abi::SYNC_BATCH, &mut batch);
    ensure!(result == Err(Errno::FAULT), "a batch with a bad array: {result:?}");

    let info = ioctl::driver_info(fd)?;
    ensure!(info.flags & abi::DRV_IOCTL_VERSION == 2, "{info:?}");
    ensure!(info.flags & abi::DRV_IN_KERNEL != 0, "{info:?}");
    Ok("modes, pointers, sizes".into())
}
