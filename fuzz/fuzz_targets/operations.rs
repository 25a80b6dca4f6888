//! Random programs of drivers, as in `udmabuf/tests/random_programs.rs`, of the
//! fuzzer's choice.
#![no_main]

#[path = "../../udmabuf/tests/operations/mod.rs"]
mod operations;

use libfuzzer_sys::fuzz_target;
use operations::{Source, run};

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = bytes.iter().map(|&byte| u64::from(byte));
    // A byte is enough for most choices; the seed and long ranges take more.
    let mut choose = |bound: u64| {
        let mut number = bytes.next()?;
        let mut chosen_of = 256;
        while chosen_of < bound.min(1 << 16) {
            number = number << 8 | bytes.next()?;
            chosen_of <<= 8;
        }
        Some(number % bound)
    };
    run(&mut Source::new(&mut choose), usize::MAX);
});
