//! What a program that uses the crates is linked with: nothing that it did not ask
//! for. A dependency that is added shows here, and so does one behind it.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{collections::BTreeSet, path::Path, process::Command};

/// What every one of the crates needs: mappings, system calls.
const ALL: [&str; 5] = ["bitflags", "libc", "linux-raw-sys", "memmap2", "rustix"];

fn check(package: &str, features: &[&str], own: &[&str]) {
    let manifest =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(package).join("Cargo.toml");
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--quiet", "--locked", "--offline", "--prefix", "none", "--format", "{p}"])
        .args(["--edges", "normal,no-proc-macro", "--manifest-path"])
        .arg(manifest)
        .args(features)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let names = text.lines().filter_map(|line| line.split(' ').next());
    let found: BTreeSet<&str> = names.filter(|name| !name.is_empty() && *name != package).collect();
    assert_eq!(found, ALL.iter().chain(own).copied().collect(), "of {package} {features:?}");
}

#[test]
fn a_program_gets_nothing_that_it_did_not_ask_for() {
    check("udmabuf-sys", &[], &[]);
    check("udmabuf", &[], &["thiserror", "udmabuf-sys", "zerocopy"]);
    check("udmabuf-uio", &[], &["thiserror"]);
    check(
        "udmabuf-uio",
        &["--features", "tokio"],
        &["mio", "pin-project-lite", "socket2", "thiserror", "tokio"],
    );
}
