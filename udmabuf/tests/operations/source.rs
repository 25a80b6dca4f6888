//! Where the choices come from.

use std::ops::Range;

/// Gives numbers below a bound, until there are no more.
pub struct Source<'a> {
    next: &'a mut dyn FnMut(u64) -> Option<u64>,
    is_empty: bool,
}

impl<'a> Source<'a> {
    pub fn new(next: &'a mut dyn FnMut(u64) -> Option<u64>) -> Self {
        Self { next, is_empty: false }
    }

    /// A number below `bound`, which is not 0; 0 if there are no more.
    pub fn below(&mut self, bound: usize) -> usize {
        let number = (self.next)(bound as u64);
        self.is_empty |= number.is_none();
        number.map_or(0, |number| usize::try_from(number).unwrap())
    }

    pub fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == times - 1
    }

    /// A range inside `range`, which is not empty.
    pub fn range_in(&mut self, range: &Range<usize>) -> Range<usize> {
        let start = range.start + self.below(range.len());
        start..start + 1 + self.below(range.end - start)
    }

    pub fn is_empty(&self) -> bool {
        self.is_empty
    }
}
