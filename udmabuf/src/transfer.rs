//! A transfer in flight: it owns its buffers and its engine until the device
//! is done.

use std::{
    error::Error as StdError,
    fmt,
    time::{Duration, Instant},
};

use crate::{Engine, Error, Parts, Progress, Slot, batch, parts::sealed::Crate};

/// What an endless wait is cut to: far enough, and a clock can still count it.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// A transfer in flight.
///
/// It comes from a driver, which made it with [`Slot::start`]. Dropping it
/// stops the engine; if that fails, the buffers stay with the device for the
/// life of the process. Leaking it leaks the buffers and the engine with it.
///
/// # Async
/// A transfer can be awaited, on any executor; see [`Completion`](crate::Completion).
#[must_use = "dropping a transfer stops it: call `wait`"]
pub struct Transfer<E: Engine, P: Parts> {
    /// `None` only once the buffers have left, in `drop`.
    flight: Option<(E, P)>,
    slot: Slot<E>,
    /// How the device ended, once it has; what is left to do is the sync.
    ended: Outcome<E>,
}

/// How a device ended, if it has.
pub(crate) type Outcome<E> = Option<Result<(), <E as Engine>::Error>>;

/// Why a transfer did not give its buffers back, or gave them back unfinished.
///
/// ```
/// use std::time::Duration;
/// use udmabuf::{Buffer, Engine, Transfer, WaitError, DeviceOwned};
///
/// /// The buffer, filled or, after a second, as far as it was.
/// fn finish<E: Engine>(transfer: Transfer<E, Buffer<DeviceOwned>>) -> Option<Buffer> {
///     match transfer.wait(Duration::from_secs(1)) {
///         Ok(buffer) => Some(buffer),
///         Err(WaitError::Timeout { transfer, .. }) => transfer.stop().ok(),
///         Err(WaitError::Failed { error, buffers }) => {
///             eprintln!("the device gave up: {error}");
///             Some(buffers)
///         }
///         Err(_) => None, // dropping it stops the engine, or keeps the buffer
///     }
/// }
/// ```
pub enum WaitError<E: Engine, P: Parts> {
    /// It is still running.
    Timeout {
        /// How long was waited.
        waited: Duration,
        /// Still in flight: wait again, or stop it.
        transfer: Transfer<E, P>,
    },
    /// The device gave up.
    Failed {
        /// What it said.
        error: E::Error,
        /// The CPU's again; how much was transferred is the driver's to say.
        buffers: P::Cpu,
    },
    /// It is not known whether the device is done.
    Unknown {
        /// Why not.
        error: E::Error,
        /// To be taken as in flight: wait again, or stop it.
        transfer: Transfer<E, P>,
    },
    /// The device is done, but the buffers could not be synced.
    Sync {
        /// Why not.
        error: Error,
        /// `wait` tries the sync again.
        transfer: Transfer<E, P>,
    },
}

impl<E: Engine, P: Parts> Transfer<E, P> {
    pub(crate) fn new(engine: E, parts: P, slot: Slot<E>) -> Self {
        Self { flight: Some((engine, parts)), slot, ended: None }
    }

    /// Waits until the device is done, and gives the buffers back to the CPU.
    ///
    /// # Errors
    /// [`WaitError`]: after every error the buffers are in it, on their own or
    /// in the transfer.
    pub fn wait(self, timeout: Duration) -> Result<P::Cpu, WaitError<E, P>> {
        let start = Instant::now();
        self.wait_from(start, start + timeout.min(LONGEST_WAIT))
    }

    /// As [`wait`](Transfer::wait), until a point in time.
    ///
    /// # Errors
    /// As [`wait`](Transfer::wait).
    pub fn wait_until(self, deadline: Instant) -> Result<P::Cpu, WaitError<E, P>> {
        self.wait_from(Instant::now(), deadline)
    }

    /// Gives the buffers back if the device is done, without waiting.
    ///
    /// # Errors
    /// As [`wait`](Transfer::wait); [`WaitError::Timeout`] if it is not done.
    pub fn try_wait(mut self) -> Result<P::Cpu, WaitError<E, P>> {
        match self.look() {
            Ok(Some(outcome)) => self.finish(outcome),
            Ok(None) => Err(WaitError::Timeout { waited: Duration::ZERO, transfer: self }),
            Err(error) => Err(WaitError::Unknown { error, transfer: self }),
        }
    }

    fn wait_from(mut self, start: Instant, deadline: Instant) -> Result<P::Cpu, WaitError<E, P>> {
        if let Some(outcome) = self.ended.take() {
            return self.finish(outcome);
        }
        loop {
            let parked = self.engine().park(deadline);
            if let Some(outcome) = self.outcome() {
                return self.finish(outcome);
            }
            if let Err(error) = parked {
                return Err(WaitError::Unknown { error, transfer: self });
            }
            if Instant::now() >= deadline {
                let waited = deadline.saturating_duration_since(start);
                return Err(WaitError::Timeout { waited, transfer: self });
            }
        }
    }

