//! The two channels as a program has them.

use std::{fmt, marker::PhantomData, sync::Arc};

use udmabuf::{
    Addressed, Bidirectional, Buffer, CpuOwned, DeviceAccess, DeviceOwned, Direction, FromDevice,
    Handoff, Parts, Ring, Slot, Started, Stopped, ToDevice,
};
use udmabuf_uio::{Io, Mmio};

use super::{
    Error, Laps, Moved, Side,
    channel::{Channel, Queue},
    core::Core,
    descriptors::{Descriptors, Returned},
    lane::{Flight, Lane},
    start::Piece,
};

/// A channel with which this process moves data in direction `D`: [`Mm2s`] or
/// [`S2mm`].
pub struct Port<I: Io, D> {
    slot: Slot<Channel<I>>,
    core: Arc<Core<I>>,
    direction: PhantomData<fn() -> D>,
}

/// The channel from memory to the stream.
pub type Mm2s<I = Mmio> = Port<I, ToDevice>;

/// The channel from the stream to memory.
pub type S2mm<I = Mmio> = Port<I, FromDevice>;

/// A buffer that is the device's.
type Lent<D, M> = Buffer<DeviceOwned, D, M>;

/// How many packets make an interrupt, in a ring: PG021, "Interrupt Coalescing".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coalescing {
    /// So many, at least 1.
    pub packets: u8,
    /// Or, after a packet, this much time without one, in 125 cycles of the
    /// descriptors' clock; 0 is never.
    pub delay: u8,
}

impl Coalescing {
    /// Each packet interrupts.
    pub const EACH: Self = Self { packets: 1, delay: 0 };
}

/// Directions that a channel has.
pub trait Way: Direction {
    /// The channel's.
    const SIDE: Side;
}

impl Way for ToDevice {
    const SIDE: Side = Side::Mm2s;
}

impl Way for FromDevice {
    const SIDE: Side = Side::S2mm;
}

impl<I: Io, D: Way> Port<I, D> {
    pub(super) fn new(core: Arc<Core<I>>) -> Self {
        let slot = Slot::new(Channel { core: core.clone(), side: D::SIDE });
        Self { slot, core, direction: PhantomData }
    }

    pub(super) fn core(&self) -> &Core<I> {
        &self.core
    }

    pub(super) fn has_scatter_gather(&self) -> bool {
        self.core.scatter_gather
    }

    /// Gives the channel memory for descriptors, of which each has 64 bytes and
    /// is for a part in flight: for a core with scatter-gather, which transfers
    /// nothing without. The memory is free again when all that is left of the
    /// core is dropped.
    ///
    /// # Errors
    /// [`Error::Buffer`]: the memory cannot be shared with the core (it is cached
    /// and the device not coherent), is out of its reach or on another bus;
    /// [`Error::NoScatterGather`], [`Error::Misaligned`],
    /// [`Error::TooFewDescriptors`]; [`Error::Busy`] if the channel has some or is
    /// busy. The buffer is in [`Handoff::value`], unless even taking it back failed.
    pub fn use_descriptors<M: Addressed>(
        &self,
        memory: Buffer<CpuOwned, Bidirectional, M>,
    ) -> Result<(), Returned<M>> {
        let refused = |error, memory| Err(Handoff { error, value: Some(memory) });
        if !self.core.scatter_gather {
            return refused(Error::NoScatterGather(0), memory);
        }
        let mut state = self.core.lock();
        let lane = state.lane(D::SIDE);
        if lane.descriptors.is_some() || !matches!(lane.flight, Flight::Idle) {
            return refused(Error::Busy(D::SIDE), memory);
        }
        if memory.bus() != self.core.bus.as_ref() || memory.made_for().is_some() {
            let name = memory.name().into();
            let what = "not on the core's bus";
            return refused(udmabuf::Error::Unsupported { name, what }.into(), memory);
        }
        lane.descriptors = Some(Descriptors::share(memory, self.core.build)?);
        Ok(())
    }

    /// Transfers the parts over and over, each one a packet, until the transfer is
    /// stopped: waiting for it times out. [`laps`](Self::laps) says how far it is.
    /// Parts that are shared can be [read](S2mm::copy_part) meanwhile.
    ///
    /// # Errors
    /// [`udmabuf::Busy`]; [`Error`]. The buffers are in the error.
    pub fn repeat<O: DeviceAccess, M: Addressed>(
        &self,
        parts: Vec<Buffer<O, D, M>>,
    ) -> Started<Channel<I>, Vec<Buffer<O, D, M>>>
    where
        Buffer<O, D, M>: Parts,
    {
        self.slot.start(parts, |channel, parts| {
            let pieces: Vec<_> = parts.iter().map(|part| whole(part)).collect();
            channel.core.start_cyclic(D::SIDE, &pieces)
        })
    }

