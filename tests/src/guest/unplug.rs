//! A device that is really pulled out: QEMU's `device_del`, told from inside
//! through a serial port that leads to QEMU's monitor.
#![allow(unsafe_code, reason = "drives edu; recovers a buffer that it no longer reaches")]

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    os::unix::{fs::FileExt, process::ExitStatusExt},
    process::{Command, ExitCode},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use udmabuf::{Buffer, DeviceOwned, FromDevice, Handoff, StartError, Transfer, WaitError};
use udmabuf_examples::edu::{self, Dma, Edu};
use udmabuf_uio::{Error, Pci, PciDevice};

use super::{Pair, Tests, vfio};

const TIMEOUT: Duration = Duration::from_secs(30);
/// For a transfer, which takes 100 ms.
const PATIENCE: Duration = Duration::from_secs(3);
/// QEMU's pci-serial.
const SERIAL: (u16, u16) = (0x1b36, 0x0002);
/// QEMU's pcie-root-port.
const PORT: (u16, u16) = (0x1b36, 0x000c);
const EDU: (u16, u16) = (0x1234, 0x11e8);
const GENERIC: &str = "uio_pci_generic";
const VFIO: &str = "vfio-pci";

/// Whether the machine was started with the port and the slot.
pub(crate) fn is_possible() -> bool {
    std::env::var("monitor").is_ok_and(|value| value == "yes")
}

pub(crate) fn tests(run: &mut Tests, pair: Pair) {
    run.test("pulled on request", || in_another_process(pair, GENERIC, "request"));
    run.test("pulled unnoticed", || in_another_process(pair, GENERIC, "unnoticed"));
}

/// Once the modules of VFIO are loaded.
pub(crate) fn vfio_tests(run: &mut Tests, pair: Pair) {
    run.test("vfio pulled on request", || in_another_process(pair, VFIO, "request"));
    run.test("vfio pulled unnoticed", || in_another_process(pair, VFIO, "unnoticed"));
}

/// QEMU's monitor, which speaks QMP: an object a line (`docs/interop/qmp-spec.rst`).
struct Monitor(BufReader<File>);

impl Monitor {
    fn open() -> Result<Self> {
        let dir = find(SERIAL)?.context("no serial port to the monitor")?;
        let tty = fs::read_dir(format!("/sys/bus/pci/devices/{}/tty", dir.address))?
            .next()
            .context("the serial port has no terminal")??;
        let path = format!("/dev/{}", tty.file_name().to_string_lossy());
        let raw = Command::new("stty").args(["-F", &path, "raw", "-echo", "115200"]).status()?;
        ensure!(raw.success(), "stty: {raw}");
        let mut monitor = Self(BufReader::new(File::options().read(true).write(true).open(path)?));
        // A terminal sends back what it receives, until it is raw: 0xff makes the
        // monitor forget that. It answers the first who says this, and later ones
        // with an error.
        monitor.0.get_mut().write_all(b"\xff\n")?;
        monitor.say(r#"{"execute": "qmp_capabilities", "id": "hello"}"#)?;
        while !monitor.line()?.contains("\"hello\"") {}
        Ok(monitor)
    }

    fn say(&mut self, command: &str) -> Result<()> {
        Ok(self.0.get_mut().write_all(format!("{command}\n").as_bytes())?)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = Vec::new();
        ensure!(self.0.read_until(b'\n', &mut line)? > 0, "the monitor has closed");
        Ok(String::from_utf8_lossy(&line).into_owned())
    }

    fn until(&mut self, expected: &str) -> Result<()> {
        loop {
            let line = self.line()?;
            if line.contains(expected) {
                return Ok(());
            }
            ensure!(!line.contains("\"error\""), "the monitor: {line}");
        }
    }

    fn plug_in(&mut self) -> Result<()> {
        self.say(
            r#"{"execute": "device_add", "arguments":
               {"driver": "edu", "bus": "bay", "id": "plugged", "dma_mask": 4294967295}}"#,
        )?;
        self.until("\"return\"")
    }

