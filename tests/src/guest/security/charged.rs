//! What a user makes the kernel keep is charged to the user's memory control group:
//! each claimed range, open file and mapping, beyond what the kernel itself charges.

use std::{
    fs::{self, File},
    os::fd::AsFd,
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, ensure};
use rustix::{
    mm::MapFlags,
    process::{Resource, Rlimit, setrlimit},
};
use udmabuf_sys::{abi, ioctl};

use crate::{
    manager::Created,
    map::{Map, map_at},
    module::{busybox, open},
};

const ROOT: &str = "/tmp/cgroup";
const GROUP: &str = "/tmp/cgroup/user";
/// So many that what is charged of all claims is more than what the kernel charges ahead.
const BUFFERS: usize = 64;
/// With as many ranges as can be claimed.
const PAGES: u64 = 23;
/// Of open files, and of mappings.
const MANY: usize = 16384;
/// The least that an object takes: the smallest that the kernel has for 40 bytes.
const LEAST: u64 = 64;

/// What another process makes is its group's.
pub(super) fn all() -> Result<String> {
    fs::create_dir(ROOT)?;
    busybox("mount", &["-t", "cgroup2", "none", ROOT])?;
    fs::write(format!("{ROOT}/cgroup.subtree_control"), "+memory").context("groups for memory")?;
    fs::create_dir(GROUP)?;
    let made: Result<Vec<_>> =
        (0..BUFFERS).map(|buffer| Created::new(name(buffer).leak(), PAGES * 4096, "")).collect();
    let output = Command::new("/proc/self/exe").args(["charged", GROUP]).output();
    let made = made.map(drop);
    fs::remove_dir(GROUP).context(GROUP)?;
    let (output, _) = (output?, made?);
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    ensure!(output.status.success(), "{}: {said}", output.status);
    Ok(said)
}

fn name(buffer: usize) -> String {
    format!("charge{buffer}")
}

/// In that process.
pub(crate) fn report(group: &str) -> ExitCode {
    match each(group) {
        Ok(said) => println!("{said}"),
        Err(error) => {
            println!("{error:#}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn each(group: &str) -> Result<String> {
    fs::write(format!("{group}/cgroup.procs"), "0")?;
    let limit = Some(2 * MANY as u64);
    setrlimit(Resource::Nofile, Rlimit { current: limit, maximum: limit })?;
    // What `what` returns is kept until the group was looked at.
    let charge = |what: &dyn Fn() -> Result<Vec<Box<dyn std::any::Any>>>| -> Result<u64> {
        let now = || -> Result<u64> {
            Ok(fs::read_to_string(format!("{group}/memory.current"))?.trim().parse()?)
        };
        let before = now()?;
        let kept = what()?;
        let after = now()?;
        drop(kept);
        Ok(after.saturating_sub(before))
    };

    let claims = charge(&|| {
        let mut kept: Vec<Box<dyn std::any::Any>> = Vec::new();
        for buffer in 0..BUFFERS {
            let file = open(&name(buffer))?;
            let ranges =
                (1..PAGES).flat_map(|count| (0..=PAGES - count).map(move |page| (page, count)));
            for (page, count) in ranges.take(usize::try_from(abi::CLAIM_RANGES_MAX)?) {
                ioctl::claim_range(file.as_fd(), page * 4096, count * 4096, false)?;
            }
            kept.push(Box::new(file));
        }
        Ok(kept)
    })?;
    enough("claimed ranges", claims, 0, BUFFERS as u64 * abi::CLAIM_RANGES_MAX)?;

    let files = |path: &str| -> Result<Vec<Box<dyn std::any::Any>>> {
        let mut files = Vec::with_capacity(MANY);
        for _ in 0..MANY {
            files.push(File::open(path)?);
        }
        Ok(vec![Box::new(files)])
    };
    // The first time it also has the table of descriptors grow.
    drop(files("/dev/null")?);
    let others = charge(&|| files("/dev/null"))?;
    let opened = charge(&|| files(&format!("/dev/{}", name(0))))?;
    enough("open files", opened, others, MANY as u64)?;

    let maps = |file: &File, flags: MapFlags| -> Result<Vec<Box<dyn std::any::Any>>> {
        let mut maps: Vec<Map> = Vec::with_capacity(MANY);
        for _ in 0..MANY {
            maps.push(map_at(file, 0, 4096, flags)?);
        }
        Ok(vec![Box::new(maps)])
    };
    // Of the same page, so that no two become one.
    let other =
        File::options().read(true).write(true).create(true).truncate(false).open("/tmp/other")?;
    other.set_len(4096)?;
    drop(maps(&other, MapFlags::SHARED)?);
    let others = charge(&|| maps(&other, MapFlags::SHARED))?;
    let file = open(&name(0))?;
    let mapped = charge(&|| maps(&file, MapFlags::SHARED))?;
    enough("mappings", mapped, others, MANY as u64)?;
    Ok(format!("{claims} bytes for claimed ranges, {opened} for files, {mapped} for mappings"))
}

/// At least half: the kernel charges pages, and some ahead, not objects.
fn enough(what: &str, charged: u64, others: u64, count: u64) -> Result<()> {
    let least = others + count * LEAST / 2;
    ensure!(charged > least, "{count} {what} were charged {charged} bytes; {others} of others'");
    Ok(())
}
