//! The two tables of the existing driver's manual, in seconds: `check_buf` writes
//! a pattern in blocks of 256 bytes, reads it back and counts errors, nine times;
//! `clear_buf` fills with zeros, 99 times. Both for every synchronization mode,
//! without and with `O_SYNC`.
//!
//! What those two decide is how the buffer is mapped. A file of the crates asks
//! for that by itself, so nothing here changes the modes of the device.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use udmabuf::{Bidirectional, Buffer, Cached, CpuOwned, OpenOptions, Uncached, WriteCombined};

use crate::MIB;

/// Passes, as in the manual.
pub(crate) const CHECKS: u8 = 9;
pub(crate) const CLEARS: u8 = 99;
const SIZES: [usize; 3] = [MIB, 5 * MIB, 10 * MIB];
const MODES: u8 = 8;

type Mapped<M> = Buffer<CpuOwned, Bidirectional, M>;

/// How the CPU reaches the bytes of a mapping.
struct Access<M: udmabuf::Mapped> {
    put: fn(&mut Mapped<M>, usize, &[u8]) -> Result<()>,
    is: fn(&Mapped<M>, usize, &[u8]) -> Result<bool>,
    clear: fn(&mut Mapped<M>, usize) -> Result<()>,
}

/// By slices, where there can be any.
macro_rules! by_slices {
    ($mode:ty) => {
        Access::<$mode> {
            put: |buffer, at, from| {
                buffer.as_mut_slice()[at..][..from.len()].copy_from_slice(from);
                Ok(())
            },
            is: |buffer, at, with| Ok(buffer.as_slice()[at..][..with.len()] == *with),
            clear: |buffer, len| {
                buffer.as_mut_slice()[..len].fill(0);
                Ok(())
            },
        }
    };
}

const BY_VALUE: Access<Uncached> = Access {
    put: |buffer, at, from| Ok(buffer.copy_from(at, from)?),
    is: |buffer, at, with| Ok(buffer.is_equal(at, with)?),
    clear: |buffer, len| Ok(buffer.fill(0..len, 0)?),
};

/// The times of both operations, for each size that the buffer has.
type Row = Vec<[Duration; 2]>;

/// Measures and prints both tables, with so many passes.
pub(crate) fn print(name: &str, checks: u8, clears: u8) -> Result<()> {
    let mut rows = Vec::new();
    for mode in 0..MODES {
        for o_sync in [false, true] {
            // Modes from 4 on are those from 0 on, as if all files had O_SYNC.
            let (mapping, row) = match (mode % 4, o_sync || mode >= 4) {
                (0, _) | (_, false) => ("cached", row(name, checks, clears, &by_slices!(Cached))?),
                (1, true) => ("uncached", row(name, checks, clears, &BY_VALUE)?),
                // 3 is DMA-coherent: write-combined, too, except on 32-bit ARM.
                _ => ("write-combined", row(name, checks, clears, &by_slices!(WriteCombined))?),
            };
            rows.push((mode, if o_sync { "yes" } else { "no" }, mapping, row));
        }
    }
    let titles = [format!("`check_buf`, {checks} passes"), format!("`clear_buf`, {clears} passes")];
    for (which, title) in titles.iter().enumerate() {
        println!("{title} over {name}, seconds:\n");
        let sizes: String = SIZES.map(|size| format!(" {} MiB |", size / MIB)).concat();
        println!("| sync_mode | O_SYNC | mapping |{sizes}\n|--:|---|---|--:|--:|--:|");
        for (mode, o_sync, mapping, row) in &rows {
            let time = |at: usize| row.get(at).map_or(String::new(), |row| seconds(row[which]));
            let times: String = (0..SIZES.len()).map(|at| format!(" {} |", time(at))).collect();
            println!("| {mode} | {o_sync} | {mapping} |{times}");
        }
        println!();
    }
    println!(
        "`sync_mode` and O_SYNC decide on the mapping, and nothing else. It is asked for here as \
         such, whatever the device's mode is: rows with one mapping do the same.\n"
    );
    Ok(())
}

fn seconds(time: Duration) -> String {
    format!("{:.6}", time.as_secs_f64())
}

fn row<M: udmabuf::Mapped>(name: &str, checks: u8, clears: u8, access: &Access<M>) -> Result<Row> {
    let mut buffer = match OpenOptions::new().mapped::<M>().open(name) {
        // Not every memory has every mapping; then the row is empty.
        Err(udmabuf::Error::Unsupported { .. }) => return Ok(Vec::new()),
        opened => opened?,
    };
    let len = buffer.len();
    let sizes = SIZES.into_iter().filter(|&size| size <= len);
    sizes
        .map(|size| {
            Ok([
                check(&mut buffer, size, checks, access)?,
                clear(&mut buffer, size, clears, access)?,
            ])
        })
        .collect()
}

fn check<M: udmabuf::Mapped>(
    buffer: &mut Mapped<M>,
    size: usize,
    passes: u8,
    access: &Access<M>,
) -> Result<Duration> {
    let mut errors = 0;
    let start = Instant::now();
    for pass in 0..passes {
        let pattern: Vec<u8> = (0..=u8::MAX).map(|byte| byte ^ pass).collect();
        for at in (0..size).step_by(pattern.len()) {
            (access.put)(buffer, at, &pattern)?;
        }
        for at in (0..size).step_by(pattern.len()) {
            errors += usize::from(!(access.is)(buffer, at, &pattern)?);
        }
    }
    let time = start.elapsed();
    ensure!(errors == 0, "{errors} wrong blocks");
    Ok(time)
}

fn clear<M: udmabuf::Mapped>(
    buffer: &mut Mapped<M>,
    size: usize,
    passes: u8,
    access: &Access<M>,
) -> Result<Duration> {
    let start = Instant::now();
    for _ in 0..passes {
        (access.clear)(buffer, size)?;
    }
    let time = start.elapsed();
    ensure!(passes == 0 || (access.is)(buffer, 0, &vec![0; size])?, "not cleared");
    Ok(time)
}
