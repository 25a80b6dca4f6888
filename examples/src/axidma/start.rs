//! Starting transfers: PG021, chapter "Programming Sequence".

use udmabuf::DmaAddr;
use udmabuf_uio::Io;

use super::{
    Coalescing, Error, Side,
    build::Part,
    core::{Core, RESET_LIMIT, State, channel, until},
    lane::{Flight, Laps},
    registers::{ChannelRegs, Control, DescriptorControl, Status},
};

/// For the last packets of a transfer, of which there may be fewer than parts:
/// 125 cycles each.
const LAST_DELAY: u8 = 16;
/// Where the end of a ring without an end is: at none of its descriptors.
const NO_TAIL: (u32, u32) = (0x40, 0);

/// A part of a packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    pub(super) addr: DmaAddr,
    /// Whether a packet starts, and ends, with it: of parts to receive into, each
    /// may be one.
    pub(super) starts: bool,
    pub(super) ends: bool,
}

impl<I: Io> Core<I> {
    /// Starts a transfer of these parts.
    pub(super) fn start(&self, side: Side, pieces: &[Piece]) -> Result<(), Error> {
        let mut state = self.lock();
        let state = &mut *state;
        if !matches!(state.lane(side).flight, Flight::Idle) {
            return Err(Error::Busy(side));
        }
        if !self.scatter_gather {
            return self.start_direct(state, side, pieces);
        }
        let packets = pieces.iter().filter(|piece| piece.ends).count();
        let packets = u8::try_from(packets).unwrap_or(u8::MAX).max(1);
        let coalescing = Coalescing { packets, delay: LAST_DELAY };
        let parts = self.parts(side, pieces)?;
        state.lane(side).ring(side, pieces.len())?;
        let halted = self.prepare(state, side)?;
        let lane = state.lane(side);
        let first = lane.next;
        let ring = lane.ring(side, pieces.len())?;
        let (mut last, mut next) = (first, first);
        for (part, flags) in parts {
            (last, next) = (next, ring.after(next, 1));
            ring.describe(last, next, part, flags)?;
        }
        let tail = ring.address(last)?;
        self.go(state, side, halted, tail, control(coalescing))?;
        let lane = state.lane(side);
        lane.next = next;
        let asked = pieces.iter().map(|piece| piece.addr.len()).sum();
        lane.begin(Flight::Chain { first, count: pieces.len(), done: 0 }, Some(asked));
        Ok(())
    }

    /// Starts a transfer of these parts, over and over.
    pub(super) fn start_cyclic(&self, side: Side, pieces: &[Piece]) -> Result<(), Error> {
        let mut state = self.lock();
        let state = &mut *state;
        if !matches!(state.lane(side).flight, Flight::Idle) {
            return Err(Error::Busy(side));
        }
        if !self.scatter_gather {
            return Err(Error::NoScatterGather(pieces.len()));
        }
        let count = pieces.len();
        let parts = self.parts(side, pieces)?;
        state.lane(side).ring(side, count)?;
        if !self.prepare(state, side)? {
            self.halt(side)?;
        }
        let lane = state.lane(side);
        lane.next = 0;
        let ring = lane.ring(side, count)?;
        for (index, (part, flags)) in parts.into_iter().enumerate() {
            ring.describe(index, (index + 1) % count, part, flags)?;
        }
        let control = control(Coalescing::EACH).with(Control::CYCLIC, true);
        self.go(state, side, true, NO_TAIL, control)?;
        let laps = Laps { parts: 0, at: 0, overrun: false };
        state.lane(side).begin(Flight::Cyclic { count, laps, is_lost: false }, None);
        Ok(())
    }

    /// Adds a part, which is a packet, to a stream.
    pub(super) fn submit(
        &self,
        side: Side,
        addr: DmaAddr,
        coalescing: Coalescing,
    ) -> Result<(), Error> {
        let mut state = self.lock();
        let state = &mut *state;
        let (oldest, count) = match state.lane(side).flight {
            Flight::Idle => (state.lane(side).next, 0),
            Flight::Stream { oldest, count } => (oldest, count),
            Flight::Reset => return Err(Error::Reset(side)),
            _ => return Err(Error::Busy(side)),
        };
        let [(part, flags)] = self.parts(side, &[Piece { addr, starts: true, ends: true }])?[..]
        else {
            return Err(Error::Empty);
        };
        state.lane(side).ring(side, count + 1)?;
        let (halted, oldest) = match count {
            0 => (self.prepare(state, side)?, state.lane(side).next),
            _ => (false, oldest),
        };
        let lane = state.lane(side);
        let index = lane.next;
        let ring = lane.ring(side, count + 1)?;
        let next = ring.after(index, 1);
        ring.describe(index, next, part, flags)?;
        let tail = ring.address(index)?;
        self.go(state, side, halted, tail, control(coalescing))?;
        let lane = state.lane(side);
        lane.next = next;
        (lane.flight, lane.asked) = (Flight::Stream { oldest, count: count + 1 }, None);
        Ok(())
    }

