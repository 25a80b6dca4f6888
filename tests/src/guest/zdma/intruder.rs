//! Error interrupts. QEMU's model takes every address for memory, so its bus
//! errors cannot be had; what it does report takes a program that heeds no lock
//! and writes the channel's registers (UG1087, module ZDMA).

use std::fs::OpenOptions;

use anyhow::{Context, Result, bail, ensure};
use rustix::mm::MapFlags;
use udmabuf::{Buffer, Cached, FromDevice, ToDevice, WaitError};
use udmabuf_examples::zdma::{Error, Fault, Faults, Zdma};

use super::{
    TIMEOUT,
    control::{PARTS, SHORT, arrived, start_paused},
    open, open_with_table, same,
};
use crate::{Pair, Tests, map::Map};

const NO_REGISTER: usize = 0x8;
const ISR: usize = 0x100;
const ISR_PAUSED: u32 = 1 << 11;
const CTRL0: usize = 0x110;
/// Lists; go on, from the start address.
const CTRL0_CONTINUE_FROM_START: u32 = 1 << 7 | 1 << 6 | 1 << 2 | 1 << 1;
const SOURCE_START: usize = 0x158;

pub(super) fn tests(run: &mut Tests, pair: Pair, table: &'static str) {
    run.test("zdma invalid access", || invalid_access(pair));
    run.test("zdma interrupt storm", || storm(pair, table));
    run.test("zdma misaligned descriptor", || misaligned_descriptor(pair, table));
}

/// The registers of the channel that `open` opens.
fn registers() -> Result<Map> {
    let devices = Zdma::list()?;
    let file = &devices.first().context("no channel")?.file;
    let file = OpenOptions::new().read(true).write(true).open(format!("/dev/{file}"))?;
    Ok(Map::new(&file, 0x1000, MapFlags::empty())?)
}

fn only(faults: Faults, fault: Fault) -> Result<()> {
    ensure!(faults.iter().collect::<Vec<_>>() == [fault], "{faults:?}");
    Ok(())
}

fn copies(zdma: &Zdma, source: Buffer, destination: Buffer) -> Result<()> {
    let mut source = source.for_direction::<ToDevice>();
    source.as_mut_slice().fill(0xa5);
    let destination = destination.for_direction::<FromDevice>();
    let transfer = zdma.copy(source.into_device()?, destination.into_device()?)?;
    let (source, destination) = transfer.wait(TIMEOUT)?;
    same(source.as_slice(), destination.as_slice())
}

/// During a copy.
fn invalid_access([source, destination]: Pair) -> Result<String> {
    let (zdma, registers) = (open()?, registers()?);
    let source = Buffer::open(source)?.for_direction::<ToDevice>();
    let destination = Buffer::open(destination)?.for_direction::<FromDevice>();
    let transfer = zdma.copy(source.into_device()?, destination.into_device()?)?;
    registers.set_word(NO_REGISTER, 1);
    let Err(WaitError::Failed { error, buffers }) = transfer.wait(TIMEOUT) else {
        bail!("nothing was reported");
    };
    let Error::Faults(faults) = error else { bail!("{error}") };
    only(faults, Fault::Register)?;
    let (source, destination) = buffers;
    copies(&zdma, source.for_direction(), destination.for_direction())?;
    Ok(error.to_string())
}

/// An interrupt that nobody clears while the list is in flight: the wait ends at
/// its deadline, and what was reported is told at the list's end.
fn storm(pair: Pair, table: &str) -> Result<String> {
    let (zdma, registers) = (open_with_table::<Cached>(table)?, registers()?);
    let mut transfer = start_paused(&zdma, pair, 1)?;
    for _ in 0..3 {
        registers.set_word(NO_REGISTER, 1);
        let Err(WaitError::Timeout { transfer: still, .. }) = transfer.wait(SHORT) else {
            bail!("a paused list is done");
        };
        transfer = still;
    }
    zdma.resume()?;
    let Err(WaitError::Failed { error, buffers }) = transfer.wait(TIMEOUT) else {
        bail!("nothing was reported");
    };
    let Error::Faults(faults) = error else { bail!("{error}") };
    only(faults, Fault::Register)?;
    ensure!(arrived(buffers, 1)? == PARTS, "not all of it has arrived");
    let interrupts = zdma.interrupts()?;
    ensure!(interrupts > 10, "only {interrupts} interrupts: no storm");
    Ok(format!("{interrupts} interrupts; {error}"))
}

/// A list that is sent to a descriptor that is none.
fn misaligned_descriptor(pair: Pair, table: &str) -> Result<String> {
    let (zdma, registers) = (open_with_table::<Cached>(table)?, registers()?);
    let transfer = start_paused(&zdma, pair, 1)?;
    registers.set_word(ISR, ISR_PAUSED);
    registers.set_word(SOURCE_START, 8);
    registers.set_word(CTRL0, CTRL0_CONTINUE_FROM_START);
    let Err(WaitError::Failed { error, buffers }) = transfer.wait(TIMEOUT) else {
        bail!("nothing was reported");
    };
    let Error::Faults(faults) = error else { bail!("{error}") };
    only(faults, Fault::SourceDescriptor)?;
    ensure!(arrived(buffers, 1)? == 1, "more than the first part");
    zdma.resume()?;
    copies(&zdma, Buffer::open(pair[0])?, Buffer::open(pair[1])?)?;
    let transfer = start_paused(&zdma, pair, 2)?;
    zdma.resume()?;
    ensure!(arrived(transfer.wait(TIMEOUT)?, 2)? == PARTS, "the next list is not whole");
    Ok(error.to_string())
}
