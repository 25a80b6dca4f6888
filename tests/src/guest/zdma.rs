//! The Versal board's DMA engine, through its example driver.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use udmabuf::{Buffer, FromDevice, StartError, ToDevice};
use udmabuf_examples::zdma::{Error, Zdma};

use super::{Pair, errors::says, random::Random};

const TOTAL_LEN: usize = 1 << 20;
const TIMEOUT: Duration = Duration::from_secs(10);

/// 1 MiB of random data, in transfers of the buffers' size.
pub(crate) fn copies([source, destination]: Pair) -> Result<String> {
    let zdma = Zdma::open("dma")?;
    let mut source = Buffer::open(source)?.for_direction::<ToDevice>();
    let mut destination = Buffer::open(destination)?.for_direction::<FromDevice>();
    let len = source.len();
    let transfers = TOTAL_LEN / len;
    let (mut random, seed) = Random::new();

    let mut same = 0;
    for number in 0..transfers {
        random.fill(source.as_mut_slice());
        let transfer = zdma.copy(source.into_device()?, destination.into_device()?)?;
        (source, destination) = transfer.wait(TIMEOUT)?;
        for (at, (sent, received)) in
            source.as_slice().iter().zip(destination.as_slice()).enumerate()
        {
            ensure!(sent == received, "byte {at} of transfer {number} differs; seed {seed}");
            same += 1;
        }
    }
    let interrupts = zdma.interrupts()?;
    ensure!(same == TOTAL_LEN, "only {same} bytes in {transfers} transfers of {len}");
    ensure!(interrupts == transfers as u64, "{interrupts} interrupts for {transfers} transfers");
    Ok(format!(
        "{same} bytes, {transfers} transfers of {len}, {interrupts} interrupts, seed {seed}"
    ))
}

/// What the driver refuses comes back with the buffers.
pub(crate) fn refusals([source, destination]: Pair) -> Result<String> {
    let zdma = Zdma::open("dma")?;
    let Err(error) = Zdma::open("dma") else { bail!("two drivers on one channel") };
    says(&error, &["uio", "in use"])?;

    let source = Buffer::open(source)?.for_direction::<ToDevice>();
    let small = Buffer::open("udmabuf7")?.for_direction::<FromDevice>();
    let Err(refused) = zdma.copy(source.into_device()?, small.into_device()?) else {
        bail!("copied into a destination that is too small");
    };
    let StartError::Refused(Error::TooSmall { .. }) = refused.error else { bail!("{refused}") };
    let message = refused.to_string();
    let (source, _small) = refused.value;
    let destination = Buffer::open(destination)?.for_direction::<FromDevice>();
    let transfer = zdma.copy(source.into_device()?, destination.into_device()?)?;
    let (source, destination) = transfer.wait(TIMEOUT)?;
    ensure!(source.as_slice() == destination.as_slice(), "after a refusal, the copy differs");
    Ok(message)
}
