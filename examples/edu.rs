//! Moves data from a buffer into QEMU's educational PCI device and back out,
//! through its little memory, and compares every byte.
//!
//! Usage: `edu [--32-bits]`; with the option, for a QEMU that was started with
//! `-device edu,dma_mask=0xffffffff`.
#![allow(unsafe_code, reason = "how many address lines the device has, only the user knows")]

use std::time::Duration;

use anyhow::{bail, ensure};
use udmabuf::{Buffer, FromDevice, ToDevice};
use udmabuf_examples::edu::{Edu, MEMORY_LEN};

const TIMEOUT: Duration = Duration::from_secs(2);

fn main() -> anyhow::Result<()> {
    let edu = match std::env::args().nth(1).as_deref() {
        None => Edu::open()?,
        // SAFETY: the option is the user's word that QEMU was started so.
        Some("--32-bits") => unsafe { Edu::open_with_32_bits()? },
        Some(_) => bail!("usage: edu [--32-bits]"),
    };
    let mut source = Buffer::open("udmabuf0")?.for_direction::<ToDevice>();
    let mut destination = Buffer::open("udmabuf1")?.for_direction::<FromDevice>();
    let len = source.len().min(destination.len());

    for (byte, value) in source.as_mut_slice().iter_mut().zip((0..=250).cycle()) {
        *byte = value;
    }
    for start in (0..len).step_by(MEMORY_LEN) {
        let range = start..len.min(start + MEMORY_LEN);
        source = edu.upload(source.into_device()?, range.clone(), 0)?.wait(TIMEOUT)?;
        destination = edu.download(destination.into_device()?, range, 0)?.wait(TIMEOUT)?;
    }
    let same = destination.as_slice()[..len] == source.as_slice()[..len];
    ensure!(same, "what came back is not what was sent");
    println!(
        "{len} bytes there and back, woken by {} interrupts; all are right",
        edu.interrupts()?
    );
    Ok(())
}
