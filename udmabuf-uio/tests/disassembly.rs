//! Each access is exactly one load or store of the register's width, and the
//! barriers are where they have to be: in the machine code, for the architectures
//! that boards and PCs have.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// What an architecture's instructions look like.
struct Arch {
    target: &'static str,
    /// Loads of 8, 16, 32 and 64 bits, as mnemonic and start of the operand.
    loads: [&'static [&'static str]; 4],
    stores: [&'static [&'static str]; 4],
    /// A memory operand at a displacement.
    operand: fn(usize) -> String,
    before_doorbell: &'static str,
    after_status: Option<&'static str>,
}

const X86_64: Arch = Arch {
    target: "x86_64-unknown-linux-gnu",
    loads: [&["movzbl ", "movb "], &["movzwl ", "movw "], &["movl "], &["movq "]],
    stores: [&["movb %"], &["movw %"], &["movl "], &["movq %"]],
    operand: |offset| format!("{offset}(%"),
    before_doorbell: "sfence",
    after_status: None, // the CPU keeps loads in order
};

const ARM64: Arch = Arch {
    target: "aarch64-unknown-linux-gnu",
    loads: [&["ldrb w"], &["ldrh w"], &["ldr w"], &["ldr x"]],
    stores: [&["strb w"], &["strh w"], &["str w"], &["str x"]],
    operand: |offset| format!(", #{offset}]"),
    before_doorbell: "dmb osh",
    after_status: Some("dmb oshld"),
};

/// The mnemonics are enough: what is looked at there is where the barriers are.
const ARMV7: Arch = Arch {
    target: "armv7-unknown-linux-gnueabihf",
    loads: [&["ldrb "], &["ldrh "], &["ldr "], &["ldrd "]],
    stores: [&["strb "], &["strh "], &["str "], &["strd "]],
    operand: |offset| format!(", #{offset}]"),
    before_doorbell: "dsb sy",
    after_status: Some("dsb sy"),
};

const BYTE: (usize, usize) = (0, 0x111);
const HALF: (usize, usize) = (1, 0x222);
const WORD: (usize, usize) = (2, 0x334);
const DOUBLE: (usize, usize) = (3, 0x448);
const FIFO: (usize, usize) = (2, 0x554);

#[test]
fn on_x86_64() {
    match assembly_here(&X86_64) {
        Some(assembly) => check(&X86_64, &assembly),
        None => skip(&X86_64),
    }
}

#[test]
fn on_arm64() {
    match assembly_here(&ARM64).or_else(|| assembly_in_root(&ARM64)) {
        Some(assembly) => check(&ARM64, &assembly),
        None => skip(&ARM64),
    }
}

/// There a `dmb` would not order what is still on its way to memory before a store to
/// a device.
#[test]
fn barriers_on_armv7() {
    let arch = &ARMV7;
    let Some(assembly) = assembly_here(arch) else { return skip(arch) };
    for (name, words) in [("ring_doorbell", arch.stores[2]), ("read_status", arch.loads[2])] {
        let function = Function { arch, name, lines: function(&assembly, name) };
        let barrier = function.only(arch.before_doorbell);
        let is_access = |line: &String| words.iter().any(|it| line.starts_with(it));
        let (before, after) = function.lines.split_at(barrier);
        assert!(before.iter().any(is_access) && after.iter().any(is_access), "{function:#?}");
        assert!(!function.lines.iter().any(|line| line.starts_with("dmb")), "{function:#?}");
    }
}

fn check(arch: &Arch, assembly: &str) {
    let function = |name| Function { arch, name, lines: function(assembly, name) };
    for (name, register) in [
        ("read_byte", BYTE),
        ("read_half", HALF),
        ("read_word", WORD),
        ("read_double", DOUBLE),
        ("read_for_nothing", HALF),
    ] {
        function(name).accesses(&[(Load, register)]);
    }
    for (name, register) in
        [("write_byte", BYTE), ("write_half", HALF), ("write_word", WORD), ("write_double", DOUBLE)]
    {
        function(name).accesses(&[(Store, register)]);
    }
    function("read_twice").accesses(&[(Load, WORD), (Load, WORD)]);
    function("write_twice").accesses(&[(Store, WORD), (Store, WORD)]);
    function("modify_word").accesses(&[(Load, WORD), (Store, WORD)]);

    let take = function("take_word");
    let load = take.accesses(&[(Load, FIFO)])[0];
    let doorbell = function("ring_doorbell");
    let store = doorbell.accesses(&[(Store, WORD)])[0];
    let status = function("read_status");
    let read = status.accesses(&[(Load, WORD)])[0];

    let barrier = doorbell.only(arch.before_doorbell);
    let descriptor = doorbell.position(|line| line.contains("$7, (%") || line.contains(", [x1]"));
    assert!(descriptor < barrier && barrier < store, "{doorbell:#?}");
    let descriptor = status.position(|line| line.contains("(%rsi)") || line.contains(", [x1]"));
    assert!(read < descriptor, "{status:#?}");
    if let Some(after) = arch.after_status {
        assert!(load < take.only(after), "{take:#?}");
        let barrier = status.only(after);
        assert!(read < barrier && barrier < descriptor, "{status:#?}");
    }
    // Where none is needed, none is paid for.
    for name in ["read_word", "write_word", "modify_word"] {
        let function = function(name);
        let barriers = ["dmb", "dsb", "fence", "lock"];
        let is_barrier = |line: &&String| barriers.iter().any(|it| line.contains(it));
        assert!(!function.lines.iter().any(|line| is_barrier(&line)), "{function:#?}");
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Load,
    Store,
}
use Kind::{Load, Store};

struct Function<'a> {
    arch: &'a Arch,
    name: &'static str,
    lines: Vec<String>,
}

