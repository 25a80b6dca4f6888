//! Each system call of the SDK fails in turn. Then the error says what failed and
//! on what, nothing of the attempt is left, and what was to be consumed is back.
#![allow(unsafe_code, reason = "takes buffers back that no device ever saw")]

mod fail;

use std::{collections::BTreeMap, error::Error as StdError, fs, os::fd::AsFd, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use fail::How;
use rustix::{fs::OFlags, io::Errno};
use udmabuf::{
    Buffer, CpuParts, CreateOptions, DeviceOwned, FromDevice, OpenOptions, Parts, ToDevice,
    WaitError,
};
use udmabuf_examples::{edu::Edu, zdma::Zdma};
use udmabuf_sys::{abi::Direction, ioctl};

use super::{Pair, Tests, is_whole, manager::Created, module::open, parent, random::Random};

const TIMEOUT: Duration = Duration::from_secs(10);
/// What failed, with the error as its source.
type Failure = Box<dyn StdError + Send + Sync>;
type Operation<'a> = (&'static str, &'a (dyn Fn() -> Result<(), Failure> + Sync));

/// The module's own errors have a meaning of their own; EIO has none. A signal may come
/// at any time, and a file give less than it was asked for.
const EACH_WAY: [How; 3] = [How::Fails(Errno::IO), How::Fails(Errno::INTR), How::Short];

pub(crate) fn tests(run: &mut Tests, board: &str, [name, other]: Pair) {
    // Each takes a second where everything is watched: some of them there.
    let step = if board == "arm64-debug" && !is_whole() { 16 } else { 1 };
    run.test("system calls of a buffer fail", || buffers(step, name));
    run.test("system calls of a dma-buf fail", || dma_bufs(step));
    run.test("system calls of a recovery fail", || recoveries(step, name));
    run.test("system calls of a handover fail", || {
        let [io, interrupted] = [Errno::IO, Errno::INTR].map(|errno| handovers(name, errno));
        Ok(format!("{}, {}", io?, interrupted?))
    });
    let edus =
        |name: &str| each(step, &[("engine", &|| edu().map(drop)), ("transfer", &|| upload(name))]);
    match board {
        "versal" => run.test("system calls of an engine fail", || {
            each(
                step,
                &[
                    ("engine", &|| Zdma::open("dma").map(drop).map_err(Into::into)),
                    ("transfer", &|| zdma([name, other])),
                ],
            )
        }),
        // Here edu reaches only what is made for it.
        "arm64-smmu" => run.test("system calls of an engine fail", || {
            parent::with_edus_own(|[name, _]| edus(name))
        }),
        _ => run.test("system calls of an engine fail", || edus(name)),
    }
}

fn buffers(step: usize, name: &str) -> Result<String> {
    let opened = || Buffer::open(name).map(drop).map_err(Into::into);
    let unclaimed = || {
        // SAFETY: nobody else uses it.
        unsafe { OpenOptions::new().open_unclaimed(name) }.map(drop).map_err(Into::into)
    };
    let exported = || exported(name);
    let names = || -> Result<Vec<String>, udmabuf::Error> {
        Ok(udmabuf::devices()?.into_iter().flatten().map(|device| device.name).collect())
    };
    let all = names()?;
    // What could not be read is an error, not a shorter list.
    let listed = || match names()? == all {
        true => Ok(()),
        false => Err("some buffers are not in the list".into()),
    };
    let mut operations: Vec<Operation<'_>> = vec![
        ("open", &opened),
        ("open unclaimed", &unclaimed),
        ("create", &|| created("made")),
        ("export", &exported),
    ];
    let uncached = || OpenOptions::new().uncached().open(name).map(drop).map_err(Into::into);
    let combined = || OpenOptions::new().write_combined().open(name).map(drop).map_err(Into::into);
    let modes: [Operation<'_>; 2] = [("uncached", &uncached), ("write-combined", &combined)];
    // Not on x86.
    operations.extend(modes.into_iter().filter(|(_, open)| open().is_ok()));
    let said = each(step, &operations)?;
    // Hundreds of calls, which take as long as all others; and not the same of each
    // buffer.
    let list: [Operation<'_>; 1] = [("list", &listed)];
    Ok(format!("{said}; list, {}", each(7 * step, &list)?))
}

/// What another program has exported.
fn dma_bufs(step: usize) -> Result<String> {
    let made = Created::new("shared", 8192, "")?;
    let file = open(made.name)?;
    let (shared, at) = ioctl::export(file.as_fd(), OFlags::RDWR | OFlags::CLOEXEC, 0, 8192)?;
    let copy = || shared.try_clone().map_err(|error| format!("copy of the dma-buf: {error}"));
    each(
        step,
        &[
            ("import", &|| {
                // SAFETY: nobody else accesses it.
                unsafe { Buffer::import(copy()?) }.map(drop).map_err(Into::into)
            }),
            ("import for an engine", &|| {
                // SAFETY: as above, and it is there.
                let buffer = unsafe { Buffer::import_at(copy()?, at) }?;
                back(buffer.into_device().map_err(|refused| refused.error)?)
            }),
        ],
    )
}

/// Of a buffer that a program has left to its device.
fn recoveries(step: usize, name: &str) -> Result<String> {
    let file = open(name)?;
    let size = ioctl::size(file.as_fd())?;
    ioctl::sync_for_device(file.as_fd(), Direction::Bidirectional, 0, size)?;
    drop(file);
    let refused = Buffer::open(name);
    ensure!(matches!(refused, Err(udmabuf::Error::StillDeviceOwned { .. })), "{refused:?}");
    each(
        step,
        &[("recover", &|| {
            // SAFETY: there is no device.
            unsafe { Buffer::recover(name) }.map(drop).map_err(Into::into)
        })],
    )
}

/// What a process has that could be left behind: descriptors, device mappings,
/// device files.
fn possessions() -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        let path = entry?.path();
        // The one that reads the directory is gone by now.
        if let Ok(target) = fs::read_link(&path) {
            found.insert(path.display().to_string(), target.display().to_string());
        }
    }
    found.retain(|_, target| !target.starts_with("/proc/"));
    let maps = fs::read_to_string("/proc/self/maps")?;
    for line in maps.lines().filter(|line| line.contains("/dev/") || line.contains("dmabuf")) {
        found.insert(line.to_owned(), "mapped".into());
    }
    for entry in fs::read_dir("/dev")? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.starts_with("udmabuf") || name == "made" {
            found.insert(name, "a buffer".into());
        }
    }
    Ok(found)
}

