//! The machine code of handovers and accesses, mostly on arm64: the barriers that
//! have to be there, and what must not be.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::{fs, path::Path, process::Command};

const ARM64: &str = "aarch64-unknown-linux-gnu";
const ARMV7: &str = "armv7-unknown-linux-gnueabihf";
#[cfg(target_arch = "x86_64")]
const X86_64: &str = "x86_64-unknown-linux-gnu";

/// The assembly of one crate, as the compiler writes it; `None` without the
/// target's standard library.
fn assembly(target: &str, package: &str) -> Option<String> {
    let rustc = std::env::var("RUSTC").unwrap_or("rustc".into());
    let args = ["--print", "target-libdir", "--target", target];
    let library = Command::new(rustc).args(args).output().unwrap().stdout;
    if !Path::new(String::from_utf8(library).unwrap().trim()).exists() {
        // `tests/run` has rustup add it, and sets this.
        let may_skip = std::env::var_os("UDMABUF_TESTS_SKIP_NOTHING").is_none();
        assert!(may_skip, "no Rust for {target}: rustup target add {target}");
        eprintln!("skipped: no Rust for {target}: `rustup target add {target}`");
        return None;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("assembly");
    let output = Command::new(env!("CARGO"))
        .current_dir(root)
        .args(["rustc", "--quiet", "--release", "--locked", "--lib", "--target", target])
        .args(["-p", package, "--target-dir"])
        .arg(&directory)
        .args(["--", "--emit", "asm", "-C", "codegen-units=1"])
        .output()
        .unwrap();
    let messages = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{messages}");

    let prefix = format!("{}-", package.replace('-', "_"));
    let newest = fs::read_dir(directory.join(target).join("release/deps"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| {
            let name = entry.file_name().into_string().unwrap();
            name.starts_with(&prefix) && name.ends_with(".s")
        })
        .max_by_key(|entry| entry.metadata().unwrap().modified().unwrap());
    Some(fs::read_to_string(newest.unwrap().path()).unwrap())
}

/// The functions of an assembly: their symbols and instructions.
fn functions(assembly: &str) -> Vec<(&str, Vec<&str>)> {
    let is_symbol = |line: &str| {
        let is_table = line.starts_with("GCC_except_table");
        line.ends_with(':') && !line.starts_with([' ', '\t', '.']) && !is_table
    };
    let mut found = Vec::new();
    let mut lines = assembly.lines();
    while let Some(symbol) = lines.find(|line| is_symbol(line)) {
        let code = lines
            .by_ref()
            .map(str::trim)
            .take_while(|line| !line.starts_with(".cfi_endproc") && !line.starts_with(".size"))
            .filter(|line| !line.starts_with(['.', '/']) && !line.is_empty())
            .collect();
        found.push((symbol, code));
    }
    found
}

/// The one function whose symbol has `name` in it.
fn function<'a>(assembly: &'a str, name: &str) -> Vec<&'a str> {
    let mut found = functions(assembly);
    found.retain(|(symbol, _)| symbol.contains(name));
    assert_eq!(found.len(), 1, "functions named {name}: {found:?}");
    found.remove(0).1
}

/// Where the first of these instructions is.
fn find(code: &[&str], instruction: &str) -> usize {
    let wanted: Vec<_> = instruction.split(' ').collect();
    code.iter()
        .position(|line| line.split_whitespace().zip(&wanted).all(|(a, b)| a == *b))
        .unwrap_or_else(|| panic!("no {instruction} in\n{}", code.join("\n")))
}

fn has_none(code: &[&str], unwanted: &[&str]) {
    for line in code {
        let found = unwanted.iter().find(|text| line.contains(**text));
        assert!(found.is_none(), "{line:?} in\n{}", code.join("\n"));
    }
}

/// Checks that the types have made, and copies of the data.
const NEEDLESS: [&str; 5] = ["memcpy", "memset", "memmove", "panic", "slice_index"];

/// Splits an instruction into its name and operands.
fn operands(line: &str) -> Vec<&str> {
    line.split([' ', '\t', ',']).filter(|part| !part.is_empty()).collect()
}

/// The maintenance in a function is the loop of `each_line`, which the tests of
/// `maintenance.rs` watch: a register that was rounded down goes from line to line,
/// by the same step behind each instruction, and nothing else writes it.
fn goes_from_line_to_line(code: &[&str], instruction: &str) {
    let shown = code.join("\n");
    let code: Vec<_> = code.iter().map(|line| operands(line)).collect();
    let is_maintenance = |line: &Vec<&str>| line.len() == 3 && line[..2] == ["dc", instruction];
    let (first, last) =
        (code.iter().position(is_maintenance), code.iter().rposition(is_maintenance));
    let (first, last) = (first.unwrap(), last.unwrap());
    let at = code[first][2];
    let writes = |line: &&Vec<&str>| line.len() > 2 && line[1] == at && line[0] != "cmp";
    let rounded = code[..first].iter().rposition(|line| writes(&line)).unwrap();
    assert_eq!(code[rounded][0], "and", "{at} in\n{shown}");

    let mut steps = Vec::new();
    for pair in code[first..=last + 1].windows(2).filter(|pair| is_maintenance(&pair[0])) {
        assert_eq!(pair[0][2], at, "another register in\n{shown}");
        let ["add", to, one, other] = pair[1][..] else { panic!("{:?} in\n{shown}", pair[1]) };
        assert!(to == at && [one, other].contains(&at), "{:?} in\n{shown}", pair[1]);
        steps.push(if one == at { other } else { one });
    }
    assert!(steps.iter().all(|step| *step == steps[0]), "steps of {steps:?} in\n{shown}");
    let writes = code[rounded + 1..=last + 1].iter().filter(writes).count();
    assert_eq!(writes, steps.len(), "{at} is written elsewhere in\n{shown}");
}