impl std::fmt::Debug for Function<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} on {}: ", self.name, self.arch.target)?;
        self.lines.fmt(f)
    }
}

impl Function<'_> {
    /// It accesses these registers in this order, and no others; says where.
    fn accesses(&self, expected: &[(Kind, (usize, usize))]) -> Vec<usize> {
        let registers = [BYTE, HALF, WORD, DOUBLE, FIFO];
        let is_access =
            |line: &str| registers.iter().any(|it| line.contains(&(self.arch.operand)(it.1)));
        let found: Vec<_> =
            (0..self.lines.len()).filter(|&at| is_access(&self.lines[at])).collect();
        assert_eq!(found.len(), expected.len(), "{self:#?}");
        for (&at, &(kind, (width, offset))) in found.iter().zip(expected) {
            let line = &self.lines[at];
            let mnemonics = match kind {
                Load => self.arch.loads[width],
                Store => self.arch.stores[width],
            };
            let right = mnemonics.iter().any(|it| line.starts_with(it))
                && line.contains(&(self.arch.operand)(offset));
            // In AT&T's syntax, the operand that comes first is the source.
            let is_load = line.starts_with("ld") || !line.ends_with(')') && line.contains('(');
            assert!(right && is_load == (kind == Load), "{line} is no {kind:?} in {self:#?}");
        }
        found
    }

    fn position(&self, is_it: impl Fn(&str) -> bool) -> usize {
        let position = self.lines.iter().position(|line| is_it(line));
        assert!(position.is_some(), "{self:#?}");
        position.unwrap_or_default()
    }

    /// Where the one instruction is.
    fn only(&self, instruction: &str) -> usize {
        let count = self.lines.iter().filter(|line| *line == instruction).count();
        assert_eq!(count, 1, "{instruction} in {self:#?}");
        self.position(|line| line == instruction)
    }
}

/// The instructions of a function, without labels and directives.
fn function(assembly: &str, name: &str) -> Vec<String> {
    let mangled = format!("8accesses{}{name}", name.len());
    let is_start =
        |line: &&str| line.starts_with('_') && line.contains(&mangled) && line.ends_with(':');
    let lines: Vec<String> = assembly
        .lines()
        .skip_while(|line| !is_start(line))
        .take_while(|line| !line.contains(".cfi_endproc") && !line.contains(".fnend"))
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .filter(|line| {
            !line.is_empty() && !line.ends_with(':') && !line.starts_with(['.', '#', '/'])
        })
        .collect();
    assert!(!lines.is_empty(), "{name} is not there, or has no code of its own");
    lines
}

const EMIT: [&str; 8] =
    ["rustc", "--quiet", "--release", "--locked", "-p", "udmabuf-uio", "--example", "accesses"];

/// Compiled by the Rust that runs this test, if it can.
fn assembly_here(arch: &Arch) -> Option<String> {
    let libraries = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", arch.target])
        .output()
        .ok()?;
    if !Path::new(String::from_utf8_lossy(&libraries.stdout).trim()).exists() {
        return None;
    }
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("disassembly");
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.args(EMIT).current_dir(env!("CARGO_MANIFEST_DIR"));
    Some(emit(cargo, arch, &directory))
}

/// Compiled by Debian's Rust in the root that the boards are made in, if this is
/// a machine that has made it and may enter it.
fn assembly_in_root(arch: &Arch) -> Option<String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
    let cache = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache")))?
        .join("udmabuf-tests");
    let newest = |prefix: &str| {
        let entries = fs::read_dir(&cache).ok()?.filter_map(Result::ok);
        let those = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
        those.max_by_key(|entry| entry.metadata().and_then(|it| it.modified()).ok())
    };
    let (root, vendored) = (newest("root-trixie-")?.path(), newest("vendored-")?.path());
    let directory = cache.join(format!("target-disassembly-{}", std::process::id()));
    let mut cargo = Command::new(source.join("tests/guest-os/in-root"));
    cargo.env("SOURCE", source).env("CACHE", &cache).arg(root);
    cargo.args(["env", "-C"]).arg(source).arg("cargo").args(EMIT).arg("--offline");
    cargo.args(["--config", "source.crates-io.replace-with = \"vendored\"", "--config"]);
    cargo.arg(format!("source.vendored.directory = '{}'", vendored.display()));
    let assembly = emit(cargo, arch, &directory);
    let _ = fs::remove_dir_all(directory);
    Some(assembly)
}

fn emit(mut cargo: Command, arch: &Arch, directory: &Path) -> String {
    let file = directory.join(format!("{}.s", arch.target));
    fs::create_dir_all(directory).expect("a directory");
    let emit = format!("--emit=asm={}", file.display());
    cargo.args(["--target", arch.target, "--target-dir"]).arg(directory);
    cargo.args(["--", "-Ccodegen-units=1", "-Copt-level=3", &emit]);
    let output = cargo.output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::read_to_string(&file).expect("the assembly")
}

/// `tests/run` skips nothing.
fn skip(arch: &Arch) {
    let why = format!(
        "no Rust for {0}: `rustup target add {0}`, or `tests/run board arm64` as root",
        arch.target
    );
    assert!(env::var_os("UDMABUF_TESTS_SKIP_NOTHING").is_none(), "{why}");
    eprintln!("skipped: {why}");
}
