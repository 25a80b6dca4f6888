//! Streaming: parts that go round between CPU and device.
#![allow(unsafe_code, reason = "declares the unsafe trait by which a driver vouches")]

use std::{
    error::Error as StdError,
    fmt, mem,
    time::{Duration, Instant},
};

use crate::{
    Addressed, Buffer, CpuOwned, DeviceOwned, Direction, DmaAddr, Error, Handoff, Progress,
    emulator::Bus, transfer::LONGEST_WAIT,
};

/// A DMA engine that takes parts in advance and works through them in order, as
/// cyclic and scatter-gather engines do.
///
/// # Safety
/// The promise of [`Engine`](crate::Engine), for many: from the moment `submit`
/// has been called with a part, the device may access it, and it accesses nothing
/// else. It no longer accesses
/// - the oldest part, once [`poll`](Stream::poll) has said [`Progress::Finished`]:
///   each time it says so is about the next one;
/// - any part, once `poll` has said [`Progress::Failed`], or
///   [`stop`](Stream::stop) has succeeded;
/// - the part of a `submit` that failed.
///
/// A part of a `submit` that panicked counts as submitted. And [`bus`](Stream::bus)
/// is the bus that the device masters, on which it finds what it
/// [reaches](Stream::reaches) at the addresses that those buffers have. It writes
/// parts only if [`Direction`](Stream::Direction) says so.
pub unsafe trait Stream {
    /// What goes wrong on this engine.
    type Error: StdError + Send + Sync + 'static;

    /// Which way all its parts go: an engine that writes memory has parts that are
    /// handed over [`FromDevice`](crate::FromDevice) or
    /// [`Bidirectional`](crate::Bidirectional), one that reads it not the first.
    type Direction: Direction;

    /// The emulated bus that this engine masters; `None` for hardware.
    fn bus(&self) -> Option<&Bus> {
        None
    }

    /// As [`Engine::reaches`](crate::Engine::reaches).
    fn reaches(&self, made_for: Option<&str>) -> bool {
        made_for.is_none()
    }

    /// Queues a part behind those that it has, without blocking.
    ///
    /// # Safety
    /// The part is on the engine's bus and the device's, and stays so until the
    /// device no longer accesses it.
    ///
    /// # Errors
    /// The part is refused; those before it go on.
    unsafe fn submit(&mut self, part: DmaAddr) -> Result<(), Self::Error>;

    /// Whether the device is still there, as [`Engine::check`](crate::Engine::check);
    /// asked before a part is submitted or waited for.
    ///
    /// # Errors
    /// It is gone.
    fn check(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }

    /// Asks the device whether the oldest part is done, without blocking.
    fn poll(&mut self) -> Progress<Self::Error>;

    /// Whether, since this was last asked, the device had data and no part to put
    /// it into, or was due to send and had none; `false`, the default, for
    /// engines that wait.
    fn overrun(&mut self) -> bool {
        false
    }

    /// Blocks until the engine's interrupt or the deadline, whichever is first.
    /// It may return early; `poll` decides.
    ///
    /// # Errors
    /// The interrupt cannot be waited for.
    fn park(&mut self, deadline: Instant) -> Result<(), Self::Error>;

    /// Stops the device, blocking until it accesses memory no more. Stopping an
    /// idle engine succeeds.
    ///
    /// # Errors
    /// The device may still access memory.
    fn stop(&mut self) -> Result<(), Self::Error>;
}

