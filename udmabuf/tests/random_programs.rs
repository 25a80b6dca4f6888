//! A million steps of random drivers, with the adversary in the cache: every
//! byte is where the rules say.

mod operations;

use std::hash::{BuildHasher, Hasher, RandomState};

use operations::{Source, run};

const STEPS: usize = if cfg!(miri) { 2000 } else { 1_000_000 };
const STEPS_OF_A_PROGRAM: usize = 500;

#[test]
fn random_programs_do_as_the_model() {
    let mut seed = match std::env::var("SEED") {
        Ok(seed) => seed.parse().expect("SEED is a number of 64 bits"),
        Err(_) => RandomState::new().build_hasher().finish(),
    };
    println!("SEED={seed} repeats all of it");
    let mut done = 0;
    while done < STEPS {
        let failed = Failed(seed);
        let mut random = random(seed);
        done += run(&mut Source::new(&mut random), STEPS_OF_A_PROGRAM);
        std::mem::forget(failed);
        seed = seed.wrapping_add(1);
    }
}

/// SplitMix64
fn random(mut state: u64) -> impl FnMut(u64) -> Option<u64> {
    move |bound| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        Some((mixed ^ mixed >> 31) % bound)
    }
}

/// Says which program failed.
struct Failed(u64);

impl Drop for Failed {
    fn drop(&mut self) {
        println!("SEED={} starts with the program that failed", self.0);
    }
}
