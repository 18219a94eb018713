//! Commands that are expected to end by themselves.

use std::fmt;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Context;

use crate::cluster::wait_within;

/// What a command wrote.
#[derive(Debug, Clone, Default)]
pub struct Said {
    /// To standard output.
    pub stdout: String,
    /// To standard error.
    pub stderr: String,
}

/// How a command ended.
#[derive(Debug, Clone)]
pub enum Ended {
    /// By itself.
    WithCode(i32, Said),
    /// Killed by somebody, or by itself: a signal's number.
    BySignal(i32, Said),
    /// It did not; `hung` was asked about it, and then it was killed.
    Never,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WithCode(code, said) => write!(f, "ended with exit code {code}: {}", said.stderr.trim()),
            Self::BySignal(signal, said) => write!(f, "was ended by signal {signal}: {}", said.stderr.trim()),
            Self::Never => f.write_str("did not end"),
        }
    }
}

/// Runs a command to its end.
///
/// # Errors
/// When it cannot be started.
pub fn run_within(command: Command, wait_max: Duration) -> anyhow::Result<Ended> {
    run_or(command, wait_max, |_| ())
}

/// Runs a command; when it does not end in time, calls `hung` with its process before it is killed.
///
/// # Errors
/// When it cannot be started.
pub fn run_or(mut command: Command, wait_max: Duration, hung: impl FnOnce(u32)) -> anyhow::Result<Ended> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
    let output = child.stdout.take().map(collect);
    let errors = child.stderr.take().map(collect);
    let Some(status) = wait_within(&mut child, wait_max)? else {
        hung(child.id());
        child.kill()?;
        child.wait()?;
        return Ok(Ended::Never);
    };
    let said = Said { stdout: text(output), stderr: text(errors) };
    Ok(match (status.code(), status.signal()) {
        (Some(code), _) => Ended::WithCode(code, said),
        (None, signal) => Ended::BySignal(signal.unwrap_or(0), said),
    })
}

fn text(reader: Option<JoinHandle<String>>) -> String {
    reader.map_or_else(String::new, |reader| reader.join().unwrap_or_default())
}

fn collect(mut pipe: impl Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What came before a pipe broke is what there is to show.
        let _ = pipe.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