/// Parts that go round: the CPU fills one, or frees it, and submits it; the
/// device works through them; the CPU gets them back in the same order.
///
/// It allocates nothing after it was made. Dropping it stops the engine; if that
/// fails, the parts that the device has stay with it.
///
/// ```
/// # use std::{convert::Infallible, time::{Duration, Instant}};
/// # use udmabuf::{DmaAddr, Progress, Ring, Stream, FromDevice, emulator::{Bus, Emulator}};
/// # struct Camera(Bus);
/// # // SAFETY: it writes the part in `submit`, and never again.
/// # unsafe impl Stream for Camera {
/// #     type Error = Infallible;
/// #     type Direction = FromDevice;
/// #     fn bus(&self) -> Option<&Bus> { Some(&self.0) }
/// #     unsafe fn submit(&mut self, part: DmaAddr) -> Result<(), Infallible> {
/// #         self.0.write(part.to_u64(), &vec![1; 1024]).expect("it was handed over");
/// #         Ok(())
/// #     }
/// #     fn poll(&mut self) -> Progress<Infallible> { Progress::Finished }
/// #     fn park(&mut self, _: Instant) -> Result<(), Infallible> { Ok(()) }
/// #     fn stop(&mut self) -> Result<(), Infallible> { Ok(()) }
/// # }
/// # let emulator = Emulator::new();
/// # let camera = Camera(emulator.bus());
/// let frames = emulator.buffer(4096).for_direction().into_chunks(1024)?; // the camera's
/// let mut ring = Ring::new(camera, frames)?;
/// while ring.submit().is_ok() {} // all of them are the device's
/// for _ in 0..100 {
///     let frame = ring.complete(Duration::from_millis(10))?; // the oldest
///     assert_eq!(frame.as_slice(), [1; 1024]);
///     ring.submit()?; // the device's again
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Ring<E: Stream, M: Addressed> {
    /// `None` only once the ring was stopped.
    engine: Option<E>,
    parts: Box<[Place<E::Direction, M>]>,
    /// Where the oldest part at the device is.
    oldest: usize,
    in_flight: usize,
    /// Whether the device is done with the oldest, which is not synced yet.
    is_done: bool,
}

/// A part, with its owner.
enum Place<D: Direction, M: Addressed> {
    Cpu(Buffer<CpuOwned, D, M>),
    Device(Buffer<DeviceOwned, D, M>),
    /// Only while it is handed over.
    Moving,
}

/// A part of a ring that the CPU has.
type CpuPart<E, M> = Buffer<CpuOwned, <E as Stream>::Direction, M>;

/// What a stopped ring was made of: the engine, and all parts in order.
pub type Stopped<E, M> = (E, Vec<CpuPart<E, M>>);

/// A ring that was not stopped, and why.
pub type NotStopped<E, M> = Handoff<Ring<E, M>, RingError<<E as Stream>::Error>>;

/// Why a ring did not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RingError<E: StdError + 'static> {
    /// The device has all parts: complete one first.
    #[error("the device has all {0} parts: complete one before the next is submitted")]
    Full(usize),
    /// The device has no part: submit one first.
    #[error("the device has no part: submit one before the next is completed")]
    Empty,
    /// The oldest part is not done yet.
    #[error("the oldest part is not done after {0:?}: complete it later, or stop the ring")]
    Timeout(Duration),
    /// The device ran out of parts and lost data. The ring goes on.
    #[error("the device ran out of parts and lost data: submit them earlier, or more of them")]
    Overrun,
    /// The device gave up; all parts are the CPU's again.
    #[error("the device gave up: {0}")]
    Failed(E),
    /// The driver refused the part, which is still the CPU's, or cannot tell how
    /// far the device is.
    #[error(transparent)]
    Driver(E),
    /// A part could not be handed over or taken back: it is with the owner that it
    /// had.
    #[error(transparent)]
    Sync(Error),
}

impl<D: Direction, M: Addressed> Place<D, M> {
    fn hand_over(&mut self) -> Result<(), Error> {
        let (place, result) = match mem::replace(self, Self::Moving) {
            Self::Cpu(part) => match part.into_device() {
                Ok(part) => (Self::Device(part), Ok(())),
                Err(Handoff { error, value }) => (Self::Cpu(value), Err(error)),
            },
            other => (other, Ok(())),
        };
        *self = place;
        result
    }

    /// # Safety
    /// The device no longer accesses the part.
    unsafe fn take_back(&mut self) -> Result<(), Error> {
        let (place, result) = match mem::replace(self, Self::Moving) {
            // SAFETY: the caller's.
            Self::Device(part) => match unsafe { part.into_cpu() } {
                Ok(part) => (Self::Cpu(part), Ok(())),
                Err(Handoff { error, value }) => (Self::Device(value), Err(error)),
            },
            other => (other, Ok(())),
        };
        *self = place;
        result
    }
}

