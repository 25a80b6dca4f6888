//! What the crate `udmabuf` does on other drivers than this project's: the
//! existing one, to whose programs this module looks the same but for the
//! additions, which a filter of this thread's system calls takes away; and its
//! predecessor, of which there is the class in sysfs.
#![allow(unsafe_code, reason = "installs a filter, and opens without a claim")]

use std::{ffi::c_int, fs, io, os::fd::AsFd, path::Path, thread};

use anyhow::{Result, anyhow, bail, ensure};
use rustix::{
    io::Errno,
    mount::{MountFlags, mount},
    thread::{UnshareFlags, unshare_unsafe},
};
use udmabuf::{
    Buffer, CpuOwned, CpuParts, Error, Mapped, OpenOptions, Parts, Uncached, WriteCombined, devices,
};
use udmabuf_sys::ioctl;

use super::{
    Tests,
    errors::says,
    filter::{Instruction, Program},
    module::open,
};

pub(crate) fn tests(run: &mut Tests, names: &[&str]) {
    for &name in names {
        run.test(&format!("existing driver's {name}"), || in_thread(|| existing(name)));
        run.test(&format!("older driver's {name}"), || in_thread(|| older(name)));
    }
    run.test("predecessor's class", || in_thread(predecessor));
}

/// What a thread does to itself ends with it.
fn in_thread(test: impl FnOnce() -> Result<String> + Send) -> Result<String> {
    thread::scope(|scope| scope.spawn(test).join().map_err(|_| anyhow!("panicked"))?)
}

#[cfg(any(target_arch = "aarch64", target_arch = "riscv64"))]
const IOCTL: u32 = 29;
#[cfg(any(target_arch = "arm", target_arch = "x86"))]
const IOCTL: u32 = 54;
#[cfg(target_arch = "x86_64")]
const IOCTL: u32 = 16;

unsafe extern "C" {
    fn prctl(option: c_int, ...) -> c_int;
}

/// From now on, this thread's ioctls whose number, under `mask`, is `number` are
/// unknown. `false`: the kernel has no such filters.
fn hide_ioctls(mask: u32, number: u32) -> Result<bool> {
    const SET_SECCOMP: c_int = 22;
    const MODE_FILTER: c_int = 2;
    const ALLOW: u32 = 0x7fff_0000;
    const ERRNO: u32 = 0x0005_0000;
    let [load, and, jump, end] = [0x20, 0x54, 0x15, 0x06];
    let step = |code, if_true, if_false, value| Instruction { code, if_true, if_false, value };
    let instructions = [
        step(load, 0, 0, 0), // the system call's number
        step(jump, 0, 3, IOCTL),
        step(load, 0, 0, 24), // the low half of its second argument
        step(and, 0, 0, mask),
        step(jump, 1, 0, number),
        step(end, 0, 0, ALLOW),
        step(end, 0, 0, ERRNO | Errno::NOTTY.raw_os_error().unsigned_abs()),
    ];
    let program = Program { len: 7, instructions: instructions.as_ptr() };
    // SAFETY: the kernel reads the program, which is laid out as it has it.
    match unsafe { prctl(SET_SECCOMP, MODE_FILTER, &raw const program) } {
        0 => Ok(true),
        _ => match io::Error::last_os_error() {
            error if Errno::from_io_error(&error) == Some(Errno::INVAL) => Ok(false),
            error => Err(error.into()),
        },
    }
}

const NO_FILTER: &str = "skipped: this kernel filters no system calls";

fn existing(name: &str) -> Result<String> {
    if !hide_ioctls(0xffc0, 0x5540)? {
        return Ok(NO_FILTER.into());
    }
    let file = open(name)?;
    ensure!(ioctl::capabilities(file.as_fd()).err() == Some(Errno::NOTTY), "not hidden");
    let before = ioctl::sync_settings(file.as_fd())?;
    drop(file);
    let Err(refused @ Error::Unsupported { .. }) = Buffer::open(name) else {
        bail!("opened without a claim");
    };

    let options = OpenOptions::new();
    let is_coherent = works(name, &options)?;
    if cfg!(target_arch = "aarch64") || !is_coherent {
        works::<WriteCombined>(name, &options.clone().mapped())?;
        works::<Uncached>(name, &options.mapped())?;
    }
    let after = ioctl::sync_settings(open(name)?.as_fd())?;
    ensure!(before.flags >> 8 & 0xff == after.flags >> 8 & 0xff, "left {after:?}");
    says(&refused, &[name, "claims", "open_unclaimed"])
}

/// Writes, hands over in parts, takes back and compares. Says whether the buffer
/// is coherent.
fn works<M: Mapped>(name: &str, options: &OpenOptions<M>) -> Result<bool> {
    // SAFETY: nobody else uses it, and no device does.
    let mut buffer = unsafe { options.open_unclaimed(name) }?;
    ensure!(buffer.part_alignment() == 64, "lines of {}", buffer.part_alignment());
    let is_coherent = buffer.is_coherent();
    let len = buffer.len();
    buffer.fill(0..len, 0x6b)?;
    let parts: Vec<Buffer<CpuOwned, _, M>> = buffer.into_chunks(4096)?;
    let lent = parts.into_device()?;
    // SAFETY: no device was given the addresses.
    let parts = unsafe { lent.into_cpu() }?;
    for part in &parts {
        ensure!(part.is_equal(0, &[0x6b; 4096])?, "{part:?}");
    }
    Ok(is_coherent)
}

fn older(name: &str) -> Result<String> {
    if !hide_ioctls(0xff00, 0x5500)? {
        return Ok(NO_FILTER.into());
    }
    // SAFETY: nobody else uses it, and no device does.
    match unsafe { OpenOptions::new().open_unclaimed(name) } {
        Err(error @ Error::Unsupported { .. }) => says(&error, &[name, "older than 5.0"]),
        other => bail!("{other:?}"),
    }
}

fn predecessor() -> Result<String> {
    // SAFETY: only this thread's mounts are others, and its directory.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
    mount("none", "/sys/class", "tmpfs", MountFlags::empty(), None)?;
    ensure!(devices()?.is_none(), "found without a class");
    let buffer = Path::new("/sys/class/udmabuf/predecessor");
    fs::create_dir_all(buffer)?;
    fs::write(buffer.join("size"), "65536\n")?;
    fs::write(buffer.join("phys_addr"), "0x000000001fc00000\n")?;

    let found = devices()?.unwrap_or_default();
    let [device] = &found[..] else { bail!("{found:?}") };
    ensure!(device.name == "predecessor" && device.size == 65536, "{device:?}");
    ensure!(device.dma_addr == Some(0x1fc0_0000), "{device:?}");
    ensure!(device.is_coherent.is_none() && device.is_device_owned.is_none(), "{device:?}");
    let Err(error @ Error::NotFound { .. }) = Buffer::open("predecessor") else {
        bail!("opened without a device file");
    };
    says(&error, &["/dev/predecessor", "its device file does not"])
}
