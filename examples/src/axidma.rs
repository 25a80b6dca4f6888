//! AMD's AXI DMA, the core that most FPGA designs move data with: a channel from
//! memory to an AXI4-Stream (MM2S) and one back (S2MM).
//!
//! PG021 says it all: registers in "Register Space", descriptors in "Scatter
//! Gather Descriptor", what to write when in "Programming Sequence". A core is
//! built for one of two modes:
//!
//! | mode | what a transfer is |
//! |---|---|
//! | direct register | one buffer, one packet |
//! | scatter-gather | packets of many parts, many packets at once, [rings](Port::into_ring), and [parts over and over](Port::repeat), which can be [read](S2mm::copy_part) as they come; the channel needs memory for [descriptors](Port::use_descriptors) |
//!
//! ```
//! use std::time::Duration;
//! use udmabuf::{FromDevice, ToDevice, emulator::Emulator};
//! use udmabuf_examples::axidma::{AxiDma, Build, Mode};
//!
//! let emulator = Emulator::new();
//! // On a board: AxiDma::open("dma")?, and Buffer::open("udmabuf0")?
//! let (AxiDma { mm2s, s2mm }, _) = AxiDma::emulated(&emulator, Build::LEAST, Mode::Direct)?;
//! let mut packet = emulator.buffer(1024).for_direction::<ToDevice>();
//! packet.as_mut_slice().fill(7);
//!
//! let receiving = s2mm.receive(emulator.buffer(4096).for_direction::<FromDevice>().into_device()?)?;
//! mm2s.send(packet.into_device()?)?.wait(Duration::from_secs(1))?;
//! let received = receiving.wait(Duration::from_secs(1))?;
//! assert_eq!(s2mm.moved()[0].len, 1024); // the stream goes from one to the other
//! assert_eq!(received.as_slice()[..1024], [7; 1024]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Reset
//! There is one for the core, which ends what both channels do. It is needed after
//! an error, and to stop a channel that waits for data. The next transfer on a
//! channel with an error makes it, unless the other channel has a transfer:
//! [`Error::OtherRunning`]. Stopping a transfer tries without; if it cannot be
//! helped, the other channel's transfer fails with [`Error::Reset`], and its
//! buffers are back.
//!
//! # The interrupt
//! The core has an interrupt for each channel, UIO one for a device. In the FPGA
//! both go through an OR gate to the interrupt that the device tree names first.
//! One of the threads that wait for a transfer clears it for both.

mod build;
mod capture;
mod channel;
mod core;
mod descriptors;
mod error;
mod lane;
mod model;
mod open;
#[cfg(test)]
mod order;
mod port;
mod registers;
mod start;
mod wait;

use std::fmt;

pub use build::Build;
pub use channel::{Channel, Queue};
pub use error::{Error, Faults};
pub use lane::{Laps, Moved};
pub use model::{Controls, Mode, Model};
pub use open::AxiDma;
pub use port::{Coalescing, Log, Mm2s, Port, S2mm, Way};
pub use registers::DESCRIPTOR_LEN;

/// A channel of the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// From memory to the stream.
    Mm2s,
    /// From the stream to memory.
    S2mm,
}

impl Side {
    const BOTH: [Self; 2] = [Self::Mm2s, Self::S2mm];

    fn other(self) -> Self {
        match self {
            Self::Mm2s => Self::S2mm,
            Self::S2mm => Self::Mm2s,
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mm2s => "MM2S",
            Self::S2mm => "S2MM",
        })
    }
}
