//! The seam to the hardware: what a driver vouches for, and where an idle
//! engine waits for work.
#![allow(unsafe_code, reason = "declares the unsafe trait by which a driver vouches")]

use std::{
    error::Error as StdError,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Waker,
    time::Instant,
};

use crate::{
    Handoff, Parts, Transfer, batch,
    emulator::Bus,
    parts::{check_bus, sealed::Crate},
};

/// A DMA engine that runs one transfer at a time, as a driver sees it.
///
/// ```
/// use std::{convert::Infallible, time::{Duration, Instant}};
/// use udmabuf::{Buffer, DeviceOwned, Engine, FromDevice, Progress, Slot, Started};
/// use udmabuf::emulator::{Bus, Emulator};
///
/// /// A device that fills a buffer with ones, at once; a real one has registers
/// /// and an interrupt instead of the bus.
/// struct Filler(Bus);
///
/// impl Filler {
///     fn program(&mut self, buffer: &Buffer<DeviceOwned, FromDevice>) -> Result<(), Infallible> {
///         let ones = vec![1; buffer.len()];
///         self.0.write(buffer.dma_addr().to_u64(), &ones).expect("it was handed over");
///         Ok(())
///     }
/// }
///
/// // SAFETY: it writes the buffer in `program`, and never again.
/// unsafe impl Engine for Filler {
///     type Error = Infallible;
///     fn bus(&self) -> Option<&Bus> { Some(&self.0) } // hardware has no need of this
///     fn poll(&mut self) -> Progress<Infallible> { Progress::Finished }
///     fn park(&mut self, _deadline: Instant) -> Result<(), Infallible> { Ok(()) }
///     fn stop(&mut self) -> Result<(), Infallible> { Ok(()) }
/// }
///
/// let emulator = Emulator::new();
/// let engine = Slot::new(Filler(emulator.bus()));
/// let buffer = emulator.buffer(64).for_direction::<FromDevice>().into_device()?;
/// let transfer = engine.start(buffer, Filler::program)?;
/// let buffer = transfer.wait(Duration::from_millis(10))?;
/// assert_eq!(buffer.as_slice(), [1; 64]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Safety
/// This is the one promise a driver makes, and all of it. From the moment
/// [`Slot::start`] has run `program` on the engine, the device may access the
/// buffers of that transfer, and it accesses no other buffer. It no longer
/// accesses any of them, and will not until the next `start`, once
/// - `program` has returned an error,
/// - [`poll`](Engine::poll) has said [`Progress::Finished`] or [`Progress::Failed`], or
/// - [`stop`](Engine::stop) has succeeded.
///
/// It writes only those that were handed over [`FromDevice`](crate::FromDevice) or
/// [`Bidirectional`](crate::Bidirectional), or are [`Shared`](crate::Shared).
///
/// And [`bus`](Engine::bus) is the bus that the device masters, on which it finds
/// what it [reaches](Engine::reaches) at the addresses that those buffers have.
///
/// Should `program` panic, the engine is dropped, and the buffers stay with the
/// device.
///
/// Whoever else can write the engine's registers could break that promise, so
/// it includes keeping them out as far as that can be done: a second handle in
/// this process, other programs that heed locks, and safe code outside the
/// driver, which must not get a `&mut` to the engine.
///
/// A program can die with a transfer running. So a driver that opens its device
/// stops it before anything else.
pub unsafe trait Engine {
    /// What goes wrong on this engine.
    type Error: StdError + Send + Sync + 'static;

    /// The emulated bus that this engine masters; `None` for hardware, the
    /// default. Buffers on another bus are refused before `program` sees their
    /// addresses, which mean nothing to this engine.
    fn bus(&self) -> Option<&Bus> {
        None
    }

    /// Whether the device is still there, without blocking, and without access to
    /// what may be gone: its registers. Asked before anything is started, and before
    /// a [`poll`](Engine::poll) that comes neither after [`park`](Engine::park) nor
    /// after [`register`](Engine::register), which find out by themselves.
    ///
    /// The default says yes, which is right for a device that stays where it is. To
    /// access the registers of a PCI card that was removed can end the program; its
    /// driver asks `Interrupt::check` of `udmabuf-uio`, which sees to it that they
    /// can be accessed all the same.
    ///
    /// # Errors
    /// It is gone.
    fn check(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }

    /// Whether hardware finds, at the address that it has, a buffer that was made
    /// for this device ([`CreateOptions::parent`](crate::CreateOptions::parent),
    /// the property `bind`), as in `pci/0000:00:02.0`; or, with `None`, for no
    /// device in particular. Others are refused before `program` sees their
    /// addresses: at those this engine may find other memory.
    ///
    /// The default is right where no IOMMU is in front of the engine. An engine
    /// behind one has addresses of its own, and reaches only what was made for it:
    ///
    /// ```
    /// # struct Card { address: String, is_translated: bool }
    /// # impl Card {
    /// fn reaches(&self, made_for: Option<&str>) -> bool {
    ///     match made_for.map(|device| device.strip_prefix("pci/")) {
    ///         Some(device) => device == Some(&self.address),
    ///         None => !self.is_translated, // `PciDevice` of `udmabuf-uio` has both
    ///     }
    /// }
    /// # }
    /// # let card = Card { address: "0000:00:02.0".into(), is_translated: true };
    /// # assert!(card.reaches(Some("pci/0000:00:02.0")));
    /// # assert!(!card.reaches(Some("pci/0000:00:03.0")) && !card.reaches(None));
    /// ```
    fn reaches(&self, made_for: Option<&str>) -> bool {
        made_for.is_none()
    }

