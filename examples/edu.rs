//! Moves data from a buffer into QEMU's educational PCI device and back out,
//! through 4 KiB of device memory at a time, and compares every byte.

use std::time::Duration;

use anyhow::ensure;
use udmabuf::{Buffer, FromDevice, ToDevice};
use udmabuf_examples::edu::{Edu, MEMORY_LEN};

const TIMEOUT: Duration = Duration::from_secs(2);

fn main() -> anyhow::Result<()> {
    let edu = Edu::open()?;
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
