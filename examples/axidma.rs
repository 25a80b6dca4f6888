//! Sends packets from one buffer to another through an AXI DMA whose stream goes
//! back, and compares every byte.
//!
//! Usage: `axidma [UIO_NAME]`; without a name, on an emulated core. On a board,
//! the buffers are `udmabuf0` and `udmabuf1`, and `udmabuf2` for the descriptors of
//! a core with scatter-gather: then a packet has many parts.

use std::time::Duration;

use anyhow::{Context, ensure};
use udmabuf::{Buffer, CpuParts, FromDevice, OpenOptions, ToDevice, Uncached, emulator::Emulator};
use udmabuf_examples::axidma::{AxiDma, Build, Mode};
use udmabuf_uio::Io;

/// As long as every core can, and a multiple of every data width.
const PART_LEN: usize = 8192;
const TIMEOUT: Duration = Duration::from_secs(10);

fn main() -> anyhow::Result<()> {
    if let Some(name) = std::env::args().nth(1) {
        let dma = AxiDma::open(&name)?; // first: it stops what a crashed program left running
        let buffers = [Buffer::open("udmabuf0")?, Buffer::open("udmabuf1")?];
        if dma.has_scatter_gather() {
            dma.use_descriptors(OpenOptions::new().uncached().open("udmabuf2")?)?;
        }
        return run(&dma, buffers);
    }
    for mode in [Mode::Direct, Mode::ScatterGather] {
        let emulator = Emulator::new();
        let (dma, _) = AxiDma::emulated(&emulator, Build::LEAST, mode)?;
        if dma.has_scatter_gather() {
            dma.use_descriptors(emulator.buffer_mapped::<Uncached>(4096))?;
        }
        run(&dma, [(); 2].map(|()| emulator.buffer(16 * PART_LEN)))?;
    }
    Ok(())
}

fn run<I: Io>(dma: &AxiDma<I>, [source, destination]: [Buffer; 2]) -> anyhow::Result<()> {
    let mut sources = source.for_direction::<ToDevice>().into_chunks(PART_LEN)?;
    let destinations = destination.for_direction::<FromDevice>().into_chunks(PART_LEN)?;
    for (value, part) in (1..).zip(&mut sources) {
        part.as_mut_slice().fill(value);
    }
    if dma.has_scatter_gather() {
        all_at_once(dma, sources, destinations)
    } else {
        one_by_one(dma, sources, destinations)
    }
}

type Sources = Vec<Buffer<udmabuf::CpuOwned, ToDevice>>;
type Destinations = Vec<Buffer<udmabuf::CpuOwned, FromDevice>>;

/// Direct register mode: each part is a packet.
fn one_by_one<I: Io>(
    dma: &AxiDma<I>,
    sources: Sources,
    destinations: Destinations,
) -> anyhow::Result<()> {
    let mut total = 0;
    for (source, destination) in sources.into_iter().zip(destinations) {
        let receiving = dma.s2mm.receive(destination.into_device()?)?;
        let source = dma.mm2s.send(source.into_device()?)?.wait(TIMEOUT)?;
        let destination = receiving.wait(TIMEOUT)?;
        let len = dma.s2mm.moved().first().context("nothing was received")?.len;
        ensure!(
            destination.as_slice()[..len] == *source.as_slice(),
            "the packet at {total} is wrong"
        );
        total += len;
    }
    println!(
        "direct register mode: {total} bytes, {} interrupts; all are right",
        dma.mm2s.interrupts()
    );
    Ok(())
}

/// Scatter-gather: a packet of all parts.
fn all_at_once<I: Io>(
    dma: &AxiDma<I>,
    sources: Sources,
    destinations: Destinations,
) -> anyhow::Result<()> {
    let receiving = dma.s2mm.receive_parts(destinations.into_device()?)?;
    let sources = dma.mm2s.send_packets(vec![sources.into_device()?])?.wait(TIMEOUT)?;
    let destinations = receiving.wait(TIMEOUT)?;
    let parts = || sources.iter().flatten().zip(&destinations);
    ensure!(parts().all(|(sent, got)| sent.as_slice() == got.as_slice()), "the packet is wrong");
    let total: usize = dma.s2mm.moved().iter().map(|part| part.len).sum();
    println!("scatter-gather: {total} bytes, {} interrupts; all are right", dma.mm2s.interrupts());
    Ok(())
}
