//! Streams parts through an engine, many of them in flight, compares every byte,
//! and shows where the time goes.
//!
//! First some parts go one after the other, each alone: what the CPU does, what
//! the handovers cost, and for how long the engine is waited for. Then they go
//! together, and the CPU works while the engine does.
#![allow(unsafe_code, reason = "how many address lines edu has, only the user knows")]

use std::{
    io::{IsTerminal, Write, stderr},
    str::FromStr,
    sync::mpsc,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail, ensure};
use udmabuf::{Buffer, CpuOwned, Direction, OpenOptions, Uncached, emulator::Emulator};
use udmabuf_examples::{
    axidma::{AxiDma, Build, Coalescing, DESCRIPTOR_LEN, Mode},
    edu::Edu,
    loopback::{self, Loopback},
    stream::{Copying, EduLane, Lane, Part, Plan, Returning, Ringing, Summary, Until, run},
    zdma::Zdma,
};
use udmabuf_uio::{Io, emulator::Faults};

const USAGE: &str = "\
usage: stream [ENGINE] [--OPTION=VALUE]...
engines, and how many parts each holds at once, while the others wait:
  emulated       (the default) models of a copy engine, and emulated buffers; 1
  adversary      the same under the most hostile cache that hardware can have; 1
  zdma           channels of a Zynq UltraScale+ or Versal; 1
  axidma         AXI DMA cores whose stream goes back; with scatter-gather all of
                 --in-flight that it has descriptors for, or else 1
  edu            QEMU's PCI device with `dma_mask=0xffffffff`; 1
  zdma-model     a model of the same under that cache; the axidma-model has
  axidma-model   scatter-gather
  edu-model
options:
  --maintenance  of the cache, `own` or `kernel`; own, where that is enough
  --part         bytes of a part, a multiple of the cache's line; 2048
  --in-flight    parts that go round; 8. An engine that holds more than one takes
                 as many more, for the places in its rings
  --engines      how many of them at once; 1
  --name         of the UIO device; dma
  --from         the buffer that is sent; udmabuf0
  --to           the buffer that receives; udmabuf1
  --descriptors  the buffer for those of cores with scatter-gather; udmabuf2
  --delay        microseconds that an emulated engine takes beside copying; 0
  --patience     seconds after which an engine is said to stand still; 30
  --count        parts to send; 1000
  --seconds      how long to send, instead
  --seed         of the bytes that are sent; the time";

/// Parts that are sent alone.
const ALONE: u64 = 8;
/// Bytes of an emulated buffer.
const LARGEST: usize = 1 << 30;
const PROGRESS: Duration = Duration::from_millis(500);

#[derive(Debug)]
struct Options {
    engine: String,
    name: String,
    from: String,
    to: String,
    descriptors: String,
    open: OpenOptions,
    part: usize,
    in_flight: usize,
    engines: usize,
    delay: Duration,
    plan: Plan,
}

