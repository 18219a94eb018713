//! One process of a local cluster.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use firesteel_base::UserError;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use crate::exit::Failure;

/// How long a process may take to end after SIGTERM.
const STOP_MAX: Duration = Duration::from_secs(20);
/// How long the kernel may take to end a child that is killed: one that waits for a disk ends when that answers.
const KILL_MAX: Duration = Duration::from_secs(10);
/// Lines of a dead process's log that are shown.
const LOG_LINES: usize = 12;

/// A child that runs a role of this program, with its log in a file.
pub struct Process {
    name: String,
    child: Child,
    // The child stops when this closes, with us at the latest.
    _stdin: Option<ChildStdin>,
    stdout: Option<BufReader<ChildStdout>>,
    log: PathBuf,
}

/// Whether a process may end before the cluster does: a worker that was drained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MayLeave {
    Yes,
    No,
}

impl Process {
    /// Starts this program with `args`.
    pub fn start(
        name: &str,
        args: &[String],
        folder: &Path,
        environment: &[(&str, String)],
    ) -> Result<Self, Failure> {
        let fault = |fault: std::io::Error| {
            Failure::from(UserError::new(format!("cannot start the {name}")).detail(fault.to_string()))
        };
        let log = folder.join(format!("{name}.log"));
        let mut child = Command::new(std::env::current_exe().map_err(fault)?)
            .args(args)
            .envs(environment.iter().map(|(variable, value)| (*variable, value.as_str())))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).map_err(fault)?)
            // A Ctrl-C is for us: we stop the children in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(fault)?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().map(BufReader::new);
        Ok(Self { name: name.to_owned(), child, _stdin: stdin, stdout, log })
    }

    /// The first line that it prints, or `None` when it ends without one.
    pub async fn first_line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = self.stdout.as_mut()?.read_line(&mut line).await;
        read.is_ok_and(|bytes| bytes > 0).then(|| line.trim_end().to_owned())
    }

    /// Waits until it ends by itself, and tells how and why. One that may leave and ends well is not missed.
    pub async fn death(&mut self, may_leave: MayLeave) -> Failure {
        let status = self.child.wait().await;
        if may_leave == MayLeave::Yes && status.as_ref().is_ok_and(ExitStatus::success) {
            return std::future::pending().await;
        }
        let how = status.map_or_else(|fault| fault.to_string(), |status| status.to_string());
        let mut error = UserError::new(format!("the {} ended early: {how}", self.name));
        if let Some(tail) = tail(&self.log) {
            error = error.detail(format!("the end of its log:\n{tail}"));
        }
        error.hint(format!("its whole log is {}", self.log.display())).into()
    }

    /// Asks it to end, and kills it when it does not in time.
    pub async fn stop(&mut self) {
        terminate(&mut self.child).await;
    }
}

/// Asks a child to end, and kills it when it does not in time.
pub async fn terminate(child: &mut Child) {
    if let Some(pid) = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw) {
        // It may have ended just now.
        let _ = kill_process(pid, Signal::TERM);
    }
    if timeout(STOP_MAX, child.wait()).await.is_err() {
        match timeout(KILL_MAX, child.kill()).await {
            Ok(Ok(())) => {}
            Ok(Err(fault)) => tracing::warn!(%fault, "cannot kill a child process"),
            Err(_) => tracing::warn!("a killed child process is held up in the kernel and left to it"),
        }
    }
}

/// The last lines of a log.
fn tail(log: &Path) -> Option<String> {
    let text = std::fs::read(log).ok()?;
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(LOG_LINES)..];
    (!last.is_empty()).then(|| last.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n"))
}
