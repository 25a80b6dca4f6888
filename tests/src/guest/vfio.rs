//! The same device and driver through `vfio-pci`.
#![allow(unsafe_code, reason = "maps registers")]

use std::{
    fs,
    process::Command,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use udmabuf_examples::edu::Edu;
use udmabuf_uio::{Error, Interrupt, Pci, Registers};

use super::{Pair, Tests, awaited, edu, errors::says, parent, unplug};

udmabuf_uio::block! {
    /// Of QEMU's edu device.
    struct Regs: 0x1000 bytes {
        0x00 => IDENTIFICATION: ReadOnly<u32>,
        0x24 => INTERRUPT_STATUS: ReadOnly<u32>,
        0x60 => INTERRUPT_RAISE: WriteOnly<u32>,
        0x64 => INTERRUPT_ACKNOWLEDGE: WriteOnly<u32>,
    }
}

const DEVICES: &str = "/sys/bus/pci/devices";
const MODULES: [&str; 6] =
    ["irqbypass", "vfio", "vfio_iommu_type1", "vfio_virqfd", "vfio-pci-core", "vfio-pci"];

/// Whether the board's modules have it.
pub(crate) fn is_possible() -> bool {
    fs::exists("/modules/vfio-pci.ko").unwrap_or(false)
}

pub(crate) fn tests(run: &mut Tests, pair: Pair) {
    let Some(bound) = run_bound(run) else { return };
    run.test("vfio interrupts", || interrupts(&bound));
    run.test("vfio refusals", || refusals(&bound));
    if !bound.is_behind_iommu() {
        run.test("vfio edu moves data", || edu::moves_data(pair));
        run.test("vfio edu in flight", || edu::in_flight(pair));
    }
    run.test("vfio wanted back", || wanted_back(&bound));
    if unplug::is_possible() {
        unplug::vfio_tests(run, pair);
    }
    drop(bound);
    run.test("uio after vfio", || Ok(Pci::open(0x1234, 0x11e8)?.device().to_string()));
}

fn run_bound(run: &mut Tests) -> Option<Bound> {
    let mut bound = None;
    run.test("vfio bound", || {
        let made = Bound::new()?;
        let text = match made.is_behind_iommu() {
            true => "behind an IOMMU",
            false => "without an IOMMU",
        };
        bound = Some(made);
        Ok(text.into())
    });
    bound
}

/// edu is vfio-pci's, until this is dropped.
struct Bound {
    address: String,
}

impl Bound {
    fn new() -> Result<Self> {
        for module in MODULES {
            let path = format!("/modules/{module}.ko");
            let is_there = fs::exists("/sys/module/irqbypass")? || !fs::exists(&path)?;
            if module == "irqbypass" && is_there {
                continue; // a part of this kernel, or loaded with another module
            }
            let options = match module {
                "vfio" => Some("enable_unsafe_noiommu_mode=1"),
                // The board's interrupt controller does not keep messages apart.
                "vfio_iommu_type1" => Some("allow_unsafe_interrupts=1"),
                _ => None,
            };
            let loaded = Command::new("insmod").arg(path).args(options).status()?;
            ensure!(loaded.success(), "insmod {module}: {loaded}");
        }
        let address = parent::edu()?;
        give(&address, "vfio-pci")?;
        Ok(Self { address })
    }

    fn is_behind_iommu(&self) -> bool {
        fs::exists(format!("{DEVICES}/{}/iommu", self.address)).unwrap_or(false)
    }

    fn command(&self) -> Result<u16> {
        let config = fs::read(format!("{DEVICES}/{}/config", self.address))?;
        Ok(u16::from_le_bytes([config[4], config[5]]))
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        if let Err(error) = give(&self.address, "uio_pci_generic") {
            eprintln!("{error:#}");
        }
    }
}

/// Binds a PCI function to a driver.
pub(crate) fn give(address: &str, driver: &str) -> Result<()> {
    let dir = format!("{DEVICES}/{address}");
    fs::write(format!("{dir}/driver_override"), driver)?;
    if fs::exists(format!("{dir}/driver"))? {
        fs::write(format!("{dir}/driver/unbind"), address).context("unbind")?;
    }
    fs::write("/sys/bus/pci/drivers_probe", address)?;
    ensure!(fs::exists(format!("/sys/bus/pci/drivers/{driver}/{address}"))?, "not {driver}'s");
    Ok(())
}

fn soon() -> Instant {
    Instant::now() + Duration::from_millis(50)
}

fn late() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

fn open(
    bound: &Bound,
    interrupt: impl FnOnce(Pci) -> Result<Interrupt, Error>,
) -> Result<(Registers<Regs>, Interrupt), Error> {
    let pci = Pci::open_at(&bound.address)?;
    // SAFETY: the registers are edu's, and these start no DMA.
    let registers = unsafe { pci.registers(0)? };
    Ok((registers, interrupt(pci)?))
}

/// INTx, which is a level; and a message, which is an event.
fn interrupts(bound: &Bound) -> Result<String> {
    let before = bound.command()?;
    for (kind, into) in [
        ("INTx", Pci::into_interrupt as fn(Pci) -> Result<Interrupt, Error>),
        ("message", Pci::into_message_interrupt),
    ] {
        let mut bus_master = None;
        let opened = open(bound, |pci| {
            if kind == "message" && !bound.is_behind_iommu() {
                let guard = pci.bus_master()?;
                // SAFETY: edu is idle; its messages are all that it writes.
                unsafe { guard.allow()? };
                bus_master = Some(guard);
            }
            into(pci)
        });
        let (registers, mut interrupt) = opened.with_context(|| format!("open for {kind}"))?;
        ensure!(registers.read(Regs::IDENTIFICATION) & 0xffff == 0xed, "these are not edu's");
        let clear = || {
            let status = registers.read(Regs::INTERRUPT_STATUS);
            registers.write(Regs::INTERRUPT_ACKNOWLEDGE, status);
            status
        };
        ensure!(interrupt.wait(soon())? == 0, "{kind} fires by itself");
        if kind == "INTx" {
            // A level: as long as it is not cleared.
            registers.write(Regs::INTERRUPT_RAISE, 1);
            for _ in 0..3 {
                ensure!(interrupt.wait(late())? == 1, "a level did not fire");
            }
            clear();
            ensure!(interrupt.wait(soon())? == 0, "it fires after it was cleared");
        } else {
            // Nothing masks a message; two at once may be one to the processor.
            for _ in 0..3 {
                registers.write(Regs::INTERRUPT_RAISE, 1);
                thread::sleep(Duration::from_millis(5));
            }
            let count = interrupt.wait(late())?;
            ensure!(count == 3, "{count} of 3 messages arrived");
            ensure!(interrupt.missed() == 2, "{} were missed", interrupt.missed());
            clear();
        }
        for round in 1..=1000 {
            registers.write(Regs::INTERRUPT_RAISE, round);
            ensure!(interrupt.wait(late())? == 1, "{kind}: round {round} fired otherwise");
            ensure!(clear() == round, "{kind}: in round {round} another bit was raised");
        }
        let mut armed = interrupt.arm()?;
        ensure!(armed.try_wait()? == 0, "{kind} fires by itself");
        drop(armed);
        let raise = || registers.write(Regs::INTERRUPT_RAISE, 1);
        awaited::interrupts(&mut interrupt, raise, || clear() == 1).context(kind)?;
    }
    let after = bound.command()?;
    ensure!(before & 4 == 0 && after & 4 == 0, "it may access memory: {before:#x}, {after:#x}");
    Ok("1000 of each kind".into())
}

fn refusals(bound: &Bound) -> Result<String> {
    let pci = Pci::open_at(&bound.address)?;
    let Err(Error::Busy { .. }) = Pci::open_at(&bound.address) else {
        anyhow::bail!("two drivers on one device");
    };
    let Err(error @ Error::Unsupported { .. }) = pci.reset() else {
        anyhow::bail!("edu has a reset of its own");
    };
    says(&error, &["reset"])?;
    let mut said = error.to_string();
    if bound.is_behind_iommu() {
        let error = pci.bus_master().err().context("a way through the IOMMU")?;
        says(&error, &["IOMMU", "uio_pci_generic", &bound.address])?;
        drop(pci);
        ensure!(Edu::open().is_err(), "a driver that needs memory has none");
        said = error.to_string();
    } else {
        let bus_master = pci.bus_master()?;
        ensure!(bound.command()? & 4 == 0, "it may access memory unasked");
        // SAFETY: edu is idle.
        unsafe { bus_master.allow()? };
        ensure!(bound.command()? & 4 != 0, "it may not access memory");
        drop(pci);
        drop(bus_master);
        ensure!(bound.command()? & 4 == 0, "it may still access memory");
    }
    Ok(said)
}

/// Who unbinds the driver waits for its user, who is told.
fn wanted_back(bound: &Bound) -> Result<String> {
    let (registers, mut interrupt) = open(bound, Pci::into_interrupt)?;
    let (ready, is_ready) = mpsc::channel::<()>();
    let address = bound.address.clone();
    let unbinder = thread::spawn(move || {
        let _ = is_ready.recv();
        fs::write("/sys/bus/pci/drivers/vfio-pci/unbind", address)
    });
    ready.send(())?;
    let ended = interrupt.wait(None);
    let Err(error @ Error::Removed { .. }) = ended else { anyhow::bail!("{ended:?}") };
    ensure!(registers.read(Regs::IDENTIFICATION) == u32::MAX, "its registers are still there");
    ensure!(matches!(interrupt.wait(None), Err(Error::Removed { .. })), "the second wait");
    drop((registers, interrupt));
    match unbinder.join() {
        Ok(result) => result?,
        Err(_) => anyhow::bail!("the thread that unbinds panicked"),
    }
    Ok(error.to_string())
}
