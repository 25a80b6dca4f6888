//! Buffers for another device: edu, on the PCI bus.
#![allow(unsafe_code, reason = "drives the edu device below its driver")]

use std::{
    convert::Infallible,
    fs::{self, File},
    mem,
    os::{
        fd::{AsFd, AsRawFd},
        unix::fs::FileExt,
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use rustix::{fs::OFlags, io::Errno, mm::MapFlags};
use udmabuf::{
    Bidirectional, Buffer, DmaAddr, Engine, FromDevice, Handoff, Progress, Ring, Slot, StartError,
    Stream, ToDevice,
};
use udmabuf_examples::edu::{Edu, MEMORY_LEN};
use udmabuf_sys::ioctl;

use super::{
    Pair, Tests,
    errors::says,
    manager::{self, Created},
    map::Map,
    module::{open, wait_for_removal},
    peer::{peer, peer_must, unbind_driven, unload_peer},
};

const DRIVER: &str = "/sys/bus/pci/drivers/uio_pci_generic";
const SIZE: usize = 65536;
/// The page allocator's largest.
const BLOCK: usize = 4 << 20;

pub(crate) fn tests(run: &mut Tests, board: &str, pair: Pair) {
    run.test("faults 08, 09 and 21 for another device", || moves_data(board));
    run.test("bind of what is not there", wrong);
    run.test("bind of what has no driver yet", not_yet);
    run.test("a waiting removal keeps nobody waiting", waits_alone);
    run.test("addresses of another device", || whose(pair));
    run.test("fault 10 the other device leaves first", leaves);
    if board == "arm64-smmu" {
        run.test("edu reaches nothing else", || isolated(pair));
        run.test("mode page without translation", passed_through);
    }
}

/// The name of edu on its bus.
pub(crate) fn edu() -> Result<String> {
    for entry in fs::read_dir(DRIVER)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.contains(':') {
            return Ok(name);
        }
    }
    anyhow::bail!("no device of uio_pci_generic")
}

fn made(name: &'static str, options: &str) -> Result<Created> {
    Created::new(name, SIZE as u64, &format!("bus=pci device={} {options}", edu()?))
}

/// With a pair that is made for edu, and so in its reach behind an IOMMU.
pub(crate) fn with_edus_own(run: impl FnOnce(Pair) -> Result<String>) -> Result<String> {
    let pair = ["udmabuf_bound0", "udmabuf_bound1"];
    let _made = (made(pair[0], "")?, made(pair[1], "")?);
    run(pair)
}

/// Every byte through the device, a mapping that shows the same, and a sync in
/// parts.
fn moves_data(board: &str) -> Result<String> {
    let mut at = Vec::new();
    for options in ["", "quirk-mmap-page"] {
        let _source = made("udmabuf_bound0", options)?;
        let _destination = made("udmabuf_bound1", options)?;
        at.push(format!("{:#x}", ioctl::dma_addr(open("udmabuf_bound0")?.as_fd())?));

        let mut source = Buffer::open("udmabuf_bound0")?.for_direction::<ToDevice>();
        let mut destination = Buffer::open("udmabuf_bound1")?.for_direction::<FromDevice>();
        (0..).zip(source.as_mut_slice()).for_each(|(at, byte)| *byte = (at % 253) as u8);
        // SAFETY: the boards' machines have `-device edu,dma_mask=0xffffffff`.
        let edu = unsafe { Edu::open_with_32_bits() }?;
        for start in (0..SIZE).step_by(MEMORY_LEN) {
            let part = start..(start + MEMORY_LEN).min(SIZE);
            source = edu
                .upload(source.into_device()?, part.clone(), 0)?
                .wait(Duration::from_secs(10))?;
            destination =
                edu.download(destination.into_device()?, part, 0)?.wait(Duration::from_secs(10))?;
        }
        ensure!(source.as_slice() == destination.as_slice(), "{options}: other bytes arrived");
    }
    if board == "arm64-smmu" {
        let behind = fs::exists(format!("/sys/bus/pci/devices/{}/iommu_group", edu()?))?;
        ensure!(behind, "edu is behind no IOMMU");
    }
    Ok(format!("{SIZE} bytes each way, at {}", at.join(", ")))
}

/// A device of this process, which is none: it counts what it is given.
#[derive(Debug, Default)]
struct Other(usize);

impl Other {
    fn given(&mut self) -> Result<(), Infallible> {
        self.0 += 1;
        Ok(())
    }
}

// SAFETY: there is no device.
unsafe impl Engine for Other {
    type Error = Infallible;

    fn poll(&mut self) -> Progress<Infallible> {
        Progress::Finished
    }

    fn park(&mut self, _: Instant) -> Result<(), Infallible> {
        Ok(())
    }

    fn stop(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

// SAFETY: as above.
unsafe impl Stream for Other {
    type Error = Infallible;
    type Direction = Bidirectional;

    unsafe fn submit(&mut self, _: DmaAddr) -> Result<(), Infallible> {
        self.given()
    }

    fn poll(&mut self) -> Progress<Infallible> {
        Progress::Finished
    }

    fn park(&mut self, _: Instant) -> Result<(), Infallible> {
        Ok(())
    }

    fn stop(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

/// Where edu finds a buffer that was made for it, another device may find anything:
/// no other engine is given its address, nor is edu, behind an IOMMU, given another's.
fn whose([name, _]: Pair) -> Result<String> {
    let _made = made("udmabuf_bound", "")?;
    let device = format!("pci/{}", edu()?);
    for (name, expected) in [("udmabuf_bound", Some(device.as_str())), (name, None)] {
        let parent = ioctl::parent(open(name)?.as_fd())?;
        ensure!(parent.name() == expected.map(str::as_bytes), "{name} is for {parent:?}");
        let found = Buffer::open(name)?;
        ensure!(found.made_for() == expected, "{name} is for {:?}", found.made_for());
    }

    let engine = Slot::new(Other(0));
    let own = Buffer::open("udmabuf_bound")?;
    let Err(refused) = engine.start(own.into_device()?, |engine, _| engine.given()) else {
        anyhow::bail!("another engine was started on what was made for edu");
    };
    says(&refused.error, &["udmabuf_bound", "CreateOptions::parent"])?;
    let plain = Buffer::open(name)?;
    let both = (plain.into_device()?, refused.value.into_device()?);
    let Err(refused) = engine.start(both, |engine, _| engine.given()) else {
        anyhow::bail!("another engine was started on both");
    };
    ensure!(engine.with(|engine| engine.0) == Ok(0), "it was given an address");

    let (plain, own) = refused.value;
    let refused = Ring::new(Other(0), vec![own]).err().context("a ring of edu's buffer")?;
    says(&refused.error, &["udmabuf_bound", "another device"])?;
    let own = refused.value.1.into_iter().next().context("the buffer in the error")?;
    let mut ring = Ring::new(Other(0), vec![plain])?;
    let plain = mem::replace(ring.next_mut().context("a part")?, own);
    let refused = ring.submit().err().context("edu's buffer in another one's ring")?;
    says(&refused, &["udmabuf_bound", "another device"])?;
    ensure!(ring.stop().map_err(|refused| refused.error)?.0.0 == 0, "it was given an address");

    let translated = fs::exists(format!("/sys/bus/pci/devices/{}/iommu_group", edu()?))?;
    // SAFETY: as in `moves_data`.
    let engine = unsafe { Edu::open_with_32_bits() }?;
    let plain = plain.for_direction::<ToDevice>().into_device()?;
    let given = match engine.upload(plain, 0..64, 0) {
        Ok(transfer) => transfer.wait(Duration::from_secs(10)).map(|_| true)?,
        Err(Handoff { error: StartError::OtherBus { .. }, .. }) => false,
        Err(Handoff { error, .. }) => return Err(error.into()),
    };
    ensure!(given != translated, "edu, translated: {translated}, was given {name}: {given}");
    Ok(format!("refused; edu itself takes others: {given}"))
}

fn wrong() -> Result<String> {
    for parent in [
        "bus=pci device=0000:ff:1f.7",
        "bus=platform device=nobody",
        "bus=usb device=1-1",
        "device=0000:00:01.0",
    ] {
        let errno = manager::command(&format!("create udmabuf_bound {SIZE} {parent}\n"))?;
        ensure!(errno == Errno::INVAL.raw_os_error(), "{parent}: errno {errno}");
    }
    Ok("EINVAL".into())
}

/// While it waits for what it needs it is neither bound nor set up for DMA.
fn not_yet() -> Result<String> {
    peer_must("wait")?;
    for parent in ["udb-waiting", "udb-peer"] {
        let errno = manager::command(&format!("create udmabuf_bound {SIZE} device={parent}\n"))?;
        if errno == 0 {
            manager::command("delete udmabuf_bound\n")?;
        }
        ensure!(errno == Errno::INVAL.raw_os_error(), "{parent}: errno {errno}");
    }
    unload_peer()?;
    Ok("EINVAL".into())
}

/// The other device leaves, while an importer has the buffer: whoever wants to know
/// of that bus's devices, and who deletes the buffer, does not wait.
fn waits_alone() -> Result<String> {
    peer_must("bus platform")?;
    let bound = Created::new("udmabuf_bound", SIZE as u64, "device=udb-driven")?;
    let file = open(bound.name)?;
    let (dma_buf, _) = ioctl::export(file.as_fd(), OFlags::RDWR, 0, 4096)?;
    peer_must(&format!("attach {} 0", dma_buf.as_raw_fd()))?;
    drop((dma_buf, file));
    thread::scope(|scope| {
        let remover = scope.spawn(unbind_driven);
        let outcome = wait_for_removal(bound.name).and_then(|()| peer("notify"));
        // One that does not wait has the time to end.
        thread::sleep(Duration::from_millis(500));
        let waits = !remover.is_finished();
        // In any case, or the scope would wait for ever.
        peer_must("detach")?;
        remover.join().ok().context("panicked")??;
        ensure!(outcome? == 0, "not told of the bus");
        ensure!(waits, "removed under an importer");
        anyhow::Ok(())
    })?;
    drop(bound);
    unload_peer()?;
    Ok("one waits for the importer".into())
}

/// The buffer's memory goes with the device's driver, in use as it is.
fn leaves() -> Result<String> {
    let bound = made("udmabuf_bound", "")?;
    let file = open("udmabuf_bound")?;
    let map = Map::new(&file, 4096, MapFlags::empty())?;
    map.set(0, 1);
    let device = edu()?;
    fs::write(format!("{DRIVER}/unbind"), &device).context("unbind")?;
    let gone = ioctl::size(file.as_fd());
    let absent = map.page(0)?.0;
    let read = file.read_at(&mut [0; 8], 0).map_err(|error| error.raw_os_error());
    let again =
        manager::command(&format!("create udmabuf_again {SIZE} bus=pci device={device}\n"))?;
    fs::write(format!("{DRIVER}/bind"), &device).context("bind")?;
    ensure!(gone == Err(Errno::NODEV), "still there: {gone:?}");
    ensure!(read == Err(Some(Errno::NODEV.raw_os_error())), "still read: {read:?}");
    ensure!(absent == "absent", "still mapped");
    ensure!(again == Errno::INVAL.raw_os_error(), "without a driver: errno {again}");
    drop((map, file, bound));
    drop(made("udmabuf_bound", "")?);
    Ok("ENODEV, and a new one afterwards".into())
}

/// The address of a buffer that is not edu's, and one where nothing is.
pub(crate) fn isolated([name, _]: Pair) -> Result<String> {
    let bound = made("udmabuf_bound", "")?;
    let other = open(name)?;
    other.write_all_at(&[0x77; 64], 0)?;
    let outside = ioctl::dma_addr(other.as_fd())?;
    // SAFETY: as in `moves_data`.
    let engine = unsafe { Edu::open_with_32_bits() }?;
    // The driver lets it access memory with the first transfer.
    let own = Buffer::open("udmabuf_bound")?.for_direction::<ToDevice>();
    drop(engine.upload(own.into_device()?, 0..64, 0)?.wait(Duration::from_secs(10))?);
    let registers = File::options()
        .read(true)
        .write(true)
        .open(format!("/sys/bus/pci/devices/{}/resource0", edu()?))?;
    let registers = Map::new(&registers, 4096, MapFlags::empty())?;
    // `tests/guest-os/kernel-log.sh` looks for these.
    fs::write("/dev/kmsg", "guest: intrusion begins\n")?;
    // Source and destination, count, and: start, from the device.
    for (register, value) in
        [(0x80, 0x40000), (0x88, u32::try_from(outside)?), (0x90, 64), (0x98, 0b11)]
    {
        registers.set_word(register, value);
    }
    thread::sleep(Duration::from_millis(300));
    fs::write("/dev/kmsg", "guest: intrusion ends\n")?;
    drop(engine);
    let mut after = [0; 64];
    other.read_exact_at(&mut after, 0)?;
    ensure!(after == [0x77; 64], "edu wrote to {outside:#x}, which is not its own");
    drop(bound);
    Ok(format!("a write to {outside:#x} did not arrive"))
}

/// The IOMMU passes edu's addresses through, and contiguous memory (CMA), whose pages
/// have references in any case, is used up.
fn passed_through() -> Result<String> {
    let device = edu()?;
    let domain = format!("/sys/bus/pci/devices/{device}/iommu_group/type");
    let switch = |to: &str| -> Result<()> {
        fs::write(format!("{DRIVER}/unbind"), &device).context("unbind")?;
        let switched = fs::write(&domain, to);
        fs::write(format!("{DRIVER}/bind"), &device).context("bind")?;
        switched.with_context(|| format!("{to} for {domain}"))
    };
    let before = fs::read_to_string(&domain)?;
    switch("identity")?;
    // Too large for the page allocator.
    let mut fillers = 0;
    while manager::command(&format!("create udmabuf_filler{fillers} 0x410000\n"))? == 0 {
        fillers += 1;
    }
    let options = format!("bus=pci device={device} quirk-mmap-page");
    let outcome = Created::new("udmabuf_bound", BLOCK as u64, &options).and_then(|_made| {
        let file = open("udmabuf_bound")?;
        let map = Map::new(&file, BLOCK, MapFlags::empty())?;
        map.set(BLOCK - 1, 1);
        Ok(format!("at {:#x}", ioctl::dma_addr(file.as_fd())?))
    });
    for filler in 0..fillers {
        manager::command(&format!("delete udmabuf_filler{filler}\n"))?;
    }
    switch(before.trim())?;
    outcome
}
