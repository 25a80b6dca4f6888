//! A stream: parts that the CPU fills, an engine copies and the CPU compares,
//! many of them in flight at once, so that the CPU works while the engine does.
//!
//! | lane | over a driver that | parts at the engine |
//! |---|---|---|
//! | [`Copying`] | copies from one buffer into another | one |
//! | [`Returning`] | sends and receives | one |
//! | [`Ringing`] | sends and receives, with rings of parts | as many as the rings have places |
//! | [`EduLane`] | gets a part through by two transfers | one |
//!
//! Parts beyond that wait for the lane that has room first: handed over already, but
//! for rings, which hand over what they get.
//!
//! ```
//! use udmabuf::{FromDevice, ToDevice, emulator::Emulator};
//! use udmabuf_examples::loopback::Loopback;
//! use udmabuf_examples::stream::{Copying, Plan, Until, run};
//!
//! let emulator = Emulator::new().with_adversary();
//! let engine = Loopback::emulated(&emulator)?;
//! let mut lanes = [Copying::new(|from, to| engine.copy(from, to))];
//! let sources = emulator.buffer(8192).for_direction::<ToDevice>().into_chunks(1024)?;
//! let destinations = emulator.buffer(8192).for_direction::<FromDevice>().into_chunks(1024)?;
//! let mut parts = sources.into_iter().zip(destinations).collect();
//!
//! let plan = Plan { until: Until::Parts(100), seed: 1, ..Plan::default() };
//! let summary = run(&mut lanes, &mut parts, plan, |_| ())?;
//! assert_eq!((summary.parts, summary.bytes), (100, 100 * 1024));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod in_flight;
mod lane;
mod latency;
mod pattern;
mod ringing;
mod time;
mod waiting;

use std::{
    error::Error as StdError,
    time::{Duration, Instant},
};

use in_flight::InFlight;
pub use lane::{Copying, EduLane, Lane, Part, Returning};
pub use latency::Latencies;
pub use ringing::Ringing;
use udmabuf::{RingError, StartError};
pub use waiting::{Handed, Waiting};

/// What breaks a stream off.
#[derive(Debug, thiserror::Error)]
pub enum Error<E: StdError + 'static> {
    /// A part cannot be handed over, or taken back.
    #[error(transparent)]
    Buffer(#[from] udmabuf::Error),
    /// The driver does not start a transfer.
    #[error(transparent)]
    Start(#[from] StartError<E>),
    /// The engine gave up.
    #[error("the engine gave up: {0}")]
    Engine(E),
    /// A ring does not go on.
    #[error(transparent)]
    Ring(RingError<E>),
    /// The engine takes too long.
    #[error("part {number} is not done after {patience:?}: the engine stands still")]
    Timeout {
        /// Which part, counted from 0.
        number: u64,
        /// Of the [`Plan`].
        patience: Duration,
    },
    /// What came out is not what went in.
    #[error("byte {offset} of part {number} is wrong; seed {seed}")]
    Wrong {
        /// Which part, counted from 0.
        number: u64,
        /// In bytes from its start: of the first 64-bit word that differs.
        offset: usize,
        /// Of the [`Plan`].
        seed: u64,
    },
}

/// How long a stream goes on.
#[derive(Clone, Copy, Debug)]
pub enum Until {
    /// So many parts.
    Parts(u64),
    /// So much time; what is in flight then still comes in.
    Elapsed(Duration),
}

/// What is sent.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How long.
    pub until: Until,
    /// What the bytes are made of; those of each part differ.
    pub seed: u64,
    /// How long the oldest part is waited for before the engine is said to stand
    /// still.
    pub patience: Duration,
}

impl Default for Plan {
    /// A thousand parts, and longer than any engine takes for one.
    fn default() -> Self {
        Self { until: Until::Parts(1000), seed: 0, patience: Duration::from_secs(30) }
    }
}

