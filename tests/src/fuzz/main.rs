//! Random operations on every file of the kernel module, hostile ones among them,
//! by several processes at once; each knows what the module promises and checks
//! it. `fuzz BOARD OPERATIONS` prints a line for each part, as the guest's other
//! tests do; the environment's `seed` repeats a run.

mod admin;
mod arena;
mod chaos;
mod choice;
mod commands;
mod files;
mod grammar;
mod guards;
mod inherited;
mod manager;
mod mappings;
mod memory;
mod model;
mod numbers;
mod op;
mod peer;
mod random;
mod raw;
mod requests;
mod run;
mod supervisor;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |text: &str| text.parse::<u64>().unwrap_or(0);
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [role, board, id, seed, operations] => {
            supervisor::work(role, board, [id, seed, operations].map(number))
        }
        ["chaos", seed] => supervisor::chaos(number(seed), false),
        ["brief", seed] => supervisor::chaos(number(seed), true),
        [board, operations] => supervisor::run(board, number(operations)),
        _ => ExitCode::from(2),
    }
}
