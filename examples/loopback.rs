//! Sends a frame through a copy engine and compares what comes back.
//!
//! The engine is a model on a thread. The buffers are `/dev/udmabuf0` and
//! `/dev/udmabuf1` where the kernel module has made them, else the emulator's.
//! With `--break-sync`, shows what a missing sync would have done.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use udmabuf::{Buffer, FromDevice, ToDevice, emulator::Emulator};
use udmabuf_examples::loopback::Loopback;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, little_endian::U32};

/// How a frame starts; its payload follows.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Header {
    magic: U32,
    payload_len: U32,
}

const MAGIC: u32 = 0x4652_414d;
const EMULATED_LEN: usize = 64 * 1024;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => run(),
        ["--break-sync"] => break_sync(),
        _ => bail!("usage: loopback [--break-sync]"),
    }
}

fn run() -> anyhow::Result<()> {
    let emulator = Emulator::new();
    let source = open("udmabuf0", &emulator)?;
    let destination = open("udmabuf1", &emulator)?;
    let wrong = copy(&emulator, source, destination)?;
    ensure!(wrong == 0, "{wrong} bytes came back wrong");
    println!("compared:    every byte came back as it was sent");
    Ok(())
}

/// The same copy with one sync left out, then the other.
fn break_sync() -> anyhow::Result<()> {
    for (missing, emulator) in [
        ("the sync for the device (no cache clean)", Emulator::new().without_sync_for_device()),
        ("the sync for the CPU (no cache invalidate)", Emulator::new().without_sync_for_cpu()),
    ] {
        println!("without {missing}:");
        let [source, destination] = [(); 2].map(|()| emulator.buffer(EMULATED_LEN));
        let wrong = copy(&emulator, source, destination)?;
        println!("compared:    {wrong} of {EMULATED_LEN} bytes are stale, and nobody was told\n");
    }
    println!("a driver written with these crates cannot leave them out: it does not compile");
    Ok(())
}

/// The kernel module's buffer, or an emulated one where there is none.
fn open(name: &str, emulator: &Emulator) -> Result<Buffer, udmabuf::Error> {
    match Buffer::open(name) {
        Ok(mut buffer) => {
            emulator.attach(&mut buffer)?;
            Ok(buffer)
        }
        Err(udmabuf::Error::NotFound { .. }) => Ok(emulator.buffer(EMULATED_LEN)),
        Err(error) => Err(error),
    }
}

/// Sends a frame from one buffer to the other, and counts the bytes that are
/// wrong when it is there.
fn copy(emulator: &Emulator, source: Buffer, mut destination: Buffer) -> anyhow::Result<usize> {
    let engine = Loopback::emulated(emulator)?;
    destination.as_mut_slice().fill(0xee); // what stale bytes look like
    let mut source = source.for_direction::<ToDevice>();
    let destination = destination.for_direction::<FromDevice>();
    println!("source:      {source:?}");
    println!("destination: {destination:?}");

    let header_len = size_of::<Header>();
    let len = source.len().min(destination.len());
    let payload_len = len.checked_sub(header_len).context("a buffer is too small for a header")?;
    let header = source.view_mut::<Header>(0)?;
    header.magic = U32::new(MAGIC);
    header.payload_len = U32::new(u32::try_from(payload_len)?);
    let payload = source.slice_of_mut::<u8>(header_len, payload_len)?;
    payload.iter_mut().zip((0..=250).cycle()).for_each(|(byte, value)| *byte = value);

    let transfer = engine.copy(source.into_device()?, destination.into_device()?)?;
    let (source, destination) = transfer.wait(Duration::from_secs(5))?;
    println!("copied:      {} bytes, done by interrupt", source.len());

    let header = destination.view::<Header>(0)?;
    println!(
        "received:    magic {:#010x}, payload of {} bytes",
        header.magic.get(),
        header.payload_len.get()
    );
    let wrong = |(sent, received): &(&u8, &u8)| sent != received;
    Ok(source.as_slice().iter().zip(destination.as_slice()).filter(wrong).count())
}
