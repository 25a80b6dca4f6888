//! What the operations of the crates cost, beside C on the kernel's interfaces
//! (`raw`, which prints the same lines).
//!
//! Usage:
//! - `udmabuf-bench measure BUFFER...` on the machine with the buffers;
//! - `udmabuf-bench mappings BUFFER...`, the same for mappings alone;
//! - `udmabuf-bench batches BUFFER...`, for many parts at once alone;
//! - `udmabuf-bench buffers`, for as many buffers at once as can be made;
//! - `udmabuf-bench report UNIT DIRECTORY`, with what it printed, and what `raw`
//!   printed, on the standard input: a table, and curves in the directory;
//! - `udmabuf-bench tables BUFFER [CHECKS CLEARS]`: `check_buf` and `clear_buf`, in
//!   seconds, with so many passes.

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
        ["mappings", ref buffers @ ..] => {
            buffers.iter().try_for_each(|name| buffer::mappings(name, &titles(name)?))
        }
        ["batches", ref buffers @ ..] => {
            buffers.iter().try_for_each(|name| handover::batches(name, &titles(name)?))
        }
        ["buffers"] => handover::of_many_buffers(),
        ["tables", buffer] => tables::print(buffer, tables::CHECKS, tables::CLEARS),
        ["tables", buffer, checks, clears] => {
            tables::print(buffer, checks.parse()?, clears.parse()?)
        }
        ["report", unit, directory] => report::report(unit, directory.as_ref()),
        _ => bail!(
            "usage: udmabuf-bench measure BUFFER... | mappings BUFFER... | batches BUFFER... | buffers | report UNIT DIRECTORY | tables BUFFER [CHECKS CLEARS]"
        ),
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
    let optional = [buffer::creation(), handover::of_sizes(), device::measure()];
    for failed in optional.into_iter().filter_map(Result::err) {
        eprintln!("udmabuf-bench: {failed:#}");
    }
    Ok(())
}

fn kind(buffer: &Buffer) -> &'static str {
    if buffer.is_coherent() { "coherent" } else { "non-coherent" }
}

/// Names operations on the buffer.
fn titles(name: &str) -> Result<impl Fn(&str) -> String> {
    let kind = kind(&Buffer::open(name)?);
    Ok(move |operation: &str| format!("{operation}, {kind}"))
}

fn measure_buffer(name: &str) -> Result<()> {
    let title = titles(name)?;
    let mut buffer = handover::alone(Buffer::open(name)?, &title)?;
    if buffer.len() >= MIB {
        buffer::copies(&mut buffer, &title)?;
        buffer::views(&mut buffer, &title)?;
        drop(buffer);
        handover::together(name, &title)?;
        buffer::uncached_copies(name, &title)?;
    } else {
        drop(buffer);
    }
    handover::by_kernel(name, &title)?;
    handover::by_module(name, &title)?;
    buffer::opening(name, &title)?;
    buffer::mappings(name, &title)
}