/// All that an error says.
fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        said += &format!(": {error}");
        cause = error.source();
    }
    said
}

/// What a wait says of EINTR, for the program's own signals.
const CAUGHT: &str = "a signal was caught while waiting for ";

/// What reads is asked again after a signal, but by a wait.
fn is_asked_again(call: &str, how: How, said: &str) -> Result<()> {
    let reads = matches!(call, "read" | "pread64");
    let interrupted = matches!(how, How::Fails(Errno::INTR));
    ensure!(!reads || !interrupted || said.contains(CAUGHT), "not asked again: {said:?}");
    Ok(())
}

/// The error is about a device or a path, and ends with what the kernel said.
fn says_what(said: &str, how: How) -> Result<()> {
    let on = [
        "0000:",
        "udmabuf",
        "made",
        "u-dma-buf",
        "uio",
        "UIO",
        "edu",
        "dma-buf",
        "PCI",
        "/dev/",
        "/sys/",
    ];
    ensure!(on.iter().any(|name| said.contains(name)), "no device in {said:?}");
    if said.contains(CAUGHT) {
        ensure!(matches!(how, How::Fails(Errno::INTR)), "there was no signal: {said:?}");
        return Ok(());
    }
    if let How::Fails(errno) = how {
        let code = format!("os error {}", errno.raw_os_error());
        ensure!(said.contains(&code), "not what the kernel said: {said:?}");
        ensure!(said.contains(": "), "the kernel's error alone: {said:?}");
    }
    Ok(())
}

