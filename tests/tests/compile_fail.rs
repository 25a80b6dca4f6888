//! The programs that must not compile, and what the compiler says of them.

use std::{env, fs, path::Path, process::Command};

/// Whether the compiler quotes the source of its own library, where it has that.
fn has_library_source() -> bool {
    let rustc = env::var("RUSTC").unwrap_or("rustc".into());
    let output = Command::new(rustc).args(["--print", "sysroot"]).output().expect("rustc");
    let sysroot = String::from_utf8(output.stdout).expect("a path");
    Path::new(sysroot.trim()).join("lib/rustlib/src/rust").exists()
}

#[test]
fn compile_fail() {
    let tests = trybuild::TestCases::new();
    for entry in fs::read_dir("compile_fail").expect("programs") {
        let path = entry.expect("a program").path();
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        // What is written here is without those quotes.
        let expected = fs::read_to_string(path.with_extension("stderr")).unwrap_or_default();
        if expected.contains("$RUST/") && has_library_source() {
            eprintln!("skipped: {}: `rustup component remove rust-src`", path.display());
        } else {
            tests.compile_fail(path);
        }
    }
}
