//! Registers, interrupts and removal of real devices, below the drivers.
#![allow(unsafe_code, reason = "maps registers; recovers a buffer after its engine was stopped")]

use std::{
    collections::HashSet,
    fs,
    future::IntoFuture,
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Command, ExitCode},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Signal, getpid, kill_process};
use tokio::signal::unix::{SignalKind, signal};
use udmabuf::{Buffer, FromDevice, StartError, WaitError};
use udmabuf_examples::edu::{self, Edu};
use udmabuf_uio::{By, Error, Interrupt, Pci, PciDevice, Registers, Uio, UioDevice};

use super::{Pair, awaited, errors::says, parent, vfio};

udmabuf_uio::block! {
    /// Of QEMU's edu device.
    struct Regs: 0x1000 bytes {
        0x24 => INTERRUPT_STATUS: ReadOnly<u32>,
        0x60 => INTERRUPT_RAISE: WriteOnly<u32>,
        0x64 => INTERRUPT_ACKNOWLEDGE: WriteOnly<u32>,
    }
}

const EDU: [u16; 2] = [0x1234, 0x11e8];

fn soon() -> Instant {
    Instant::now() + Duration::from_millis(50)
}

fn late() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

fn open() -> Result<(String, Registers<Regs>, Interrupt), Error> {
    let pci = Pci::open(EDU[0], EDU[1])?;
    let address = pci.device().address.clone();
    // SAFETY: the registers are edu's, and these start no DMA.
    let registers = unsafe { pci.registers(0)? };
    Ok((address, registers, pci.into_interrupt()?))
}

/// Every way to find a device leads to the same one, and to one driver.
pub(crate) fn lookups() -> Result<String> {
    let devices = Uio::list()?;
    let mut found = 0;
    let names: HashSet<_> = devices.iter().map(|device| &device.name).collect();
    ensure!(!names.is_empty(), "there is no UIO device");
    for name in &names {
        let first = devices.iter().find(|device| device.name == **name);
        found += ways_to(first.context("it is gone")?)?;
    }
    Ok(format!("{} kinds of device, found in {found} ways", names.len()))
}

fn ways_to(device: &UioDevice) -> Result<u32> {
    let mut found = 0;
    let mut same = |by: By<'_>| -> Result<()> {
        let uio = Uio::open(by)?;
        ensure!(uio.device().file == device.file, "{by}: {}", uio.device());
        match Uio::open(by) {
            Err(Error::Busy { .. }) => {}
            // Another that is found by the same.
            Ok(other) if other.device().file != device.file => {}
            again => bail!("{by}: opened twice: {again:?}"),
        }
        found += 1;
        Ok(())
    };
    same(By::Name(&device.name))?;
    for map in &device.maps {
        same(By::Address(map.address + map.offset))?;
        same(By::MapName(&map.name))?;
    }
    if let Some(path) = &device.tree_path {
        same(By::TreePath(path))?;
        same(By::Compatible("generic-uio"))?;
    }
    if let Some(address) = &device.pci {
        let by_address = Pci::open_at(address)?;
        let device = by_address.device();
        ensure!([device.vendor, device.device] == EDU, "{device}");
        let again = Pci::open(EDU[0], EDU[1]);
        ensure!(matches!(again, Err(Error::Busy { .. })), "{again:?}");
        found += 1;
    }
    Ok(found)
}

udmabuf_uio::block! {
    /// A slot for a virtual device that is empty (Virtual I/O Device 1.2, 4.2.2).
    struct Slot: 0x200 bytes {
        0x000 => MAGIC: ReadOnly<u32>,
        0x008 => DEVICE: ReadOnly<u32>,
        0x00c => VENDOR: ReadOnly<u32>,
    }
}

udmabuf_uio::block! {
    /// The end of the board's clock, a PL031 (ARM DDI 0224, 3.3: `RTCPCellID`).
    struct Clock: 0x20 bytes { 0x10 => CELL: [ReadOnly<u32>; 4] }
}