impl<E: Stream, M: Addressed> Ring<E, M> {
    /// A ring of these parts, all the CPU's; the engine is idle.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if there are no parts, or one is not on the
    /// engine's bus; all is in [`Handoff::value`].
    pub fn new(engine: E, parts: Vec<CpuPart<E, M>>) -> Result<Self, Handoff<Stopped<E, M>>> {
        let stranger = parts.iter().find(|part| !is_on(part, &engine));
        let refused = match stranger {
            Some(part) => Some((
                part.name().into(),
                "its bus addresses are not the engine's: another bus, or made for another device",
            )),
            None if parts.is_empty() => Some(("ring".into(), "it has no parts")),
            None => None,
        };
        if let Some((name, what)) = refused {
            let error = Error::Unsupported { name, what };
            return Err(Handoff { error, value: (engine, parts) });
        }
        let parts = parts.into_iter().map(Place::Cpu).collect();
        Ok(Self { engine: Some(engine), parts, oldest: 0, in_flight: 0, is_done: false })
    }

    /// How many parts the device has.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// The part that is submitted next, to be filled; `None` while the device has
    /// all of them.
    ///
    /// ```no_run
    /// # use udmabuf::{Ring, Stream, ToDevice, Cached};
    /// # fn send<E: Stream<Direction = ToDevice>>(mut ring: Ring<E, Cached>) -> Result<(), Box<dyn std::error::Error>> {
    /// while let Some(frame) = ring.next_mut() {
    ///     frame.as_mut_slice().fill(0);
    ///     ring.submit()?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn next_mut(&mut self) -> Option<&mut CpuPart<E, M>> {
        match self.next_place() {
            Some(Place::Cpu(part)) => Some(part),
            _ => None,
        }
    }

    /// Hands the next part to the device.
    ///
    /// # Errors
    /// [`RingError::Full`]; [`RingError::Driver`] and [`RingError::Sync`], with
    /// the part not submitted. Another buffer that was put in its place must be
    /// on the engine's bus, as in [`new`](Ring::new).
    pub fn submit(&mut self) -> Result<(), RingError<E::Error>> {
        let full = RingError::Full(self.parts.len());
        self.check()?;
        self.check_next().map_err(RingError::Sync)?;
        let Some(place) = self.next_place() else { return Err(full) };
        // SAFETY: it is not in flight: if it is the device's type still, then its
        // sync failed after the device was done with it.
        unsafe { place.take_back() }.map_err(RingError::Sync)?;
        place.hand_over().map_err(RingError::Sync)?;
        let Place::Device(part) = place else { return Err(full) };
        let addr = part.dma_addr();
        // The device may have it, should `submit` panic.
        self.in_flight += 1;
        // SAFETY: just handed over, on the engine's bus (checked), and taken back
        // only if this fails, or once the contract of `Stream` lets it.
        if let Err(error) = unsafe { self.engine().submit(addr) } {
            self.in_flight -= 1;
            if let Some(place) = self.next_place() {
                // Should this fail, the next `submit` does it.
                // SAFETY: by the contract of `Stream`, the device has not got it.
                let _ = unsafe { place.take_back() };
            }
            return Err(RingError::Driver(error));
        }
        Ok(())
    }

    /// Waits until the device is done with its oldest part, and gives it to the
    /// CPU, until it is submitted again.
    ///
    /// # Errors
    /// [`RingError`]; only after [`RingError::Failed`] has the device no parts
    /// any more.
    pub fn complete(
        &mut self,
        timeout: Duration,
    ) -> Result<&mut CpuPart<E, M>, RingError<E::Error>> {
        if self.in_flight == 0 {
            return Err(RingError::Empty);
        }
        if !self.is_done {
            self.wait(timeout)?;
            self.is_done = true;
        }
        let (oldest, len) = (self.oldest, self.parts.len());
        let Some(place) = self.parts.get_mut(oldest) else { return Err(RingError::Empty) };
        // SAFETY: by the contract of `Stream`, the device is done with it.
        unsafe { place.take_back() }.map_err(RingError::Sync)?;
        self.is_done = false;
        self.oldest = (oldest + 1) % len;
        self.in_flight -= 1;
        match place {
            Place::Cpu(part) => Ok(part),
            _ => Err(RingError::Empty),
        }
    }

    /// Stops the engine, and gives it back with all parts: first those that the
    /// device had, oldest first.
    ///
    /// # Errors
    /// The ring is in [`Handoff::value`]: the engine cannot be stopped
    /// ([`RingError::Driver`]), or a part not be synced.
    pub fn stop(mut self) -> Result<Stopped<E, M>, NotStopped<E, M>> {
        if let Err(error) = self.recall() {
            return Err(Handoff { error, value: self });
        }
        let Some(engine) = self.engine.take() else {
            unreachable!("only `stop` takes the engine, and it consumes the ring")
        };
        let mut parts = mem::take(&mut self.parts).into_vec();
        parts.rotate_left(self.oldest);
        let parts = parts.into_iter().filter_map(|place| match place {
            Place::Cpu(part) => Some(part),
            _ => None,
        });
        Ok((engine, parts.collect()))
    }

    /// Stops the engine; all parts are the CPU's then.
    fn recall(&mut self) -> Result<(), RingError<E::Error>> {
        self.engine().stop().map_err(RingError::Driver)?;
        self.take_all_back().map_err(RingError::Sync)
    }

    /// The device has no parts any more.
    fn take_all_back(&mut self) -> Result<(), Error> {
        (self.in_flight, self.is_done) = (0, false);
        let mut result = Ok(());
        for place in &mut self.parts {
            // SAFETY: the callers know that the engine has stopped, or failed.
            result = result.and(unsafe { place.take_back() });
        }
        result
    }

    fn wait(&mut self, timeout: Duration) -> Result<(), RingError<E::Error>> {
        let deadline = Instant::now() + timeout.min(LONGEST_WAIT);
        self.check()?;
        loop {
            if self.engine().overrun() {
                return Err(RingError::Overrun);
            }
            match self.engine().poll() {
                Progress::Finished => return Ok(()),
                Progress::Failed(error) => {
                    // What cannot be synced is, when it is submitted.
                    let _ = self.take_all_back();
                    return Err(RingError::Failed(error));
                }
                Progress::Running if Instant::now() >= deadline => {
                    return Err(RingError::Timeout(timeout));
                }
                Progress::Running => self.engine().park(deadline).map_err(RingError::Driver)?,
            }
        }
    }

    /// The engine's registers may be accessed.
    fn check(&mut self) -> Result<(), RingError<E::Error>> {
        self.engine().check().map_err(RingError::Driver)
    }

    fn engine(&mut self) -> &mut E {
        match &mut self.engine {
            Some(engine) => engine,
            None => unreachable!("only `stop` takes the engine, and it consumes the ring"),
        }
    }

    /// Refuses a part on another bus: whoever fills a part can put any other
    /// buffer in its place.
    fn check_next(&self) -> Result<(), Error> {
        let next = (self.oldest + self.in_flight) % self.parts.len();
        match (self.parts.get(next), &self.engine) {
            (Some(Place::Cpu(part)), Some(engine)) if !is_on(part, engine) => {
                let what = "its bus addresses are not the engine's: another bus, or made for another device";
                Err(Error::Unsupported { name: part.name().into(), what })
            }
            _ => Ok(()),
        }
    }

    /// The place behind those that are in flight, if not all are.
    fn next_place(&mut self) -> Option<&mut Place<E::Direction, M>> {
        let len = self.parts.len();
        match self.in_flight < len {
            true => self.parts.get_mut((self.oldest + self.in_flight) % len),
            false => None,
        }
    }
}

/// Whether the part's bus addresses are those of the engine.
fn is_on<E: Stream, M: Addressed>(part: &CpuPart<E, M>, engine: &E) -> bool {
    part.part().memory().is_on(engine.bus(), |device| engine.reaches(device))
}

impl<E: Stream, M: Addressed> Drop for Ring<E, M> {
    fn drop(&mut self) {
        // Unless it succeeds, the parts are dropped as they are: the device's stay.
        if self.engine.is_some() && self.in_flight != 0 {
            let _ = self.recall();
        }
    }
}

impl<E: Stream, M: Addressed> fmt::Debug for Ring<E, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ring({} of {} parts in flight)", self.in_flight, self.parts.len())
    }
}
