//! What runs in a board's guest, against the real kernel module and a real DMA
//! engine: one line a test, `ok NAME: detail` or `FAILED NAME: why`, and a last
//! line, `guest finished`.
//!
//! It starts itself again in other roles, for what takes another process.

mod allocations;
mod awaited;
mod axidma;
mod claims;
mod commands;
mod copying;
mod dma_api;
mod edu;
mod errors;
mod existing;
mod export;
mod faults;
mod filter;
mod in_kernel;
mod kill;
mod large;
mod loading;
mod manager;
mod map;
mod memory_types;
mod module;
mod other_drivers;
mod ownership;
mod parent;
mod peer;
mod pinned;
mod programs;
mod random;
mod raw;
mod regions;
mod sdk;
mod security;
mod soak;
mod sync;
mod syscalls;
mod uevents;
mod uio;
mod unplug;
mod vfio;
mod zdma;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
};

use anyhow::Result;

/// A pair of buffers of the same size, by name.
type Pair = [&'static str; 2];
/// On every board; not coherent where the board's devices are not.
const PAIR: Pair = ["udmabuf0", "udmabuf1"];
/// Where there is a device tree: `dma-coherent` in it.
const COHERENT_PAIR: Pair = ["udmabuf2", "udmabuf3"];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["open", name] => errors::open_and_report(name),
        ["commands", name] => commands::report(name),
        ["abandon", name] => ownership::abandon(name),
        ["abandon-part", name] => sdk::abandon_part(name),
        ["leak", name] => edu::leak(name),
        ["removed", name] => edu::removed_under_a_transfer(name),
        ["leave-paused", name] => zdma::leave_paused(name),
        ["unplugged", name, how] => uio::unplugged_engine(name, how),
        ["pulled", name, address, how] => unplug::pulled(name, address, how),
        ["lend", name] => claims::lend(name),
        ["touch-export", name] => export::touch_when_told(name),
        ["endless-sync", name] => sync::endless(name),
        ["interfaces", name] => interfaces(name),
        ["nobody", what] => security::report(what),
        ["charged", group] => security::report_charges(group),
        ["stream", what] => kill::stream(what),
        [board] => run(board),
        _ => ExitCode::from(2),
    }
}