udmabuf_uio::block! {
    /// Longer than a page of any size.
    struct Long: 0x20000 bytes { 0x1fffc => LAST: ReadOnly<u32> }
}

/// A device with two maps, neither of which starts where its page does.
pub(crate) fn two_maps() -> Result<String> {
    let uio = Uio::open(By::MapName("clock"))?;
    let maps = &uio.device().maps;
    let places: Vec<_> = maps.iter().map(|map| (map.address, map.offset)).collect();
    ensure!(places == [(0xa00_0000, 0x200), (0x901_0000, 0xfe0)], "{maps:?}");
    // SAFETY: the registers are as declared, and start nothing.
    let slot = unsafe { uio.registers::<Slot>("slot")? };
    // SAFETY: as above.
    let clock = unsafe { uio.registers::<Clock>(1)? };
    let found = [Slot::MAGIC, Slot::DEVICE, Slot::VENDOR].map(|word| slot.read(word));
    let expected = [*b"virt", [0; 4], *b"QEMU"].map(u32::from_le_bytes);
    ensure!(found == expected, "{found:x?}, not {expected:x?}");
    let found: Vec<_> = Clock::CELL.iter().map(|register| clock.read(register)).collect();
    ensure!(found == [0x0d, 0xf0, 0x05, 0xb1], "{found:x?}");
    // SAFETY: as above.
    let Err(error @ Error::NoRegisters { .. }) = (unsafe { uio.registers::<Long>("slot") }) else {
        bail!("a block that ends behind the page");
    };
    says(&error, &["bytes at 0xa000200"])
}

/// A PCI function whose registers are I/O ports: the PC's SMBus controller.
pub(crate) fn ports() -> Result<String> {
    const SMBUS: (u16, u16) = (0x8086, 0x2930);
    let all = Pci::list()?;
    let is_it = |it: &&PciDevice| (it.vendor, it.device) == SMBUS;
    let address = &all.iter().find(is_it).context("no SMBus controller")?.address;
    vfio::give(address, "uio_pci_generic")?;
    let pci = Pci::open_at(address)?;
    let bar = pci.device().bars.iter().find(|bar| bar.is_ports).context("no ports")?.number;
    // SAFETY: nothing is accessed.
    let Err(error @ Error::NoRegisters { .. }) = (unsafe { pci.registers::<Regs>(bar) }) else {
        bail!("ports were mapped");
    };
    drop(pci);
    fs::write(format!("/sys/bus/pci/devices/{address}/driver/unbind"), address)?;
    says(&error, &[address, "I/O ports", "does not access ports"])
}

/// A level interrupt: it fires while it is not cleared, and once for each event.
pub(crate) fn interrupts() -> Result<String> {
    let address = parent::edu()?;
    let command = || -> Result<[u8; 2]> {
        let config = fs::read(format!("/sys/bus/pci/devices/{address}/config"))?;
        Ok([config[4], config[5]])
    };
    let before = command()?;
    let (_, registers, mut interrupt) = open()?;
    let clear = || {
        let status = registers.read(Regs::INTERRUPT_STATUS);
        registers.write(Regs::INTERRUPT_ACKNOWLEDGE, status);
        status
    };
    ensure!(interrupt.wait(soon())? == 0, "it fires by itself");
    // Raised before the wait, and not cleared after it.
    registers.write(Regs::INTERRUPT_RAISE, 1);
    for _ in 0..3 {
        ensure!(interrupt.wait(late())? == 1, "a level did not fire");
    }
    clear();
    ensure!(interrupt.wait(soon())? == 0, "it fires after it was cleared");
    // During the wait, and without blocking.
    let mut armed = interrupt.arm()?;
    ensure!(command()?[1] & 4 == 0, "masked while it is armed");
    ensure!(armed.try_wait()? == 0, "it fires by itself");
    registers.write(Regs::INTERRUPT_RAISE, 2);
    let give_up = late();
    while armed.try_wait()? == 0 {
        ensure!(Instant::now() < give_up, "it did not fire");
    }
    drop(armed);
    clear();
    ensure!(command()?[1] & 4 != 0, "not masked after it has fired");

    // Again as soon as it is cleared, and before the next wait.
    let storm = 2000;
    for round in 1..=storm {
        registers.write(Regs::INTERRUPT_RAISE, round);
        ensure!(interrupt.wait(late())? == 1, "round {round} fired another number of times");
        ensure!(clear() == round, "in round {round} another bit was raised");
    }
    ensure!(interrupt.missed() == 0, "{} were missed", interrupt.missed());
    awaited::interrupts(
        &mut interrupt,
        || registers.write(Regs::INTERRUPT_RAISE, 1),
        || clear() == 1,
    )?;
    drop((registers, interrupt));
    ensure!(command()? == before, "its command register was {before:?} and is {:?}", command()?);
    Ok(format!("at a level, polled, awaited, and a storm of {storm}"))
}