    fn unplug(&mut self) -> Result<()> {
        self.say(r#"{"execute": "device_del", "arguments": {"id": "plugged"}}"#)?;
        self.until("DEVICE_DELETED")
    }
}

fn find((vendor, device): (u16, u16)) -> Result<Option<PciDevice>> {
    Ok(Pci::list()?.into_iter().find(|it| (it.vendor, it.device) == (vendor, device)))
}

/// edu in the slot: the one that is not on the first bus.
fn in_slot() -> Result<Option<String>> {
    let is_it = |it: &PciDevice| {
        (it.vendor, it.device) == EDU && !it.address.contains(":00:") && it.driver.is_some()
    };
    Ok(Pci::list()?.into_iter().find(is_it).map(|it| it.address))
}

/// Takes the power off the slot behind the kernel's back: the device is gone at
/// once, and the kernel takes it for present.
/// Registers: PCI Express Base Specification 5.0, 7.5.3.
fn power_off() -> Result<()> {
    const EXPRESS: u8 = 0x10;
    const SLOT_CONTROL: u64 = 0x18;
    const INDICATOR_OFF: u16 = 0x0300;
    const POWER_OFF: u16 = 0x0400;
    let port = find(PORT)?.context("no slot")?;
    let config = format!("/sys/bus/pci/devices/{}/config", port.address);
    let config = File::options().read(true).write(true).open(config)?;
    let mut byte = [0; 2];
    config.read_exact_at(&mut byte, 0x34)?;
    loop {
        let at = u64::from(byte[0]);
        ensure!(at != 0, "the port is none of PCI Express");
        config.read_exact_at(&mut byte, at)?;
        if byte[0] == EXPRESS {
            config.read_exact_at(&mut byte, at + SLOT_CONTROL)?;
            let control = u16::from_le_bytes(byte) | INDICATOR_OFF | POWER_OFF;
            return Ok(config.write_all_at(&control.to_le_bytes(), at + SLOT_CONTROL)?);
        }
        byte[0] = byte[1];
    }
}

type InFlight = Transfer<Dma, Buffer<DeviceOwned, FromDevice>>;

/// In another process: one transfer after the other, until the device goes.
pub(crate) fn pulled(name: &str, address: &str, how: &str) -> ExitCode {
    let run = || -> Result<String> {
        let pci = Pci::open_at(address)?;
        pci.reset()?; // the port can: there is nothing else behind it
        // The kernel asks for the device, and leaves it to the driver until then.
        let is_kept = how == "request" && pci.device().driver.as_deref() == Some(VFIO);
        // SAFETY: it was plugged in with `dma_mask=0xffffffff`.
        let engine = unsafe { Edu::on(pci, 32)? };
        let mut buffer = Buffer::open(name)?.for_direction::<FromDevice>();
        let puller = thread::spawn({
            let how = how.to_owned();
            move || match &*how {
                "unnoticed" => {
                    thread::sleep(Duration::from_millis(250)); // in the third transfer
                    power_off()
                }
                _ => Monitor::open()?.unplug(),
            }
        });
        let give_up = Instant::now() + TIMEOUT;
        let mut transfers = 0;
        let (error, transfer): (_, Option<InFlight>) = loop {
            ensure!(Instant::now() < give_up, "still there after {transfers} transfers");
            let transfer = match engine.download(buffer.into_device()?, 0..64, 0) {
                Ok(transfer) => transfer,
                // It went between two transfers: seldom, as one takes 100 ms.
                Err(Handoff { error: StartError::Refused(error), .. }) => break (error, None),
                Err(refused) => bail!("{refused}"),
            };
            let mut ended = transfer.wait(PATIENCE);
            if let Err(WaitError::Timeout { transfer, .. }) = ended {
                // No interrupt comes, and nobody says why: until it is waited for anew.
                ended = transfer.wait(PATIENCE);
            }
            match ended {
                Ok(back) => (buffer, transfers) = (back, transfers + 1),
                Err(WaitError::Unknown { error, transfer }) => break (error, Some(transfer)),
                Err(error) => bail!("{error}"),
            }
        };
        ensure!(matches!(error, edu::Error::Uio(Error::Removed { .. })), "{error}");
        let is_in_flight = transfer.is_some();
        match transfer.map(Transfer::stop) {
            None => {}
            Some(stopped) if is_kept => drop(stopped?),
            Some(stopped) => {
                ensure!(matches!(stopped, Err(WaitError::Unknown { .. })), "{stopped:?}");
                drop(stopped);
                ensure!(Buffer::open(name).is_err(), "the buffer was given out again");
            }
        }
        // Where it was kept, the kernel and QEMU get it back now.
        drop(engine);
        match puller.join() {
            Ok(result) => result?,
            Err(_) => bail!("the thread that pulls panicked"),
        }
        let when = if is_in_flight { "in" } else { "after" };
        Ok(format!("{when} transfer {transfers}, {error}"))
    };
    match run() {
        Ok(said) => println!("pulled: {said}"),
        Err(error) => println!("{error:#}"),
    }
    ExitCode::SUCCESS
}

fn in_another_process([name, _]: Pair, driver: &str, how: &str) -> Result<String> {
    let mut monitor = Monitor::open()?;
    monitor.plug_in()?;
    drop(monitor);
    let address = until(in_slot)?;
    if driver != GENERIC {
        vfio::give(&address, driver)?;
    }
    let output = Command::new("/proc/self/exe").args(["pulled", name, &address, how]).output()?;
    ensure!(output.status.signal().is_none(), "it died: {}", output.status);
    let said = String::from_utf8(output.stdout)?;
    ensure!(said.starts_with("pulled: "), "{said}");
    if how == "unnoticed" {
        fs::write(format!("/sys/bus/pci/devices/{address}/remove"), "1")?;
    }
    until(|| Ok(in_slot()?.is_none().then_some(())))?;
    if said.starts_with("pulled: in") && (driver, how) != (VFIO, "request") {
        let refused = Buffer::open(name);
        ensure!(matches!(refused, Err(udmabuf::Error::StillDeviceOwned { .. })), "{refused:?}");
        // SAFETY: the device is no longer there.
        drop(unsafe { Buffer::recover(name) }?);
    }
    drop(Buffer::open(name)?);
    Ok(said.trim().to_owned())
}

fn until<T>(mut has_come: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let give_up = Instant::now() + TIMEOUT;
    loop {
        if let Some(it) = has_come()? {
            return Ok(it);
        }
        ensure!(Instant::now() < give_up, "nothing was plugged in, or out");
        thread::sleep(Duration::from_millis(10));
    }
}
