//! The Versal board's DMA engine, through its example driver.

mod control;
mod intruder;

use std::{ops::Range, thread, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use udmabuf::{
    Bidirectional, Buffer, CpuOwned, CpuParts, Direction, FromDevice, Mapped, OpenOptions, Shared,
    StartError, ToDevice,
};
use udmabuf_examples::zdma::{Error, Zdma};
use udmabuf_uio::By;

pub(crate) use self::control::leave_paused;
use super::{Pair, Tests, errors::says, random::Random, soak};

const TOTAL_LEN: usize = 1 << 20;
const TIMEOUT: Duration = Duration::from_secs(10);
const CHANNELS: usize = 8;
/// Of another kind than the pairs: small, and not coherent.
const SMALL: &str = "udmabuf7";

type Source = Buffer<CpuOwned, ToDevice>;
type Destination = Buffer<CpuOwned, FromDevice>;

pub(crate) fn tests(run: &mut Tests, pair: Pair, coherent: Pair) {
    run.test("zdma copies", || copies(pair));
    run.test("zdma copies, coherent", || copies(coherent));
    run.test("zdma refusals", || refusals(pair));
    run.test("zdma lists", || lists::<udmabuf::Cached>(pair, coherent[0]));
    run.test("zdma lists, uncached table", || lists::<udmabuf::Uncached>(pair, SMALL));
    run.test("zdma lists, coherent", || lists::<udmabuf::WriteCombined>(coherent, SMALL));
    run.test("zdma channels", || channels(pair, coherent[0]));
    control::tests(run, pair, coherent[0]);
    intruder::tests(run, pair, coherent[0]);
    run.test("soak zdma", || soak(pair));
}

/// The first channel, each time.
fn open() -> Result<Zdma> {
    let devices = Zdma::list()?;
    let first = devices.first().context("no channel")?;
    Ok(Zdma::open(By::Address(first.maps[0].address))?)
}

fn open_with_table<M: Mapped>(table: &str) -> Result<Zdma> {
    let zdma = open()?;
    let table: Buffer<_, _, M> = OpenOptions::new().mapped().open(table)?;
    set_table(&zdma, table)?;
    Ok(zdma)
}

fn set_table<M: Mapped>(zdma: &Zdma, table: Buffer<CpuOwned, Bidirectional, M>) -> Result<()> {
    let table: Buffer<Shared, _, _> = table.into_shared()?;
    Ok(zdma.set_table(table)?)
}

/// 1 MiB of random data, in transfers of the buffers' size.
fn copies([source, destination]: Pair) -> Result<String> {
    let zdma = Zdma::open("dma")?;
    let mut source = Buffer::open(source)?.for_direction::<ToDevice>();
    let mut destination = Buffer::open(destination)?.for_direction::<FromDevice>();
    let len = source.len();
    let transfers = TOTAL_LEN / len;
    let (mut random, seed) = Random::new();

    for number in 0..transfers {
        random.fill(source.as_mut_slice());
        let transfer = zdma.copy(source.into_device()?, destination.into_device()?)?;
        (source, destination) = transfer.wait(TIMEOUT)?;
        same(source.as_slice(), destination.as_slice())
            .with_context(|| format!("transfer {number}, seed {seed}"))?;
    }
    let interrupts = zdma.interrupts()?;
    ensure!(interrupts == transfers as u64, "{interrupts} interrupts for {transfers} transfers");
    Ok(format!("{transfers} transfers of {len}, {interrupts} interrupts, seed {seed}"))
}

fn same(sent: &[u8], received: &[u8]) -> Result<()> {
    ensure!(sent.len() == received.len(), "{} bytes for {}", received.len(), sent.len());
    match sent.iter().zip(received).position(|(sent, received)| sent != received) {
        Some(at) => bail!("byte {at} differs"),
        None => Ok(()),
    }
}

/// What the driver refuses comes back with the buffers.
fn refusals([source, destination]: Pair) -> Result<String> {
    let zdma = open()?;
    let Err(error) = open() else { bail!("two drivers on one channel") };
    ensure!(format!("{error:#}").contains("in use"), "{error:#}");

    let source = Buffer::open(source)?.for_direction::<ToDevice>();
    let small = Buffer::open(SMALL)?.for_direction::<FromDevice>();
    let Err(refused) = zdma.copy(source.into_device()?, small.into_device()?) else {
        bail!("copied into a destination that is too small");
    };
    let StartError::Refused(Error::TooSmall { .. }) = refused.error else { bail!("{refused}") };
    let message = refused.to_string();
    let (source, _small) = refused.value;
    let destination = Buffer::open(destination)?.for_direction::<FromDevice>();
    let transfer = zdma.copy(source.into_device()?, destination.into_device()?)?;
    let (source, destination) = transfer.wait(TIMEOUT)?;
    ensure!(source.as_slice() == destination.as_slice(), "after a refusal, the copy differs");

    let (sources, destinations) = (vec![source].into_device()?, vec![destination].into_device()?);
    let Err(refused) = zdma.copy_list(sources, destinations) else {
        bail!("a list without memory for descriptors");
    };
    says(&refused, &["set_table"])?;
    Ok(message)
}

/// Cuts a buffer into no more than `count` parts, at random.
fn cut<D: Direction>(
    random: &mut Random,
    mut buffer: Buffer<CpuOwned, D>,
    count: usize,
) -> Result<Vec<Buffer<CpuOwned, D>>> {
    let line = buffer.part_alignment();
    let mut parts = Vec::new();
    while parts.len() + 1 < count && buffer.len() > line {
        let at = line * (1 + random.index(buffer.len().div_ceil(line) - 1));
        let (part, rest) = buffer.split_at(at)?;
        parts.push(part);
        buffer = rest;
    }
    parts.push(buffer);
    Ok(parts)
}

/// What was cut, in one piece again.
fn whole<D: Direction>(parts: Vec<Buffer<CpuOwned, D>>) -> Result<Buffer<CpuOwned, D>> {
    let mut parts = parts.into_iter();
    let first = parts.next().context("no parts")?;
    parts.try_fold(first, |whole, part| Ok(whole.join(part).map_err(|failed| failed.error)?))
}

/// All of the source, as one random list.
fn copy_cut(
    zdma: &Zdma,
    random: &mut Random,
    mut source: Source,
    destination: Destination,
    parts: Range<usize>,
) -> Result<(Source, Destination)> {
    random.fill(source.as_mut_slice());
    let mut count = || parts.start + random.index(parts.len());
    let (from, to) = (count(), count());
    let sources = cut(random, source, from)?.into_device()?;
    let destinations = cut(random, destination, to)?.into_device()?;
    let (sources, destinations) = zdma.copy_list(sources, destinations)?.wait(TIMEOUT)?;
    let (source, destination) = (whole(sources)?, whole(destinations)?);
    same(source.as_slice(), destination.as_slice())
        .with_context(|| format!("{from} parts to {to}"))?;
    Ok((source, destination))
}

/// Lists of up to 64 parts a side, with the descriptors in memory of another kind
/// each time.
fn lists<M: Mapped>([source, destination]: Pair, table: &str) -> Result<String> {
    let zdma = open_with_table::<M>(table)?;
    let mut source = Buffer::open(source)?.for_direction::<ToDevice>();
    let mut destination = Buffer::open(destination)?.for_direction::<FromDevice>();
    let (mut random, seed) = Random::new();
    let transfers = 64;
    for number in 0..transfers {
        (source, destination) = copy_cut(&zdma, &mut random, source, destination, 1..64)
            .with_context(|| format!("list {number}, seed {seed}"))?;
    }
    let interrupts = zdma.interrupts()?;
    ensure!(interrupts == transfers, "{interrupts} interrupts for {transfers} lists");
    drop(zdma);
    Buffer::open(table).context("the table, once its channel is closed")?;
    Ok(format!("{transfers} lists of {} bytes, seed {seed}", source.len()))
}

/// All channels, each with buffers and descriptors of its own: in flight
/// together, and driven by a thread each.
fn channels([source, destination]: Pair, table: &str) -> Result<String> {
    let devices = Zdma::list()?;
    ensure!(devices.len() == CHANNELS, "{} channels: {devices:?}", devices.len());
    let source = Buffer::open(source)?.for_direction::<ToDevice>();
    let len = source.len() / CHANNELS;
    let mut sources = source.into_chunks(len)?;
    let destinations = Buffer::open(destination)?.for_direction::<FromDevice>();
    let destinations = destinations.into_chunks(len)?;
    let tables = Buffer::open(table)?.into_chunks(len)?;
    let (mut random, seed) = Random::new();
    let mut in_flight = Vec::new();
    sources.iter_mut().for_each(|source| random.fill(source.as_mut_slice()));
    for (((device, table), source), destination) in
        devices.iter().zip(tables).zip(sources).zip(destinations)
    {
        let zdma = Zdma::open(By::Address(device.maps[0].address))?;
        set_table(&zdma, table)?;
        let sources = cut(&mut random, source, 8)?.into_device()?;
        let destinations = cut(&mut random, destination, 8)?.into_device()?;
        let transfer = zdma.copy_list(sources, destinations)?;
        in_flight.push((zdma, transfer));
    }
    ensure!(Zdma::open("dma").is_err(), "there is a ninth channel");
    let rounds = 20;
    let mut opened = Vec::new();
    for (zdma, transfer) in in_flight {
        let (sources, destinations) = transfer.wait(TIMEOUT)?;
        let (source, destination) = (whole(sources)?, whole(destinations)?);
        same(source.as_slice(), destination.as_slice())
            .with_context(|| format!("{zdma:?}, seed {seed}"))?;
        let mut random = Random::from_seed(seed + opened.len() as u64);
        opened.push(thread::spawn(move || -> Result<u64> {
            let (mut source, mut destination) = (source, destination);
            for _ in 0..rounds {
                (source, destination) = copy_cut(&zdma, &mut random, source, destination, 1..9)?;
            }
            Ok(zdma.interrupts()?)
        }));
    }
    for (number, channel) in opened.into_iter().enumerate() {
        let interrupts = channel.join().map_err(|_| anyhow::anyhow!("panicked"))?;
        let interrupts = interrupts.with_context(|| format!("channel {number}, seed {seed}"))?;
        ensure!(interrupts == rounds + 1, "channel {number}: {interrupts} interrupts");
    }
    Ok(format!("{CHANNELS} at once, {rounds} lists each, seed {seed}"))
}

/// Copies and lists of random sizes and offsets; every byte is compared, and an
/// interrupt counted for each.
pub(crate) fn soak([source, destination]: Pair) -> Result<String> {
    let transfers = soak::count();
    let zdma = open_with_table::<udmabuf::Uncached>(SMALL)?;
    let mut source = Buffer::open(source)?.for_direction::<ToDevice>();
    let mut destination = Buffer::open(destination)?.for_direction::<FromDevice>();
    let (mut random, seed) = Random::new();
    let (mut moved, mut lists) = (0, 0);
    let size = source.len();
    // What is in the destination, wherever it was written last.
    let mut expected = destination.as_slice().to_vec();
    for number in 0..transfers {
        let failed = || format!("transfer {number} of {transfers}, seed {seed}");
        // Of all orders of magnitude.
        let magnitude = random.index(12);
        let len = 1 + random.index(size >> magnitude);
        let (from, to) = (random.index(size - len + 1), random.index(size - len + 1));
        random.fill(&mut source.as_mut_slice()[from..from + len]);
        if random.index(2) == 0 {
            let (range, at) = (from..from + len, to);
            expected[to..to + len].copy_from_slice(&source.as_slice()[range.clone()]);
            let (from, into) = (source.into_device()?, destination.into_device()?);
            let transfer = zdma.copy_range(from, range, into, at).with_context(failed)?;
            (source, destination) = transfer.wait(TIMEOUT).with_context(failed)?;
            moved += len;
        } else {
            // As far as the last sources that a list leaves out.
            let (counts, used) = ([1 + random.index(30), 1 + random.index(30)], random.index(30));
            let mut sources = cut(&mut random, source, counts[0])?;
            let unused = sources.split_off(sources.len().min(1 + used));
            let destinations = cut(&mut random, destination, counts[1])?;
            let (sources, destinations) = (sources.into_device()?, destinations.into_device()?);
            let transfer = zdma.copy_list(sources, destinations).with_context(failed)?;
            let (mut sources, destinations) = transfer.wait(TIMEOUT).with_context(failed)?;
            let len: usize = sources.iter().map(Buffer::len).sum();
            sources.extend(unused);
            (source, destination) = (whole(sources)?, whole(destinations)?);
            expected[..len].copy_from_slice(&source.as_slice()[..len]);
            moved += len;
            lists += 1;
        }
        same(&expected, destination.as_slice()).with_context(failed)?;
    }
    let interrupts = zdma.interrupts()?;
    ensure!(interrupts == transfers, "{interrupts} interrupts for {transfers}, seed {seed}");
    ensure!(zdma.warnings().is_empty(), "{}", zdma.warnings());
    Ok(format!("{transfers} transfers, {lists} of them lists, {moved} bytes, seed {seed}"))
}