/// How a stream went, and where the time was.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Parts that were compared; all were right.
    pub parts: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// The most parts that were in flight at once: at an engine, or waiting for one.
    pub most_in_flight: usize,
    /// The most parts that engines had at once.
    pub most_at_engines: usize,
    /// All of it: the sum of the four below.
    pub elapsed: Duration,
    /// The CPU filled parts.
    pub filling: Duration,
    /// The CPU compared parts.
    pub comparing: Duration,
    /// Handovers, registers and system calls.
    pub handing: Duration,
    /// The CPU had nothing to do.
    pub idle: Duration,
    /// For how long, of all of it, the kernel worked for this thread: in steps of its
    /// clock, mostly of 10 ms. None where `/proc` does not say.
    pub kernel: Option<Duration>,
    /// From when a part was ready for an engine until it was the CPU's again.
    pub latencies: Latencies,
}

impl Summary {
    /// Bytes in a second.
    #[must_use]
    pub fn throughput(&self) -> f64 {
        self.bytes as f64 / self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    /// Of one part, the average share of a time above.
    #[must_use]
    pub fn per_part(&self, time: Duration) -> Duration {
        time.checked_div(u32::try_from(self.parts).unwrap_or(u32::MAX)).unwrap_or_default()
    }
}

/// Streams over the lanes, with `parts` going round, until the plan's end; then
/// all parts are back. `progress` is called after each part.
///
/// # Errors
/// [`Error`]. The parts are back that no engine has. Those that one has stay with
/// its lane, which is of no more use: dropped, it stops the engine, and if that
/// fails, they are out of use.
pub fn run<L: Lane>(
    lanes: &mut [L],
    parts: &mut Vec<Part>,
    plan: Plan,
    progress: impl FnMut(&Summary),
) -> Result<Summary, Error<L::Error>> {
    let mut flight = InFlight::new(lanes, plan.patience);
    let before = time::of_kernel();
    let mut result = pump(&mut flight, parts, plan, progress);
    if let Ok(summary) = &mut result {
        summary.kernel =
            time::of_kernel().zip(before).map(|(now, before)| now.saturating_sub(before));
    }
    parts.extend(flight.call_back());
    result
}

fn pump<L: Lane>(
    flight: &mut InFlight<'_, L>,
    parts: &mut Vec<Part>,
    plan: Plan,
    mut progress: impl FnMut(&Summary),
) -> Result<Summary, Error<L::Error>> {
    let mut summary = Summary::default();
    let mut number = 0;
    let start = Instant::now();
    let mut now = start;
    let mut lap = || {
        let before = std::mem::replace(&mut now, Instant::now());
        now - before
    };
    loop {
        let goes_on = match plan.until {
            Until::Parts(count) => number < count,
            Until::Elapsed(time) => start.elapsed() < time,
        };
        // Filling comes before comparing: the engine shall not run dry.
        let next = if goes_on { parts.pop() } else { None };
        if let Some((mut source, destination)) = next {
            pattern::fill(&mut source, plan.seed, number)?;
            summary.filling += lap();
            match L::Waiting::prepare((source, destination)) {
                Ok(part) => flight.push(number, part),
                Err(refused) => {
                    parts.push(refused.value);
                    return Err(refused.error.into());
                }
            }
            summary.most_in_flight = summary.most_in_flight.max(flight.len());
            number += 1;
        } else if let Some((number, latency, part)) = flight.pop() {
            summary.handing += lap();
            let wrong = pattern::first_wrong(&part.1, plan.seed, number);
            let len = part.1.len();
            parts.push(part);
            if let Some(offset) = wrong? {
                return Err(Error::Wrong { number, offset, seed: plan.seed });
            }
            summary.bytes += len as u64;
            summary.parts += 1;
            summary.latencies.add(latency);
            summary.comparing += lap();
            summary.elapsed = start.elapsed();
            progress(&summary);
        } else if flight.len() > 0 {
            summary.handing += lap();
            let busy = time::of_thread();
            flight.wait()?;
            let busy = time::of_thread().saturating_sub(busy);
            let waited = lap();
            summary.idle += waited.saturating_sub(busy);
            summary.handing += waited.min(busy);
        } else {
            summary.elapsed = start.elapsed();
            return Ok(summary);
        }
        flight.keep_going()?;
        summary.most_at_engines = summary.most_at_engines.max(flight.at_engines());
        summary.handing += lap();
    }
}
