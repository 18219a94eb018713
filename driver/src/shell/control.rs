//! The handle of a driver loop.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use firesteel_base::{JobId, UserError};
use firesteel_shuffle::Fetcher;
use tokio::sync::{mpsc, oneshot, watch};

use super::manager_link;
use super::messages::{Command, Member, RunId};
use super::peers::Peers;
use super::run::DriverLoop;
use super::runtime::control_runtime;
use crate::machine::Policy;
use crate::progress::JobProgress;

/// How a driver loop is set up.
#[derive(Debug, Clone)]
pub(crate) struct LoopConfig {
    /// How jobs are listed.
    pub name: String,
    /// The queue they wait in.
    pub queue: String,
    /// Their share.
    pub weight: u32,
    /// The job that all queries run under.
    pub submitted_job: Option<JobId>,
    /// How long jobs go on without the manager.
    pub manager_away_max: Duration,
    /// Limits of each job.
    pub policy: Policy,
    /// What reads the results in this process.
    pub fetcher: Arc<Fetcher>,
}

/// How long the end of a session may take before it is left to itself.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// A running driver loop. It ends when it is closed or the handle dropped.
#[derive(Debug)]
pub(crate) struct Control {
    commands: Commands,
    /// Executors that are up.
    pub members: watch::Receiver<Vec<Member>>,
    /// How far the latest query is.
    pub progress: watch::Receiver<JobProgress>,
    runs: AtomicU64,
    /// How long the end of the session may take before it is left to itself.
    close_max: Duration,
}

/// Greets the manager and starts a loop on the control runtime. The driver of a submitted job waits for a manager that is away, at
/// its start and at its end: nobody else can tell of the job.
pub(crate) async fn start(peers: Peers, config: LoopConfig) -> Result<Control, UserError> {
    let runtime = control_runtime()?;
    let patience = config.submitted_job.map_or(Duration::ZERO, |_| config.manager_away_max);
    let started = runtime.spawn(async move {
        let opened = manager_link::open_within(&peers, patience).await?;
        let (commands, queue) = mpsc::unbounded_channel();
        let (members, progress) =
            (watch::Sender::new(Vec::new()), watch::Sender::new(JobProgress::default()));
        let control = Control {
            commands: Commands(commands),
            members: members.subscribe(),
            progress: progress.subscribe(),
            runs: AtomicU64::new(0),
            close_max: CLOSE_TIMEOUT + patience,
        };
        let driver = DriverLoop::new(peers, config, opened, queue, members, progress);
        tokio::spawn(driver.run());
        Ok(control)
    });
    started.await.unwrap_or_else(|fault| {
        Err(UserError::new("the driver could not be started").detail(fault.to_string()))
    })
}

impl Control {
    /// Tells the loop something.
    pub(crate) fn send(&self, command: Command) {
        self.commands.send(command);
    }

    /// A way to tell the loop things; the loop goes on for as long as there is one.
    pub(crate) fn commands(&self) -> Commands {
        self.commands.clone()
    }

    /// Waits until the executors that are up are as wanted, and tells which they are; none when they are not in time.
    pub(crate) async fn await_members(
        &self,
        limit: Duration,
        wanted: impl Fn(&[Member]) -> bool + Send + Sync + 'static,
    ) -> Option<Vec<Member>> {
        let mut members = self.members.clone();
        let waiting = async move {
            let found = members.wait_for(|members| wanted(members)).await.ok()?.clone();
            Some(found)
        };
        let runtime = control_runtime().ok()?;
        let waited = runtime.spawn(async move { tokio::time::timeout(limit, waiting).await }).await;
        waited.ok()?.ok()?
    }

    pub(crate) fn next_run(&self) -> RunId {
        RunId(self.runs.fetch_add(1, Ordering::Relaxed))
    }

    /// Ends the loop and waits until everything was given back.
    pub(crate) async fn close(&self) {
        let (closed, close) = oneshot::channel();
        self.send(Command::Close(closed));
        let Ok(runtime) = control_runtime() else { return };
        // The timer is the control runtime's, too: the caller may have none.
        let close_max = self.close_max;
        let waited = runtime.spawn(async move { tokio::time::timeout(close_max, close).await }).await;
        if !matches!(waited, Ok(Ok(_))) {
            tracing::warn!(
                "the session's end took longer than {} s and is left to itself",
                close_max.as_secs()
            );
        }
    }
}

/// Tells a driver loop things. The queue has no bound: a query is asked for once, and its results say a few things for each
/// task that they read; who asks for queries and reads them is this process.
#[derive(Debug, Clone)]
pub(crate) struct Commands(mpsc::UnboundedSender<Command>);

impl Commands {
    /// Tells the loop something. Of one that has ended nothing is left to be told.
    pub(crate) fn send(&self, command: Command) {
        let _ = self.0.send(command);
    }
}
