//! The DMA channels of AMD's Zynq UltraScale+ and Versal ("ZDMA", "GDMA",
//! "ADMA"), memory to memory, through UIO or emulated: one buffer to another in
//! simple mode, and lists of buffers in linked-list mode.
//!
//! Registers: UG1087, module ZDMA. Behaviour: UG1085, chapter "DMA Controller";
//! for Versal, AM011. The device tree gives a channel to this driver by
//! `compatible = "generic-uio"`.
//!
//! ```
//! # use std::time::Duration;
//! # use udmabuf::{Buffer, FromDevice, ToDevice, emulator::Emulator};
//! # use udmabuf_examples::zdma::Zdma;
//! # let emulator = Emulator::new().coherent();
//! # let faults = udmabuf_uio::emulator::Faults::default();
//! # let buffer = |size| emulator.buffer(size);
//! let zdma = Zdma::emulated(&emulator, &faults)?; // on a board: Zdma::open("dma")?
//! zdma.set_table(buffer(4096).into_shared()?)?; // for 128 descriptors
//!
//! let mut frame = buffer(4096).for_direction::<ToDevice>();
//! frame.as_mut_slice().fill(0x5a);
//! let (head, tail) = frame.split_at(1024)?;
//! let sources = vec![head.into_device()?, tail.into_device()?];
//! let destinations = vec![buffer(4096).for_direction::<FromDevice>().into_device()?];
//! let transfer = zdma.copy_list(sources, destinations)?;
//! let (sources, destinations) = transfer.wait(Duration::from_secs(1))?;
//! assert_eq!(destinations[0].as_slice(), [0x5a; 4096]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![allow(unsafe_code, reason = "vouches for the engine and for its registers")]

mod control;
mod fault;
mod list;
mod model;
mod registers;
mod table;
#[cfg(test)]
mod tests;

use std::{
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Waker,
    time::{Duration, Instant},
};

use udmabuf::{
    Addressed, Bidirectional, Buffer, Busy, DeviceOwned, Engine, FromDevice, Handoff, Progress,
    Shared, Slot, StartError, Started, ToDevice,
    emulator::{Bus, Emulator},
};
use udmabuf_uio::{
    By, Interrupt, Io, Mmio, Registers, Uio, UioDevice,
    emulator::{Emulated, Faults as DeviceFaults, emulate_with},
};

use self::{
    control::Control,
    registers::{MAX_LEN, Regs},
    table::Table,
};
pub use self::{
    fault::{Fault, Faults},
    table::DESCRIPTOR_LEN,
};

/// What goes wrong on a channel.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The device cannot be opened, or its interrupt not waited for.
    #[error(transparent)]
    Uio(#[from] udmabuf_uio::Error),
    /// A buffer is out of the engine's reach, or a range not in it.
    #[error(transparent)]
    Buffer(#[from] udmabuf::Error),
    /// The destination cannot hold the source.
    #[error("the source has {source_len} bytes, the destination only {destination_len}")]
    TooSmall {
        /// Bytes in the source.
        source_len: u64,
        /// Bytes in the destination.
        destination_len: u64,
    },
    /// More than one transfer, or one part of a list, can move.
    #[error("{0} bytes are more than the {MAX_LEN} that one transfer, or part of a list, can move")]
    TooLong(u64),
    /// There is nothing to copy.
    #[error("there is nothing to copy")]
    Empty,
    /// The channel has no memory for descriptors.
    #[error("the channel has no memory for descriptors: call `set_table` first")]
    NoTable,
    /// The list has more parts than the table has room for.
    #[error("the list needs {needed} bytes for its descriptors, and the table has {room}")]
    TableTooSmall {
        /// Bytes of the list's descriptors.
        needed: usize,
        /// Bytes of the table.
        room: usize,
    },
    /// A table does not start where a descriptor can.
    #[error("a table at {0:#x} is not at a multiple of {DESCRIPTOR_LEN}")]
    TableMisaligned(u64),
    /// The channel has reported faults.
    #[error("the channel reports: {0}")]
    Faults(Faults),
    /// A list was to be stopped, which took longer than anybody waited.
    #[error("the list ended early: it was told to stop")]
    CutShort,
    /// The channel does not come to rest.
    #[error("the channel is still busy after {0:?}")]
    NotIdle(Duration),
}

/// The buffers of a copy: source and destination.
pub type Pair = (Buffer<DeviceOwned, ToDevice>, Buffer<DeviceOwned, FromDevice>);
/// The buffers of a list: sources and destinations.
pub type Lists = (Vec<Buffer<DeviceOwned, ToDevice>>, Vec<Buffer<DeviceOwned, FromDevice>>);

/// A DMA channel that this process drives alone.
#[derive(Debug)]
pub struct Zdma<I: Io + Send = Mmio> {
    slot: Slot<Channel<I>>,
    control: Arc<Mutex<Control<I>>>,
    bus: Option<Bus>,
}

/// The channel's engine: what a transfer holds while it runs.
#[derive(Debug)]
pub struct Channel<I: Io = Mmio> {
    /// Shared with [`Zdma`], which can pause what is running.
    control: Arc<Mutex<Control<I>>>,
    interrupt: Interrupt,
    interrupts: u64,
    /// The emulated bus that the channel masters; none for hardware.
    bus: Option<Bus>,
}

/// Where UG1087 has the channels' registers: eight ADMA, eight GDMA, 64 KiB apart.
/// Versal's device tree has its eight at the first.
const CHANNELS: [Range<u64>; 2] = [0xffa8_0000..0xffb0_0000, 0xfd50_0000..0xfd58_0000];

impl Zdma {
    /// The channels that a driver in userspace can have, by their UIO devices:
    /// [`UioDevice::maps`] says where each has its registers, and
    /// `By::Address` opens it.
    ///
    /// # Errors
    /// [`Error::Uio`]
    pub fn list() -> Result<Vec<UioDevice>, Error> {
        let mut devices = Uio::list()?;
        devices.retain(|device| {
            device.maps.iter().any(|map| CHANNELS.iter().any(|all| all.contains(&map.address)))
        });
        Ok(devices)
    }

    /// Opens the first free channel that is a UIO device of this name, or found
    /// [by](By) something else; stops what is running there, and resets it.
    ///
    /// # Errors
    /// [`Error::Uio`], [`Error::NotIdle`]
    pub fn open<'a>(by: impl Into<By<'a>>) -> Result<Self, Error> {
        let uio = Uio::open(by)?;
        // SAFETY: the registers are those of UG1087, and DMA is started only by
        // `Control`, with the addresses of a transfer's buffers.
        let registers = unsafe { uio.registers(0)? };
        Self::new(registers, uio.into_interrupt()?, None)
    }
}

