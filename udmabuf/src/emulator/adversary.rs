//! A cache that does what hardware may do at any time, at random.

use std::{fmt, ops::Range};

use super::region::{State, Store};

/// Lines that one turn touches at most.
const RUN: usize = 32;

/// Random choices, repeatable by their seed (SplitMix64).
pub(super) struct Adversary {
    seed: u64,
    state: u64,
}

impl Adversary {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, state: seed }
    }

    /// One for a moment of its own, whatever other threads do meanwhile.
    pub(super) fn fork(&mut self) -> Self {
        Self::new(self.next())
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ self.state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number below `bound`, which is not 0.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        #[allow(clippy::cast_possible_truncation, reason = "the remainder is below a usize")]
        let number = (self.next() % bound as u64) as usize;
        number
    }

    pub(super) fn coin(&mut self) -> bool {
        self.below(2) == 0
    }

    /// Evicts and prefetches lines of a range that the device owns. The CPU's
    /// are not touched: references to them may exist.
    pub(super) fn disturb(&mut self, state: &mut State) {
        let State { owners, store } = state;
        let Store::Cached(cache, _) = store else {
            return;
        };
        let offset = self.below(cache.len());
        let range = owners.overlapping(&(offset..usize::MAX)).next();
        if let Some((range, _)) = range.or_else(|| owners.overlapping(&(0..offset)).next()) {
            self.disturb_range(&range, store);
        }
    }

    /// Evicts and prefetches lines of `range`, of which no reference exists.
    pub(super) fn disturb_range(&mut self, range: &Range<usize>, store: &mut Store) {
        let Store::Cached(cache, memory) = store else {
            return;
        };
        if range.is_empty() {
            return;
        }
        let start = range.start + self.below(range.len());
        let end = range.end.min(start + (1 + self.below(RUN)) * cache.line());
        for line in cache.lines(&(start..end)) {
            match self.coin() {
                true => cache.write_back(line, memory),
                false => cache.prefetch(line, memory),
            }
        }
    }
}

impl fmt::Debug for Adversary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SEED={}", self.seed)
    }
}
