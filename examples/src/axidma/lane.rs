//! What a channel is doing, and what its descriptors say of it.

use super::{
    Error, Side,
    descriptors::Descriptors,
    registers::{DescriptorStatus, Status},
};

/// What has arrived in a part, or left it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Bytes.
    pub len: usize,
    /// Whether a packet ended there. Of a channel that sends, all parts say so.
    pub ends: bool,
}

/// How far a channel has come that repeats its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Laps {
    /// Parts that were processed since it was started; too few after an overrun.
    pub parts: u64,
    /// The part that the core processes next, or now; after an overrun, once it has
    /// processed another one.
    pub at: usize,
    /// Since this was last asked, the core has processed every part once or more:
    /// how often is not known.
    pub overrun: bool,
}

/// What a channel is doing.
#[derive(Debug, Default)]
pub(super) enum Flight {
    #[default]
    Idle,
    /// One part, in direct register mode.
    Direct { length: u32 },
    /// Parts of a transfer.
    Chain { first: usize, count: usize, done: usize },
    /// Parts that come one by one.
    Stream { oldest: usize, count: usize },
    /// Parts for ever.
    Cyclic { count: usize, laps: Laps, is_lost: bool },
    /// It was reset under a transfer that does not know yet.
    Reset,
}

/// The state of a channel.
#[derive(Debug, Default)]
pub(super) struct Lane {
    pub(super) flight: Flight,
    /// Interrupts that were cleared, and not looked at yet.
    pub(super) seen: Status,
    pub(super) descriptors: Option<Descriptors>,
    /// The descriptor that the next part gets.
    pub(super) next: usize,
    pub(super) moved: Vec<Moved>,
    /// Bytes of the last transfer; none for a ring, or what repeats.
    pub(super) asked: Option<u64>,
    /// Why the channel is being halted.
    pub(super) broken: Option<Error>,
}

impl Lane {
    /// Whether the core may access memory for it.
    pub(super) fn is_running(&self) -> bool {
        !matches!(self.flight, Flight::Idle | Flight::Reset | Flight::Stream { count: 0, .. })
    }

    /// A transfer of so many bytes begins, or something without an end.
    pub(super) fn begin(&mut self, flight: Flight, asked: Option<u64>) {
        self.moved.clear();
        (self.flight, self.asked) = (flight, asked);
    }

    /// How many bytes of the last transfer are not known to have moved.
    pub(super) fn residue(&self) -> Option<u64> {
        let moved = self.moved.iter().map(|part| part.len as u64).sum();
        self.asked.map(|asked| asked.saturating_sub(moved))
    }

    /// The ring of descriptors, of which there must be `parts`.
    pub(super) fn ring(&mut self, side: Side, parts: usize) -> Result<&mut Descriptors, Error> {
        let ring = self.descriptors.as_mut().ok_or(Error::NoDescriptors(side))?;
        match ring.count() {
            descriptors if descriptors < parts => {
                Err(Error::TooFewDescriptors { parts, descriptors })
            }
            _ => Ok(ring),
        }
    }

    /// Looks which descriptors the core has processed. Says whether a transfer
    /// is done with all, or a stream with its oldest.
    pub(super) fn collect(&mut self, side: Side) -> Result<bool, Error> {
        let Some(ring) = &mut self.descriptors else { return Ok(false) };
        match &mut self.flight {
            Flight::Chain { first, count, done } => {
                while done < count {
                    let Some(entry) = ring.completed(ring.after(*first, *done))? else {
                        return Ok(false);
                    };
                    self.moved.push(check(side, *done, entry)?);
                    *done += 1;
                }
                Ok(true)
            }
            Flight::Stream { oldest, count } if *count > 0 => {
                let Some(entry) = ring.completed(*oldest)? else { return Ok(false) };
                self.moved.clear();
                self.moved.push(check(side, *oldest, entry)?);
                *oldest = ring.after(*oldest, 1);
                *count -= 1;
                Ok(true)
            }
            Flight::Cyclic { count, laps, is_lost } => {
                if *is_lost {
                    let complete = |index| Ok::<_, Error>(ring.completed(index)?.is_some());
                    // What is complete now begins after what is not.
                    let Some(start) = first_of_run(*count, complete)? else { return Ok(false) };
                    (laps.at, *is_lost) = (start, false);
                }
                for _ in 0..*count {
                    let Some(entry) = ring.completed(laps.at)? else { return Ok(false) };
                    self.moved.clear();
                    self.moved.push(check(side, laps.at, entry)?);
                    ring.clear(laps.at)?;
                    laps.parts += 1;
                    laps.at = (laps.at + 1) % *count;
                }
                (laps.overrun, *is_lost) = (true, true);
                Ok(false)
            }
            _ => Ok(false),
        }
    }
}

/// Where the complete ones of so many in a circle begin; anywhere if all are.
fn first_of_run(
    count: usize,
    complete: impl Fn(usize) -> Result<bool, Error>,
) -> Result<Option<usize>, Error> {
    let (mut found, mut before) = (None, complete(count - 1)?);
    let is_last = before;
    for index in 0..count {
        let is = complete(index)?;
        if is && !before {
            return Ok(Some(index));
        }
        before = is;
        found = found.or(is.then_some(index));
    }
    Ok(found.filter(|_| is_last))
}

/// Believes a descriptor's status only if a core can have written it.
fn check(
    side: Side,
    index: usize,
    (status, length): (DescriptorStatus, u32),
) -> Result<Moved, Error> {
    let len = status.get(DescriptorStatus::LEN);
    let ends = side == Side::Mm2s || status.get(DescriptorStatus::END);
    // Only a packet's last part can be left with room.
    let is_right = if side == Side::S2mm && ends { len <= length } else { len == length };
    match usize::try_from(len) {
        Ok(len) if is_right && len > 0 && !status.has_errors() => Ok(Moved { len, ends }),
        _ => Err(Error::Descriptor { side, index, status: status.0 }),
    }
}