impl Zdma<Emulated> {
    /// Starts a model of a channel on the emulator's bus, in which things may go
    /// wrong.
    ///
    /// # Errors
    /// [`Error::Uio`]
    pub fn emulated(emulator: &Emulator, faults: &DeviceFaults) -> Result<Self, Error> {
        let bus = emulator.bus();
        let (registers, interrupt) = emulate_with(model::Model::new(bus.clone()), faults)?;
        Self::new(registers, interrupt, Some(bus))
    }
}

impl<I: Io + Send> Zdma<I> {
    fn new(
        registers: Registers<Regs, I>,
        interrupt: Interrupt,
        bus: Option<Bus>,
    ) -> Result<Self, Error> {
        let control = Arc::new(Mutex::new(Control::new(registers)?));
        let channel =
            Channel { control: control.clone(), interrupt, interrupts: 0, bus: bus.clone() };
        Ok(Self { slot: Slot::new(channel), control, bus })
    }

    /// Gives the channel memory for the descriptors of lists, [`DESCRIPTOR_LEN`]
    /// bytes a part, in place of what it had. It is free again when the channel
    /// is closed.
    ///
    /// # Errors
    /// [`Busy`] while a transfer is running; [`Error::TableMisaligned`],
    /// [`Error::Buffer`]. The memory is in the error.
    #[allow(clippy::type_complexity, reason = "a handoff, as elsewhere")]
    pub fn set_table<M: Addressed>(
        &self,
        table: Buffer<Shared, Bidirectional, M>,
    ) -> Result<(), Handoff<Buffer<Shared, Bidirectional, M>, StartError<Error>>> {
        let mut control = lock(&self.control);
        let refused = if !control.is_at_rest() {
            Err(Busy.into())
        } else if table.bus() != self.bus.as_ref() || table.made_for().is_some() {
            Err(StartError::OtherBus { buffer: table.name().to_owned() })
        } else {
            Table::check(table.dma_addr()).map_err(StartError::Refused)
        };
        match refused {
            Ok(()) => control.set_table(Table::new(Box::new(table))),
            Err(error) => return Err(Handoff { error, value: table }),
        }
        Ok(())
    }

    /// Copies the whole source to the start of the destination.
    ///
    /// # Errors
    /// [`Busy`] while a transfer is running; [`Error::TooSmall`],
    /// [`Error::TooLong`], [`Error::Buffer`]. The buffers are in the error.
    pub fn copy(
        &self,
        source: Buffer<DeviceOwned, ToDevice>,
        destination: Buffer<DeviceOwned, FromDevice>,
    ) -> Started<Channel<I>, Pair> {
        let range = 0..source.len();
        self.copy_range(source, range, destination, 0)
    }

