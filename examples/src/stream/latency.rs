//! How long parts took, as a histogram that takes no more memory for more of them.

use std::{fmt, time::Duration};

/// Ranges for each power of two: a range is at most a fifth of its values wide.
const STEPS: usize = 4;
const WIDEST_BAR: u64 = 40;

/// A histogram of durations.
#[derive(Clone, Debug)]
pub struct Latencies {
    /// How many fell into each range.
    counts: [u64; u64::BITS as usize * STEPS],
    longest: Duration,
}

impl Default for Latencies {
    fn default() -> Self {
        Self { counts: [0; u64::BITS as usize * STEPS], longest: Duration::ZERO }
    }
}

/// In which range so many nanoseconds are: by the highest bit and the two below.
fn range_of(ns: u64) -> usize {
    let ns = ns.max(STEPS as u64);
    let power = ns.ilog2();
    let step = ns >> (power - STEPS.ilog2()) & (STEPS as u64 - 1);
    power as usize * STEPS + usize::try_from(step).unwrap_or(0)
}

/// Where a range ends: the first that is not in it.
fn end_of(range: usize) -> Duration {
    let steps = STEPS as u128 + (range % STEPS) as u128 + 1;
    let ns = (steps << (range / STEPS)) / STEPS as u128;
    Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX))
}

impl Latencies {
    /// Adds one.
    pub fn add(&mut self, latency: Duration) {
        let ns = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.counts[range_of(ns)] += 1;
        self.longest = self.longest.max(latency);
    }

    /// What so many of a thousand are no longer than, to a fifth; zero of nothing.
    #[must_use]
    pub fn per_mille(&self, share: u64) -> Duration {
        let all: u64 = self.counts.iter().sum();
        let mut rest = all.saturating_mul(share).div_ceil(1000);
        let range = self.counts.iter().position(|&count| {
            rest = rest.saturating_sub(count);
            rest == 0
        });
        range.map_or(Duration::ZERO, |range| end_of(range).min(self.longest))
    }
}

/// A line for each power of two of nanoseconds between the shortest and the longest.
impl fmt::Display for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let powers: Vec<u64> = self.counts.chunks(STEPS).map(|steps| steps.iter().sum()).collect();
        let most = powers.iter().copied().max().unwrap_or(0).max(1);
        let first = powers.iter().position(|&count| count > 0).unwrap_or(0);
        let last = powers.iter().rposition(|&count| count > 0).map_or(0, |last| last + 1);
        for (power, count) in powers.iter().enumerate().take(last).skip(first) {
            let end = end_of(power * STEPS + STEPS - 1);
            let bar = (count * WIDEST_BAR).div_ceil(most);
            let bar = "#".repeat(usize::try_from(bar).unwrap_or(0));
            writeln!(f, "  below {:>10} {count:>10} {bar}", format!("{end:.1?}"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_found_to_a_fifth() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.per_mille(500), Duration::ZERO);
        let all: Vec<u64> = (0..40).map(|power| 3_u64 << power).chain(1..2000).collect();
        all.iter().for_each(|&ns| latencies.add(Duration::from_nanos(ns)));
        let mut sorted = all.clone();
        sorted.sort_unstable();
        for share in [1, 10, 500, 900, 990, 999, 1000] {
            let exact = sorted[(sorted.len() * share).div_ceil(1000) - 1];
            let found = u64::try_from(latencies.per_mille(share as u64).as_nanos()).unwrap();
            assert!(found >= exact && found <= exact + exact / 4 + 4, "{share}: {found}, {exact}");
        }
        assert_eq!(latencies.per_mille(1000), latencies.longest);
        let drawn = latencies.to_string();
        let counts = drawn.lines().map(|line| line.split_whitespace().nth(2).unwrap());
        let sum: usize = counts.map(|count| count.parse::<usize>().unwrap()).sum();
        assert_eq!(sum, all.len());
        latencies.add(Duration::MAX);
    }
}
