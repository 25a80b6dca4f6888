//! Which ranges of a buffer are the device's too.

use std::{collections::BTreeMap, fmt, ops::Range};

use crate::direction::Kind;

/// Who but the CPU may access a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// The device alone, in this direction.
    Device(Kind),
    /// Both sides at once.
    Shared,
}

/// The ranges that the device may access; all others are the CPU's.
#[derive(Default)]
pub(super) struct Owners(BTreeMap<usize, (usize, Access)>);

impl Owners {
    /// Says who accesses `range` from now on; `None` is the CPU alone.
    pub(super) fn set(&mut self, range: Range<usize>, access: Option<Access>) {
        let cut: Vec<_> = self.overlapping(&range).collect();
        for (old, access) in cut {
            self.0.remove(&old.start);
            if old.start < range.start {
                self.0.insert(old.start, (range.start, access));
            }
            if range.end < old.end {
                self.0.insert(range.end, (old.end, access));
            }
        }
        if let Some(access) = access.filter(|_| !range.is_empty()) {
            self.0.insert(range.start, (range.end, access));
        }
    }

    /// The device's ranges that have bytes in `range`, in order.
    pub(super) fn overlapping(
        &self,
        range: &Range<usize>,
    ) -> impl Iterator<Item = (Range<usize>, Access)> {
        let before = self.0.range(..range.start).next_back();
        let Range { start, end } = *range;
        before
            .into_iter()
            .chain(self.0.range(start..end.max(start)))
            .map(|(&start, &(end, access))| (start..end, access))
            .filter(move |(found, _)| found.end > start)
    }

    /// Whether every byte of `range` is the device's, and `allowed`.
    pub(super) fn all(&self, range: &Range<usize>, allowed: impl Fn(Access) -> bool) -> Covered {
        let mut next = range.start;
        let mut covered = Covered::Yes;
        for (found, access) in self.overlapping(range) {
            if found.start > next {
                break;
            }
            if !allowed(access) {
                covered = Covered::NotAllowed;
            }
            next = found.end;
        }
        if next < range.end { Covered::No } else { covered }
    }
}

impl fmt::Debug for Owners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ranges = self.0.iter().map(|(start, (end, access))| (start..end, access));
        f.debug_map().entries(ranges).finish()
    }
}

/// What [`Owners::all`] finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Covered {
    Yes,
    /// The device owns all of it, but may not do this.
    NotAllowed,
    /// Some bytes are the CPU's.
    No,
}

#[cfg(test)]
mod tests {
    use super::*;

    const IN: Access = Access::Device(Kind::FromDevice);

    #[test]
    fn ranges_are_cut_where_parts_are_taken_back() {
        let mut owners = Owners::default();
        owners.set(0..100, Some(IN));
        owners.set(20..30, None);
        owners.set(90..120, Some(Access::Shared));
        let ranges: Vec<_> = owners.overlapping(&(0..200)).collect();
        assert_eq!(ranges, [(0..20, IN), (30..90, IN), (90..120, Access::Shared)]);

        let any = |_| true;
        assert_eq!(owners.all(&(30..120), any), Covered::Yes);
        assert_eq!(owners.all(&(30..120), |access| access == IN), Covered::NotAllowed);
        for outside in [0..21, 19..31, 20..30, 29..31, 119..121, 120..121] {
            assert_eq!(owners.all(&outside, any), Covered::No, "{outside:?}");
        }
        owners.set(0..120, None);
        assert_eq!(owners.overlapping(&(0..200)).count(), 0);
    }
}