    fn start_direct(&self, state: &mut State, side: Side, pieces: &[Piece]) -> Result<(), Error> {
        let [piece] = pieces else { return Err(Error::NoScatterGather(pieces.len())) };
        let Part { address: (low, high), length } = self.build.part(piece.addr, true)?;
        if self.prepare(state, side)? {
            self.run(side, control(Coalescing::EACH))?;
        }
        let channel = channel(side);
        self.registers.write(channel.register(ChannelRegs::ADDRESS), low);
        if self.build.is_wide() {
            self.registers.write(channel.register(ChannelRegs::ADDRESS_MSB), high);
        }
        // Only the end of the transfer tells how much it was.
        state.lane(side).begin(Flight::Direct { length }, None);
        self.registers.doorbell(channel.register(ChannelRegs::LENGTH), length);
        Ok(())
    }

    fn parts(&self, side: Side, pieces: &[Piece]) -> Result<Vec<(Part, DescriptorControl)>, Error> {
        if pieces.is_empty() {
            return Err(Error::Empty);
        }
        // What is received need not end where a part does.
        let sends = side == Side::Mm2s;
        let part = |piece: &Piece| {
            let part = self.build.part(piece.addr, sends && piece.ends)?;
            let flags = DescriptorControl(0)
                .with(DescriptorControl::START, sends && piece.starts)
                .with(DescriptorControl::END, sends && piece.ends);
            Ok((part, flags))
        };
        pieces.iter().map(part).collect()
    }

    /// Resets the core if one of its channels has met errors and neither is
    /// working, forgets the channel's interrupts, and says whether it is halted.
    fn prepare(&self, state: &mut State, side: Side) -> Result<bool, Error> {
        let (status, other) = (self.status(side), self.status(side.other()));
        if !status.is_plausible() {
            return Err(Error::NotThere(status.0));
        }
        let other_runs = state.lane(side.other()).is_running();
        let halted = match status.has_errors() {
            true if other_runs => return Err(Error::OtherRunning(side)),
            _ if other_runs => status.get(Status::HALTED),
            false if !other.has_errors() => status.get(Status::HALTED),
            _ => {
                self.reset(state)?;
                true
            }
        };
        self.acknowledge(state, side);
        state.lane(side).seen = Status(0);
        Ok(halted)
    }

    /// Starts what was described, up to `tail`.
    fn go(
        &self,
        state: &mut State,
        side: Side,
        halted: bool,
        tail: (u32, u32),
        control: Control,
    ) -> Result<(), Error> {
        let (channel, wide) = (channel(side), self.has_upper_halves);
        let lane = state.lane(side);
        let first = lane.next;
        let ring = lane.ring(side, 1)?;
        ring.publish();
        if halted {
            let (low, high) = ring.address(first)?;
            self.registers.write(channel.register(ChannelRegs::CURDESC), low);
            if wide {
                self.registers.write(channel.register(ChannelRegs::CURDESC_MSB), high);
            }
            self.run(side, control)?;
        } else if self.control(side).settings() != control {
            // Written again, it would count packets anew.
            self.set_control(side, control);
        }
        if wide {
            self.registers.write(channel.register(ChannelRegs::TAILDESC), tail.0);
            self.registers.doorbell(channel.register(ChannelRegs::TAILDESC_MSB), tail.1);
        } else {
            self.registers.doorbell(channel.register(ChannelRegs::TAILDESC), tail.0);
        }
        Ok(())
    }

    /// Lets a halted channel run: until it does, it takes no doorbell.
    fn run(&self, side: Side, control: Control) -> Result<(), Error> {
        self.set_control(side, control);
        if until(RESET_LIMIT, || !self.status(side).get(Status::HALTED)) {
            return Ok(());
        }
        self.set_control(side, Control(0));
        Err(Error::NotStarted(side))
    }
}

/// A channel that runs, with its interrupts.
fn control(coalescing: Coalescing) -> Control {
    Control(0)
        .with(Control::RUN, true)
        .with(Control::COMPLETE_ENABLE, true)
        .with(Control::ERROR_ENABLE, true)
        .with(Control::DELAY_ENABLE, coalescing.delay > 0)
        .with(Control::THRESHOLD, coalescing.packets)
        .with(Control::DELAY, coalescing.delay)
}
