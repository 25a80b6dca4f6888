//! Importers in the kernel: `udb-peer.ko` attaches to a dma-buf, or maps it for the
//! kernel. It has room for one, so one process has it.

use std::{fs, io, os::fd::AsRawFd};

use anyhow::{Context, Result, ensure};
use rustix::io::Errno;

use super::{
    admin::insmod,
    model::{Id, Use},
    raw::Outcome,
    run::{Fuzz, done},
};

const MODULE: &str = "/modules/udb-peer.ko";
const DRIVER: &str = "/sys/bus/platform/drivers/udb-driven";
const RUN: &str = "/sys/module/udb_peer/parameters/run";
/// For its device, in each direction, and for the kernel.
pub(crate) const VMAP: u64 = 3;
const TO_DEVICE: u64 = 1;

fn tell(text: &str) -> Outcome {
    let told: io::Result<()> = fs::write(RUN, text);
    told.map(|()| 0).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

pub(crate) fn load() -> Result<()> {
    insmod(DRIVER, &[MODULE])
}

pub(crate) fn unload() -> Result<()> {
    rustix::system::delete_module(c"udb_peer", 0o4000).context("the importer stays")
}

impl Fuzz {
    /// Finds the byte that is there, writes another, and lets go.
    pub(crate) fn import(
        &mut self,
        export: Id,
        how: u64,
        offset: u64,
        value: u8,
    ) -> Result<Outcome> {
        if !self.importer {
            return Ok(done());
        }
        let one = &self.model.exports[&export];
        let Some(fd) = one.fd.as_ref().map(AsRawFd::as_raw_fd) else { return Ok(done()) };
        let Use { file, offset: start, .. } = self.model.uses[&one.part];
        // There, Linux itself warns of what an exporter refuses.
        if how == VMAP && self.model.life_of(file).gone {
            return Ok(done());
        }
        let found = if how == VMAP {
            tell(&format!("vmap {fd}"))
        } else {
            tell(&format!("attach {fd} {how}"))
        };
        let expected =
            if how != VMAP && how != TO_DEVICE && !one.write { Err(Errno::ACCESS) } else { Ok(0) };
        self.check_gone(file, expected, found)?;
        if found.is_err() {
            return Ok(found);
        }
        let at = usize::try_from(start + offset)?;
        let life = self.model.lives.get_mut(&self.model.files[&file].life).context("no life")?;
        finds(offset, life.bytes[at])?;
        tell(&format!("poke {offset} {value}"))?;
        life.bytes[at] = value;
        let end = if how == VMAP { "vunmap" } else { "detach" };
        tell(end).context(end)?;
        Ok(found)
    }
}

fn finds(offset: u64, expected: u8) -> Result<()> {
    tell(&format!("peek {offset}"))?;
    let text = fs::read_to_string(RUN)?;
    let found = text.split_whitespace().nth(2).context("no value")?;
    ensure!(found == expected.to_string(), "an importer finds {found}, not {expected}");
    Ok(())
}
