//! Each allocation of the module's own initialization fails in turn, that of a buffer
//! which a parameter asks for among them: it is not loaded then, and leaves nothing
//! behind. What the kernel allocates for any module before is its own affair; its trace
//! says where the module begins.

use std::{ffi::CStr, fs, path::PathBuf};

use anyhow::{Context, Result, ensure};
use rustix::{
    io::Errno,
    system::{delete_module, init_module},
};
use udmabuf_sys::manager;

use super::{
    faults::{NO_DEVICE, failing, set_up},
    module::{CLASS, MODULE, await_gone},
};

const NAME: &CStr = c"u_dma_buf";
const PARAMETERS: &CStr = c"udmabuf6=8192";
const NONBLOCK: i32 = 0o4000;
/// More than any load needs.
const NEVER: u32 = 1_000_000;
const LOADS: &str = "/sys/kernel/debug/tracing/events/module/module_load/enable";
const TRACE: &str = "/sys/kernel/debug/tracing/trace";
/// How loading went, whether the allocation failed, and whether the module began.
struct Loaded {
    result: rustix::io::Result<()>,
    failed: bool,
    left: u32,
    began: bool,
}

fn load(image: &[u8], nth: u32) -> Result<Loaded> {
    await_gone("u-dma-buf")?;
    fs::write(TRACE, "")?;
    let (result, left) = failing(nth, || init_module(image, PARAMETERS))?;
    let began = fs::read_to_string(TRACE)?.contains("module_load: u_dma_buf");
    Ok(Loaded { result, failed: left == 0, left, began })
}

fn nothing() -> Result<()> {
    await_gone("u-dma-buf")?;
    for path in [CLASS, manager::PATH, "/sys/module/u_dma_buf", "/dev/udmabuf6"] {
        ensure!(!fs::exists(path)?, "{path} is there");
    }
    let majors = fs::read_to_string("/proc/devices")?;
    ensure!(!majors.contains("u-dma-buf"), "a major number is taken: {majors}");
    Ok(())
}

/// The devices that wait for the driver: their probes are another test's.
fn waiting() -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for device in fs::read_dir("/sys/bus/platform/devices")? {
        let device = device?.path();
        let compatible = fs::read(device.join("of_node/compatible")).unwrap_or_default();
        if compatible.split(|&byte| byte == 0).any(|name| name == b"ikwzm,u-dma-buf") {
            found.push(device.join("driver_override"));
        }
    }
    ensure!(!found.is_empty(), "no device of the tree");
    Ok(found)
}

pub(crate) fn faults() -> Result<String> {
    set_up()?;
    let waiting = waiting()?;
    let all = |driver: &str| waiting.iter().try_for_each(|device| fs::write(device, driver));
    all("another")?;
    fs::write(LOADS, "1")?;
    let said = each();
    fs::write(LOADS, "0")?;
    all("\n")?;
    said
}

/// Had the module begun when it failed? A load goes on without a few of the kernel's,
/// too, but not without several in a row.
fn is_own(image: &[u8], nth: u32) -> Result<bool> {
    for nth in nth..nth + 4 {
        let loaded = load(image, nth)?;
        if loaded.result.is_err() {
            return Ok(loaded.began);
        }
        delete_module(NAME, NONBLOCK)?;
    }
    Ok(true)
}

fn each() -> Result<String> {
    let image = fs::read(MODULE)?;
    let whole = load(&image, NEVER)?;
    whole.result.context("loading")?;
    ensure!(whole.began, "the kernel's trace does not tell of modules");
    delete_module(NAME, NONBLOCK)?;
    let all = NEVER - whole.left;

    // The first that is the module's. From above, as the kernel complains if memory for
    // a module's text fails.
    let (mut before, mut first) = (0, all);
    while first - before > 1 {
        let nth = first - (first - before).div_ceil(8);
        *if is_own(&image, nth)? { &mut first } else { &mut before } = nth;
    }
    let (mut faults, mut without) = (0, 0);
    for nth in first.. {
        // An earlier one that left something has this one fail for another reason.
        let Loaded { result, failed, .. } = load(&image, nth)?;
        match result {
            Ok(()) => {
                delete_module(NAME, NONBLOCK).with_context(|| format!("after fault {nth}"))?;
                without += u32::from(failed);
            }
            Err(error) => ensure!(
                failed && (error == Errno::NOMEM || NO_DEVICE.contains(&error)),
                "fault {nth}: {error}"
            ),
        }
        nothing().with_context(|| format!("after fault {nth} of {first} to {all}"))?;
        if !failed {
            break;
        }
        faults += 1;
    }
    ensure!(without < faults, "no load failed for lack of memory, of {faults}");
    Ok(format!("{faults} failed, {without} of them borne, after {before} of the kernel's"))
}