    /// Copies `range` of the source to the destination, to `at` bytes from its
    /// start.
    ///
    /// # Errors
    /// As [`copy`](Self::copy), and [`Error::Empty`].
    pub fn copy_range(
        &self,
        source: Buffer<DeviceOwned, ToDevice>,
        range: Range<usize>,
        destination: Buffer<DeviceOwned, FromDevice>,
        at: usize,
    ) -> Started<Channel<I>, Pair> {
        self.slot.start((source, destination), |channel, (source, destination)| {
            let [source, destination] = list::range(source, range, destination, at)?;
            channel.control().copy(source, destination)
        })
    }

    /// Copies the sources, one behind the other, into the destinations, one
    /// behind the other, which may be other in number and length. What the
    /// destinations have beyond that stays as it is.
    ///
    /// # Errors
    /// As [`copy`](Self::copy), and [`Error::NoTable`], [`Error::TableTooSmall`],
    /// [`Error::Empty`].
    pub fn copy_list(
        &self,
        sources: Vec<Buffer<DeviceOwned, ToDevice>>,
        destinations: Vec<Buffer<DeviceOwned, FromDevice>>,
    ) -> Started<Channel<I>, Lists> {
        self.slot.start((sources, destinations), |channel, (sources, destinations)| {
            let (sources, destinations) = list::parts(sources, destinations)?;
            channel.control().copy_list(&sources, &destinations)
        })
    }

    /// Has lists, the running one and those to come, stop after each source, and
    /// not go on before [`resume`](Self::resume): the transfer stays in flight.
    /// A channel that has read ahead stops one source later. Copies that are no
    /// lists are not paused.
    ///
    /// # Errors
    /// [`Error::Buffer`]: the table was removed.
    pub fn pause(&self) -> Result<(), Error> {
        lock(&self.control).pause()
    }

    /// Whether a list has stopped, and waits for [`resume`](Self::resume).
    #[must_use]
    pub fn is_paused(&self) -> bool {
        lock(&self.control).is_paused()
    }

    /// The end of a [`pause`](Self::pause).
    ///
    /// # Errors
    /// As [`pause`](Self::pause).
    pub fn resume(&self) -> Result<(), Error> {
        lock(&self.control).resume()
    }

    /// How long stopping a transfer waits for the channel to come to rest: 10
    /// seconds, if not said otherwise.
    pub fn set_patience(&self, patience: Duration) {
        lock(&self.control).patience = patience;
    }

    /// Faults that did not touch the data: counters that have overflowed.
    #[must_use]
    pub fn warnings(&self) -> Faults {
        lock(&self.control).warnings
    }

    /// How many interrupts the channel has raised.
    ///
    /// # Errors
    /// [`Busy`]
    pub fn interrupts(&self) -> Result<u64, Busy> {
        self.slot.with(|channel| channel.interrupts)
    }
}

impl<I: Io> Channel<I> {
    fn control(&self) -> MutexGuard<'_, Control<I>> {
        lock(&self.control)
    }
}

fn lock<I: Io>(control: &Mutex<Control<I>>) -> MutexGuard<'_, Control<I>> {
    control.lock().unwrap_or_else(PoisonError::into_inner)
}

// SAFETY: the channel accesses memory only after `Control` has written the
// enable bit last: the buffers of the transfer, for as many bytes as both sides
// have, and the table, which it keeps. It is done once it has said "done" or
// "error", or was disabled while it was paused, and its state is neither busy
// nor paused; `pause` and `resume` start nothing then. `Uio` keeps other drivers
// out that heed locks; the model is this process's own.
unsafe impl<I: Io> Engine for Channel<I> {
    type Error = Error;

    fn bus(&self) -> Option<&Bus> {
        self.bus.as_ref()
    }

    fn poll(&mut self) -> Progress<Error> {
        match self.control().ended() {
            None => Progress::Running,
            Some(Ok(())) => Progress::Finished,
            Some(Err(error)) => Progress::Failed(error),
        }
    }

    fn park(&mut self, deadline: Instant) -> Result<(), Error> {
        self.interrupts += u64::from(self.interrupt.wait(deadline)?);
        Ok(())
    }

    fn register(&mut self, waker: &Waker) -> Result<(), Error> {
        self.interrupts += u64::from(self.interrupt.watch(waker)?);
        Ok(())
    }

    /// A list ends after the part that it is at, or the next one. A copy in
    /// simple mode cannot be broken off; it ends by itself.
    fn stop(&mut self) -> Result<(), Error> {
        self.control().stop()
    }
}
