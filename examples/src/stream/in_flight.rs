//! Parts that are not the CPU's to fill or to compare: those that wait for an
//! engine, those that an engine has, and those that are done.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::{Error, Lane, Part, Waiting};

/// What an endless patience is cut to, so that a clock can still count it.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Which part, and since when it waits or is the device's.
#[derive(Clone, Copy)]
struct Tag {
    number: u64,
    since: Instant,
}

/// A lane, and what it has, the oldest first.
type Busy<'a, L> = (&'a mut L, VecDeque<Tag>);

pub(super) struct InFlight<'a, L: Lane> {
    lanes: Vec<Busy<'a, L>>,
    queue: VecDeque<(Tag, L::Waiting)>,
    done: VecDeque<(u64, Duration, Part)>,
    patience: Duration,
}

impl<'a, L: Lane> InFlight<'a, L> {
    pub(super) fn new(lanes: &'a mut [L], patience: Duration) -> Self {
        let lanes = lanes.iter_mut().map(|lane| (lane, VecDeque::new())).collect();
        Self { lanes, queue: VecDeque::new(), done: VecDeque::new(), patience }
    }

    /// How many parts are neither the CPU's to fill nor done.
    pub(super) fn len(&self) -> usize {
        self.queue.len() + self.at_engines()
    }

    /// How many of them engines have.
    pub(super) fn at_engines(&self) -> usize {
        self.lanes.iter().map(|(_, tags)| tags.len()).sum()
    }

    /// Queues a part for the engine that has room for it first.
    pub(super) fn push(&mut self, number: u64, part: L::Waiting) {
        self.queue.push_back((Tag { number, since: Instant::now() }, part));
    }

    /// A part that is done: its number, how long it took, and itself.
    pub(super) fn pop(&mut self) -> Option<(u64, Duration, Part)> {
        self.done.pop_front()
    }

    /// Takes what is done from the engines, and gives them what is queued: to each
    /// one part before any has two.
    pub(super) fn keep_going(&mut self) -> Result<(), Error<L::Error>> {
        for (lane, tags) in &mut self.lanes {
            while let Some(Tag { number, since }) = tags.front().copied() {
                let Some(part) = lane.finish(None)? else { break };
                self.done.push_back((number, since.elapsed(), part));
                tags.pop_front();
            }
        }
        while !self.queue.is_empty() {
            let with_room = self.lanes.iter_mut().filter(|(lane, tags)| tags.len() < lane.depth());
            let Some((lane, tags)) = with_room.min_by_key(|(_, tags)| tags.len()) else { break };
            let Some((tag, part)) = self.queue.pop_front() else { break };
            lane.start(part)?;
            tags.push_back(tag);
        }
        Ok(())
    }

    /// Blocks until the oldest part is done.
    pub(super) fn wait(&mut self) -> Result<(), Error<L::Error>> {
        let patience = self.patience;
        let busy = self.lanes.iter_mut().filter(|(_, tags)| !tags.is_empty());
        let number = |tags: &VecDeque<Tag>| tags.front().map(|tag| tag.number);
        let Some((lane, tags)) = busy.min_by_key(|(_, tags)| number(tags)) else { return Ok(()) };
        let Some(Tag { number, since }) = tags.front().copied() else { return Ok(()) };
        let Some(part) = lane.finish(Some(Instant::now() + patience.min(LONGEST)))? else {
            return Err(Error::Timeout { number, patience });
        };
        self.done.push_back((number, since.elapsed(), part));
        tags.pop_front();
        Ok(())
    }

    /// What no engine has: what is done, and what none was given.
    pub(super) fn call_back(self) -> impl Iterator<Item = Part> {
        let waiting = self.queue.into_iter().filter_map(|(_, part)| part.call_back());
        self.done.into_iter().map(|(_, _, part)| part).chain(waiting)
    }
}
