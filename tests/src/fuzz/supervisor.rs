//! The parts of a run, and the processes of each.

use std::{
    fs::{self, File},
    os::{fd::AsFd, unix::process::ExitStatusExt},
    process::{Child, Command, ExitCode, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use rustix::{
    io::Errno,
    process::{Pid, Signal, kill_process},
};
use udmabuf_sys::ioctl;

use super::{
    admin::{CLASS, DRIVER, command, insmod},
    chaos,
    guards::{Guard, Reserved, span},
    memory::Kept,
    peer,
    random::Random,
    raw,
    run::Fuzz,
};

const MODULE: &str = "/modules/u-dma-buf.ko";
/// Of delete_module(): it does not wait.
const NONBLOCK: i32 = 0o4000;
/// Of the device tree, for the first process: without cache, kept, zeroed,
/// coherent, and with room for huge pages.
const FIXED: [&str; 5] =
    ["udmabuf_nomap", "udmabuf_kept", "udmabuf_zeroed", "udmabuf2", "udmabuf_region"];
/// And behind an IOMMU, of pages from anywhere.
const SCATTERED: &str = "udmabuf_scattered";
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
    let mut fuzz = Fuzz::new(id, seed)?;
    if role == WORKER {
        raw::be_signalled();
    }
    if id == 0 && board.starts_with("arm64") {
        for name in FIXED {
            fuzz.renew(name)?;
        }
        if board == "arm64-smmu" {
            fuzz.renew(SCATTERED)?;
        }
        // On both sides of the kept buffer, and behind the one in the region before its.
        let (first, kept) = (span(FIXED[0])?, span(FIXED[1])?);
        fuzz.reserved.push(Reserved::new(first[1], kept[0])?);
        fuzz.reserved.push(Reserved::new(kept[1], region_end("kept")?)?);
    }
    // Where a module uses it, its removal is refused for that alone: not in every run.
    fuzz.importer = role == ALONE && seed % 2 == 0;
    if fuzz.importer {
        peer::load()?;
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
    let digest = fuzz.run(operations)?;
    if fuzz.importer {
        peer::unload()?;
    }
    Ok(digest)
}

/// Behind the last byte of a reserved region of the device tree.
fn region_end(name: &str) -> Result<u64> {
    for entry in fs::read_dir("/proc/device-tree/reserved-memory")?.flatten() {
        if entry.file_name().to_string_lossy().starts_with(&format!("{name}@")) {
            let reg = fs::read(entry.path().join("reg"))?;
            let (start, size) = reg.split_first_chunk().context("no address")?;
            let size = size.first_chunk().context("no size")?;
            return Ok(u64::from_be_bytes(*start) + u64::from_be_bytes(*size));
        }
    }
    bail!("no region {name}")
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
    part("fuzz unload under use", &|| unload_under_use(seed + 3, operations / 100_000 + 2));
    part("fuzz says no addresses", &no_addresses);
    part("fuzz unload", &unload);
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn load() -> Result<()> {
    insmod(DRIVER, &[MODULE, "info_enable=0"])
}

/// A seed repeats a run: each outcome is the same.
fn repeats(board: &str, seed: u64, operations: u64) -> Result<String> {
    const SOME: u64 = 1000;
    let once = end(start(ALONE, board, 0, seed, operations)?)?;
    let again = end(start(ALONE, board, 0, seed, operations)?)?;
    ensure!(once == again, "{once} and then {again}");
    // As many operations: only the seed differs.
    let some = end(start(ALONE, board, 0, seed, SOME)?)?;
    let other = end(start(ALONE, board, 0, seed + 1, SOME)?)?;
    ensure!(other != some, "another seed does the same");
    Ok(format!("{operations} operations twice"))
}

/// A run leaves with the kernel what it found there: what grows, grows each time, while
/// what the kernel keeps for itself does not.
fn keeps_no_memory(board: &str, seed: u64, operations: u64) -> Result<String> {
    const LEAST: usize = 4;
    /// By chance it does not grow that often in a row.
    const MOST: usize = 10;
    let mut found = Vec::new();
    loop {
        end(start(ALONE, board, 0, seed, operations)?)?;
        found.push(Kept::now()?);
        if found.len() >= LEAST {
            let compared = Kept::compare(&found);
            if compared.is_ok() || found.len() == MOST {
                return compared.context(format!("{operations} operations each time"));
            }
        }
    }
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

pub(crate) fn chaos(seed: u64, brief: bool) -> ExitCode {
    raw::be_signalled();
    if let Err(error) = chaos::run(seed, brief) {
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
            // A number of its users', whichever they like.
            if file.file_name() == "sync_offset" {
                continue;
            }
            let Ok(text) = fs::read_to_string(file.path()) else { continue };
            ensure!(!address(&text), "{}: {text}", file.path().display());
            files += 1;
        }
    }
    Ok(format!("{lines} lines of the log, {files} files"))
}

/// The module goes only while nobody uses it, however it is used at the time, and comes
/// again under those who wait for it.
fn unload_under_use(seed: u64, loads: u64) -> Result<String> {
    const PROCESSES: usize = 2;
    /// With as many as are busy at a time, it may never be free.
    const ATTEMPTS: u32 = 4000;
    let mut random = Random(seed);
    let start =
        |seed: u64| Command::new("/proc/self/exe").args(["brief", &seed.to_string()]).spawn();
    let mut others = (0..PROCESSES).map(|_| start(random.next())).collect::<Result<Vec<_>, _>>()?;
    let (mut times, mut refused) = (0, 0);
    while times < loads && refused < ATTEMPTS {
        match rustix::system::delete_module(c"u_dma_buf", NONBLOCK) {
            Ok(()) => {
                load()?;
                times += 1;
            }
            Err(Errno::AGAIN) => refused += 1,
            Err(error) => bail!("rmmod: {error}"),
        }
        std::thread::sleep(Duration::from_millis(random.below(8)));
        for other in &mut others {
            ensure!(other.try_wait()?.is_none(), "a process found something");
        }
    }
    others.iter_mut().try_for_each(stop)?;
    Ok(format!("{times} times, refused {refused} times"))
}

/// Nothing is left that would keep the module, and it comes again.
fn unload() -> Result<String> {
    for _ in 0..2 {
        rustix::system::delete_module(c"u_dma_buf", NONBLOCK).context("unload")?;
        if fs::exists(CLASS)? {
            bail!("{CLASS} is still there");
        }
        load()?;
    }
    rustix::system::delete_module(c"u_dma_buf", NONBLOCK).context("unload")?;
    Ok("three times".into())
}