    /// Asks the device how far it is, without blocking, and clears its
    /// interrupt.
    fn poll(&mut self) -> Progress<Self::Error>;

    /// Blocks until the engine's interrupt or the deadline, whichever is first.
    /// It may return early; `poll` decides.
    ///
    /// # Errors
    /// The interrupt cannot be waited for.
    fn park(&mut self, deadline: Instant) -> Result<(), Self::Error>;

    /// Sees to it that `waker` is woken when the engine's interrupt fires, for a
    /// transfer that is [awaited](crate::Transfer#async). It may be woken early,
    /// and what was registered before need not be woken any more.
    ///
    /// The default wakes it at once, so the transfer is polled over and over:
    /// right, but busy. A driver that can have its interrupt watched (by the
    /// executor, or a thread of its own) does better.
    ///
    /// # Errors
    /// The interrupt cannot be watched.
    fn register(&mut self, waker: &Waker) -> Result<(), Self::Error> {
        waker.wake_by_ref();
        Ok(())
    }

    /// Stops the transfer, blocking until the device accesses memory no more.
    /// Stopping an idle engine succeeds. A driver that does it by registers asks
    /// first whether they are there: nobody else has.
    ///
    /// # Errors
    /// The device may still access memory.
    fn stop(&mut self) -> Result<(), Self::Error>;
}

/// How far a transfer is.
#[derive(Debug)]
pub enum Progress<E> {
    /// The device may still access the buffers.
    Running,
    /// All data is where it should be, and the device is done.
    Finished,
    /// The device gave up, and accesses the buffers no more.
    Failed(E),
}

/// Where an engine is while it is idle.
///
/// A transfer takes the engine out and puts it back when the device is done.
/// So an engine that is here is idle, and a transfer that is leaked, or cannot
/// be stopped, takes its engine along: through this slot the device can never be
/// started again under buffers that are still in use.
#[derive(Debug)]
pub struct Slot<E>(Arc<Mutex<Option<E>>>);

/// The engine is not in its [`Slot`]: a transfer has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the engine is busy: wait for its transfer, or stop it")]
pub struct Busy;

/// Why a transfer was not started.
#[derive(Debug, thiserror::Error)]
pub enum StartError<E: StdError + 'static> {
    /// The engine already runs a transfer, or one that could not be stopped.
    #[error(transparent)]
    Busy(#[from] Busy),
    /// A buffer is emulated and the engine is not, or the other way round, or
    /// they belong to different emulators; or it was made for a device that is not
    /// the engine's, which does not [reach](Engine::reaches) it.
    #[error(
        "{buffer} is not on the engine's bus: both are hardware, or both of one emulator (`Emulator::attach` adds a buffer); and what is made for one device (`CreateOptions::parent`), as an engine behind an IOMMU needs it, no other one reaches"
    )]
    OtherBus {
        /// The buffer's name.
        buffer: String,
    },
    /// The driver refused it, or its device is gone.
    #[error(transparent)]
    Refused(E),
}

/// What a driver's start functions return: the transfer, or why there is none
/// and the buffers, the CPU's again.
pub type Started<E, P> =
    Result<Transfer<E, P>, Handoff<<P as Parts>::Cpu, StartError<<E as Engine>::Error>>>;

impl<E: Engine> Slot<E> {
    /// Puts an engine in, idle.
    pub fn new(engine: E) -> Self {
        Self(Arc::new(Mutex::new(Some(engine))))
    }

    /// Starts a transfer: `program` checks the buffers against what the engine
    /// can do, writes their addresses into its registers and last of all its
    /// doorbell.
    ///
    /// # Errors
    /// The engine is busy, is on another bus or gone, or `program` failed; the
    /// device has not touched the buffers, and they are in [`Handoff::value`]. Should
    /// even their sync fail, those that a device may write, by their direction, are
    /// zeros.
    pub fn start<P: Parts>(
        &self,
        parts: P,
        program: impl FnOnce(&mut E, &P) -> Result<(), E::Error>,
    ) -> Started<E, P> {
        let Some(mut engine) = self.lock().take() else {
            return Err(not_started(parts, Busy.into()));
        };
        if let Err(buffer) = check_bus(&parts, &engine) {
            self.put(engine);
            return Err(not_started(parts, StartError::OtherBus { buffer }));
        }
        match engine.check().and_then(|()| program(&mut engine, &parts)) {
            Ok(()) => Ok(Transfer::new(engine, parts, Self(self.0.clone()))),
            Err(error) => {
                self.put(engine);
                Err(not_started(parts, StartError::Refused(error)))
            }
        }
    }

    /// Runs `f` on the engine while it is idle; meanwhile the engine is busy.
    ///
    /// # Errors
    /// [`Busy`]
    pub fn with<R>(&self, f: impl FnOnce(&mut E) -> R) -> Result<R, Busy> {
        // Taken out, not locked: `f` may take its time, and ask here again.
        let mut engine = self.lock().take().ok_or(Busy)?;
        let result = f(&mut engine);
        self.put(engine);
        Ok(result)
    }

    pub(crate) fn put(&self, engine: E) {
        *self.lock() = Some(engine);
    }

    fn lock(&self) -> MutexGuard<'_, Option<E>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives parts back that no device has touched.
fn not_started<P: Parts, E>(parts: P, error: E) -> Handoff<P::Cpu, E> {
    batch::call_back(&parts);
    Handoff { error, value: parts.assume_cpu(Crate) }
}
