//! A part of a ring is left alone from when it is submitted again.
use std::time::Duration;

use udmabuf::{Cached, Ring, Stream};

fn main() {}

fn keep<E: Stream>(ring: &mut Ring<E, Cached>) -> u8 {
    let Ok(frame) = ring.complete(Duration::ZERO) else { return 0 };
    let resubmitted = ring.submit();
    let first = frame.as_slice()[0];
    drop(resubmitted);
    first
}
