//! The parts of a run, and the processes of each.

use std::{
    fs::{self, File},
    os::{fd::AsFd, unix::process::ExitStatusExt},
    process::{Child, Command, ExitCode, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use udmabuf_sys::ioctl;

use super::{
    admin::{CLASS, command},
    chaos,
    guards::{Guard, Reserved, span},
    random::Random,
    run::Fuzz,
};

const MODULE: &str = "/modules/u-dma-buf.ko";
/// Of the device tree, for the first process: without cache, kept, zeroed,
/// coherent.
const FIXED: [&str; 4] = ["udmabuf_nomap", "udmabuf_kept", "udmabuf_zeroed", "udmabuf2"];
/// What every process makes for itself. The last is too large for the kernel's free
/// lists: it comes from CMA, which gives neighbours also after much else was allocated.
const MADE: [(&str, &str); 4] = [
    ("a", "16384"),
    ("b", "12345 quirk-mmap-page"),
    ("c", "8192 quirk-mmap-off dma-mask=40"),
    ("d", "size=131072 quirk-mmap-auto"),
];

/// A process, as the supervisor starts it.
pub(crate) fn work(role: &str, board: &str, numbers: [u64; 3]) -> ExitCode {
    let [id, seed, _] = numbers;
    match attempt(role, board, numbers) {
        Ok(digest) => {
            println!("digest {digest:016x}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("process {id}, SEED={seed}: {}", format!("{error:#}").replace('\n', " "));
            ExitCode::FAILURE
        }
    }
}

fn attempt(role: &str, board: &str, [id, seed, operations]: [u64; 3]) -> Result<u64> {
    let mut fuzz = Fuzz::new(seed ^ id << 48)?;
    if id == 0 && board.starts_with("arm64") {
        for name in FIXED {
            fuzz.renew(name)?;
        }
        // Before the kept buffer, and behind the one in the region before its.
        let [start, end] = [span(FIXED[0])?[1], span(FIXED[1])?[0]];
        fuzz.reserved = Some(Reserved::new(start, end)?);
    }
    for (letter, options) in MADE {
        let (used, guards) = surrounded(|number| format!("fz{id}{letter}{number}"), options)?;
        let name = used.into_buffer()?;
        let text = format!("create {name} {options}\n");
        fuzz.adopt(&name, Some(text))?;
        fuzz.guards.extend(guards);
    }
    // Others make buffers in between.
    if role == ALONE {
        guarded(&fuzz)?;
    }
    fuzz.run(operations)
}

/// A buffer and two guards, right beside it if the memory of so many buffers allows.
fn surrounded(name: impl Fn(usize) -> String, options: &str) -> Result<(Guard, Vec<Guard>)> {
    let mut made: Vec<Guard> = Vec::new();
    for number in 0..6 {
        made.push(Guard::new(name(number), options)?);
        let both = |one: &Guard| made.iter().filter(|other| one.is_beside(other)).count() == 2;
        if made.iter().any(both) {
            break;
        }
    }
    let beside = |&number: &usize| made.iter().filter(|one| one.is_beside(&made[number])).count();
    let used = made.swap_remove((0..made.len()).max_by_key(beside).unwrap_or(0));
    made.sort_by_key(|guard| !guard.is_beside(&used));
    let others = made.split_off(2.min(made.len()));
    others.into_iter().try_for_each(Guard::end)?;
    Ok((used, made))
}

/// A guard has to be right beside some buffer. Where memory was used before it is not
/// always on both sides; `Reserved` is.
fn guarded(fuzz: &Fuzz) -> Result<()> {
    let mut beside = false;
    for kind in fuzz.model.kinds.iter().filter(|kind| kind.create.is_some()) {
        let [start, end] = span(&kind.name)?;
        let touches = |guard: &Guard| guard.span[1] == start || guard.span[0] == end;
        beside |= fuzz.guards.iter().any(touches);
    }
    ensure!(beside, "all guards are elsewhere");
    Ok(())
}

/// A process that has the module to itself, and one of several.
const ALONE: &str = "alone";
const WORKER: &str = "worker";

fn start(role: &str, board: &str, id: u64, seed: u64, operations: u64) -> Result<Child> {
    let arguments = [role, board].map(str::to_owned);
    let numbers = [id, seed, operations].map(|number| number.to_string());
    Ok(Command::new("/proc/self/exe")
        .args(arguments.iter().chain(&numbers))
        .stdout(Stdio::piped())
        .spawn()?)
}

/// What a process said, if it ended well.
fn end(child: Child) -> Result<String> {
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    ensure!(output.status.success(), "{} {said}", output.status);
    Ok(said)
}

pub(crate) fn run(board: &str, operations: u64) -> ExitCode {
    let given = std::env::var("seed").ok().and_then(|seed| seed.parse().ok());
    let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    let seed = given.unwrap_or(u64::from(now.subsec_nanos()));
    let mut failed = false;
    // A part that failed may leave anything behind: none follows.
    let mut part = |name: &str, work: &dyn Fn() -> Result<String>| {
        if failed {
            return;
        }
        let began = std::time::Instant::now();
        match work() {
            Ok(detail) => println!("ok {name}: {detail}, {} s", began.elapsed().as_secs()),
            Err(error) => {
                failed = true;
                let text = format!("{error:#}").replace('\n', " ");
                println!("FAILED {name}: SEED={seed}: {text}");
            }
        }
    };
    part("fuzz load", &|| load().map(|()| "loaded".into()));
    part("fuzz repeats", &|| repeats(board, seed, operations / 20));
    part("fuzz alone", &|| {
        end(start(ALONE, board, 0, seed + 1, operations * 3 / 10)?)?;
        Ok(format!("{} operations, SEED={seed}", operations * 3 / 10))
    });
    part("fuzz keeps no memory", &|| keeps_no_memory(board, seed, operations / 20));
    part("fuzz together", &|| together(board, seed + 2, operations * 6 / 10));
    part("fuzz says no addresses", &no_addresses);
    part("fuzz unload", &unload);
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn load() -> Result<()> {
    let status = Command::new("insmod").args([MODULE, "info_enable=0"]).status()?;
    ensure!(status.success(), "insmod: {status}");
    Ok(())
}

/// A seed repeats a run: each outcome is the same.
fn repeats(board: &str, seed: u64, operations: u64) -> Result<String> {
    let once = end(start(ALONE, board, 0, seed, operations)?)?;
    let again = end(start(ALONE, board, 0, seed, operations)?)?;
    ensure!(once == again, "{once} and then {again}");
    let other = end(start(ALONE, board, 0, seed + 1, operations.min(1000))?)?;
    ensure!(other != once, "another seed does the same");
    Ok(format!("{} operations twice", operations))
}

/// What the kernel has allocated and cannot give up, in KiB.
fn kernel_memory() -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let of = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        number.context("/proc/meminfo has changed")
    };
    Ok(of("SUnreclaim:")? + of("VmallocUsed:")? + of("Percpu:")?)
}

/// After a run the kernel has as much as after the one before. A kernel that
/// searches for leaks keeps what was freed for a while, and finds them otherwise.
fn keeps_no_memory(board: &str, seed: u64, operations: u64) -> Result<String> {
    if fs::exists("/sys/kernel/debug/kmemleak")? {
        return Ok("left to the kernel's search".into());
    }
    let run = || -> Result<u64> {
        end(start(ALONE, board, 0, seed, operations)?)?;
        kernel_memory()
    };
    let _ = run()?;
    let [before, after] = [run()?, run()?];
    let grown = after.saturating_sub(before);
    ensure!(grown < 256, "{grown} KiB more after {operations} operations");
    Ok(format!("{before} KiB, and {after} KiB after {operations} operations more"))
}

/// Processes with buffers of their own, and others that share some, of which one
/// after the other is stopped for a moment or killed.
fn together(board: &str, seed: u64, operations: u64) -> Result<String> {
    const PROCESSES: u64 = 3;
    /// Between two kills, or on a slow machine nobody would get anywhere.
    const SPARED: u64 = 64;
    let _ = fs::remove_file(chaos::COUNT);
    let mut children: Vec<Child> = (0..PROCESSES)
        .map(|id| start(WORKER, board, id, seed, operations / PROCESSES / 2))
        .collect::<Result<_>>()?;
    let mut random = Random(seed);
    let mut others = (0..PROCESSES).map(|_| chaotic(&mut random)).collect::<Result<Vec<_>>>()?;
    let (mut killed, mut killed_at) = (0, 0);
    let counted = || fs::metadata(chaos::COUNT).map_or(0, |count| count.len() * chaos::COUNTED);
    let mut running = true;
    while running || counted() < operations / 2 {
        std::thread::sleep(Duration::from_millis(random.below(100)));
        running = false;
        for child in &mut children {
            running |= child.try_wait()?.is_none();
        }
        let victim = random.index(others.len());
        let pid = Pid::from_child(&others[victim]);
        kill_process(pid, Signal::STOP)?;
        std::thread::sleep(Duration::from_millis(random.below(5)));
        kill_process(pid, Signal::CONT)?;
        if random.one_in(4) && counted() >= killed_at + SPARED {
            stop(&mut others[victim])?;
            others[victim] = chaotic(&mut random)?;
            (killed, killed_at) = (killed + 1, counted());
        }
    }
    others.iter_mut().try_for_each(stop)?;
    let results: Vec<Result<String>> = children.into_iter().map(end).collect();
    results.into_iter().collect::<Result<Vec<_>>>()?;
    // What is left of those that several used can be deleted.
    for (name, _) in chaos::SHARED {
        if let Ok(file) = File::options().read(true).write(true).open(format!("/dev/{name}")) {
            // Some died with parts at the device, which there is not.
            ioctl::claim(file.as_fd(), true).context("adopt")?;
        }
        while command(format!("delete {name}\n").as_bytes()).is_ok() {}
        ensure!(!fs::exists(format!("{CLASS}/{name}"))?, "{name} cannot be deleted");
    }
    let sum = operations / PROCESSES / 2 * PROCESSES + counted();
    Ok(format!("{sum} operations, {killed} processes killed, SEED={}", seed - 2))
}

fn chaotic(random: &mut Random) -> Result<Child> {
    Ok(Command::new("/proc/self/exe").args(["chaos", &random.next().to_string()]).spawn()?)
}

/// It runs until then: if it does not, it has found something.
fn stop(child: &mut Child) -> Result<()> {
    child.kill()?;
    let status = child.wait()?;
    ensure!(status.signal() == Some(9), "a process that shares buffers ended: {status}");
    Ok(())
}

pub(crate) fn chaos(seed: u64) -> ExitCode {
    if let Err(error) = chaos::run(seed) {
        eprintln!("chaos {seed}: {error:#}");
    }
    ExitCode::FAILURE
}

/// Kernel addresses, as 16 digits that begin with ffff.
fn no_addresses() -> Result<String> {
    let address = |line: &str| {
        line.split(|c: char| !c.is_ascii_hexdigit())
            .any(|word| word.len() >= 16 && word.starts_with("ffff"))
    };
    let log = Command::new("dmesg").output()?.stdout;
    let log = String::from_utf8_lossy(&log).into_owned();
    let mut lines = 0;
    // What the device tree asks for is not the kernel's.
    let ours = |line: &&str| line.contains("u-dma-buf") && !line.contains("properties");
    for line in log.lines().filter(ours) {
        ensure!(!address(line), "the log: {line}");
        lines += 1;
    }
    let mut files = 0;
    for device in fs::read_dir(CLASS)?.flatten() {
        for file in fs::read_dir(device.path())?.flatten() {
            let Ok(text) = fs::read_to_string(file.path()) else { continue };
            ensure!(!address(&text), "{}: {text}", file.path().display());
            files += 1;
        }
    }
    Ok(format!("{lines} lines of the log, {files} files"))
}

/// Nothing is left that would keep the module, and it comes again.
fn unload() -> Result<String> {
    for _ in 0..2 {
        rustix::system::delete_module(c"u_dma_buf", 0o4000).context("unload")?;
        if fs::exists(CLASS)? {
            bail!("{CLASS} is still there");
        }
        load()?;
    }
    rustix::system::delete_module(c"u_dma_buf", 0o4000).context("unload")?;
    Ok("three times".into())
}