    /// How far a channel is that [repeats](Self::repeat) its parts; `None` if it
    /// does not.
    ///
    /// # Errors
    /// [`Error::Descriptor`]: the core has written what none writes.
    pub fn laps(&self) -> Result<Option<Laps>, Error> {
        self.core.laps(D::SIDE)
    }

    /// What has moved in the last transfer up to now, part by part; of a ring or
    /// what repeats, the last part. (In direct register mode nothing is known
    /// before the transfer is complete.)
    #[must_use]
    pub fn moved(&self) -> Vec<Moved> {
        self.core.up_to_now(D::SIDE, |lane| lane.moved.clone())
    }

    /// The residue of the last transfer, in bytes: what of its parts has not
    /// [moved](Self::moved) up to now, or had not when it was stopped or failed.
    ///
    /// A part that the core had begun counts whole, as it says what moved only when
    /// it is through with one; so does one with an error. What it says is believed
    /// only as far as the part is long.
    ///
    /// `None` if it is not known: of a ring and what repeats, which have no end, and
    /// in direct register mode before a transfer is complete. There the core tells
    /// the length in its register when it is done (PG021, `S2MM_LENGTH`), and of a
    /// transfer that was stopped or failed nothing.
    ///
    /// ```
    /// # use std::{thread, time::Duration};
    /// # use udmabuf::{FromDevice, ToDevice, Uncached, emulator::Emulator};
    /// # use udmabuf_examples::axidma::{AxiDma, Build, Mode};
    /// # let emulator = Emulator::new();
    /// # let (AxiDma { mm2s, s2mm }, _) = AxiDma::emulated(&emulator, Build::LEAST, Mode::ScatterGather)?;
    /// # mm2s.use_descriptors(emulator.buffer_mapped::<Uncached>(64))?;
    /// # s2mm.use_descriptors(emulator.buffer_mapped::<Uncached>(8 * 64))?;
    /// let frame = emulator.buffer(8192).for_direction::<FromDevice>();
    /// let parts: Result<Vec<_>, _> =
    ///     frame.into_chunks(1024)?.into_iter().map(|part| part.into_device()).collect();
    /// let receiving = s2mm.receive_parts(parts?)?;
    /// # let packet = emulator.buffer(1024).for_direction::<ToDevice>().into_device()?;
    /// # mm2s.send(packet)?.wait(Duration::from_secs(1))?;
    /// # while s2mm.residue() == Some(8192) { thread::yield_now() }
    /// // There comes one packet, of 1024 bytes, and no more:
    /// let parts = receiving.stop()?;
    /// assert_eq!(s2mm.residue(), Some(7 * 1024));
    /// # drop(parts);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn residue(&self) -> Option<u64> {
        self.core.up_to_now(D::SIDE, Lane::residue)
    }

    /// How many interrupts the core has raised, for both channels.
    #[must_use]
    pub fn interrupts(&self) -> u64 {
        self.core.lock().waiting.interrupts
    }

    /// Makes a ring of parts, each of which is a packet that is sent, or takes one
    /// that is received or as much of it as it has room for. [`Log::last`] says
    /// how much that was. A ring that was stopped gives back what
    /// [`from_ring`](Self::from_ring) takes.
    ///
    /// # Errors
    /// [`Error::Busy`], [`Error::NoDescriptors`], [`Error::TooFewDescriptors`],
    /// [`Error::Coalescing`], and those of [`Ring::new`]. The channel and the
    /// parts are in [`Handoff::value`].
    #[allow(clippy::type_complexity, reason = "a ring, or what it was to be made of")]
    pub fn into_ring<M: Addressed>(
        self,
        coalescing: Coalescing,
        parts: Vec<Buffer<CpuOwned, D, M>>,
    ) -> Result<(Ring<Queue<I, D>, M>, Log<I>), Handoff<(Self, Vec<Buffer<CpuOwned, D, M>>), Error>>
    {
        if let Err(error) = self.check_ring(coalescing, parts.len()) {
            return Err(Handoff { error, value: (self, parts) });
        }
        let log = Log { core: self.core.clone(), side: D::SIDE };
        let channel = Channel { core: self.core.clone(), side: D::SIDE };
        match Ring::new(Queue { channel, coalescing, direction: PhantomData }, parts) {
            Ok(ring) => Ok((ring, log)),
            Err(Handoff { error, value: (_, parts) }) => {
                Err(Handoff { error: error.into(), value: (self, parts) })
            }
        }
    }

    fn check_ring(&self, coalescing: Coalescing, parts: usize) -> Result<(), Error> {
        let Coalescing { packets, delay } = coalescing;
        if packets == 0 || packets > 1 && delay == 0 {
            return Err(Error::Coalescing(packets));
        }
        if !self.core.scatter_gather {
            return Err(Error::NoScatterGather(parts));
        }
        let mut state = self.core.lock();
        let lane = state.lane(D::SIDE);
        lane.ring(D::SIDE, parts)?;
        match lane.flight {
            Flight::Idle if self.slot.with(|_| ()).is_ok() => Ok(()),
            _ => Err(Error::Busy(D::SIDE)),
        }
    }

    /// The channel of a ring that was stopped, and its parts.
    #[must_use]
    pub fn from_ring<M: Addressed>(
        (queue, parts): Stopped<Queue<I, D>, M>,
    ) -> (Self, Vec<Buffer<CpuOwned, D, M>>) {
        (Self::new(queue.channel.core), parts)
    }
}

