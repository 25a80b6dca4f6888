//! Parts that are not the CPU's to fill or to compare: those that wait for an
//! engine, those that an engine has, and those that are done.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::{Error, Handed, Lane, Part, TIMEOUT};

/// Which part, and since when it is the device's.
#[derive(Clone, Copy)]
struct Tag {
    number: u64,
    since: Instant,
}

pub(super) struct InFlight<'a, L> {
    lanes: Vec<(&'a mut L, Option<Tag>)>,
    queue: VecDeque<(Tag, Handed)>,
    done: VecDeque<(u64, Duration, Part)>,
}

impl<'a, L: Lane> InFlight<'a, L> {
    pub(super) fn new(lanes: &'a mut [L]) -> Self {
        let lanes = lanes.iter_mut().map(|lane| (lane, None)).collect();
        Self { lanes, queue: VecDeque::new(), done: VecDeque::new() }
    }

    /// How many parts are the device's.
    pub(super) fn len(&self) -> usize {
        self.queue.len() + self.lanes.iter().filter(|(_, tag)| tag.is_some()).count()
    }

    /// Queues a part for the first free engine.
    pub(super) fn push(&mut self, number: u64, part: Handed) {
        self.queue.push_back((Tag { number, since: Instant::now() }, part));
    }

    /// A part that is done: its number, how long it took, and itself.
    pub(super) fn pop(&mut self) -> Option<(u64, Duration, Part)> {
        self.done.pop_front()
    }

    /// Takes what is done from the engines, and gives them what is queued.
    pub(super) fn keep_going(&mut self) -> Result<(), Error<L::Error>> {
        for (lane, tag) in &mut self.lanes {
            if let Some(Tag { number, since }) = *tag {
                let Some(part) = lane.finish(None)? else { continue };
                self.done.push_back((number, since.elapsed(), part));
                *tag = None;
            }
            if let Some((next, part)) = self.queue.pop_front() {
                lane.start(part)?;
                *tag = Some(next);
            }
        }
        Ok(())
    }

    /// Blocks until the oldest part is done.
    pub(super) fn wait(&mut self) -> Result<(), Error<L::Error>> {
        let busy =
            self.lanes.iter_mut().filter_map(|(lane, tag)| Some((tag.as_ref()?.number, lane, tag)));
        let Some((number, lane, tag)) = busy.min_by_key(|(number, ..)| *number) else {
            return Ok(());
        };
        let Some(part) = lane.finish(Some(Instant::now() + TIMEOUT))? else {
            return Err(Error::Timeout { number });
        };
        if let Some(Tag { since, .. }) = tag.take() {
            self.done.push_back((number, since.elapsed(), part));
        }
        Ok(())
    }
}
