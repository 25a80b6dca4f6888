//! The example programs, as a user runs them.

use std::process::Command;

use anyhow::{Context, Result, ensure};

/// The command succeeds, and its last line says what it should.
pub(crate) fn says(command: &str, expected: &str) -> Result<String> {
    let mut words = command.split(' ');
    let program = words.next().unwrap_or_default();
    let output = Command::new(program).args(words).output().with_context(|| program.to_owned())?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}; {}", output.status, errors.trim());
    let said = String::from_utf8(output.stdout)?;
    let last = said.lines().last().unwrap_or_default();
    ensure!(last.contains(expected), "no {expected:?} in {last:?}");
    Ok(last.to_owned())
}
