//! The AXI DMA's driver on the module's memory, with the core as a model: its
//! descriptors are in memory that the kernel mapped for that.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use udmabuf::{Buffer, CpuParts, FromDevice, ToDevice, emulator::Emulator};
use udmabuf_examples::axidma::{AxiDma, Build, Mode};

use super::{Pair, random::Random};

const TRANSFERS: usize = 200;
/// Parts of a packet, at most.
const PARTS: usize = 16;
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
