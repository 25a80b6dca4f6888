//! A driver that is killed at any moment. Whoever opens its buffer next gets it,
//! or is told that the device may still write there, and that is so: the driver
//! keeps a record of its handovers, which outlives it.
#![allow(unsafe_code, reason = "recovers buffers after their engine was opened, which stops it")]

mod driver;
mod record;

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::process::ExitStatusExt,
    process::{Command, ExitCode, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use driver::{Engine, Kind};
use record::{Record, Verdict};
use rustix::process::Signal;
use udmabuf::{Buffer, Error};

use super::{Pair, Tests, module::attribute, parent, random::Random};

/// Of each kind of driver, in a run of the board. `tests/run soak` asks for a tenth
/// as many of all six kinds as it asks for transfers, which is 1,000.
fn kills() -> u32 {
    let soak = std::env::var("soak").ok().and_then(|count| count.parse::<u32>().ok());
    soak.map_or(10, |transfers| transfers.div_ceil(60))
}

const REFCNT: &str = "/sys/module/u_dma_buf/refcnt";

pub(crate) fn tests(run: &mut Tests, board: &str, pairs: &[Pair]) {
    for &[name, other] in pairs {
        for kind in [Kind::Parts, Kind::Ring] {
            let title = format!("soak kill a driver of {kind:?} on {name}");
            run.test(&title, || many(kind, &[name, other], kills()));
        }
    }
    // Zeroed for each new user, and so for the next after a death.
    if board.starts_with("arm") {
        run.test("soak kill a driver, zeroed", || {
            many(Kind::Parts, &["udmabuf_zeroed", "udmabuf_zeroed"], kills())
        });
    }
    run.test("soak kill a driver in flight", || match board {
        "versal" => many(Kind::Zdma, &pairs[0], kills()),
        // There edu reaches only what is made for it.
        "arm64-smmu" => parent::with_edus_own(|pair| many(Kind::Edu, &pair, kills())),
        _ => many(Kind::Edu, &pairs[0], kills()),
    });
}

/// In another process: a driver that goes on until it is killed.
pub(crate) fn stream(what: &str) -> ExitCode {
    let Err(error) = driver::stream(what);
    println!("{error:#}");
    ExitCode::FAILURE
}

/// How long both answers are waited for. One death in eight comes while the driver
/// starts, and most of the others find a buffer at the device: that none of so many
/// does either is no chance.
const MOST: u32 = 1000;

/// At least so many, and until both answers were right once.
fn many(kind: Kind, names: &[&str], least: u32) -> Result<String> {
    let (mut random, seed) = Random::new();
    let record = Record::new()?;
    let references = fs::read_to_string(REFCNT)?;
    let [mut free, mut owned, mut either] = [0; 3];
    let mut number = 0;
    while number < least || (free == 0 || owned == 0) && number < least.max(MOST) {
        let context = || format!("kill {number} of seed {seed}");
        record.clear();
        kill(kind, names, &mut random).with_context(context)?;
        if kind.has_engine() {
            ensure!(!driver::masters_bus()?, "{}: the device may still master the bus", context());
        }
        for (at, name) in kind.buffers(names).iter().enumerate() {
            let expected = record.verdict(kind.parts_of(at));
            match expected {
                Verdict::Free => free += 1,
                Verdict::Owned => owned += 1,
                Verdict::Either => either += 1,
            }
            check(kind, name, expected).with_context(context)?;
            let now = fs::read_to_string(REFCNT)?;
            ensure!(now == references, "{}: {references} became {now} references", context());
        }
        number += 1;
    }
    ensure!(free > 0 && owned > 0, "{free} times the CPU's, {owned} times the device's: no test");
    Ok(format!(
        "{number} kills: {free} buffers free, {owned} at the device, {either} on the way; seed {seed}"
    ))
}

/// Starts a driver and kills it.
fn kill(kind: Kind, names: &[&str], random: &mut Random) -> Result<()> {
    let seed = random.below(u64::MAX);
    let mut child = Command::new("/proc/self/exe")
        .args(["stream", &format!("{kind:?}:{}:{}:{seed}", names[0], names[1])])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut said = String::new();
    let mut output = BufReader::new(child.stdout.take().context("no output")?);
    // One in eight is killed while it starts.
    if random.below(8) != 0 {
        output.read_line(&mut said)?;
    }
    thread::sleep(Duration::from_micros(random.below(kind.longest_us())));
    child.kill()?;
    let status = child.wait()?;
    if status.signal() != Some(Signal::KILL.as_raw()) {
        output.read_line(&mut said)?;
        bail!("the driver ended by itself: {status}, {said}");
    }
    Ok(())
}

/// What the next user is told, and that nothing else of the last is left.
fn check(kind: Kind, name: &str, expected: Verdict) -> Result<()> {
    let sysfs = attribute(name, "sync_owner")?;
    match Buffer::open(name) {
        Ok(_) => {
            ensure!(expected != Verdict::Owned, "{name} was given away, but the device had it");
            ensure!(sysfs == "0\n", "{name} was given away, but its owner was {sysfs}");
        }
        Err(Error::StillDeviceOwned { .. }) => {
            ensure!(expected != Verdict::Free, "{name} was refused, but all of it was the CPU's");
            ensure!(sysfs == "1\n", "{name} was refused, but its owner was {sysfs}");
            recover(kind, name)?;
        }
        Err(error) => return Err(error.into()),
    }
    ensure!(attribute(name, "sync_owner")? == "0\n", "{name}: its owner after all");
    let buffer = Buffer::open(name).with_context(|| format!("{name}, opened once more"))?;
    let zeros = buffer.as_slice().iter().all(|&byte| byte == 0);
    ensure!(name != "udmabuf_zeroed" || zeros, "the next user finds the last one's bytes");
    Ok(())
}

fn recover(kind: Kind, name: &str) -> Result<()> {
    // Who asks again is told the same.
    let again = Buffer::open(name);
    ensure!(matches!(again, Err(Error::StillDeviceOwned { .. })), "asked again: {again:?}");
    let engine = Engine::open(kind)?;
    // SAFETY: the kinds without an engine have no device; opening the others'
    // waited until the device was idle, and `engine` keeps it so.
    let mut buffer = unsafe { Buffer::recover(name) }?;
    buffer.as_mut_slice().fill(0xee);
    thread::sleep(Duration::from_millis(1));
    let kept = buffer.as_slice().iter().all(|&byte| byte == 0xee);
    ensure!(kept, "{name} was written after its engine had been stopped");
    drop(engine);
    Ok(())
}
