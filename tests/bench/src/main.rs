//! What the operations of the crates cost, beside C on the kernel's interfaces
//! (`raw.c`, which prints the same lines).
//!
//! Usage:
//! - `udmabuf-bench measure BUFFER...` on the machine with the buffers;
//! - `udmabuf-bench report UNIT DIRECTORY`, with what it printed, and what `raw`
//!   printed, on the standard input: a table, and curves in the directory.

mod buffer;
mod device;
mod handover;
mod meter;
mod report;
mod svg;
mod tables;

use std::hint::black_box;

use anyhow::{Result, bail};
use meter::{X, cost, row};
use udmabuf::Buffer;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
const GIB: usize = 1024 * MIB;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["measure", ref buffers @ ..] => measure(buffers),
        ["report", unit, directory] => report::report(unit, directory.as_ref()),
        _ => bail!("usage: udmabuf-bench measure BUFFER... | report UNIT DIRECTORY"),
    }
}

fn measure(buffers: &[&str]) -> Result<()> {
    let nothing = cost(|| {
        black_box(rustix::process::getppid());
        anyhow::Ok(())
    })?;
    row("a system call that does nothing", X::None, nothing);
    for name in buffers {
        measure_buffer(name)?;
    }
    // Where there is no manager, or no edu, the rows are missing.
    let optional = [buffer::creation(), handover::of_many_buffers(), device::measure()];
    for failed in optional.into_iter().filter_map(Result::err) {
        eprintln!("udmabuf-bench: {failed:#}");
    }
    Ok(())
}

fn measure_buffer(name: &str) -> Result<()> {
    let mut buffer = Buffer::open(name)?;
    let kind = if buffer.is_coherent() { "coherent" } else { "non-coherent" };
    let title = |operation: &str| format!("{operation}, {kind}");

    buffer = handover::alone(buffer, &title)?;
    if buffer.len() >= MIB {
        buffer::copies(&mut buffer, &title)?;
        buffer::views(&mut buffer, &title)?;
        handover::together(buffer, &title)?;
        buffer::uncached_copies(name, &title)?;
        tables::measure(name, &title)?;
    } else {
        drop(buffer);
    }
    handover::by_module(name, &title)?;
    buffer::mappings(name, &title)
}
