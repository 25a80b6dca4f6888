//! The AXI DMA's driver on the module's memory, with the core as a model: its
//! descriptors are in memory that the kernel mapped for that.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use udmabuf::{Buffer, CpuParts, FromDevice, ToDevice, emulator::Emulator};
use udmabuf_examples::{
    axidma::{AxiDma, Build, Coalescing, Faults, Mode, Side},
    stream::{Error, Part, Plan, Returning, Ringing, Until, run},
};

use super::{Pair, random::Random};

const TRANSFERS: usize = 200;
/// Parts of a packet, at most.
const PARTS: usize = 16;
/// Of a stream; as many keep the places of its rings.
const IN_FLIGHT: usize = PARTS / 2;
const PART_LEN: usize = 1 << 12;
const TIMEOUT: Duration = Duration::from_secs(20);

/// Packets of all parts, back and compared.
pub(crate) fn packets([source, destination]: Pair, descriptors: &str) -> Result<String> {
    let emulator = Emulator::new();
    let (dma, controls) = AxiDma::emulated(&emulator, Build::LEAST, Mode::ScatterGather)?;
    let open = |name| -> Result<Buffer> {
        let mut buffer = Buffer::open(name)?;
        emulator.attach(&mut buffer)?;
        Ok(buffer)
    };
    let parts = |name| -> Result<Vec<Buffer>> {
        let mut parts = open(name)?.into_chunks(PART_LEN)?;
        parts.truncate(PARTS);
        Ok(parts)
    };
    let (first, second) = open(descriptors)?.split_at(PARTS * 64)?;
    dma.mm2s.use_descriptors(first)?;
    dma.s2mm.use_descriptors(second)?;

    let mut sources: Vec<_> =
        parts(source)?.into_iter().map(Buffer::for_direction::<ToDevice>).collect();
    let mut destinations: Vec<_> =
        parts(destination)?.into_iter().map(Buffer::for_direction::<FromDevice>).collect();
    let (mut random, seed) = Random::new();
    for _ in 0..TRANSFERS {
        sources.iter_mut().for_each(|part| random.fill(part.as_mut_slice()));
        let receiving = dma.s2mm.receive_parts(destinations.into_device()?)?;
        let sending = dma.mm2s.send_packets(vec![sources.into_device()?])?;
        destinations = receiving.wait(TIMEOUT)?;
        sources = sending.wait(TIMEOUT)?.pop().context("the packet")?;
        let same = sources.iter().zip(&destinations).all(|(a, b)| a.as_slice() == b.as_slice());
        ensure!(same, "a packet differs; seed {seed}");
    }
    ensure!(emulator.violations().is_empty(), "{:?}", emulator.violations());
    ensure!(controls.undefined().is_empty(), "{:?}", controls.undefined());
    // What was shared is free again with the core.
    drop(dma);
    Buffer::open(descriptors)?;
    Ok(format!("{TRANSFERS} packets of {} parts, seed {seed}", sources.len()))
}

/// Streams that break off, once with all parts at the engine, once with all but one
/// waiting for it: then every buffer can be opened again.
pub(crate) fn streamed(pair: Pair, descriptors: &str) -> Result<String> {
    let emulator = Emulator::new();
    let (core, controls) = AxiDma::emulated(&emulator, Build::LEAST, Mode::ScatterGather)?;
    let mut memory = Buffer::open(descriptors)?;
    emulator.attach(&mut memory)?;
    let (first, second) = memory.split_at(PARTS * 64)?;
    core.mm2s.use_descriptors(first)?;
    core.s2mm.use_descriptors(second)?;
    let mut parts = stream_parts(&emulator, pair, 2 * IN_FLIGHT)?;
    // What keeps the rings' places.
    let (sources, destinations) = parts.split_off(IN_FLIGHT).into_iter().unzip();
    let AxiDma { mm2s, s2mm } = core;
    let (sender, _) = mm2s.into_ring(Coalescing::EACH, sources)?;
    let (receiver, _) = s2mm.into_ring(Coalescing::EACH, destinations)?;
    let mut lanes = [Ringing::new(sender, receiver, IN_FLIGHT)];

    let seed = Random::new().1;
    let plan = Plan { until: Until::Parts(TRANSFERS as u64), seed, ..Plan::default() };
    let summary = run(&mut lanes, &mut parts, plan, |_| ())?;
    ensure!(summary.parts == TRANSFERS as u64, "{} parts", summary.parts);
    let most = summary.most_at_engines;
    controls.inject(Side::S2mm, Faults::DMA_DECODE);
    let Err(Error::Engine(error)) = run(&mut lanes, &mut parts, plan, |_| ()) else {
        bail!("an error went unnoticed")
    };
    ensure!(controls.undefined().is_empty(), "{:?}", controls.undefined());
    drop((lanes, parts));
    Buffer::open(descriptors)?;

    let (core, controls) = AxiDma::emulated(&emulator, Build::LEAST, Mode::Direct)?;
    controls.hang(Side::S2mm);
    let mut lanes = [Returning::new(|from| core.mm2s.send(from), |to| core.s2mm.receive(to))];
    let mut parts = stream_parts(&emulator, pair, IN_FLIGHT)?;
    let plan = Plan { patience: Duration::from_millis(50), ..plan };
    let stopped = run(&mut lanes, &mut parts, plan, |_| ());
    ensure!(matches!(stopped, Err(Error::Timeout { number: 0, .. })), "{stopped:?}");
    ensure!(parts.len() == IN_FLIGHT - 1, "{} parts are back", parts.len());
    drop((lanes, parts));
    for name in pair {
        Buffer::open(name)?;
    }
    Ok(format!("{TRANSFERS} parts, {most} of them at the engine, seed {seed}; then {error}"))
}

fn stream_parts(emulator: &Emulator, pair: Pair, count: usize) -> Result<Vec<Part>> {
    let [sources, destinations] = pair.map(|name| -> Result<Vec<Buffer>> {
        let mut buffer = Buffer::open(name)?;
        emulator.attach(&mut buffer)?;
        Ok(buffer.into_chunks(PART_LEN)?)
    });
    let pairs = sources?.into_iter().zip(destinations?).take(count);
    let parts: Vec<_> = pairs.map(|(a, b)| (a.for_direction(), b.for_direction())).collect();
    ensure!(parts.len() == count, "only {} parts", parts.len());
    Ok(parts)
}
