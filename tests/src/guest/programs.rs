//! The example programs, as a user runs them.

use std::process::Command;

use anyhow::{Context, Result, ensure};

/// The program succeeds, and its last line says what it should.
pub(crate) fn says(program: &str, expected: &str) -> Result<String> {
    let output = Command::new(program).output().with_context(|| program.to_owned())?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}; {}", output.status, errors.trim());
    let said = String::from_utf8(output.stdout)?;
    let last = said.lines().last().unwrap_or_default();
    ensure!(last.contains(expected), "no {expected:?} in {last:?}");
    Ok(last.to_owned())
}
