//! What registers and interrupts cost, on QEMU's edu device.
#![allow(unsafe_code, reason = "vouches for the registers")]

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use udmabuf_uio::{Block, Pci, ReadOnly, Register, Registers, WriteOnly};

use crate::meter::{X, cost, cost_of_each, row};

enum Edu {}
impl Block for Edu {
    const SIZE: usize = 0x1000;
}
const IDENTIFICATION: Register<Edu, u32, ReadOnly> = Register::at(0x00);
const LIVENESS: Register<Edu, u32> = Register::at(0x04);
const RAISE: Register<Edu, u32, WriteOnly> = Register::at(0x60);
const ACKNOWLEDGE: Register<Edu, u32, WriteOnly> = Register::at(0x64);

const IDENTITY: u32 = 0x0100_00ed;
const ACCESSES: u32 = 64;

/// Where there is no such device, measures nothing.
pub(crate) fn measure() -> Result<()> {
    let Ok(pci) = Pci::open(0x1234, 0x11e8) else {
        return Ok(());
    };
    // SAFETY: the registers are as above, and nothing below starts DMA.
    let registers: Registers<Edu> = unsafe { pci.registers(0)? };
    ensure!(registers.read(IDENTIFICATION) == IDENTITY, "not an edu device");

    let read = || {
        let _ = registers.read(IDENTIFICATION);
    };
    let write = || registers.write(LIVENESS, 0);
    row("register read", X::None, cost_of_each::<ACCESSES>(read, || repeat(read)));
    row("register write", X::None, cost_of_each::<ACCESSES>(write, || repeat(write)));

    let mut interrupt = pci.into_interrupt()?;
    let cost = cost(|| {
        registers.write(RAISE, 1);
        let fired = interrupt.wait(Instant::now() + Duration::from_secs(1))?;
        ensure!(fired == 1, "{fired} interrupts");
        registers.write(ACKNOWLEDGE, 1);
        Ok(())
    })?;
    row("interrupt: raise, rearm and wait, silence", X::None, cost);
    Ok(())
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
