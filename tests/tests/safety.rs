//! `SAFETY.md` lists the files of the crates and examples that may have `unsafe`
//! in them, with the reasons that they give: these, and no others.
//! `SAFETY=overwrite cargo test -p udmabuf-tests --test safety` writes it anew.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    fs,
    path::{Path, PathBuf},
};

const FOLDERS: [&str; 4] = ["udmabuf-sys/src", "udmabuf/src", "udmabuf-uio/src", "examples"];
const TITLE: &str = "## Files with `unsafe`\n";

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => sources(&path, found),
            false if path.extension().is_some_and(|extension| extension == "rs") => {
                found.push(path);
            }
            false => {}
        }
    }
}

/// The reason that a file gives for its `allow(unsafe_code)`, if it has one.
fn reason(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("#![allow(")?;
    let (lint, rest) = rest.trim_start().split_once(',')?;
    match lint {
        "unsafe_code" => rest.split('"').nth(1),
        _ => reason(rest),
    }
}

#[test]
fn lists_every_file_with_unsafe() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = Vec::new();
    FOLDERS.iter().for_each(|folder| sources(&root.join(folder), &mut files));
    files.sort();
    let mut list = String::new();
    for file in &files {
        let text = fs::read_to_string(file).unwrap();
        let name = file.strip_prefix(&root).unwrap().display();
        match reason(&text) {
            Some(reason) => list += &format!("- `{name}`: {reason}\n"),
            None => assert!(!text.contains("allow(unsafe_code"), "{name} gives no reason"),
        }
    }
    assert!(list.lines().count() > 20, "the files are elsewhere now");

    let page = root.join("SAFETY.md");
    let text = fs::read_to_string(&page).unwrap();
    let (head, tail) = text.split_once(TITLE).unwrap();
    let note = tail.split("\n- ").next().unwrap().trim();
    let expected = format!("{head}{TITLE}\n{note}\n\n{list}");
    if std::env::var("SAFETY").is_ok_and(|value| value == "overwrite") {
        fs::write(&page, &expected).unwrap();
    }
    assert_eq!(fs::read_to_string(&page).unwrap(), expected);
}