    /// How the device ended, if it has: for who has not just waited for it.
    pub(crate) fn look(&mut self) -> Result<Outcome<E>, E::Error> {
        if self.ended.is_none() {
            self.engine().check()?;
        }
        Ok(self.outcome())
    }

    /// How the device ended, if it has.
    pub(crate) fn outcome(&mut self) -> Outcome<E> {
        if let Some(outcome) = self.ended.take() {
            return Some(outcome);
        }
        match self.engine().poll() {
            Progress::Finished => Some(Ok(())),
            Progress::Failed(error) => Some(Err(error)),
            Progress::Running => None,
        }
    }

    /// The buffers, which the device has. What is [`Shared`](crate::Shared) among
    /// them can be read meanwhile, by value.
    ///
    /// ```
    /// use udmabuf::{Buffer, Engine, FromDevice, Shared, Transfer};
    ///
    /// /// How many samples the device has written so far: it counts them.
    /// fn progress<E: Engine>(
    ///     transfer: &Transfer<E, Buffer<Shared, FromDevice>>,
    /// ) -> Result<u32, udmabuf::Error> {
    ///     transfer.buffers().read(0)
    /// }
    /// ```
    pub fn buffers(&self) -> &P {
        match &self.flight {
            Some((_, parts)) => parts,
            None => unreachable!("only `finish` empties a transfer, and it consumes it"),
        }
    }

    /// Stops the engine and gives the buffers back to the CPU, with whatever
    /// the device has transferred.
    ///
    /// # Errors
    /// [`WaitError::Unknown`] if the engine cannot be stopped,
    /// [`WaitError::Sync`], and [`WaitError::Failed`] if a wait found that the
    /// device had failed, but could not sync.
    pub fn stop(mut self) -> Result<P::Cpu, WaitError<E, P>> {
        if let Some(outcome) = self.ended.take() {
            return self.finish(outcome);
        }
        match self.engine().stop() {
            Ok(()) => self.finish(Ok(())),
            Err(error) => Err(WaitError::Unknown { error, transfer: self }),
        }
    }

    pub(crate) fn engine(&mut self) -> &mut E {
        match &mut self.flight {
            Some((engine, _)) => engine,
            None => unreachable!("only `finish` empties a transfer, and it consumes it"),
        }
    }

    /// The device is done: syncs, and puts the engine back into its slot.
    pub(crate) fn finish(
        mut self,
        outcome: Result<(), E::Error>,
    ) -> Result<P::Cpu, WaitError<E, P>> {
        match self.flight.take() {
            Some((engine, parts)) => match batch::sync_for_cpu(&parts) {
                Ok(()) => {
                    self.slot.put(engine);
                    let buffers = parts.assume_cpu(Crate);
                    match outcome {
                        Ok(()) => Ok(buffers),
                        Err(error) => Err(WaitError::Failed { error, buffers }),
                    }
                }
                Err(error) => {
                    self.ended = Some(outcome);
                    self.flight = Some((engine, parts));
                    Err(WaitError::Sync { error, transfer: self })
                }
            },
            None => unreachable!("only `finish` empties a transfer, and it consumes it"),
        }
    }
}

impl<E: Engine, P: Parts> Drop for Transfer<E, P> {
    fn drop(&mut self) {
        let Some((mut engine, parts)) = self.flight.take() else {
            return;
        };
        // Without a successful stop both are dropped as they are: the buffers,
        // device-owned, stay; the engine never returns to its slot.
        if engine.stop().is_ok() && batch::sync_for_cpu(&parts).is_ok() {
            drop(parts.assume_cpu(Crate));
            self.slot.put(engine);
        }
    }
}

impl<E: Engine, P: Parts> fmt::Debug for Transfer<E, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transfer").finish_non_exhaustive()
    }
}

impl<E: Engine, P: Parts> fmt::Display for WaitError<E, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout { waited, .. } => write!(
                f,
                "the transfer is not done after {waited:?}: the device still owns the buffers; wait again, or stop it"
            ),
            Self::Failed { error, .. } => write!(f, "the device gave up: {error}"),
            Self::Unknown { error, .. } => {
                write!(f, "the device may still own the buffers: {error}")
            }
            Self::Sync { error, .. } => write!(f, "the transfer is done, but {error}"),
        }
    }
}

impl<E: Engine, P: Parts> fmt::Debug for WaitError<E, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<E: Engine, P: Parts> StdError for WaitError<E, P> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Timeout { .. } => None,
            Self::Failed { error, .. } | Self::Unknown { error, .. } => error.source(),
            Self::Sync { error, .. } => error.source(),
        }
    }
}
