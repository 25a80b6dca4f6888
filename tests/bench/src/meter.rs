//! Measures and prints: `row PROGRAM OPERATION X UNIT-OF-X NANOSECONDS`,
//! separated by tabs.

use std::time::{Duration, Instant};

pub(crate) const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_micros(300);
const ROUND_MAX: u32 = 2000;
/// An operation that takes longer is not repeated: few things disturb it.
const LONG: Duration = Duration::from_millis(20);

/// Nanoseconds for one `operation` in the best of several rounds, after one to
/// warm up. Where the clock counts instructions, as in QEMU with `-icount
/// shift=0`, that is instructions.
///
/// # Errors
/// Those of the operation.
pub(crate) fn cost<E>(mut operation: impl FnMut() -> Result<(), E>) -> Result<f64, E> {
    Ok(cost_with((), |()| operation())?.0)
}

/// The same for an operation that consumes a value and gives it back; and the
/// value.
///
/// # Errors
/// Those of the operation.
pub(crate) fn cost_with<T, E>(
    value: T,
    mut operation: impl FnMut(T) -> Result<T, E>,
) -> Result<(f64, T), E> {
    let mut round = |mut value: T, count: u32| {
        let start = Instant::now();
        for _ in 0..count {
            value = operation(value)?;
        }
        Ok((start.elapsed(), value))
    };
    let (_, value) = round(value, 1)?;
    let (once, mut value) = round(value, 1)?;
    let count = u32::try_from(ROUND.as_nanos() / once.as_nanos().max(1)).unwrap_or(ROUND_MAX);
    let count = count.clamp(1, ROUND_MAX);
    let mut least = once.as_secs_f64() * 1e9;
    for _ in 0..if once > LONG { 0 } else { ROUNDS } {
        let (all, back) = round(value, count)?;
        value = back;
        least = least.min(all.as_secs_f64() * 1e9 / f64::from(count));
    }
    Ok((least, value))
}

/// `from`, four times that and so on, up to `most`.
pub(crate) fn sizes(from: usize, most: usize) -> impl Iterator<Item = usize> {
    std::iter::successors(Some(from), |size| size.checked_mul(4))
        .take_while(move |&size| size <= most)
}

/// Nanoseconds for one of `N` accesses in a row, without the loop around them:
/// `one` does it once, `many` N times.
pub(crate) fn cost_of_each<const N: u32>(one: impl Fn(), many: impl Fn()) -> f64 {
    let cost = |operation: &dyn Fn()| {
        cost(|| {
            operation();
            Ok::<_, std::convert::Infallible>(())
        })
        .unwrap_or_else(|never| match never {})
    };
    (cost(&many) - cost(&one)) / f64::from(N - 1)
}

/// What `x` counts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum X {
    /// Nothing: the operation has no size.
    None,
    /// Bytes.
    Bytes(usize),
    /// Parts or buffers, in one step or one after the other.
    Count(usize),
    /// An offset in bytes.
    Offset(usize),
    /// Bytes of the buffer of which a part is meant.
    Whole(usize),
}

/// Prints a measurement of the crates.
pub(crate) fn row(operation: &str, x: X, cost: f64) {
    row_of("SDK", operation, x, cost);
}

/// Prints a measurement of something else.
pub(crate) fn row_of(program: &str, operation: &str, x: X, cost: f64) {
    let (x, unit) = match x {
        X::None => (0, ""),
        X::Bytes(bytes) => (bytes, "B"),
        X::Count(count) => (count, "parts"),
        X::Offset(offset) => (offset, "B on"),
        X::Whole(bytes) => (bytes, "B in all"),
    };
    println!("row\t{program}\t{operation}\t{x}\t{unit}\t{cost:.2}");
}
