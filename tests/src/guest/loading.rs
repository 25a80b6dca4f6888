//! Each allocation of the module's own initialization fails in turn, that of a buffer
//! which a parameter asks for among them: it is not loaded then, and leaves nothing
//! behind. What the kernel allocates for any module before is its own affair, and so is
//! what it does not get right itself; its trace says which these are.

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
const TRACING: &str = "/sys/kernel/debug/tracing";
/// What a fault asks before each allocation, from when on it counts, and two functions
/// of Linux 6.1 that are left out. `module_add_driver()` does without a directory in
/// sysfs that there is no memory for, puts its link in the root of sysfs, for ever, and
/// complains of it the next time; `__class_register()` loses a name.
const PROBES: &str = "p:udb_faults/asked should_fail_ex
r:udb_faults/counting proc_fail_nth_write
p:udb_faults/enters_class __class_register
r:udb_faults/leaves_class __class_register
p:udb_faults/enters_links module_add_driver
r:udb_faults/leaves_links module_add_driver
";

/// How loading went, and how many allocations were left until the one that fails.
fn load(image: &[u8], nth: u32) -> Result<(rustix::io::Result<()>, u32)> {
    await_gone("u-dma-buf")?;
    failing(nth, || init_module(image, PARAMETERS))
}

fn trace(file: &str, text: &str) -> std::io::Result<()> {
    fs::write(format!("{TRACING}/{file}"), text)
}

/// Loads differ by some allocations that the kernel keeps for the next: by so many at
/// most, until they are counted again after so many loads.
const NEAR: u32 = 3;
const COUNTED_AGAIN: usize = 8;

/// As long as allocations are counted: it may make some itself.
fn traced<T>(what: impl FnOnce() -> Result<T>) -> Result<T> {
    let enabled = |on: &str| {
        trace("events/module/module_load/enable", on)?;
        trace("events/udb_faults/enable", on)
    };
    trace("kprobe_events", PROBES)?;
    enabled("1")?;
    let done = what();
    enabled("0")?;
    trace("kprobe_events", "")?;
    done
}

/// The numbers of the module's own allocations, of a load where none fails.
fn own(image: &[u8]) -> Result<Vec<u32>> {
    trace("trace", "")?;
    let (loaded, left) = load(image, NEVER)?;
    let text = fs::read_to_string(format!("{TRACING}/trace"))?;
    loaded.context("loading")?;
    delete_module(NAME, NONBLOCK)?;

    // COMMAND-THREAD [CPU] FLAGS TIME: EVENT: DETAIL; in interrupts nothing is counted.
    let this = format!("-{}", rustix::thread::gettid());
    let is_ours = |line: &&str| {
        let mut words = line.split_whitespace();
        words.next().is_some_and(|who| who.ends_with(&this))
            && words.nth(1).is_some_and(|flags| !flags.contains(['h', 'H', 's']))
    };
    let counted =
        text.lines().filter(is_ours).skip_while(|line| !line.contains("counting:")).skip(1);
    let (mut number, mut from, mut own) = (0, NEVER, Vec::new());
    for line in counted.take_while(|line| !line.contains("counting:")) {
        match line {
            _ if line.contains("asked:") => {
                number += 1;
                own.extend((number > from).then_some(number));
            }
            _ if line.contains("module_load: u_dma_buf") => from = number,
            _ if line.contains("enters_") => {
                from = NEVER;
                own.retain(|&own| own + NEAR <= number);
            }
            _ if line.contains("leaves_") => from = number + NEAR,
            _ => {}
        }
    }
    let all = NEVER - left;
    ensure!(number == all, "the trace has {number} allocations of {all}");
    Ok(own)
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
    let said = traced(each);
    all("\n")?;
    said
}

fn each() -> Result<String> {
    let image = fs::read(MODULE)?;
    let (mut numbers, mut tried, mut refused, mut borne) = (Vec::new(), 0, 0, 0);
    loop {
        if tried % COUNTED_AGAIN == 0 {
            numbers = own(&image)?;
        }
        let Some(&nth) = numbers.get(tried) else { break };
        tried += 1;
        // An earlier one that left something has this one fail for another reason.
        let (loaded, left) = load(&image, nth)?;
        match loaded {
            Ok(()) => {
                delete_module(NAME, NONBLOCK).with_context(|| format!("after fault {nth}"))?;
                borne += usize::from(left == 0);
            }
            Err(error) => {
                let is_told = error == Errno::NOMEM || NO_DEVICE.contains(&error);
                ensure!(left == 0 && is_told, "fault {nth}: {error}");
                refused += 1;
            }
        }
        nothing().with_context(|| format!("after fault {nth}"))?;
    }
    ensure!(refused > tried / 8, "{refused} of {tried} loads failed for lack of memory");
    let failed = refused + borne;
    Ok(format!("{failed} of {tried} failed in turn: {refused} refused, {borne} borne"))
}
