//! Adds two vectors in an FPGA, with a core that Vitis HLS made, and compares
//! every element.
//!
//! Usage: `accelerator [UIO_NAME]`; without a name, on an emulated core.

use std::time::Duration;

use anyhow::ensure;
use udmabuf::{Buffer, FromDevice, ToDevice, emulator::Emulator};
use udmabuf_examples::accelerator::Accelerator;
use udmabuf_uio::{Io, emulator::Faults};

fn main() -> anyhow::Result<()> {
    match std::env::args().nth(1) {
        Some(name) => {
            let vadd = Accelerator::open(&name)?;
            add(
                &vadd,
                [Buffer::open("udmabuf0")?, Buffer::open("udmabuf1")?, Buffer::open("udmabuf2")?],
            )
        }
        None => {
            let emulator = Emulator::new();
            let vadd = Accelerator::emulated(&emulator, &Faults::default())?;
            add(&vadd, [(); 3].map(|()| emulator.buffer(64 << 10)))
        }
    }
}

fn add<I: Io>(vadd: &Accelerator<I>, [a, b, out]: [Buffer; 3]) -> anyhow::Result<()> {
    let (mut a, mut b) = (a.for_direction::<ToDevice>(), b.for_direction::<ToDevice>());
    let out = out.for_direction::<FromDevice>();
    let count = a.len() / size_of::<u32>();
    for (number, element) in (0..).zip(a.slice_of_mut::<u32>(0, count)?) {
        *element = number;
    }
    b.slice_of_mut::<u32>(0, count)?.fill(1000);

    let transfer = vadd.add(a.into_device()?, b.into_device()?, out.into_device()?)?;
    let (_, out) = transfer.wait(Duration::from_secs(5))?;
    let wrong = (1000..).zip(out.slice_of::<u32>(0, count)?).filter(|(sum, got)| sum != *got);
    ensure!(wrong.count() == 0, "the sum is wrong");
    println!("{count} sums, woken by {} interrupts; all are right", vadd.interrupts()?);
    Ok(())
}