impl<I: Io> Port<I, ToDevice> {
    /// Sends a buffer as one packet.
    ///
    /// # Errors
    /// [`udmabuf::Busy`] while the channel is; [`Error`]. The buffer is in the
    /// error.
    pub fn send<M: Addressed>(
        &self,
        part: Lent<ToDevice, M>,
    ) -> Started<Channel<I>, Lent<ToDevice, M>> {
        self.slot.start(part, |channel, part| channel.core.start(Side::Mm2s, &[whole(part)]))
    }

    /// Sends packets, each of one part or more, all at once. More than one part
    /// needs scatter-gather.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn send_packets<M: Addressed>(
        &self,
        packets: Vec<Vec<Lent<ToDevice, M>>>,
    ) -> Started<Channel<I>, Vec<Vec<Lent<ToDevice, M>>>> {
        self.slot.start(packets, |channel, packets| {
            let mut pieces = Vec::new();
            for packet in packets {
                let last = packet.len().checked_sub(1).ok_or(Error::Empty)?;
                pieces.extend(packet.iter().enumerate().map(|(index, part)| Piece {
                    addr: part.dma_addr(),
                    starts: index == 0,
                    ends: index == last,
                }));
            }
            channel.core.start(Side::Mm2s, &pieces)
        })
    }
}

impl<I: Io> Port<I, FromDevice> {
    /// Receives one packet, or with scatter-gather as much of it as there is room
    /// for. [`moved`](Self::moved) says how much that was, [`residue`](Self::residue)
    /// how much room is left.
    ///
    /// # Errors
    /// [`udmabuf::Busy`] while the channel is; [`Error`]. The buffer is in the
    /// error.
    pub fn receive<M: Addressed>(
        &self,
        part: Lent<FromDevice, M>,
    ) -> Started<Channel<I>, Lent<FromDevice, M>> {
        self.slot.start(part, |channel, part| channel.core.start(Side::S2mm, &[whole(part)]))
    }

    /// Receives into parts, one after the other, until all have been used: a
    /// packet begins at a part's start, and goes on in the next when that is
    /// full. More than one part needs scatter-gather. [`moved`](Self::moved) says
    /// what is where.
    ///
    /// The core cannot end with a packet that leaves parts unused: stop the
    /// transfer then, or use a [ring](Self::into_ring). Nor does it interrupt for a
    /// packet that fills all parts and goes on: a thread that waits looks for that,
    /// a task that awaits it is not woken and needs a timeout.
    ///
    /// # Errors
    /// As [`receive`](Self::receive).
    pub fn receive_parts<M: Addressed>(
        &self,
        parts: Vec<Lent<FromDevice, M>>,
    ) -> Started<Channel<I>, Vec<Lent<FromDevice, M>>> {
        self.slot.start(parts, |channel, parts| {
            let pieces: Vec<_> = parts.iter().map(|part| whole(part)).collect();
            channel.core.start(Side::S2mm, &pieces)
        })
    }
}

/// What the parts of a [ring](Port::into_ring) held.
pub struct Log<I: Io> {
    core: Arc<Core<I>>,
    side: Side,
}

impl<I: Io> Log<I> {
    /// What moved in the part that was completed last.
    #[must_use]
    pub fn last(&self) -> Option<Moved> {
        self.core.lock().lane(self.side).moved.last().copied()
    }
}

/// A part that is a packet, or takes one.
fn whole<O: DeviceAccess, D: Direction, M: Addressed>(part: &Buffer<O, D, M>) -> Piece {
    Piece { addr: part.dma_addr(), starts: true, ends: true }
}

impl<I: Io, D: Way> fmt::Debug for Port<I, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Port").field(&D::SIDE).finish()
    }
}

impl<I: Io> fmt::Debug for Log<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Log").field(&self.side).finish()
    }
}
