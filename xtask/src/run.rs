//! Running other programs.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// What a program prints, when it succeeds.
pub fn told(command: &mut Command) -> Result<String> {
    let name = name(command);
    let output = command.output().with_context(|| format!("cannot run {name}; is it installed?"))?;
    if !output.status.success() {
        bail!("{name} failed, {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("what {name} prints is no text"))
}

/// Runs a program that talks to the person at the terminal itself.
pub fn done(command: &mut Command) -> Result<()> {
    let name = name(command);
    let status = command.status().with_context(|| format!("cannot run {name}; is it installed?"))?;
    if !status.success() {
        bail!("{name} failed, {status}");
    }
    Ok(())
}

/// What git says of the checkout; none when it is no checkout, or there is no git.
pub fn git(root: &Path, arguments: &[&str]) -> Option<String> {
    told(Command::new("git").arg("-C").arg(root).args(arguments)).ok().map(|text| text.trim().to_owned())
}

/// A command in an environment in which nothing configures Firesteel.
pub fn firesteel(program: &Path) -> Command {
    let mut command = Command::new(program);
    let ours = std::env::vars_os().map(|(name, _)| name);
    for name in ours.filter(|name| name.to_string_lossy().starts_with("FIRESTEEL_")) {
        command.env_remove(name);
    }
    command
}

fn name(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let text = words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    format!("`{text}`")
}
