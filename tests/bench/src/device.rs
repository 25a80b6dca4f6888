//! What registers and interrupts cost, on QEMU's edu device.
#![allow(unsafe_code, reason = "vouches for the registers, and reads the CPU's counter")]

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use udmabuf_uio::{Pci, Registers};

use crate::meter::{ROUNDS, X, cost, cost_of_each, row};

udmabuf_uio::block! {
    struct Edu: 0x1000 bytes {
        0x00 => IDENTIFICATION: ReadOnly<u32>,
        0x04 => LIVENESS: ReadWrite<u32>,
        0x60 => RAISE: WriteOnly<u32>,
        0x64 => ACKNOWLEDGE: WriteOnly<u32>,
        0x80 => DMA_SOURCE: WriteOnly<u32>,
        0x88 => DMA_DESTINATION: WriteOnly<u32>,
        0x90 => DMA_COUNT: WriteOnly<u32>,
        0x98 => DMA_COMMAND: WriteOnly<u32>,
    }
}

const IDENTITY: u32 = 0x0100_00ed;
const ACCESSES: u32 = 64;
/// From memory to the device, with an interrupt at the end.
const DMA_IN: u32 = 1 << 0 | 1 << 2;
const DMA_DONE: u32 = 0x100;
/// The device's own memory.
const MEMORY: u32 = 0x4_0000;
const MS: u64 = 1_000_000;

/// Where there is no such device, measures nothing.
pub(crate) fn measure() -> Result<()> {
    let Ok(pci) = Pci::open(0x1234, 0x11e8) else {
        return Ok(());
    };
    // SAFETY: the registers are as above; no bus master, the device reaches no memory.
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

    if counter::frequency() != 1000 * MS {
        return Ok(());
    }
    // The device is no bus master: its DMA takes its time, and reaches no memory.
    let mut wake_up = |deadline: fn() -> Option<Instant>| -> Result<f64> {
        let mut least = MS;
        for _ in 0..ROUNDS {
            let deadline = deadline();
            let armed = interrupt.arm()?;
            registers.write(Edu::DMA_SOURCE, 0);
            registers.write(Edu::DMA_DESTINATION, MEMORY);
            registers.write(Edu::DMA_COUNT, 4);
            registers.write(Edu::DMA_COMMAND, DMA_IN);
            let fired = armed.wait(deadline)?;
            least = least.min(counter::now() % MS);
            ensure!(fired == 1, "{fired} interrupts");
            registers.write(Edu::ACKNOWLEDGE, DMA_DONE);
        }
        Ok(least as f64)
    };
    let soon = wake_up(|| Some(Instant::now() + Duration::from_secs(1)))?;
    row("interrupt: from the event to a sleeper with a deadline", X::None, soon);
    row("interrupt: from the event to a sleeper", X::None, wake_up(|| None)?);
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

/// The CPU's counter. edu's DMA ends 100 ms after the millisecond in which it is
/// started, with an interrupt: long after the program has gone to sleep. Where
/// the counter is QEMU's clock in nanoseconds, it says how long after.
mod counter {
    #[cfg(target_arch = "aarch64")]
    macro_rules! read {
        ($register:literal) => {{
            let value: u64;
            // SAFETY: Linux lets programs read these registers.
            unsafe { core::arch::asm!("isb", concat!("mrs {}, ", $register), out(reg) value) };
            value
        }};
    }
    #[cfg(not(target_arch = "aarch64"))]
    macro_rules! read {
        ($register:literal) => {
            0
        };
    }

    pub(super) fn frequency() -> u64 {
        read!("cntfrq_el0")
    }

    pub(super) fn now() -> u64 {
        read!("cntvct_el0")
    }
}
