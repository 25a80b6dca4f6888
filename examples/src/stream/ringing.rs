//! A lane over rings: the engine has as many parts at once as they have places.

use std::{
    fmt, mem,
    time::{Duration, Instant},
};

use udmabuf::{Buffer, Busy, Cached, CpuOwned, FromDevice, Ring, RingError, Stream, ToDevice};

use super::{
    Error,
    lane::{LOOK, Lane, Part},
};

/// A driver that sends with one ring and receives with another what comes back, in
/// order.
///
/// The parts that the rings were made of only keep the places that no part of the
/// stream has: they may be small. After an error the rings are gone, and the lane
/// starts nothing more.
pub struct Ringing<S: Stream, R: Stream> {
    /// The sender's and the receiver's.
    ends: Option<(End<S>, End<R>)>,
    depth: usize,
}

struct End<E: Stream> {
    ring: Ring<E, Cached>,
    /// What had the places of parts that are in flight.
    spare: Vec<Buffer<CpuOwned, E::Direction>>,
    /// The oldest part, if it is done.
    done: Option<Buffer<CpuOwned, E::Direction>>,
}

impl<S, R> Ringing<S, R>
where
    S: Stream<Direction = ToDevice>,
    R: Stream<Direction = FromDevice, Error = S::Error>,
{
    /// Of two rings that have `depth` places each, all of them free.
    pub fn new(sender: Ring<S, Cached>, receiver: Ring<R, Cached>, depth: usize) -> Self {
        Self { ends: Some((End::new(sender), End::new(receiver))), depth }
    }
}

impl<S, R> Lane for Ringing<S, R>
where
    S: Stream<Direction = ToDevice>,
    R: Stream<Direction = FromDevice, Error = S::Error>,
{
    type Error = S::Error;
    type Waiting = Part;

    fn depth(&self) -> usize {
        self.depth
    }

    fn start(&mut self, (source, destination): Part) -> Result<(), Error<S::Error>> {
        let (mut sender, mut receiver) = self.ends.take().ok_or(Error::Start(Busy.into()))?;
        // Who sends first may find that nobody takes it.
        receiver.submit(destination)?;
        sender.submit(source)?;
        self.ends = Some((sender, receiver));
        Ok(())
    }

    fn finish(&mut self, deadline: Option<Instant>) -> Result<Option<Part>, Error<S::Error>> {
        let Some((mut sender, mut receiver)) = self.ends.take() else { return Ok(None) };
        let part = loop {
            sender.complete(Duration::ZERO)?;
            receiver.complete(Duration::ZERO)?;
            let left = deadline.map(|end| end.saturating_duration_since(Instant::now()));
            match (sender.done.take(), receiver.done.take()) {
                (Some(source), Some(destination)) => break Some((source, destination)),
                (source, destination) => (sender.done, receiver.done) = (source, destination),
            }
            match left.filter(|left| !left.is_zero()) {
                None => break None,
                Some(left) if receiver.done.is_none() => receiver.complete(left.min(LOOK))?,
                Some(left) => sender.complete(left.min(LOOK))?,
            }
        };
        self.ends = Some((sender, receiver));
        Ok(part)
    }
}

impl<E: Stream> End<E> {
    fn new(ring: Ring<E, Cached>) -> Self {
        Self { ring, spare: Vec::new(), done: None }
    }

    fn submit(&mut self, part: Buffer<CpuOwned, E::Direction>) -> Result<(), Error<E::Error>> {
        if let Some(place) = self.ring.next_mut() {
            self.spare.push(mem::replace(place, part));
        }
        self.ring.submit().map_err(broken)
    }

    /// Takes the oldest part out, once it is done.
    fn complete(&mut self, timeout: Duration) -> Result<(), Error<E::Error>> {
        if self.done.is_some() || self.ring.in_flight() == 0 {
            return Ok(());
        }
        match self.ring.complete(timeout) {
            Ok(place) => {
                self.done = self.spare.pop().map(|spare| mem::replace(place, spare));
                Ok(())
            }
            Err(RingError::Timeout(_)) => Ok(()),
            Err(error) => Err(broken(error)),
        }
    }
}

impl<S: Stream, R: Stream> fmt::Debug for Ringing<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rings = self.ends.as_ref().map(|(sender, receiver)| (&sender.ring, &receiver.ring));
        f.debug_struct("Ringing").field("rings", &rings).field("depth", &self.depth).finish()
    }
}

fn broken<E: std::error::Error>(error: RingError<E>) -> Error<E> {
    match error {
        RingError::Failed(error) | RingError::Driver(error) => Error::Engine(error),
        RingError::Sync(error) => Error::Buffer(error),
        error => Error::Ring(error),
    }
}
