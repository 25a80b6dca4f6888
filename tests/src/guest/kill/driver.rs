//! The drivers that are killed. What each does next is written into the record
//! first, what it has done, after.

use std::{
    collections::VecDeque,
    convert::Infallible,
    fs,
    ops::Range,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use udmabuf::{
    Bidirectional, Buffer, CpuOwned, CpuParts, DeviceOwned, DmaAddr, FromDevice, OpenOptions,
    Parts, Progress, Ring, Stream, ToDevice, Transfer, WaitError,
};
use udmabuf_examples::{edu::Edu, zdma::Zdma};

use super::record::{At, Record};
use crate::random::Random;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Parts that come and go in any order, one at a time or all at once; no engine.
    Parts,
    /// Parts that go round in a ring, whose engine does nothing.
    Ring,
    Edu,
    Zdma,
}

/// Parts of the one buffer of `Parts` and `Ring`, at most.
const PARTS: usize = 4;

impl Kind {
    pub(super) fn has_engine(self) -> bool {
        matches!(self, Self::Edu | Self::Zdma)
    }

    pub(super) fn buffers<'a, 'b>(self, names: &'b [&'a str]) -> &'b [&'a str] {
        if self.has_engine() { &names[..2] } else { &names[..1] }
    }

    /// Which parts of the record are of that buffer.
    pub(super) fn parts_of(self, buffer: usize) -> Range<usize> {
        if self.has_engine() { buffer..buffer + 1 } else { 0..PARTS }
    }

    /// How long a driver lives, at most: a few handovers or transfers.
    pub(super) fn longest_us(self) -> u64 {
        if self == Self::Edu { 150_000 } else { 2_000 }
    }

    fn from_name(name: &str) -> Option<Self> {
        [Self::Parts, Self::Ring, Self::Edu, Self::Zdma]
            .into_iter()
            .find(|kind| format!("{kind:?}") == name)
    }
}

/// What must be idle before a buffer is recovered.
pub(super) enum Engine {
    None,
    Edu { _edu: Edu },
    Zdma { _zdma: Zdma },
}

impl Engine {
    pub(super) fn open(kind: Kind) -> Result<Self> {
        Ok(match kind {
            Kind::Parts | Kind::Ring => Self::None,
            // SAFETY: the boards' machines have `-device edu,dma_mask=0xffffffff`.
            Kind::Edu => Self::Edu { _edu: unsafe { Edu::open_with_32_bits() }? },
            Kind::Zdma => Self::Zdma { _zdma: Zdma::open("dma")? },
        })
    }
}

/// Whether edu, where there is one, may access memory: bit 2 of its command
/// register (PCI Local Bus 3.0, 6.2.2).
pub(super) fn masters_bus() -> Result<bool> {
    let Ok(edu) = crate::parent::edu() else { return Ok(false) };
    let config = fs::read(format!("/sys/bus/pci/devices/{edu}/config"))?;
    Ok(config.get(4).context("no command register")? & 1 << 2 != 0)
}

/// `what`: kind, two buffers and a seed. Does not return unless it fails.
pub(super) fn stream(what: &str) -> Result<Infallible> {
    let words: Vec<_> = what.split(':').collect();
    let [kind, name, other, seed] = words[..] else { bail!("{what:?}") };
    let mut random = Random::from_seed(seed.parse()?);
    let record = Record::new()?;
    match Kind::from_name(kind).context("no such kind")? {
        Kind::Parts => parts(name, &record, &mut random),
        Kind::Ring => ring(name, &record, &mut random),
        Kind::Edu => edu([name, other], &record),
        Kind::Zdma => zdma([name, other], &record),
    }
}

/// 1 to `PARTS` parts, which the kernel counts, or this program.
fn open_parts(name: &str, random: &mut Random) -> Result<Vec<Buffer>> {
    let options = match random.below(2) {
        0 => OpenOptions::new(),
        _ => OpenOptions::new().with_kernel_cache_maintenance(),
    };
    let buffer = options.open(name)?;
    let parts = 1 + usize::try_from(random.below(PARTS as u64))?;
    let len = buffer.len().div_ceil(parts).next_multiple_of(buffer.part_alignment());
    Ok(buffer.into_chunks(len)?)
}

enum Place {
    Cpu(Buffer),
    Device(Buffer<DeviceOwned>),
}

fn parts(name: &str, record: &Record, random: &mut Random) -> Result<Infallible> {
    let mut parts: Vec<_> = open_parts(name, random)?.into_iter().map(Place::Cpu).collect();
    println!("streaming");
    loop {
        if random.below(4) == 0 {
            parts = all_at_once(parts, record)?;
        }
        let at = usize::try_from(random.below(parts.len() as u64))?;
        let part = match parts.swap_remove(at) {
            Place::Cpu(mut part) => {
                part.as_mut_slice().fill(0xab);
                record.set(at, At::Leaving);
                let part = part.into_device()?;
                record.set(at, At::Device);
                Place::Device(part)
            }
            Place::Device(part) => {
                record.set(at, At::Returning);
                // SAFETY: there is no device.
                let part = unsafe { part.into_cpu() }?;
                record.set(at, At::Cpu);
                Place::Cpu(part)
            }
        };
        // As `swap_remove` took it.
        parts.push(part);
        let last = parts.len() - 1;
        parts.swap(at, last);
    }
}

