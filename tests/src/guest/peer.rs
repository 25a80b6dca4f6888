//! `udb-peer.ko`, a module that uses buffers: it runs a command that is written to
//! it.

use std::fs;

use anyhow::{Context, Result, ensure};

use super::module::{await_gone, busybox};

/// Takes the commands.
pub(crate) const RUN: &str = "/sys/module/udb_peer/parameters/run";

/// If it is not there.
pub(crate) fn load_peer() -> Result<()> {
    if fs::exists(RUN)? {
        return Ok(());
    }
    await_gone("udb-driven")?;
    await_gone("udb-waiting")?;
    busybox("insmod", &["/modules/udb-peer.ko"])
}

/// The errno of a command of the peer's, 0 for success.
pub(crate) fn peer(text: &str) -> Result<i32> {
    load_peer()?;
    match fs::write(RUN, text) {
        Ok(()) => Ok(0),
        Err(error) => error.raw_os_error().context("no errno"),
    }
}

pub(crate) fn peer_must(text: &str) -> Result<()> {
    let errno = peer(text)?;
    ensure!(errno == 0, "{text}: errno {errno}");
    Ok(())
}

/// Entries of the importer's table, the largest, and the last value.
pub(crate) fn results() -> Result<[u64; 3]> {
    let text = fs::read_to_string(RUN)?;
    let mut numbers = text.split_whitespace().map(str::parse);
    let mut next = || numbers.next().context("too few")?.context("not a number");
    Ok([next()?, next()?, next()?])
}

pub(crate) fn peek(offset: u64) -> Result<u64> {
    peer_must(&format!("peek {offset}"))?;
    Ok(results()?[2])
}

/// Its driver for the device of the same name.
const DRIVEN: &str = "/sys/bus/platform/drivers/udb-driven";

pub(crate) fn bind_driven() -> Result<()> {
    fs::write(format!("{DRIVEN}/bind"), "udb-driven").context("bind udb-driven")
}

pub(crate) fn unbind_driven() -> Result<()> {
    fs::write(format!("{DRIVEN}/unbind"), "udb-driven").context("unbind udb-driven")
}

pub(crate) fn unload_peer() -> Result<()> {
    busybox("rmmod", &["udb_peer"])
}
