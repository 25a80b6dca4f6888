//! What the bytes of a part are: different in each part and at each place, so
//! that what is stale, or another part's, shows.

use udmabuf::{Buffer, CpuOwned, Error, FromDevice, ToDevice};

const WORD: usize = size_of::<u64>();

/// Numbers that look random (SplitMix64, as in Java's `SplittableRandom`), from a
/// start of the part's own.
fn words(seed: u64, number: u64) -> impl Iterator<Item = u64> {
    let mut state = mix(seed ^ mix(number));
    std::iter::repeat_with(move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(state)
    })
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

/// Fills the part's words; a rest that is no whole word is left.
pub(super) fn fill(
    part: &mut Buffer<CpuOwned, ToDevice>,
    seed: u64,
    number: u64,
) -> Result<(), Error> {
    let count = part.len() / WORD;
    let part = part.slice_of_mut::<u64>(0, count)?;
    part.iter_mut().zip(words(seed, number)).for_each(|(word, value)| *word = value);
    Ok(())
}

/// The offset of the first word that is not as [`fill`] made it, if there is one.
pub(super) fn first_wrong(
    part: &Buffer<CpuOwned, FromDevice>,
    seed: u64,
    number: u64,
) -> Result<Option<usize>, Error> {
    let part = part.slice_of::<u64>(0, part.len() / WORD)?;
    let wrong = part.iter().zip(words(seed, number)).position(|(word, value)| *word != value);
    Ok(wrong.map(|at| at * WORD))
}