/// Parts that are all of one owner go to the other together.
fn all_at_once(parts: Vec<Place>, record: &Record) -> Result<Vec<Place>> {
    let count = parts.len();
    let all = |at| (0..count).for_each(|part| record.set(part, at));
    if parts.iter().all(|part| matches!(part, Place::Cpu(_))) {
        let parts: Vec<_> = parts.into_iter().filter_map(Place::cpu).collect();
        all(At::Leaving);
        let parts = parts.into_device()?;
        all(At::Device);
        return Ok(parts.into_iter().map(Place::Device).collect());
    }
    if parts.iter().all(|part| matches!(part, Place::Device(_))) {
        let parts: Vec<_> = parts.into_iter().filter_map(Place::device).collect();
        all(At::Returning);
        // SAFETY: there is no device.
        let parts = unsafe { parts.into_cpu() }?;
        all(At::Cpu);
        return Ok(parts.into_iter().map(Place::Cpu).collect());
    }
    Ok(parts)
}

impl Place {
    fn cpu(self) -> Option<Buffer> {
        if let Self::Cpu(part) = self { Some(part) } else { None }
    }

    fn device(self) -> Option<Buffer<DeviceOwned>> {
        if let Self::Device(part) = self { Some(part) } else { None }
    }
}

/// An engine without a device, which is done with a part at once.
struct Nothing(VecDeque<DmaAddr>);

// SAFETY: it accesses nothing.
unsafe impl Stream for Nothing {
    type Error = Infallible;
    type Direction = Bidirectional;

    unsafe fn submit(&mut self, part: DmaAddr) -> Result<(), Infallible> {
        self.0.push_back(part);
        Ok(())
    }

    fn poll(&mut self) -> Progress<Infallible> {
        match self.0.pop_front() {
            Some(_) => Progress::Finished,
            None => Progress::Running,
        }
    }

    fn park(&mut self, _: Instant) -> Result<(), Infallible> {
        Ok(())
    }

    fn stop(&mut self) -> Result<(), Infallible> {
        self.0.clear();
        Ok(())
    }
}

fn ring(name: &str, record: &Record, random: &mut Random) -> Result<Infallible> {
    let parts = open_parts(name, random)?;
    let count = parts.len();
    let mut ring = Ring::new(Nothing(VecDeque::new()), parts)?;
    let (mut submitted, mut completed) = (0, 0);
    println!("streaming");
    loop {
        let full = ring.in_flight() == count;
        let empty = ring.in_flight() == 0;
        if !full && (empty || random.below(2) == 0) {
            let at = submitted % count;
            ring.next_mut().context("no free part")?.as_mut_slice().fill(0xab);
            record.set(at, At::Leaving);
            ring.submit()?;
            record.set(at, At::Device);
            submitted += 1;
        } else {
            let at = completed % count;
            record.set(at, At::Returning);
            ring.complete(Duration::ZERO)?;
            record.set(at, At::Cpu);
            completed += 1;
        }
    }
}

/// Waits by asking: while it sleeps, all is at the device.
fn finish<E: udmabuf::Engine, P: Parts>(
    mut transfer: Transfer<E, P>,
    pause: Duration,
    mut all: impl FnMut(At),
) -> Result<P::Cpu> {
    loop {
        thread::sleep(pause);
        all(At::Returning);
        transfer = match transfer.try_wait() {
            Ok(parts) => {
                all(At::Cpu);
                return Ok(parts);
            }
            Err(WaitError::Timeout { transfer, .. }) => transfer,
            Err(error) => bail!("{error}"),
        };
        all(At::Device);
    }
}

fn lend<D: udmabuf::Direction>(
    buffer: Buffer<CpuOwned, D>,
    record: &Record,
    at: usize,
) -> Result<Buffer<DeviceOwned, D>> {
    record.set(at, At::Leaving);
    let buffer = buffer.into_device()?;
    record.set(at, At::Device);
    Ok(buffer)
}

fn zdma([source, destination]: [&str; 2], record: &Record) -> Result<Infallible> {
    let zdma = Zdma::open("dma")?;
    let mut source = Buffer::open(source)?.for_direction::<ToDevice>();
    let mut destination = Buffer::open(destination)?.for_direction::<FromDevice>();
    println!("streaming");
    loop {
        source.as_mut_slice().fill(0xab);
        let transfer = zdma.copy(lend(source, record, 0)?, lend(destination, record, 1)?);
        let all = |at| (0..2).for_each(|part| record.set(part, at));
        let transfer = transfer.map_err(|refused| refused.error)?;
        (source, destination) = finish(transfer, Duration::from_micros(50), all)?;
    }
}

fn edu([source, destination]: [&str; 2], record: &Record) -> Result<Infallible> {
    const PAUSE: Duration = Duration::from_millis(5);
    // SAFETY: the boards' machines have `-device edu,dma_mask=0xffffffff`.
    let edu = unsafe { Edu::open_with_32_bits() }?;
    let mut source = Buffer::open(source)?.for_direction::<ToDevice>();
    let mut destination = Buffer::open(destination)?.for_direction::<FromDevice>();
    println!("streaming");
    loop {
        let transfer = edu.upload(lend(source, record, 0)?, 0..64, 0);
        let transfer = transfer.map_err(|refused| refused.error)?;
        source = finish(transfer, PAUSE, |at| record.set(0, at))?;
        let transfer = edu.download(lend(destination, record, 1)?, 0..64, 0);
        let transfer = transfer.map_err(|refused| refused.error)?;
        destination = finish(transfer, PAUSE, |at| record.set(1, at))?;
    }
}