impl Options {
    fn parse(arguments: impl Iterator<Item = String>) -> Result<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let seed = u64::from(now.subsec_nanos());
        let mut options = Self {
            engine: "emulated".into(),
            name: "dma".into(),
            from: "udmabuf0".into(),
            to: "udmabuf1".into(),
            descriptors: "udmabuf2".into(),
            open: OpenOptions::new(),
            part: 2048,
            in_flight: 8,
            engines: 1,
            delay: Duration::ZERO,
            plan: Plan { seed, ..Plan::default() },
        };
        for argument in arguments {
            let (option, value) = argument.split_once('=').unwrap_or((&argument, ""));
            match option {
                "--maintenance" if value == "own" => options.open = OpenOptions::new(),
                "--maintenance" if value == "kernel" => {
                    options.open = OpenOptions::new().with_kernel_cache_maintenance();
                }
                "--part" => options.part = number(option, value)?,
                "--in-flight" => options.in_flight = number(option, value)?,
                "--engines" => options.engines = number(option, value)?,
                "--name" => options.name = value.into(),
                "--from" => options.from = value.into(),
                "--to" => options.to = value.into(),
                "--descriptors" => options.descriptors = value.into(),
                "--delay" => options.delay = Duration::from_micros(number(option, value)?),
                "--patience" => {
                    options.plan.patience = Duration::from_secs(number(option, value)?);
                }
                "--count" => options.plan.until = Until::Parts(number(option, value)?),
                "--seconds" => {
                    let time = Duration::from_secs(number(option, value)?);
                    options.plan.until = Until::Elapsed(time);
                }
                "--seed" => options.plan.seed = number(option, value)?,
                _ if option.starts_with('-') => bail!("no option {argument}\n{USAGE}"),
                engine => options.engine = engine.into(),
            }
        }
        ensure!(options.in_flight > 0, "--in-flight=0 sends nothing");
        ensure!(options.engines > 0, "--engines=0 sends nothing");
        ensure!(options.part % 8 == 0, "--part={} is no multiple of 8 bytes", options.part);
        Ok(options)
    }
}

fn number<T: FromStr<Err: Send + Sync + std::error::Error + 'static>>(
    option: &str,
    value: &str,
) -> Result<T> {
    value.parse().with_context(|| format!("{option}={value}: not a number it can take\n{USAGE}"))
}

fn main() -> Result<()> {
    if std::env::args().any(|argument| argument == "--help") {
        println!("{USAGE}");
        return Ok(());
    }
    let options = Options::parse(std::env::args().skip(1))?;
    // A driver of another engine has its place here: its lanes, and its buffers.
    match &options.engine[..] {
        "emulated" => emulated(&Emulator::new(), &options),
        "adversary" => emulated(&Emulator::new().with_adversary(), &options),
        "zdma" => {
            // First: they wait for what a crashed program left running.
            let engines = engines(&options, || Zdma::open(&options.name[..]))?;
            let lanes = engines.iter().map(|zdma| Copying::new(|from, to| zdma.copy(from, to)));
            stream(lanes.collect(), hardware_parts(&options, options.in_flight)?, &options)
        }
        "axidma" => axidma(&options),
        "axidma-model" => axidma_model(&options),
        "zdma-model" => {
            let emulator = Emulator::new().with_adversary();
            let engines = engines(&options, || Zdma::emulated(&emulator, &Faults::default()))?;
            let lanes = engines.iter().map(|zdma| Copying::new(|from, to| zdma.copy(from, to)));
            stream(
                lanes.collect(),
                emulated_parts(&emulator, &options, options.in_flight)?,
                &options,
            )
        }
        "edu-model" => {
            let emulator = Emulator::new().with_adversary();
            let engines = engines(&options, || Edu::emulated(&emulator))?;
            let lanes = engines.into_iter().map(EduLane::new);
            stream(
                lanes.collect(),
                emulated_parts(&emulator, &options, options.in_flight)?,
                &options,
            )
        }
        "edu" => {
            // SAFETY: the choice of this engine is the user's word for it.
            let engines = engines(&options, || unsafe { Edu::open_with_32_bits() })?;
            let lanes = engines.into_iter().map(EduLane::new);
            stream(lanes.collect(), hardware_parts(&options, options.in_flight)?, &options)
        }
        other => bail!("no engine {other}\n{USAGE}"),
    }
}

fn axidma(options: &Options) -> Result<()> {
    let cores = engines(options, || AxiDma::open(&options.name))?;
    if !cores.iter().all(AxiDma::has_scatter_gather) {
        let lanes = cores.iter().map(|AxiDma { mm2s, s2mm }| {
            Returning::new(|from| mm2s.send(from), |to| s2mm.receive(to))
        });
        return stream(lanes.collect(), hardware_parts(options, options.in_flight)?, options);
    }
    let memory = OpenOptions::new().uncached().open(&options.descriptors)?;
    let len = memory.len() / cores.len() / (2 * DESCRIPTOR_LEN) * (2 * DESCRIPTOR_LEN);
    let depth = options.in_flight.min(len / (2 * DESCRIPTOR_LEN));
    for (core, memory) in cores.iter().zip(memory.into_chunks(len)?) {
        core.use_descriptors(memory)?;
    }
    let parts = hardware_parts(options, options.in_flight.saturating_add(depth * options.engines))?;
    rings(cores, depth, parts, options)
}