fn run(board: &str) -> ExitCode {
    let mut tests = Tests { failed: false, only: Only::asked() };
    if soak::asked().is_some() {
        soak::tests(&mut tests, board);
    } else if board == "arm64-large" {
        tests.test("load", || module::load(board));
        large::tests(&mut tests);
    } else {
        all(&mut tests, board);
    }
    tests.end();
    println!("guest finished");
    if tests.failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// `tests/run debug-kernel`: also what takes long where everything is watched.
pub(crate) fn is_whole() -> bool {
    std::env::var("whole").is_ok_and(|value| value == "yes")
}

fn all(run: &mut Tests, board: &str) {
    let coherent = !matches!(board, "x86_64" | "versal");
    let pairs = if coherent { &[PAIR, COHERENT_PAIR][..] } else { &[PAIR] };

    if is_whole() && faults::are_possible() {
        run.test("faults of loading", loading::faults);
    }
    run.test("module not loaded", errors::not_loaded);
    run.test("failed load", module::failed_load);
    run.test("fault 16 sizes of 4 GiB", module::too_large);
    run.test("fault 24 wrong parameters", module::wrong_parameters);
    run.test("parameters", || module::parameters(board));
    run.test("load", || module::load(board));
    run.test("wrong name", errors::wrong_name);
    run.test("no permission", errors::no_permission);
    run.test("no such engine", errors::no_engine);
    run.test("attributes", || module::attributes(PAIR[0]));
    run.test("zeroed", || module::zeroed(PAIR[0]));
    run.test("ranges", || module::ranges(PAIR[0]));
    run.test("mapping", || module::mapping(PAIR[0]));
    run.test("commands", || commands::every(PAIR[0]));
    if board == "x86_64" {
        run.test("commands of 32 bits", || commands::from_32_bits(PAIR[0]));
    }
    run.test("exclusive", || ownership::exclusive(PAIR[0]));
    run.test("remembered", || ownership::remembered(PAIR[0]));
    run.test("loopback", || ownership::loopback(PAIR));
    if coherent {
        run.test("axidma packets", || axidma::packets(PAIR, COHERENT_PAIR[0]));
        run.test("axidma stream", || axidma::streamed(PAIR, COHERENT_PAIR[0]));
    }
    run.test("uio lookups", uio::lookups);
    match board {
        // Whose modules have UIO's driver for device-tree nodes.
        "arm64" | "arm64-debug" | "arm64-smmu" => {
            run.test("uio two maps", uio::two_maps);
        }
        "x86_64" => run.test("uio ports", uio::ports),
        _ => {}
    }

    existing::tests(run, PAIR[0]);
    sync::tests(run, PAIR[0]);
    claims::tests(run, PAIR[0]);
    manager::tests(run);
    run.test("udev is told", uevents::told);
    // So many devices take minutes where each is watched.
    if board != "arm64-debug" || is_whole() {
        run.test("256 minor numbers", manager::all_minors);
    }
    export::tests(run, board, PAIR[0]);
    in_kernel::tests(run, board);
    // Whose kernels have what it takes: probes, and the functions that it probes.
    if matches!(board, "arm64" | "arm64-debug") {
        run.test("what the DMA API is told", || dma_api::told(PAIR[0]));
    }
    faults::tests(run);
    memory_types::tests(run, pairs);
    copying::tests(run, PAIR[0]);
    pinned::tests(run, PAIR[0]);
    if board.starts_with("arm") {
        regions::tests(run);
    }
    if board != "versal" {
        parent::tests(run, board, PAIR);
    }

    sdk::tests(run, board, PAIR[0], (board != "x86_64").then_some(COHERENT_PAIR));
    other_drivers::tests(run, &pairs.iter().map(|pair| pair[0]).collect::<Vec<_>>());

    match board {
        "versal" => {
            run.test("uio unbound", uio::unbound);
            zdma::tests(run, PAIR, COHERENT_PAIR);
            run.test("program zdma", || programs::says("zdma", "copied 1048576 bytes"));
            for maintenance in ["own", "kernel"] {
                run.test(&format!("program stream, zdma, {maintenance}"), || {
                    let options = "--part=8192 --in-flight=6 --count=500 --maintenance=";
                    let command = format!("stream zdma {options}{maintenance}");
                    programs::says(&command, "500 parts, 4096000 bytes")
                });
            }
        }
        // Here edu reaches only what is made for it: `parent`.
        "arm64-smmu" => {
            run.test("soak edu", || parent::with_edus_own(edu::soak));
            vfio::tests(run, PAIR);
        }
        _ => {
            run.test("uio interrupts", uio::interrupts);
            run.test("uio signalled", uio::signalled);
            run.test("uio unplugged", uio::unplugged);
            run.test("edu unplugged", || uio::unplugged_under_a_driver(PAIR));
            run.test("edu moves data", || edu::moves_data(PAIR));
            if coherent {
                run.test("edu moves data, coherent", || edu::moves_data(COHERENT_PAIR));
                run.test("coherence", || module::coherence(PAIR, COHERENT_PAIR));
            }
            run.test("soak edu", || edu::soak(PAIR));
            run.test("edu awaited", || awaited::transfers(PAIR));
            run.test("edu storm", || edu::storm(PAIR));
            run.test("edu signalled", || edu::signalled(PAIR));
            if unplug::is_possible() {
                unplug::tests(run, PAIR);
            }
            if vfio::is_possible() {
                vfio::tests(run, PAIR);
            }
            run.test("edu in flight", || edu::in_flight(PAIR));
            run.test("edu refusals", || edu::refusals(PAIR));
            run.test("edu crashed", || edu::crashed(PAIR));
            run.test("edu removed buffer", || edu::removed(PAIR));
            run.test("program edu", || {
                programs::says("edu --32-bits", "65536 bytes there and back")
            });
            for maintenance in ["own", "kernel"] {
                run.test(&format!("program stream, edu, {maintenance}"), || {
                    // 200 ms for each part.
                    let options = "--in-flight=3 --count=6 --maintenance=";
                    programs::says(
                        &format!("stream edu {options}{maintenance}"),
                        "6 parts, 12288 bytes",
                    )
                });
            }
        }
    }

    run.test("program stream", || {
        programs::says("stream adversary --engines=2 --count=50", "50 parts, 102400 bytes")
    });
    syscalls::tests(run, board, PAIR);
    security::tests(run, board, PAIR);
    kill::tests(run, board, pairs);
    run.test("program loopback", || programs::says("loopback", "every byte came back"));
    run.test("program axidma", || programs::says("axidma", "scatter-gather: 131072 bytes"));
    run.test("program accelerator", || programs::says("accelerator", "16384 sums"));
    run.test("unload", || module::unload(PAIR[0]));
}

/// In a program of another word size, on the same kernel.
fn interfaces(name: &str) -> ExitCode {
    let mut tests = Tests { failed: false, only: None };
    sync::ioctls(&mut tests, name);
    claims::tests(&mut tests, name);
    export::ioctls(&mut tests, name);
    if tests.failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// What others need.
const FIRST: [&str; 3] = ["load", "page tables", "faults set up"];

struct Tests {
    failed: bool,
    /// The only one to run, beside [`FIRST`], if the kernel's command line says so:
    /// `tests/run kmod-mutations`.
    only: Option<Only>,
}

struct Only {
    name: String,
    has_run: bool,
}

impl Only {
    fn asked() -> Option<Self> {
        std::env::var("only").ok().map(|name| Self { name, has_run: false })
    }
}

impl Tests {
    /// That there is no such test is a failure.
    fn end(&mut self) {
        if let Some(Only { name, has_run: false }) = &self.only {
            println!("FAILED only: no test {name:?} is run on this board");
            self.failed = true;
        }
    }

    fn test(&mut self, name: &str, test: impl FnOnce() -> Result<String>) {
        if let Some(only) = &mut self.only {
            let is_it = only.name == name;
            only.has_run |= is_it;
            if !is_it && !FIRST.contains(&name) {
                return;
            }
        }
        let outcome = catch_unwind(AssertUnwindSafe(test))
            .unwrap_or_else(|_| Err(anyhow::anyhow!("panicked; its message is on the console")));
        match outcome {
            Ok(detail) => println!("ok {name}: {detail}"),
            Err(error) => {
                self.failed = true;
                println!("FAILED {name}: {}", format!("{error:#}").replace('\n', " "));
            }
        }
    }
}
