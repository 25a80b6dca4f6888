//! What a batch tells the kernel's DMA API, seen by probes on its functions: each
//! line of each range, in order, for the right side and direction, and nothing
//! else; ranges that continue each other at once.

use std::{fs, os::fd::AsFd};

use anyhow::{Context, Result, ensure};
use udmabuf_sys::{abi::SyncRange, ioctl};

use super::{module::open, random::Random};

const TRACING: &str = "/sys/kernel/debug/tracing";
const FOR_CPU: u32 = 1;
const FOR_DEVICE: u32 = 3;
const LINE: u64 = 64;
const BATCHES: usize = 200;

pub(crate) fn told(name: &str) -> Result<String> {
    let file = open(name)?;
    let start = ioctl::dma_addr(file.as_fd())?;
    let (mut random, seed) = Random::new();
    let mut calls = 0;
    let mut ranges = 0;
    let outcome = probed(|| {
        for _ in 0..BATCHES {
            let batch = batch(&mut random);
            fs::write(format!("{TRACING}/trace"), "")?;
            ioctl::sync_batch(file.as_fd(), &batch)?;
            let told = calls_of(&fs::read_to_string(format!("{TRACING}/trace"))?, start)?;
            ensure!(lines(&told) == lines(&batch), "seed {seed}: {batch:?} became {told:?}");
            let most = 1 + batch.windows(2).filter(|pair| !continues(pair)).count();
            ensure!(told.len() <= most, "seed {seed}: {batch:?} took {} calls", told.len());
            calls += told.len();
            ranges += batch.len();
        }
        Ok(())
    });
    outcome?;
    Ok(format!("{ranges} ranges by {calls} calls (seed {seed})"))
}

fn continues(pair: &[SyncRange]) -> bool {
    matches!(pair, [a, b] if a.command == b.command
        && a.direction == b.direction
        && a.offset + a.size == b.offset)
}

/// Up to 40 ranges, many of which continue the one before; some are empty.
fn batch(random: &mut Random) -> Vec<SyncRange> {
    let mut ranges = Vec::new();
    let mut last = SyncRange { offset: 0, size: 0, command: FOR_CPU, direction: 0 };
    for _ in 0..=random.below(40) {
        if random.below(3) == 0 {
            last.command = if random.below(2) == 0 { FOR_CPU } else { FOR_DEVICE };
        }
        if random.below(3) == 0 {
            last.direction = u32::try_from(random.below(3)).unwrap_or_default();
        }
        last.offset += last.size;
        if last.offset > 32768 || random.below(3) == 0 {
            last.offset = random.below(256) * LINE;
        }
        last.size = random.below(5) * LINE;
        ranges.push(last);
    }
    ranges
}

/// Each line's turn.
fn lines(ranges: &[SyncRange]) -> Vec<(u32, u32, u64)> {
    let of = |range: &SyncRange| {
        let (command, direction) = (range.command, range.direction);
        let each = range.offset / LINE..(range.offset + range.size) / LINE;
        each.map(move |line| (command, direction, line))
    };
    ranges.iter().flat_map(of).collect()
}

/// With probes on the functions, as they are called until Linux 6.9.
fn probed(what: impl FnOnce() -> Result<()>) -> Result<()> {
    let probes = format!("{TRACING}/kprobe_events");
    let enable = format!("{TRACING}/events/udb_probes/enable");
    for side in ["cpu", "device"] {
        let function = format!("dma_sync_single_for_{side}");
        let probe = format!("p:udb_probes/{side} {function} at=%x1:x64 len=%x2:x64 how=%x3:u32");
        // One is added at each write, if the file is opened to append.
        let mut file = fs::OpenOptions::new().append(true).open(&probes).context("probes")?;
        std::io::Write::write_all(&mut file, probe.as_bytes()).context(function)?;
    }
    fs::write(&enable, "1")?;
    let done = what();
    fs::write(&enable, "0")?;
    fs::write(&probes, "")?;
    done
}

fn calls_of(trace: &str, start: u64) -> Result<Vec<SyncRange>> {
    let called = trace.lines().filter(|line| line.contains("dma_sync_single_for_"));
    let call = |line: &str| {
        let number = |key: &str| {
            let text = line.split_whitespace().find_map(|word| word.strip_prefix(key))?;
            match text.strip_prefix("0x") {
                Some(digits) => u64::from_str_radix(digits, 16).ok(),
                None => text.parse().ok(),
            }
        };
        Some(SyncRange {
            offset: number("at=")?.checked_sub(start)?,
            size: number("len=")?,
            command: if line.contains("for_cpu") { FOR_CPU } else { FOR_DEVICE },
            direction: u32::try_from(number("how=")?).ok()?,
        })
    };
    called.map(|line| call(line).with_context(|| format!("not understood: {line}"))).collect()
}