fn axidma_model(options: &Options) -> Result<()> {
    let emulator = Emulator::new().with_adversary();
    let cores = engines(options, || {
        AxiDma::emulated(&emulator, Build::LEAST, Mode::ScatterGather).map(|(core, _)| core)
    })?;
    let depth = options.in_flight;
    let parts = emulated_parts(&emulator, options, depth.saturating_mul(1 + options.engines))?;
    for core in &cores {
        let memory = emulator.buffer_mapped::<Uncached>(depth * 2 * DESCRIPTOR_LEN);
        core.use_descriptors(memory)?;
    }
    rings(cores, depth, parts, options)
}

/// Streams through cores that hold `depth` parts each. The last parts, so many for
/// each core, keep the places in its rings.
fn rings<I: Io>(
    cores: Vec<AxiDma<I>>,
    depth: usize,
    mut parts: Vec<Part>,
    options: &Options,
) -> Result<()> {
    let mut lanes = Vec::new();
    for AxiDma { mm2s, s2mm } in cores {
        let (sources, sinks) = parts.split_off(parts.len() - depth).into_iter().unzip();
        let (sender, _) = mm2s.into_ring(Coalescing::EACH, sources)?;
        let (receiver, _) = s2mm.into_ring(Coalescing::EACH, sinks)?;
        lanes.push(Ringing::new(sender, receiver, depth));
    }
    stream(lanes, parts, options)
}

fn emulated(emulator: &Emulator, options: &Options) -> Result<()> {
    let engines = engines(options, || {
        let faults = Faults::default();
        Ok::<_, loopback::Error>((Loopback::emulated_with(emulator, &faults)?, faults))
    })?;
    let lanes = engines.iter().map(|(engine, faults)| slow(engine, faults, options.delay));
    stream(lanes.collect(), emulated_parts(emulator, options, options.in_flight)?, options)
}

fn emulated_parts(emulator: &Emulator, options: &Options, count: usize) -> Result<Vec<Part>> {
    let len = options.part.saturating_mul(count);
    ensure!(len <= LARGEST, "{len} bytes of parts are too many to be emulated");
    parts(emulator.buffer(len), emulator.buffer(len), options.part, count)
}

/// An engine that sleeps before it copies, and leaves the CPU to others meanwhile,
/// as hardware does.
fn slow(engine: &Loopback, faults: &Faults, delay: Duration) -> impl Lane<Error = loopback::Error> {
    let (start, started) = mpsc::channel();
    let clock = faults.clone();
    thread::spawn(move || {
        for () in started {
            thread::sleep(delay);
            clock.resume();
        }
    });
    Copying::new(move |from, to| {
        if !delay.is_zero() {
            faults.stall();
        }
        let transfer = engine.copy(from, to);
        // Nobody listens only once the program ends.
        let _ = start.send(());
        transfer
    })
}

fn engines<T, E: Send + Sync + std::error::Error + 'static>(
    options: &Options,
    mut open: impl FnMut() -> Result<T, E>,
) -> Result<Vec<T>> {
    let opened =
        |number| open().with_context(|| format!("engine {} of {}", number + 1, options.engines));
    (0..options.engines).map(opened).collect()
}

fn hardware_parts(options: &Options, count: usize) -> Result<Vec<Part>> {
    let Options { open, from, to, part, .. } = options;
    parts(open.open(from)?, open.open(to)?, *part, count)
}