/// Each call in each way.
fn each(step: usize, operations: &[Operation<'_>]) -> Result<String> {
    let mut said = Vec::new();
    let mut wrong = Vec::new();
    for how in EACH_WAY {
        match each_call(step, how, operations) {
            Ok(counts) => said.push(format!("{how}: {counts}")),
            Err(error) => wrong.push(format!("{how}: {error:#}")),
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("; "));
    Ok(said.join("; "))
}

/// One in so many, and the first of them by chance.
fn each_call(step: usize, how: How, operations: &[Operation<'_>]) -> Result<String> {
    let (mut injected, mut tolerated) = (0, BTreeMap::new());
    let mut complaints = Vec::new();
    let (mut random, seed) = Random::new();
    for &(title, operation) in operations {
        let before = possessions()?;
        let first = 1 + u32::try_from(random.index(step))?;
        for nth in (first..).step_by(step) {
            let outcome =
                fail::run(nth, how, operation).with_context(|| format!("{title}, call {nth}"))?;
            let context = || format!("{title}, call {nth} ({})", outcome.failed.unwrap_or("none"));
            match (&outcome.result, outcome.failed) {
                (Ok(()), None) => break,
                (Err(error), None) => bail!("{}: {}", context(), chain(&**error)),
                (Ok(()), Some(call)) => *tolerated.entry(call).or_insert(0) += 1,
                (Err(error), Some(call)) => {
                    let said = chain(&**error);
                    let told =
                        says_what(&said, how).and_then(|()| is_asked_again(call, how, &said));
                    if let Err(wrong) = told {
                        complaints.push(format!("{}: {wrong}", context()));
                    }
                }
            }
            injected += 1;
            ensure!(outcome.calls >= nth, "{}: {} calls", context(), outcome.calls);
            drop(outcome.result);
            let after = possessions()?;
            if after != before {
                complaints.push(format!("{title}, call {nth}: {before:?} became {after:?}"));
            }
        }
    }
    ensure!(complaints.is_empty(), "{}", complaints.join("; "));
    ensure!(injected > 0 || step > 1 || matches!(how, How::Short), "no system call was made");
    Ok(format!("{injected} in turn, of which nobody had to be told: {tolerated:?}, seed {seed}"))
}

fn created(name: &str) -> Result<(), Failure> {
    let created = CreateOptions::new(name, 8192).create()?;
    drop(created.open()?);
    match created.delete() {
        Ok(()) => Ok(()),
        Err(refused) => {
            // Still there, and whoever drops it deletes it.
            if !fs::exists(format!("/dev/{name}"))? {
                return Err("deleted, and yet an error".into());
            }
            drop(refused.value);
            Err(refused.error.into())
        }
    }
}

fn exported(name: &str) -> Result<(), Failure> {
    let lent = Buffer::open(name)?.into_device().map_err(|refused| refused.error)?;
    let (lent, error) = match lent.export() {
        // SAFETY: nobody else has it.
        Ok(exported) => (unsafe { exported.into_buffer() }, None),
        Err(refused) => (refused.value, Some(refused.error)),
    };
    // One call fails, so a second attempt does not.
    // SAFETY: there is no device.
    let (again, lost) = match unsafe { lent.into_cpu() } {
        Ok(_) => return error.map_or(Ok(()), |error| Err(error.into())),
        Err(refused) => (refused.value, refused.error),
    };
    // SAFETY: as above.
    drop(unsafe { again.into_cpu() }.map_err(|refused| refused.error)?);
    Err(error.unwrap_or(lost).into())
}

/// A buffer that is dropped while the device owns it keeps its memory for the life of
/// the process. One call fails, so a second attempt does not.
fn back(lent: Buffer<DeviceOwned>) -> Result<(), Failure> {
    // SAFETY: there is no device.
    let Err(refused) = (unsafe { lent.into_cpu() }) else { return Ok(()) };
    // SAFETY: as above.
    drop(unsafe { refused.value.into_cpu() }.map_err(|refused| refused.error)?);
    Err(refused.error.into())
}

/// What was to be handed over, and failed, is the CPU's, with its bytes.
fn handovers(name: &str, errno: Errno) -> Result<String> {
    let how = How::Fails(errno);
    let buffer = OpenOptions::new().with_kernel_cache_maintenance().open(name)?;
    let len = buffer.len() / 4;
    let mut parts = buffer.into_chunks(len)?;
    let mut injected = 0;
    for (number, part) in parts.iter_mut().enumerate() {
        part.as_mut_slice().fill(u8::try_from(number)?);
    }
    let mut nth = 1;
    loop {
        // Out and back, all at once; where each takes no system call, none fails.
        let outcome = fail::run(nth, how, move || match parts.into_device() {
            Err(refused) => (refused.value, Some(chain(&refused.error))),
            // SAFETY: there is no device.
            Ok(lent) => match unsafe { lent.into_cpu() } {
                Ok(parts) => (parts, None),
                // SAFETY: as above. Nothing fails twice.
                Err(refused) => match unsafe { refused.value.into_cpu() } {
                    Ok(parts) => (parts, Some(chain(&refused.error))),
                    Err(again) => (Vec::new(), Some(chain(&again.error))),
                },
            },
        })?;
        let error;
        (parts, error) = outcome.result;
        for (number, part) in parts.iter().enumerate() {
            let kept = part.as_slice().iter().all(|&byte| usize::from(byte) == number);
            ensure!(kept && parts.len() == 4, "part {number} is another after call {nth}");
        }
        let Some(call) = outcome.failed else {
            ensure!(error.is_none(), "{error:?}");
            break;
        };
        match error {
            Some(said) => says_what(&said, how)?,
            // What is refused so is asked by ioctl.
            None if call.contains("fadvise") => {}
            None => bail!("call {nth} ({call}) failed without an error"),
        }
        injected += 1;
        nth += 1;
    }
    drop(parts);
    // All of it is the CPU's: else the next open would be refused.
    Buffer::open(name)?;
    Ok(format!("{injected} in turn"))
}

fn edu() -> Result<Edu, Failure> {
    // SAFETY: the boards' machines have `-device edu,dma_mask=0xffffffff`.
    Ok(unsafe { Edu::open_with_32_bits() }?)
}

fn upload(name: &str) -> Result<(), Failure> {
    let edu = edu()?;
    let buffer = Buffer::open(name)?.for_direction::<ToDevice>();
    let transfer = match buffer.into_device() {
        Ok(buffer) => edu.upload(buffer, 0..64, 0).map_err(|refused| refused.error)?,
        Err(refused) => return Err(refused.error.into()),
    };
    finished(transfer)
}

fn zdma([source, destination]: [&str; 2]) -> Result<(), Failure> {
    let zdma = Zdma::open("dma")?;
    let source = Buffer::open(source)?.for_direction::<ToDevice>();
    let destination = Buffer::open(destination)?.for_direction::<FromDevice>();
    let pair = (source, destination).into_device().map_err(|refused| refused.error)?;
    finished(zdma.copy(pair.0, pair.1).map_err(|refused| refused.error)?)
}

/// After each error of a wait the buffers are there, on their own or in a transfer
/// that can be stopped.
fn finished<E: udmabuf::Engine + 'static, P: Parts + 'static>(
    transfer: udmabuf::Transfer<E, P>,
) -> Result<(), Failure> {
    let error = match transfer.wait(TIMEOUT) {
        Ok(_) => return Ok(()),
        Err(error) => error,
    };
    let said = chain(&error);
    match error {
        WaitError::Failed { .. } => {}
        WaitError::Timeout { transfer, .. }
        | WaitError::Unknown { transfer, .. }
        | WaitError::Sync { transfer, .. } => {
            if let Err(error) = transfer.stop() {
                return Err(format!("not stopped after {said}, {error}").into());
            }
        }
    }
    Err(said.into())
}