/// A signal that is caught ends a wait, and the interrupt is not lost.
pub(crate) fn signalled() -> Result<String> {
    let (_, registers, mut interrupt) = open()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let _entered = runtime.enter();
    let _caught = signal(SignalKind::user_defined1())?;
    let (done, is_done) = mpsc::channel::<()>();
    let sender = thread::spawn(move || {
        while is_done.recv_timeout(Duration::from_millis(10)) == Err(RecvTimeoutError::Timeout) {
            let _ = kill_process(getpid(), Signal::USR1); // to its first thread: this one
        }
    });
    let ended = interrupt.wait(late());
    drop(done);
    let _ = sender.join();
    let Err(error @ Error::Interrupted { .. }) = ended else { bail!("{ended:?}") };
    registers.write(Regs::INTERRUPT_RAISE, 1);
    ensure!(interrupt.wait(late())? == 1, "lost");
    registers.write(Regs::INTERRUPT_ACKNOWLEDGE, 1);
    Ok(error.to_string())
}

/// The device is taken away while somebody waits for it, for ever.
fn removed_during_a_wait(interrupt: &mut Interrupt, file: &str, text: String) -> Result<Error> {
    let file = file.to_owned();
    let remover = thread::spawn(move || {
        thread::sleep(Duration::from_millis(50));
        fs::write(file, text)
    });
    let ended = interrupt.wait(None);
    if let Ok(result) = remover.join() {
        result?;
    }
    let Err(error @ Error::Removed { .. }) = ended else { bail!("{ended:?}") };
    let again = interrupt.wait(None);
    ensure!(matches!(again, Err(Error::Removed { .. })), "the second wait: {again:?}");
    Ok(error)
}

/// A PCI device that is unplugged.
pub(crate) fn unplugged() -> Result<String> {
    let (address, registers, mut interrupt) = open()?;
    let remove = format!("/sys/bus/pci/devices/{address}/remove");
    let error = removed_during_a_wait(&mut interrupt, &remove, "1".into());
    let status = registers.read(Regs::INTERRUPT_STATUS);
    drop((registers, interrupt));
    plug_in()?;
    ensure!(status == u32::MAX, "a register of what is not there is {status:#x}");
    Ok(error?.to_string())
}

fn plug_in() -> Result<()> {
    fs::write("/sys/bus/pci/rescan", "1")?;
    let (_, registers, mut interrupt) = open().context("after it was plugged in again")?;
    registers.write(Regs::INTERRUPT_RAISE, 1);
    ensure!(interrupt.wait(late())? == 1, "plugged in again, it does not work");
    registers.write(Regs::INTERRUPT_ACKNOWLEDGE, 1);
    Ok(())
}

/// What is done to an engine that was unplugged, while it runs a transfer or does
/// nothing. Its registers are gone by then: to access them is SIGBUS, or whatever has
/// their addresses now.
const UNPLUGGED: [&str; 4] = ["waited for", "asked", "awaited", "started"];

