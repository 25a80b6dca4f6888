//! How much memory the kernel has given away, and to whom.

use std::{collections::BTreeMap, fs};

use anyhow::{Context, Result, ensure};

/// Of a kernel that searches for leaks, and so keeps small memory for a while.
const KMEMLEAK: &str = "/sys/kernel/debug/kmemleak";
/// What it counts by what it is for; the rest, but for what is free, are pages that
/// somebody asked for: buffers, if not the kernel itself.
const NAMED: [&str; 9] = [
    "MemFree:",
    "AnonPages:",
    "Cached:",
    "Buffers:",
    "Slab:",
    "PageTables:",
    "SecPageTables:",
    "VmallocUsed:",
    "Percpu:",
];
const SMALL: [&str; 3] = ["SUnreclaim:", "VmallocUsed:", "Percpu:"];

/// In KiB.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kept {
    /// Small objects, and mappings of the kernel's.
    small: i64,
    pages: i64,
}

impl Kept {
    /// The kernel gives up first what it keeps for later: caches, and each processor's
    /// pages.
    pub(crate) fn now() -> Result<Self> {
        fs::write("/proc/sys/vm/drop_caches", "3")?;
        // Not every kernel can, and it is no promise.
        let _ = fs::write("/proc/sys/vm/compact_memory", "1");
        let _ = fs::read("/proc/sys/vm/stat_refresh");
        let text = fs::read_to_string("/proc/meminfo")?;
        let of = |line: &str| {
            let (name, rest) = line.split_once(' ')?;
            Some((name.to_owned(), rest.split_whitespace().next()?.parse::<i64>().ok()?))
        };
        let all: BTreeMap<String, i64> = text.lines().filter_map(of).collect();
        let sum = |names: &[&str]| names.iter().filter_map(|&name| all.get(name)).sum::<i64>();
        let total = all.get("MemTotal:").context("/proc/meminfo has changed")?;
        ensure!(SMALL.iter().all(|&name| all.contains_key(name)), "/proc/meminfo has changed");
        Ok(Self { small: sum(&SMALL), pages: total - sum(&NAMED) })
    }

    /// Of several, the first of which has what is made once.
    pub(crate) fn compare(all: &[Self]) -> Result<String> {
        let least = |of: fn(&Self) -> i64| {
            let grown = all.windows(2).skip(1).map(|two| of(&two[1]) - of(&two[0]));
            grown.min().unwrap_or(0)
        };
        let (small, pages) = (least(|kept| kept.small), least(|kept| kept.pages));
        let searched = fs::exists(KMEMLEAK)?;
        ensure!(pages < 256, "{pages} KiB of pages more each time: {all:?}");
        ensure!(searched || small < 128, "{small} KiB more each time: {all:?}");
        let of = |of: fn(&Self) -> i64| {
            all.iter().map(|kept| of(kept).to_string()).collect::<Vec<_>>().join(", ")
        };
        let found =
            if searched { "left to the kernel's search".to_owned() } else { of(|k| k.small) };
        Ok(format!("KiB of pages {}; of the rest {found}", of(|kept| kept.pages)))
    }
}
