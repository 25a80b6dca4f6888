//! A copy engine that exists only in the emulator: driver and device model.
//!
//! The driver is written as for hardware, generic over how registers are
//! reached; the model is what an FPGA would hold.
#![allow(unsafe_code, reason = "vouches for the engine")]

mod model;

use std::{task::Waker, time::Instant};

use udmabuf::{
    Buffer, DeviceOwned, Engine, FromDevice, Progress, Slot, Started, ToDevice,
    emulator::{Bus, Emulator},
};
use udmabuf_uio::{
    Interrupt, Io, Registers, block,
    emulator::{Emulated, Faults, emulate_with},
};

block! {
    /// The engine's registers.
    pub struct Regs: 0x1c bytes, align 4 {
        /// Where to copy from.
        0x00 => SOURCE_LOW: ReadWrite<u32>,
        /// Its upper half.
        0x04 => SOURCE_HIGH: ReadWrite<u32>,
        /// Where to copy to.
        0x08 => DESTINATION_LOW: ReadWrite<u32>,
        /// Its upper half.
        0x0c => DESTINATION_HIGH: ReadWrite<u32>,
        /// Bytes.
        0x10 => LENGTH: ReadWrite<u32>,
        /// Writing 1 starts a copy, writing 0 breaks it off.
        0x14 => CONTROL: WriteOnly<u32>,
        /// `STATUS_*`; writing a 1 clears "done" and "bus error", and the interrupt.
        0x18 => STATUS: WriteEffect<u32>,
    }
}

const STATUS_DONE: u32 = 1 << 0;
const STATUS_BUS_ERROR: u32 = 1 << 1;
/// What is read where no device answers.
const NOTHING: u32 = u32::MAX;

/// What goes wrong on the engine.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The device cannot be made, or its interrupt not waited for.
    #[error(transparent)]
    Uio(#[from] udmabuf_uio::Error),
    /// A buffer is out of the engine's reach.
    #[error(transparent)]
    Buffer(#[from] udmabuf::Error),
    /// The destination cannot hold the source, or the length register neither.
    #[error("{0} bytes do not fit into the destination, or into 32 bits")]
    Length(usize),
    /// The engine accessed what it must not.
    #[error("the engine met an error on the bus")]
    Bus,
    /// It may still access memory.
    #[error("no engine answers")]
    NotThere,
}

/// The buffers of a copy: source and destination.
pub type Pair = (Buffer<DeviceOwned, ToDevice>, Buffer<DeviceOwned, FromDevice>);

/// A loopback engine.
#[derive(Debug)]
pub struct Loopback<I: Io + Send = Emulated>(Slot<Core<I>>);

/// The engine itself: what a transfer holds while it runs.
#[derive(Debug)]
pub struct Core<I> {
    regs: Registers<Regs, I>,
    interrupt: Interrupt,
    /// The emulated bus that the engine masters; none, were it hardware.
    bus: Option<Bus>,
}

impl Loopback {
    /// Starts a model of the engine on the emulator's bus.
    ///
    /// # Errors
    /// [`Error::Uio`]
    pub fn emulated(emulator: &Emulator) -> Result<Self, Error> {
        Self::emulated_with(emulator, &Faults::default())
    }

    /// As [`emulated`](Loopback::emulated), with what may go wrong.
    ///
    /// # Errors
    /// [`Error::Uio`]
    pub fn emulated_with(emulator: &Emulator, faults: &Faults) -> Result<Self, Error> {
        let bus = emulator.bus();
        let (regs, interrupt) = emulate_with(model::Model::new(bus.clone()), faults)?;
        Ok(Self(Slot::new(Core { regs, interrupt, bus: Some(bus) })))
    }
}

impl<I: Io + Send> Loopback<I> {
    /// Copies the whole source to the start of the destination.
    ///
    /// # Errors
    /// [`udmabuf::Busy`] while a copy is running; [`Error::Length`],
    /// [`Error::Buffer`]. The buffers are in the error.
    pub fn copy(
        &self,
        source: Buffer<DeviceOwned, ToDevice>,
        destination: Buffer<DeviceOwned, FromDevice>,
    ) -> Started<Core<I>, Pair> {
        self.0.start((source, destination), Core::program)
    }
}

impl<I: Io> Core<I> {
    fn program(&mut self, (source, destination): &Pair) -> Result<(), Error> {
        let len = u32::try_from(source.len())
            .ok()
            .filter(|_| source.len() <= destination.len())
            .ok_or(Error::Length(source.len()))?;
        let (source_low, source_high) = source.dma_addr().to_words(64)?;
        let (destination_low, destination_high) = destination.dma_addr().to_words(64)?;

        self.regs.write(Regs::SOURCE_LOW, source_low);
        self.regs.write(Regs::SOURCE_HIGH, source_high);
        self.regs.write(Regs::DESTINATION_LOW, destination_low);
        self.regs.write(Regs::DESTINATION_HIGH, destination_high);
        self.regs.write(Regs::LENGTH, len);
        self.regs.write(Regs::CONTROL, 1);
        Ok(())
    }
}

// SAFETY: the engine copies between the two ranges of the transfer and
// accesses nothing else; it accesses nothing any more once it has said "done"
// or "bus error", or after CONTROL was written 0. The model is this process's
// own.
unsafe impl<I: Io> Engine for Core<I> {
    type Error = Error;

    fn bus(&self) -> Option<&Bus> {
        self.bus.as_ref()
    }

    fn poll(&mut self) -> Progress<Error> {
        let status = self.regs.read(Regs::STATUS);
        if status == NOTHING {
            return Progress::Running; // waiting says why
        }
        self.regs.write(Regs::STATUS, status);
        if status & STATUS_BUS_ERROR != 0 {
            Progress::Failed(Error::Bus)
        } else if status & STATUS_DONE != 0 {
            Progress::Finished
        } else {
            Progress::Running
        }
    }

    fn park(&mut self, deadline: Instant) -> Result<(), Error> {
        self.interrupt.wait(deadline)?;
        Ok(())
    }

    fn register(&mut self, waker: &Waker) -> Result<(), Error> {
        self.interrupt.watch(waker)?;
        Ok(())
    }

    fn stop(&mut self) -> Result<(), Error> {
        self.regs.write(Regs::CONTROL, 0);
        self.regs.write(Regs::STATUS, STATUS_DONE | STATUS_BUS_ERROR);
        if self.regs.read(Regs::STATUS) == NOTHING { Err(Error::NotThere) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A mistake in a driver: the bus stops the engine at the end of the buffer.
    #[test]
    fn a_length_beyond_the_buffers_is_a_bus_error() {
        let emulator = Emulator::new();
        let engine = Loopback::emulated(&emulator).unwrap();
        let [source, destination] = [(); 2].map(|()| emulator.buffer(6000));
        let source = source.for_direction().into_device().unwrap();
        let destination = destination.for_direction().into_device().unwrap();

        let transfer = engine.0.start((source, destination), |core, pair| {
            core.program(pair)?;
            core.regs.write(Regs::CONTROL, 0);
            core.regs.write(Regs::STATUS, STATUS_DONE);
            core.regs.write(Regs::LENGTH, 6001);
            core.regs.write(Regs::CONTROL, 1);
            Ok(())
        });
        let result = transfer.unwrap().wait(Duration::from_secs(5));
        let Err(udmabuf::WaitError::Failed { error: Error::Bus, .. }) = result else {
            panic!("{result:?}");
        };
        assert!(engine.0.with(|_| ()).is_ok());
    }
}
