//! What users meet first: something is not there, or not allowed.

use std::{
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, bail, ensure};
use udmabuf::{Buffer, Error};
use udmabuf_examples::{edu::Edu, zdma::Zdma};

pub(crate) fn not_loaded() -> Result<String> {
    let Err(error @ Error::NotFound { .. }) = Buffer::open("udmabuf0") else {
        bail!("a buffer was found without the module");
    };
    says(&error, &["/dev/udmabuf0", "not loaded", "insmod"])
}

pub(crate) fn wrong_name() -> Result<String> {
    let Err(error @ Error::NotFound { .. }) = Buffer::open("udmabuf99") else {
        bail!("udmabuf99 was found");
    };
    says(&error, &["/dev/udmabuf99", "there is: udmabuf0, udmabuf1"])?;
    for name in ["", "/dev/udmabuf0", "../dev/udmabuf0", "."] {
        ensure!(Buffer::open(name).is_err(), "{name:?} was opened");
    }
    let Err(error) = Buffer::open("null") else { bail!("/dev/null was opened as a buffer") };
    says(&error, &["null", "not a DMA buffer"])
}

pub(crate) fn no_permission() -> Result<String> {
    let output = Command::new("/proc/self/exe").args(["open", "udmabuf0"]).uid(1000).output()?;
    let said = String::from_utf8(output.stdout)?;
    ensure!(said.contains("no permission to open /dev/udmabuf0"), "user 1000 was told: {said:?}");
    ensure!(said.contains("udev"), "no cure in {said:?}");
    Ok(said.trim().to_owned())
}

/// In another process: opens a buffer and says what came of it.
pub(crate) fn open_and_report(name: &str) -> ExitCode {
    match Buffer::open(name) {
        Ok(buffer) => println!("opened {buffer:?}"),
        Err(error) => println!("{error}"),
    }
    ExitCode::SUCCESS
}

pub(crate) fn no_engine() -> Result<String> {
    let error = Zdma::open("no-such-engine").err().context("an engine of that name was found")?;
    says(&error, &["no-such-engine", "/sys/class/uio"])?;
    // One of the two engines is missing on every board.
    let missing = match (Edu::open(), Zdma::open("dma")) {
        (Err(error), Ok(_)) => error.to_string(),
        (Ok(_), Err(error)) => error.to_string(),
        (Ok(_), Ok(_)) => bail!("a board with both engines: add a case to this test"),
        (Err(edu), Err(zdma)) => bail!("a board with neither engine: {edu}; {zdma}"),
    };
    Ok(missing)
}

/// Passes if the message has all of these in it.
pub(crate) fn says(error: &dyn std::error::Error, parts: &[&str]) -> Result<String> {
    let message = error.to_string();
    for part in parts {
        ensure!(message.contains(part), "no {part:?} in {message:?}");
    }
    Ok(message)
}