/// In another process: the engine is unplugged.
pub(crate) fn unplugged_engine(name: &str, how: &str) -> ExitCode {
    let run = || -> Result<String> {
        let address = open()?.0;
        // SAFETY: the boards' machines have `-device edu,dma_mask=0xffffffff`.
        let engine = unsafe { Edu::open_with_32_bits()? };
        let buffer = Buffer::open(name)?.for_direction::<FromDevice>();
        let unplug = || fs::write(format!("/sys/bus/pci/devices/{address}/remove"), "1");
        if how == "started" {
            unplug()?;
            let refused = engine.download(buffer.into_device()?, 0..4, 0).err();
            let error = refused.context("it was started")?.error;
            let StartError::Refused(edu::Error::Uio(Error::Removed { .. })) = error else {
                bail!("{error}")
            };
            return Ok(error.to_string());
        }
        let transfer = engine.download(buffer.into_device()?, 0..4, 0)?;
        let ended = match how {
            "awaited" => awaited::run(async {
                let mut transfer = transfer.into_future();
                let early = awaited::once(&mut transfer).await;
                ensure!(early.is_pending(), "done before it could be");
                unplug()?;
                awaited::woken(transfer).await
            })?,
            _ => {
                unplug()?;
                match how {
                    "asked" => transfer.try_wait(),
                    _ => transfer.wait(Duration::from_secs(10)),
                }
            }
        };
        let Err(WaitError::Unknown { error, transfer }) = ended else { bail!("{ended:?}") };
        ensure!(matches!(error, edu::Error::Uio(Error::Removed { .. })), "{error}");
        let stopped = transfer.stop();
        ensure!(matches!(stopped, Err(WaitError::Unknown { .. })), "{stopped:?}");
        drop(stopped);
        ensure!(Buffer::open(name).is_err(), "the buffer was given out again");
        Ok(error.to_string())
    };
    match run() {
        Ok(error) => println!("unplugged: {error}"),
        Err(error) => println!("{error:#}"),
    }
    ExitCode::SUCCESS
}

/// The program ends in order, and its buffer is out of use until the engine is
/// known to be stopped.
pub(crate) fn unplugged_under_a_driver([name, _]: Pair) -> Result<String> {
    let mut last = String::new();
    for how in UNPLUGGED {
        let output = Command::new("/proc/self/exe").args(["unplugged", name, how]).output()?;
        plug_in().with_context(|| format!("{how}: {}", output.status))?;
        ensure!(output.status.signal().is_none(), "{how}, it died: {}", output.status);
        last = String::from_utf8(output.stdout)?;
        ensure!(last.starts_with("unplugged: "), "{how}: {last}");
        drop(Edu::open()?);
        if how != "started" {
            let refused = Buffer::open(name);
            ensure!(matches!(refused, Err(udmabuf::Error::StillDeviceOwned { .. })), "{refused:?}");
            // SAFETY: opening the engine has stopped it.
            drop(unsafe { Buffer::recover(name) }?);
        }
        drop(Buffer::open(name)?);
    }
    Ok(format!("{}; {}", last.trim(), UNPLUGGED.join(", ")))
}

/// A platform device that is taken from its kernel driver.
pub(crate) fn unbound() -> Result<String> {
    const DRIVER: &str = "/sys/bus/platform/drivers/uio_pdrv_genirq";
    let uio = Uio::open(By::Compatible("generic-uio"))?;
    let file = Path::new("/sys/class/uio").join(&uio.device().file).join("device");
    let device = fs::read_link(file)?;
    let device = device.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut interrupt = uio.into_interrupt()?;
    let error = removed_during_a_wait(&mut interrupt, &format!("{DRIVER}/unbind"), device.clone());
    drop(interrupt);
    fs::write(format!("{DRIVER}/bind"), device)?;
    Uio::open(By::Compatible("generic-uio"))?;
    Ok(error?.to_string())
}