#[test]
fn barriers_of_the_right_domain() {
    let Some(own) = assembly(ARM64, "udmabuf") else { return };
    for (instruction, direction) in [("cvac,", "device"), ("civac,", "CPU")] {
        let places = |code: &[&str], text: &str| -> Vec<usize> {
            let lines = code.iter().enumerate();
            lines.filter(|(_, line)| line.contains(text)).map(|(at, _)| at).collect()
        };
        let mut found = functions(&own);
        found.retain(|(_, code)| !places(code, instruction).is_empty());
        assert!(!found.is_empty(), "no maintenance for the {direction}");
        let mut most = 0;
        for (symbol, code) in &found {
            let lines = places(code, instruction);
            most = most.max(lines.len());
            goes_from_line_to_line(code, instruction.trim_end_matches(','));
            if ["clean_lines", "drop_lines"].iter().any(|name| symbol.contains(name)) {
                continue; // a piece of a batch, which has its barriers around all of them
            }
            // The status, then the maintenance, then the barrier that waits for it.
            let waits = places(code, "dsb\tsy");
            assert!(waits.last() > lines.last(), "{}", code.join("\n"));
            assert!(direction == "device" || find(code, "dmb osh") < lines[0]);
        }
        assert!(most >= 32, "{most} in a turn of the loop");
    }
    for (_, code) in functions(&own) {
        has_none(&code, &["dc\tivac", "dc\tzva"]);
    }

    let Some(probes) = assembly(ARM64, "udmabuf-assembly") else { return };
    let function = |name| function(&probes, name);
    find(&function("looked_at_give"), "dmb osh");
    find(&function("looked_at_take"), "dmb oshld");
    find(&function("looked_at_publish"), "dmb osh");
    find(&function("looked_at_observe"), "dmb oshld");
    // The few lines of a short part are maintained where the driver hands it over.
    for (name, instruction, before) in
        [("looked_at_give", "dc\tcvac", None), ("looked_at_take", "dc\tcivac", Some("dmb\tosh"))]
    {
        let code = function(name);
        let shown = code.join("\n");
        let places = |text: &str| -> Vec<usize> {
            let lines = code.iter().enumerate();
            lines.filter(|(_, line)| line.starts_with(text)).map(|(at, _)| at).collect()
        };
        let lines = places(instruction);
        assert!(!lines.is_empty(), "no {instruction} in\n{shown}");
        assert!(places("dsb\tsy").last() > lines.last(), "{shown}");
        // `oshld` would not do: maintenance counts as a store.
        let is_order = |at: &usize| before.is_some_and(|before| code[*at] == before);
        let order = (0..lines[0]).find(is_order);
        assert!(before.is_none() || order.is_some(), "{shown}");
    }
    // Nothing is called, unless it takes long.
    for name in ["looked_at_give", "looked_at_take"] {
        let mut code = function(name);
        has_none(&code, &NEEDLESS);
        code.retain(|line| !line.contains("slow_for_") && !line.contains("advised_for_"));
        has_none(&code, &["bl\t"]);
    }
    // A load before a sync, and one after it.
    let advised = function("looked_at_advised");
    let loads = advised.iter().filter(|line| line.starts_with("ldr\tw")).count();
    assert!(loads >= 2, "one value before and after\n{}", advised.join("\n"));
    find(&advised, "svc");
    // Of many parts, what changes is the owner.
    for name in ["looked_at_all_given", "looked_at_all_taken"] {
        has_none(&function(name), &["memcpy", "memmove", "malloc", "alloc::alloc"]);
        find(&function(name), "dsb sy"); // for the lines of all pieces
    }
}

#[test]
fn barriers_that_wait_on_armv7() {
    let Some(probes) = assembly(ARMV7, "udmabuf-assembly") else { return };
    for name in ["looked_at_give", "looked_at_take", "looked_at_publish", "looked_at_observe"] {
        find(&function(&probes, name), "dsb sy");
        has_none(&function(&probes, name), &["dmb"]);
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn combined_stores_are_drained_on_x86() {
    let Some(probes) = assembly(X86_64, "udmabuf-assembly") else { return };
    find(&function(&probes, "looked_at_drain"), "sfence");
}

#[test]
fn accesses_are_what_they_must_be() {
    let Some(probes) = assembly(ARM64, "udmabuf-assembly") else { return };
    let function = |name| function(&probes, name);
    assert!(function("looked_at_slice").len() <= 4, "{:?}", function("looked_at_slice"));
    for name in ["looked_at_view", "looked_at_values", "looked_at_read", "looked_at_write"] {
        has_none(&function(name), &NEEDLESS);
        has_none(&function(name), &["bl\t"]);
    }
    // On Device memory: words, and nothing that clears or copies cache lines.
    for name in ["looked_at_fill", "looked_at_copy"] {
        has_none(&function(name), &["memcpy", "memset", "memmove", "zva", "\tq"]);
    }
}
