//! The page of promises lists the programs that must not compile: these, and no
//! others. `PROMISES=overwrite cargo test -p udmabuf-tests --test promises`
//! writes it anew.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{fs, path::Path};

const HEAD: &str = "\
What the types promise: programs that do not compile.

Each is a program in `tests/compile_fail`, named here, with the message that its
author gets beside it.

";

#[test]
fn are_those_that_are_tested() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut cases: Vec<_> = fs::read_dir(here.join("compile_fail"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect();
    cases.sort();
    let mut page = HEAD.to_owned();
    for case in &cases {
        let name = case.file_stem().unwrap().to_str().unwrap();
        let text = fs::read_to_string(case).unwrap();
        let promise: Vec<_> = text.lines().map_while(|line| line.strip_prefix("//! ")).collect();
        assert!(!promise.is_empty(), "{name} does not begin with what it promises");
        assert!(case.with_extension("stderr").exists(), "{name} has no message");
        page += &format!("- `{name}`: {}\n", promise.join(" "));
    }
    let listed = here.join("../udmabuf/src/promises.md");
    if std::env::var("PROMISES").is_ok_and(|value| value == "overwrite") {
        fs::write(&listed, &page).unwrap();
    }
    assert_eq!(fs::read_to_string(&listed).unwrap(), page, "{}", listed.display());
}
