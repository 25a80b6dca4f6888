//! `HARDENING.md` lists what the three crates depend on and why, and nothing else is
//! built with them; the licences and origins of that and of what the tests need.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{collections::BTreeSet, fs, path::Path, process::Command};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const LICENCES: [&str; 3] = ["MIT", "Apache-2.0", "Unicode-3.0"];
const TITLE: &str = "## Dependencies\n";

/// Names and licences.
fn tree(arguments: &[&str]) -> BTreeSet<(String, String)> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--prefix=none", "--format={p}|{l}"])
        .args(["--all-features", "--no-dedupe"])
        .args(arguments)
        .current_dir(ROOT)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .filter_map(|line| line.split_once('|'))
        .map(|(package, licence)| {
            (package.split(' ').next().unwrap().to_owned(), licence.to_owned())
        })
        .collect()
}

/// Whether an SPDX expression of `AND`s of `OR`s can be met, perhaps by another one.
fn is_free(licence: &str, also: &[&str]) -> bool {
    // As it was once written.
    let licence = licence.replace('/', " OR ");
    let any = |choices: &str| {
        let mut choices = choices.trim_matches(['(', ')']).split(" OR ");
        choices.any(|one| LICENCES.contains(&one) || also.contains(&one))
    };
    licence.split(" AND ").all(any)
}

#[test]
fn licences() {
    for wrong in ["GPL-3.0-only", "MIT AND GPL-3.0-only", ""] {
        assert!(!is_free(wrong, &["NCSA"]), "{wrong:?}");
    }
    assert!(
        is_free("(MIT OR Apache-2.0) AND Unicode-3.0", &[]) && is_free("Unlicense OR MIT", &[])
    );
    assert!(!is_free("MIT AND NCSA", &[]) && is_free("MIT AND NCSA", &["NCSA"]));
    // Fuzz targets have LLVM's libFuzzer in them; nobody gets those.
    for (manifest, also) in [
        ("Cargo.toml", &[][..]),
        ("fuzz/Cargo.toml", &["NCSA"]),
        ("tests/bench/host/Cargo.toml", &[]),
    ] {
        let all =
            tree(&["--manifest-path", manifest, "--workspace", "--edges=all", "--target=all"]);
        assert!(all.len() > 20, "{manifest}: {all:?}");
        // Our own that is never published says nothing.
        let is_ours = |package: &str| package.starts_with("udmabuf-");
        for (package, licence) in &all {
            let unsaid = licence.is_empty() && is_ours(package);
            assert!(unsaid || is_free(licence, also), "{manifest}: {package} is under {licence:?}");
        }
    }
}

#[test]
fn origins() {
    for lock in ["Cargo.lock", "fuzz/Cargo.lock", "tests/bench/host/Cargo.lock"] {
        let text = fs::read_to_string(Path::new(ROOT).join(lock)).unwrap();
        let mut count = 0;
        for line in text.lines().filter(|line| line.starts_with("source = ")) {
            let registry = "source = \"registry+https://github.com/rust-lang/crates.io-index\"";
            assert_eq!(line, registry, "{lock}");
            count += 1;
        }
        assert_eq!(count, text.matches("\nchecksum = ").count(), "{lock}: one has no checksum");
        assert!(count > 10, "{lock}: {count} packages");
    }
}

#[test]
fn each_is_explained() {
    let crates = [
        "-pudmabuf-sys",
        "-pudmabuf",
        "-pudmabuf-uio",
        "--edges=normal,build",
        "--target=aarch64-unknown-linux-gnu",
    ];
    let built: BTreeSet<_> = tree(&crates).into_iter().map(|(package, _)| package).collect();
    let page = fs::read_to_string(Path::new(ROOT).join("HARDENING.md")).unwrap();
    let (_, section) = page.split_once(TITLE).unwrap();
    let section = section.split("\n## ").next().unwrap();
    // The first column of its table: names in backquotes.
    let mut explained: BTreeSet<_> = section
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once(" |"))
        .flat_map(|(names, _)| names.split(", "))
        .map(|name| name.trim_matches('`').to_owned())
        .collect();
    explained.extend(["udmabuf", "udmabuf-sys", "udmabuf-uio"].map(str::to_owned));
    assert_eq!(explained, built);
}
