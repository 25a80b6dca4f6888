//! How a driver gets a part through its engine.

use std::{error::Error as StdError, time::Instant};

use udmabuf::{
    Buffer, CpuOwned, DeviceOwned, Engine, FromDevice, Handoff, Parts, Started, ToDevice, Transfer,
    WaitError,
};

use super::Error;
use crate::edu::{self, Dma, Edu};

type Source = Buffer<DeviceOwned, ToDevice>;
type Destination = Buffer<DeviceOwned, FromDevice>;
/// What is sent, and where it shall arrive: the CPU's.
pub type Part = (Buffer<CpuOwned, ToDevice>, Buffer<CpuOwned, FromDevice>);
/// The same, the device's.
pub type Handed = (Source, Destination);

/// An engine, with at most one part at a time.
pub trait Lane {
    /// What goes wrong on the engine.
    type Error: StdError + 'static;

    /// Starts the engine, which is idle, on a part.
    ///
    /// # Errors
    /// [`Error`]
    fn start(&mut self, part: Handed) -> Result<(), Error<Self::Error>>;

    /// The part, once it is through; `None` if it is not at the deadline, or now
    /// if there is none.
    ///
    /// # Errors
    /// [`Error`]
    fn finish(&mut self, deadline: Option<Instant>) -> Result<Option<Part>, Error<Self::Error>>;
}

/// A driver that copies a source to a destination in one transfer.
#[derive(Debug)]
pub struct Copying<E: Engine, C> {
    copy: C,
    transfer: Option<Transfer<E, Handed>>,
}

impl<E: Engine, C: FnMut(Source, Destination) -> Started<E, Handed>> Copying<E, C> {
    /// By the driver's function.
    pub fn new(copy: C) -> Self {
        Self { copy, transfer: None }
    }
}

impl<E: Engine, C: FnMut(Source, Destination) -> Started<E, Handed>> Lane for Copying<E, C> {
    type Error = E::Error;

    fn start(&mut self, (source, destination): Handed) -> Result<(), Error<E::Error>> {
        self.transfer = Some((self.copy)(source, destination).map_err(refusal)?);
        Ok(())
    }

    fn finish(&mut self, deadline: Option<Instant>) -> Result<Option<Part>, Error<E::Error>> {
        let Some(transfer) = self.transfer.take() else { return Ok(None) };
        Ok(match finish(transfer, deadline)? {
            Ok(part) => Some(part),
            Err(transfer) => {
                self.transfer = Some(transfer);
                None
            }
        })
    }
}

/// QEMU's edu: into its memory, and from there out again.
#[derive(Debug)]
pub struct EduLane {
    edu: Edu,
    leg: Option<Leg>,
}

#[derive(Debug)]
enum Leg {
    In(Transfer<Dma, Source>, Destination),
    Out(Buffer<CpuOwned, ToDevice>, Transfer<Dma, Destination>),
}

impl EduLane {
    /// Parts are at most [`MEMORY_LEN`](edu::MEMORY_LEN) bytes.
    pub fn new(edu: Edu) -> Self {
        Self { edu, leg: None }
    }
}

impl Lane for EduLane {
    type Error = edu::Error;

    fn start(&mut self, (source, destination): Handed) -> Result<(), Error<edu::Error>> {
        let whole = 0..source.len();
        self.leg = Some(Leg::In(self.edu.upload(source, whole, 0).map_err(refusal)?, destination));
        Ok(())
    }

    fn finish(&mut self, deadline: Option<Instant>) -> Result<Option<Part>, Error<edu::Error>> {
        if let Some(Leg::In(transfer, destination)) =
            self.leg.take_if(|leg| matches!(leg, Leg::In(..)))
        {
            self.leg = Some(match finish(transfer, deadline)? {
                Err(transfer) => Leg::In(transfer, destination),
                Ok(source) => {
                    let whole = 0..source.len();
                    let back = self.edu.download(destination, whole, 0).map_err(refusal)?;
                    Leg::Out(source, back)
                }
            });
        }
        if let Some(Leg::Out(source, transfer)) =
            self.leg.take_if(|leg| matches!(leg, Leg::Out(..)))
        {
            match finish(transfer, deadline)? {
                Err(transfer) => self.leg = Some(Leg::Out(source, transfer)),
                Ok(destination) => return Ok(Some((source, destination))),
            }
        }
        Ok(None)
    }
}

/// The buffers, or the transfer if it is still running.
#[allow(clippy::type_complexity, reason = "each is what it says")]
fn finish<E: Engine, P: Parts>(
    transfer: Transfer<E, P>,
    deadline: Option<Instant>,
) -> Result<Result<P::Cpu, Transfer<E, P>>, Error<E::Error>> {
    let result = match deadline {
        Some(deadline) => transfer.wait_until(deadline),
        None => transfer.try_wait(),
    };
    match result {
        Ok(buffers) => Ok(Ok(buffers)),
        Err(WaitError::Timeout { transfer, .. }) => Ok(Err(transfer)),
        Err(WaitError::Failed { error, .. } | WaitError::Unknown { error, .. }) => {
            Err(Error::Engine(error))
        }
        Err(WaitError::Sync { error, .. }) => Err(Error::Buffer(error)),
    }
}

fn refusal<T, E: StdError>(refused: Handoff<T, udmabuf::StartError<E>>) -> Error<E> {
    Error::Start(refused.error)
}
