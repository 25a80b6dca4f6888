//! Many transfers of random sizes, offsets and directions.

use super::{COHERENT_PAIR, PAIR, Tests, edu, module, zdma};

/// What the kernel's command line asks for: `tests/run soak`.
pub(crate) fn asked() -> Option<u64> {
    std::env::var("soak").ok()?.parse().ok()
}

/// How many transfers a test makes: so many where all tests are run.
pub(crate) fn count(short: u64) -> u64 {
    asked().unwrap_or(short)
}

/// All there is to run where the machine was started for this.
pub(crate) fn tests(run: &mut Tests, board: &str) {
    run.test("load", || module::load(board));
    match board {
        "versal" => run.test("soak zdma", || zdma::soak(PAIR, COHERENT_PAIR[0], count(0))),
        _ => {
            run.test("soak edu", || edu::soak(PAIR));
            if board != "x86_64" {
                run.test("soak edu, coherent", || edu::soak(COHERENT_PAIR));
            }
        }
    }
    run.test("unload", || module::unload(PAIR[0]));
}
