//! How a driver gets a part through its engine.

use std::{
    error::Error as StdError,
    time::{Duration, Instant},
};

use udmabuf::{
    Buffer, CpuOwned, Engine, FromDevice, Handoff, Parts, Started, ToDevice, Transfer, WaitError,
};
use udmabuf_uio::{Io, Mmio};

use super::{
    Error, Waiting,
    waiting::{Destination, Handed, Source},
};
use crate::edu::{self, Dma, Edu};

/// What is sent, and where it shall arrive: the CPU's.
pub type Part = (Buffer<CpuOwned, ToDevice>, Buffer<CpuOwned, FromDevice>);
/// The same, the device's.
type Pair = (Source, Destination);

/// Whoever waits for one of two transfers looks so often whether the other has
/// failed, for which the first would wait for ever.
pub(super) const LOOK: Duration = Duration::from_millis(50);

/// An engine, which works through its parts in order.
pub trait Lane {
    /// What goes wrong on the engine.
    type Error: StdError + 'static;
    /// How parts wait for it: [`Handed`] over, or as they are.
    type Waiting: Waiting;

    /// How many parts the engine holds at once.
    fn depth(&self) -> usize {
        1
    }

    /// Gives the engine a part, for which it has room.
    ///
    /// # Errors
    /// [`Error`]
    fn start(&mut self, part: Self::Waiting) -> Result<(), Error<Self::Error>>;

    /// The oldest part, once it is through; `None` if it is not at the deadline,
    /// or now if there is none.
    ///
    /// # Errors
    /// [`Error`]
    fn finish(&mut self, deadline: Option<Instant>) -> Result<Option<Part>, Error<Self::Error>>;
}

/// A driver that copies a source to a destination in one transfer.
#[derive(Debug)]
pub struct Copying<E: Engine, C> {
    copy: C,
    transfer: Option<Transfer<E, Pair>>,
}

impl<E: Engine, C: FnMut(Source, Destination) -> Started<E, Pair>> Copying<E, C> {
    /// By the driver's function.
    pub fn new(copy: C) -> Self {
        Self { copy, transfer: None }
    }
}

impl<E: Engine, C: FnMut(Source, Destination) -> Started<E, Pair>> Lane for Copying<E, C> {
    type Error = E::Error;
    type Waiting = Handed<Pair>;

    fn start(&mut self, part: Handed<Pair>) -> Result<(), Error<E::Error>> {
        let (source, destination) = part.give();
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

/// A driver that sends with one engine and receives with another what comes back.
#[derive(Debug)]
pub struct Returning<E: Engine, S, R> {
    send: S,
    receive: R,
    /// The sender's and the receiver's.
    flight: Option<(Leg<E, Source>, Leg<E, Destination>)>,
}

#[derive(Debug)]
enum Leg<E: Engine, P: Parts> {
    Running(Transfer<E, P>),
    Done(P::Cpu),
}

impl<E, S, R> Returning<E, S, R>
where
    E: Engine,
    S: FnMut(Source) -> Started<E, Source>,
    R: FnMut(Destination) -> Started<E, Destination>,
{
    /// By the driver's functions.
    pub fn new(send: S, receive: R) -> Self {
        Self { send, receive, flight: None }
    }
}

impl<E, S, R> Lane for Returning<E, S, R>
where
    E: Engine,
    S: FnMut(Source) -> Started<E, Source>,
    R: FnMut(Destination) -> Started<E, Destination>,
{
    type Error = E::Error;
    type Waiting = Handed<Pair>;

    fn start(&mut self, part: Handed<Pair>) -> Result<(), Error<E::Error>> {
        let (source, destination) = part.split();
        // Who sends first may find that nobody takes it.
        let receiving = (self.receive)(destination.give()).map_err(refusal)?;
        let sending = (self.send)(source.give()).map_err(refusal)?;
        self.flight = Some((Leg::Running(sending), Leg::Running(receiving)));
        Ok(())
    }

    fn finish(&mut self, deadline: Option<Instant>) -> Result<Option<Part>, Error<E::Error>> {
        let Some((mut sending, mut receiving)) = self.flight.take() else { return Ok(None) };
        loop {
            (sending, receiving) = (sending.finish(None)?, receiving.finish(None)?);
            let now = Instant::now();
            let soon = deadline.filter(|end| now < *end).map(|end| end.min(now + LOOK));
            (sending, receiving) = match (sending, receiving, soon) {
                (Leg::Done(source), Leg::Done(destination), _) => {
                    return Ok(Some((source, destination)));
                }
                (sending @ Leg::Running(_), receiving, Some(_)) => {
                    (sending.finish(soon)?, receiving)
                }
                (sent, receiving, Some(_)) => (sent, receiving.finish(soon)?),
                running => {
                    self.flight = Some((running.0, running.1));
                    return Ok(None);
                }
            };
        }
    }
}

impl<E: Engine, P: Parts> Leg<E, P> {
    fn finish(self, deadline: Option<Instant>) -> Result<Self, Error<E::Error>> {
        let Self::Running(transfer) = self else { return Ok(self) };
        finish(transfer, deadline).map(|done| done.map_or_else(Self::Running, Self::Done))
    }
}

/// QEMU's edu: into its memory, and from there out again.
#[derive(Debug)]
pub struct EduLane<I: Io + Send = Mmio> {
    edu: Edu<I>,
    leg: Option<EduLeg<I>>,
}

#[derive(Debug)]
enum EduLeg<I: Io> {
    In(Transfer<Dma<I>, Source>, Handed<Destination>),
    Out(Buffer<CpuOwned, ToDevice>, Transfer<Dma<I>, Destination>),
}

impl<I: Io + Send> EduLane<I> {
    /// Parts are at most [`MEMORY_LEN`](edu::MEMORY_LEN) bytes.
    pub fn new(edu: Edu<I>) -> Self {
        Self { edu, leg: None }
    }
}

impl<I: Io + Send> Lane for EduLane<I> {
    type Error = edu::Error;
    type Waiting = Handed<Pair>;

    fn start(&mut self, part: Handed<Pair>) -> Result<(), Error<edu::Error>> {
        let (source, destination) = part.split();
        let source = source.give();
        let whole = 0..source.len();
        self.leg =
            Some(EduLeg::In(self.edu.upload(source, whole, 0).map_err(refusal)?, destination));
        Ok(())
    }

    fn finish(&mut self, deadline: Option<Instant>) -> Result<Option<Part>, Error<edu::Error>> {
        if let Some(EduLeg::In(transfer, destination)) =
            self.leg.take_if(|leg| matches!(leg, EduLeg::In(..)))
        {
            self.leg = Some(match finish(transfer, deadline)? {
                Err(transfer) => EduLeg::In(transfer, destination),
                Ok(source) => {
                    let destination = destination.give();
                    let whole = 0..source.len();
                    let back = self.edu.download(destination, whole, 0).map_err(refusal)?;
                    EduLeg::Out(source, back)
                }
            });
        }
        if let Some(EduLeg::Out(source, transfer)) =
            self.leg.take_if(|leg| matches!(leg, EduLeg::Out(..)))
        {
            match finish(transfer, deadline)? {
                Err(transfer) => self.leg = Some(EduLeg::Out(source, transfer)),
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
