//! What registers and interrupts cost, on QEMU's edu device.
#![allow(unsafe_code, reason = "vouches for the registers")]

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use udmabuf_uio::{Pci, Registers};

use crate::meter::{X, cost, cost_of_each, row};

udmabuf_uio::block! {
    struct Edu: 0x1000 bytes {
        0x00 => IDENTIFICATION: ReadOnly<u32>,
        0x04 => LIVENESS: ReadWrite<u32>,
        0x60 => RAISE: WriteOnly<u32>,
        0x64 => ACKNOWLEDGE: WriteOnly<u32>,
    }
}

const IDENTITY: u32 = 0x0100_00ed;
const ACCESSES: u32 = 64;

/// Where there is no such device, measures nothing.
pub(crate) fn measure() -> Result<()> {
    let Ok(pci) = Pci::open(0x1234, 0x11e8) else {
        return Ok(());
    };
    // SAFETY: the registers are as above, and nothing below starts DMA.
    let registers: Registers<Edu> = unsafe { pci.registers(0)? };
    ensure!(registers.read(Edu::IDENTIFICATION) == IDENTITY, "not an edu device");

    let reads = cost_of_each::<ACCESSES>(|| read(&registers), || read_many(&registers));
    row("register read", X::None, reads);
    let writes = cost_of_each::<ACCESSES>(|| write(&registers), || write_many(&registers));
    row("register write", X::None, writes);

    let mut interrupt = pci.into_interrupt()?;
    let mut serve = |deadline: Option<Instant>| {
        let armed = interrupt.arm()?;
        registers.write(Edu::RAISE, 1);
        let fired = armed.wait(deadline)?;
        ensure!(fired == 1, "{fired} interrupts");
        registers.write(Edu::ACKNOWLEDGE, 1);
        Ok(())
    };
    let soon = cost(|| serve(Some(Instant::now() + Duration::from_secs(1))))?;
    row("interrupt: arm, raise, wait with a deadline, silence", X::None, soon);
    row("interrupt: arm, raise, wait, silence", X::None, cost(|| serve(None))?);
    Ok(())
}

// A driver's functions have its registers by reference.

#[inline(never)]
fn read(registers: &Registers<Edu>) {
    let _ = registers.read(Edu::IDENTIFICATION);
}

#[inline(never)]
fn read_many(registers: &Registers<Edu>) {
    repeat(|| {
        let _ = registers.read(Edu::IDENTIFICATION);
    });
}

#[inline(never)]
fn write(registers: &Registers<Edu>) {
    registers.write(Edu::LIVENESS, 0);
}

#[inline(never)]
fn write_many(registers: &Registers<Edu>) {
    repeat(|| registers.write(Edu::LIVENESS, 0));
}

/// [`ACCESSES`] times, without a loop.
#[inline(always)]
fn repeat(access: impl Fn()) {
    macro_rules! four {
        ($access:expr) => {{
            $access;
            $access;
            $access;
            $access;
        }};
    }
    four!(four!(four!(access())));
}
