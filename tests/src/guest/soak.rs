//! Many transfers of random sizes, offsets and directions.

use super::{COHERENT_PAIR, PAIR, Pair, Tests, edu, faults, kill, loading, module, parent, zdma};

/// Transfers in a run of all tests.
const SHORT: u64 = 100;

/// What the kernel's command line asks for: `tests/run soak`.
pub(crate) fn asked() -> Option<u64> {
    std::env::var("soak").ok()?.parse().ok()
}

/// How many transfers a test makes.
pub(crate) fn count() -> u64 {
    asked().unwrap_or(SHORT)
}

/// All there is to run where the machine was started for this.
pub(crate) fn tests(run: &mut Tests, board: &str) {
    let pairs: &[Pair] = if board == "x86_64" { &[PAIR] } else { &[PAIR, COHERENT_PAIR] };
    if faults::are_possible() {
        run.test("soak faults of loading", loading::faults);
    }
    run.test("load", || module::load(board));
    match board {
        "versal" => {
            run.test("soak zdma", || zdma::soak(PAIR));
            run.test("soak zdma, coherent", || zdma::soak(COHERENT_PAIR));
        }
        "arm64-smmu" => {
            run.test("soak edu", || parent::with_edus_own(edu::soak));
            run.test("edu reaches nothing else", || parent::isolated(PAIR));
        }
        _ => {
            run.test("soak edu", || edu::soak(PAIR));
            if board != "x86_64" {
                run.test("soak edu, coherent", || edu::soak(COHERENT_PAIR));
            }
        }
    }
    kill::tests(run, board, pairs);
    run.test("unload", || module::unload(PAIR[0]));
}
