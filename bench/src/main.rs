//! What the operations of the crates cost, beside C on the kernel's interfaces
//! (`raw.c`, which prints the same lines).
//!
//! Usage:
//! - `udmabuf-bench measure BUFFER...` on the machine with the buffers;
//! - `udmabuf-bench report UNIT DIRECTORY`, with what it printed, and what `raw`
//!   printed, on the standard input: a table, and curves in the directory.

mod buffer;
mod device;
mod meter;
mod report;
mod svg;

use std::hint::black_box;

use anyhow::{Result, bail};
use meter::{X, cost, row};

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
        buffer::measure(name)?;
    }
    device::measure()
}