/// So many parts of `len` bytes, from the start of both buffers.
fn parts(source: Buffer, destination: Buffer, len: usize, count: usize) -> Result<Vec<Part>> {
    let sources = chunks(source.for_direction(), len, count)?;
    let destinations = chunks(destination.for_direction(), len, count)?;
    Ok(sources.into_iter().zip(destinations).collect())
}

fn chunks<D: Direction>(
    buffer: Buffer<CpuOwned, D>,
    len: usize,
    count: usize,
) -> Result<Vec<Buffer<CpuOwned, D>>> {
    let (size, name) = (buffer.len(), buffer.name().to_owned());
    let mut chunks = buffer.into_chunks(len)?;
    chunks.truncate(count);
    let fits = chunks.len() == count && chunks.iter().all(|chunk| chunk.len() == len);
    ensure!(fits, "{name} has {size} bytes: not {count} parts of {len}");
    Ok(chunks)
}

fn stream<L: Lane<Error: Send + Sync>>(
    mut lanes: Vec<L>,
    mut parts: Vec<Part>,
    options: &Options,
) -> Result<()> {
    let mut one = parts.split_off(parts.len() - 1);
    let first = Plan { until: Until::Parts(ALONE), seed: !options.plan.seed, ..options.plan };
    let alone = run(&mut lanes[..1], &mut one, first, |_| ())?;
    parts.append(&mut one);
    show("one after the other", &alone);

    let mut shown = Instant::now();
    let together = run(&mut lanes, &mut parts, options.plan, |summary| {
        if shown.elapsed() >= PROGRESS {
            shown = Instant::now();
            progress(summary);
        }
    })?;
    if stderr().is_terminal() {
        eprintln!();
    }
    let Summary { most_in_flight, most_at_engines, .. } = together;
    let title = format!("{most_in_flight} in flight, {most_at_engines} of them at engines");
    show(&title, &together);
    overlap(&alone, &together);
    println!("from handover to return:");
    print!("{}", together.latencies);
    let [half, most, last] = [500, 990, 1000].map(|share| together.latencies.per_mille(share));
    println!("  half within {half:.1?}, 99 of 100 within {most:.1?}, all within {last:.1?}");
    println!(
        "{} parts, {} bytes, seed {}; all are right",
        together.parts, together.bytes, options.plan.seed
    );
    Ok(())
}

/// A line that is written over on a terminal.
fn progress(summary: &Summary) {
    let end = if stderr().is_terminal() { '\r' } else { '\n' };
    let (parts, rate) = (summary.parts, rate(summary));
    // A progress line that nobody can see is no reason to end.
    let _ = write!(stderr(), "{parts} parts, {rate}  {end}");
}

fn rate(summary: &Summary) -> String {
    format!("{:.1} MB/s", summary.throughput() / 1e6)
}

/// A table's line: what a part takes, and of what.
fn show(title: &str, summary: &Summary) {
    let of = |time| format!("{:.1?}", summary.per_part(time));
    println!(
        "{title}: {}; a part takes {}: filling {}, comparing {}, handovers and calls {}, idle {}",
        rate(summary),
        of(summary.elapsed),
        of(summary.filling),
        of(summary.comparing),
        of(summary.handing),
        of(summary.idle),
    );
}

/// While a part was alone, whoever waited for the engine was idle.
fn overlap(alone: &Summary, together: &Summary) {
    let work = together.filling + together.comparing + together.handing;
    let (work, engine) = (together.per_part(work), alone.per_part(alone.idle));
    let takes = together.per_part(together.elapsed);
    let kernel = together.kernel.map_or_else(String::new, |time| {
        format!(" ({:.1?} of it in the kernel)", together.per_part(time))
    });
    println!(
        "of a part, CPU {work:.1?}{kernel} and engine {engine:.1?}: in turn {:.1?}, together {takes:.1?}",
        work + engine
    );
}
