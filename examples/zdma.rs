//! Copies 1 MiB through a ZynqMP or Versal DMA channel, in as many transfers
//! as the buffers `udmabuf0` and `udmabuf1` need, and compares every byte.
//!
//! Usage: `zdma [UIO_NAME]`; the channel is the UIO device `dma` if not said
//! otherwise.

use std::time::Duration;

use anyhow::ensure;
use udmabuf::{Buffer, FromDevice, ToDevice};
use udmabuf_examples::zdma::Zdma;

const TOTAL_LEN: usize = 1 << 20;

fn main() -> anyhow::Result<()> {
    let name = std::env::args().nth(1).unwrap_or_else(|| "dma".into());
    let zdma = Zdma::open(name.as_str())?; // first: it waits for what a crashed program left running
    let mut source = Buffer::open("udmabuf0")?.for_direction::<ToDevice>();
    let mut destination = Buffer::open("udmabuf1")?.for_direction::<FromDevice>();

    let mut copied = 0;
    while copied < TOTAL_LEN {
        let pattern = (0..=250).cycle().skip(copied % 251);
        source.as_mut_slice().iter_mut().zip(pattern).for_each(|(byte, value)| *byte = value);
        let transfer = zdma.copy(source.into_device()?, destination.into_device()?)?;
        (source, destination) = transfer.wait(Duration::from_millis(100))?;

        let len = source.len();
        let same = destination.as_slice()[..len] == *source.as_slice();
        ensure!(same, "the copy of the {len} bytes at {copied} is wrong");
        copied += len;
    }
    println!("copied {copied} bytes, woken by {} interrupts; all are right", zdma.interrupts()?);
    Ok(())
}
