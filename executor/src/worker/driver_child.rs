//! One cluster-mode driver process.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use firesteel_base::{JobId, UserError};
use firesteel_certs::Handover;
use firesteel_hw::cgroup::Groups;
use firesteel_protocol::token::Secret;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::child;
use super::config::{ChildCommand, WorkerLimits};
use super::daemon::Event;
use super::groups::ChildGroup;
use super::results::ResultStore;
use super::run_as::RunAs;

/// What a cluster-mode driver is to run: one line of JSON on its standard input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DriverRequest {
    /// The job's name, for people.
    pub name: String,
    /// The statements to run; the rows of the last one are the result.
    pub sql: String,
    /// Session settings.
    pub conf: BTreeMap<String, String>,
    /// The how manyth launch of the job's driver it is.
    pub launch: u32,
    /// Memory for what of the job runs in the driver's process.
    pub memory_bytes: u64,
    /// By which the manager knows the driver. It goes this way alone: others see command lines and environments.
    pub secret: Secret,
    /// How it talks to the cluster: with its worker's certificate.
    pub security: Handover,
}

/// One launch of a job's driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Launched {
    pub(crate) job: JobId,
    /// The how manyth it is.
    pub(crate) launch: u32,
}

/// How a driver process ended: well, or why not.
pub(crate) type DriverEnd = Result<(), String>;

/// A driver process and what it is for.
pub(crate) struct DriverChild {
    pub(crate) job: JobId,
    pub(crate) request: DriverRequest,
    pub(crate) manager: String,
    pub(crate) command: ChildCommand,
    pub(crate) run_as: Option<RunAs>,
    /// Where its control group is made, if it gets one.
    pub(crate) groups: Option<Arc<Groups>>,
    pub(crate) log_folder: Option<PathBuf>,
    pub(crate) limits: WorkerLimits,
    pub(crate) results: Arc<ResultStore>,
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) stop: CancellationToken,
}

impl DriverChild {
    /// Runs the driver to its end, keeps its result, and tells how it ended.
    pub(crate) async fn supervise(self) {
        let end = self.run().await;
        match &end {
            Ok(()) => self.results.keep(self.job),
            Err(_) => self.results.free(self.job),
        }
        // Nobody listens any more when the worker ends.
        let launched = Launched { job: self.job, launch: self.request.launch };
        let _ = self.events.send(Event::Driver { launched, end }).await;
    }

    async fn run(&self) -> DriverEnd {
        let (groups, memory) = (self.groups.as_deref(), self.request.memory_bytes);
        let group = ChildGroup::of_driver(groups, &self.job.to_string(), memory)
            .map_err(|fault| fault.to_string())?;
        match self.run_in(&group).await {
            Err(reason) => Err(group.end(reason).await),
            Ok(()) => {
                group.end(String::new()).await;
                Ok(())
            }
        }
    }

    async fn run_in(&self, group: &ChildGroup) -> DriverEnd {
        let (mut child, _stdin) = self.start(group).await.map_err(|fault| fault.to_string())?;
        let stderr = child.stderr.take().expect("standard error was piped");
        // A task of its own: the pipe is read while the child is waited for.
        let last_line = tokio::spawn(copy_log(stderr, self.job, self.log_folder.clone()));
        let status = tokio::select! {
            biased;
            () = self.stop.cancelled() => {
                child::end(&mut child, self.limits.stop_timeout).await;
                None
            }
            status = child.wait() => Some(status),
        };
        // What it has started may hold its standard error open for longer.
        let last_line = tokio::time::timeout(LAST_LINE_WAIT, last_line).await;
        let last_line = last_line.ok().and_then(Result::ok).unwrap_or_default();
        match status {
            None => Err("stopped on request".to_owned()),
            Some(Ok(status)) if status.success() => Ok(()),
            Some(status) => Err(reason(status, &last_line)),
        }
    }

    async fn start(&self, group: &ChildGroup) -> Result<(Child, ChildStdin), UserError> {
        let mut command = self.command.to_command(self.run_as);
        group.join(&mut command)?;
        command.arg("--job").arg(self.job.0.to_string());
        command.arg("--manager").arg(&self.manager);
        command.arg("--result").arg(self.results.path(self.job));
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let request = serde_json::to_string(&self.request).expect("plain data becomes JSON");
        child::start(command, &format!("the driver of {}", self.job), &request).await
    }
}

/// Why a driver failed: what its last line says, or how it ended.
fn reason(status: std::io::Result<ExitStatus>, last_line: &str) -> String {
    let how = child::describe(status);
    match serde_json::from_str::<UserError>(last_line) {
        Ok(fault) => fault.to_string(),
        Err(_) if last_line.is_empty() => format!("the driver ended with {how}"),
        Err(_) => format!("the driver ended with {how}: {last_line}"),
    }
}

/// How long the end of a driver's log is waited for when its process has ended.
const LAST_LINE_WAIT: Duration = Duration::from_secs(5);
/// The longest line of a driver's log that is kept as its reason.
const LAST_LINE_MAX: usize = 64 << 10;

/// Copies a driver's log to its file, or to the worker's own, and returns its last line.
async fn copy_log(stderr: ChildStderr, job: JobId, folder: Option<PathBuf>) -> String {
    let mut log: Box<dyn Write + Send> =
        match folder.map(|folder| child::open_log(&folder, &format!("driver-{job}"))) {
            Some(Ok(file)) => Box::new(file),
            Some(Err(fault)) => {
                tracing::warn!(%job, %fault, "a driver's log goes to the worker's");
                Box::new(std::io::stderr())
            }
            None => Box::new(std::io::stderr()),
        };
    let mut stderr = BufReader::new(stderr);
    let (mut line, mut last) = (Vec::new(), Vec::new());
    while let Ok(1..) = stderr.read_until(b'\n', &mut line).await {
        // A log that cannot be written must not stop the job.
        let _ = log.write_all(&line);
        line.truncate(LAST_LINE_MAX);
        if !line.trim_ascii().is_empty() {
            std::mem::swap(&mut line, &mut last);
        }
        line.clear();
    }
    String::from_utf8_lossy(last.trim_ascii()).into_owned()
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    fn failed() -> std::io::Result<ExitStatus> {
        Ok(ExitStatus::from_raw(1 << 8))
    }

    #[test]
    fn a_driver_says_itself_why_it_failed() {
        let line = r#"{"message":"table 'orders' does not exist","detail":null,"hint":"create it"}"#;
        assert_eq!(reason(failed(), line), "table 'orders' does not exist\n  hint: create it");
    }

    #[test]
    fn a_driver_that_died_is_described() {
        assert_eq!(reason(failed(), "oh no"), "the driver ended with exit status: 1: oh no");
        let killed = Ok(ExitStatus::from_raw(9));
        assert_eq!(reason(killed, ""), "the driver ended with signal: 9 (SIGKILL)");
    }
}
