//! Child processes: started so that they end with the worker, and ended in order.

use std::fs::{File, OpenOptions};
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use firesteel_base::UserError;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::timeout;

/// How long a child may take to read what it is told, which is more than a pipe holds when a job has much SQL.
const TOLD_MAX: Duration = Duration::from_secs(30);
/// How long the kernel may take to end a child that is killed: one that waits for a disk ends when that answers.
const KILL_MAX: Duration = Duration::from_secs(10);

/// Starts `command` in a process group of its own, so that a Ctrl-C meant for the worker does not reach it, and hands
/// it `first_line`. Its standard input stays open until the returned handle is dropped.
pub(crate) async fn start(
    mut command: Command,
    what: &str,
    first_line: &str,
) -> Result<(Child, ChildStdin), UserError> {
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    let fault = |fault: std::io::Error| {
        UserError::new(format!("cannot start {what}")).detail(format!("{program}: {fault}"))
    };
    command.stdin(Stdio::piped()).process_group(0).kill_on_drop(true);
    let mut child = command.spawn().map_err(fault)?;
    let mut stdin = child.stdin.take().expect("standard input was piped");
    let line = format!("{first_line}\n");
    match timeout(TOLD_MAX, stdin.write_all(line.as_bytes())).await {
        Ok(Ok(())) => {}
        // A child that is dead already says more by its exit than by the broken pipe.
        Ok(Err(broken)) => tracing::debug!(%broken, what, "the child took no input"),
        // It is killed when it is dropped.
        Err(_) => {
            return Err(UserError::new(format!("cannot start {what}"))
                .detail(format!("{program} did not read its input within {} s", TOLD_MAX.as_secs())));
        }
    }
    Ok((child, stdin))
}

/// Asks `child` to end, and kills it when it does not in time.
pub(crate) async fn end(child: &mut Child, stop_timeout: Duration) {
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw) {
        // It may have ended by itself just now.
        let _ = kill_process(pid, Signal::TERM);
    }
    if timeout(stop_timeout, child.wait()).await.is_err() {
        tracing::warn!(pid = child.id(), "a child process did not end in time and is killed");
        kill(child).await;
    }
}

/// Kills `child` at once, and waits a while until it is gone.
pub(crate) async fn kill(child: &mut Child) {
    let pid = child.id();
    match timeout(KILL_MAX, child.kill()).await {
        Ok(Ok(())) => {}
        Ok(Err(fault)) => tracing::warn!(%fault, "cannot kill a child process"),
        Err(_) => tracing::warn!(pid, "a killed child process is held up in the kernel and left to it"),
    }
}

/// How a child ended, for people: `exit status: 1` or `signal: 9 (SIGKILL)`.
pub(crate) fn describe(status: std::io::Result<ExitStatus>) -> String {
    match status {
        Ok(status) => status.to_string(),
        Err(fault) => format!("its end cannot be read: {fault}"),
    }
}

/// Where a child's standard error goes: a log file, or where the worker's goes.
pub(crate) fn log_to(folder: Option<&Path>, name: &str) -> Result<Stdio, UserError> {
    let Some(folder) = folder else { return Ok(Stdio::inherit()) };
    Ok(Stdio::from(open_log(folder, name)?))
}

/// The log file of a child, made or added to.
pub(crate) fn open_log(folder: &Path, name: &str) -> Result<File, UserError> {
    let path = folder.join(format!("{name}.log"));
    std::fs::create_dir_all(folder)
        .and_then(|()| OpenOptions::new().create(true).append(true).open(&path))
        .map_err(|fault| {
            UserError::new(format!("cannot write the log {}", path.display())).detail(fault.to_string())
        })
}
