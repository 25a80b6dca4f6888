//! Ownership, on the kernel module's buffers.
#![allow(unsafe_code, reason = "recovers a buffer that no device ever saw")]

use std::{
    process::{Command, ExitCode},
    time::Duration,
};

use anyhow::{Result, bail, ensure};
use udmabuf::{Buffer, Error, FromDevice, ToDevice, emulator::Emulator};
use udmabuf_examples::loopback::Loopback;

use super::{Pair, errors::says, random::Random};

/// One user at a time, in this process and in another.
pub(crate) fn exclusive(name: &str) -> Result<String> {
    let buffer = Buffer::open(name)?;
    let Err(error @ Error::Busy { .. }) = Buffer::open(name) else {
        bail!("opened twice in one process");
    };
    let output = Command::new("/proc/self/exe").args(["open", name]).output()?;
    let said = String::from_utf8(output.stdout)?;
    ensure!(said.contains("is in use"), "another process was told {said:?}");
    drop(buffer);
    Buffer::open(name)?;
    says(&error, &[name, "in use"])
}

/// In another process: hands a buffer to a device, and ends.
pub(crate) fn abandon(name: &str) -> ExitCode {
    match Buffer::open(name).map(Buffer::into_device) {
        Ok(Ok(buffer)) => println!("abandoned {buffer:?}"),
        other => println!("not handed over: {other:?}"),
    }
    ExitCode::SUCCESS
}

/// A program that ends while a device owns its buffer is remembered.
pub(crate) fn remembered(name: &str) -> Result<String> {
    let output = Command::new("/proc/self/exe").args(["abandon", name]).output()?;
    let said = String::from_utf8(output.stdout)?;
    ensure!(said.starts_with("abandoned"), "{said}");
    let Err(error @ Error::StillDeviceOwned { .. }) = Buffer::open(name) else {
        bail!("opened a buffer that a device may still write");
    };
    // SAFETY: no device was ever given the address.
    drop(unsafe { Buffer::recover(name) }?);
    Buffer::open(name)?;
    says(&error, &[name, "reset the engine", "recover"])
}

/// The whole path with the emulated engine on the module's buffers.
pub(crate) fn loopback([source, destination]: Pair) -> Result<String> {
    let emulator = Emulator::new();
    let engine = Loopback::emulated(&emulator)?;
    let mut source = Buffer::open(source)?;
    let mut destination = Buffer::open(destination)?;
    emulator.attach(&mut source)?;
    emulator.attach(&mut destination)?;
    let mut source = source.for_direction::<ToDevice>();
    let mut destination = destination.for_direction::<FromDevice>();

    let attribute = format!("/sys/class/u-dma-buf/{}/sync_direction", destination.name());
    let before = std::fs::read_to_string(&attribute)?;
    let (mut random, seed) = Random::new();
    for _ in 0..8 {
        random.fill(source.as_mut_slice());
        let transfer = engine.copy(source.into_device()?, destination.into_device()?)?;
        (source, destination) = transfer.wait(Duration::from_secs(10))?;
        ensure!(source.as_slice() == destination.as_slice(), "the copy differs; seed {seed}");
        // Nor may the module drop what the engine, a thread, left in the cache.
        let synced = std::fs::read_to_string(&attribute)?;
        ensure!(synced == before || synced.trim() == "1", "taken back as if from hardware");
    }
    Ok(format!("8 copies of {} bytes, seed {seed}", source.len()))
}
