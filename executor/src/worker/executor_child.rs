//! One executor process: started, watched, and started again when it dies.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use firesteel_base::{ByteSize, Clock, Epoch, SystemClock, UserError};
use firesteel_certs::Security;
use firesteel_hw::cgroup::Groups;
use firesteel_protocol::v1;
use firesteel_shuffle::keep::Keeper;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::child;
use super::config::{ChildCommand, WorkerLimits};
use super::daemon::Event;
use super::groups::ChildGroup;
use super::restart::{Restart, RestartHistory, RestartPolicy};
use super::run_as::RunAs;
use crate::process::{ExecutorProcessConfig, Ready};
use crate::scratch::sweep;
use crate::shell::executor_client::StatusProbe;

/// What happens to an executor process.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ExecutorEvent {
    /// A life of it is ready.
    Up { life: u64, ready: Ready },
    /// A life of it ended, or did not come to be.
    Down { life: u64, reason: String },
    /// It answered.
    Usage { reply: v1::StatusReply },
    /// It ended too often and is not started again.
    GivenUp { reason: String },
}

/// A turn that comes as much too late means that this process was stopped or its host starved.
const STARVED: Duration = Duration::from_millis(500);

/// How long the keeper may take to look at what an executor left behind.
const KEEP_TIMEOUT: Duration = Duration::from_secs(5);

/// The epoch that the manager gave to a life of an executor.
pub(crate) type EpochOfLife = Option<(u64, Epoch)>;

/// An executor process and all that is needed to start it again.
pub(crate) struct ExecutorChild {
    pub(crate) index: u32,
    pub(crate) config: ExecutorProcessConfig,
    /// How it is talked to, and talks itself.
    pub(crate) security: Security,
    /// Keeps its blocks when it is gone.
    pub(crate) keeper: Option<Arc<Keeper>>,
    pub(crate) command: ChildCommand,
    pub(crate) run_as: Option<RunAs>,
    /// Where its control group is made, if it gets one.
    pub(crate) groups: Option<Arc<Groups>>,
    pub(crate) log_folder: Option<PathBuf>,
    pub(crate) restart: RestartPolicy,
    pub(crate) limits: WorkerLimits,
    pub(crate) epoch: watch::Receiver<EpochOfLife>,
    /// How often it is asked how it is.
    pub(crate) pace: watch::Receiver<Duration>,
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) stop: CancellationToken,
}

impl ExecutorChild {
    /// Keeps the executor alive until told to stop, or until it died too often.
    pub(crate) async fn supervise(self) {
        let clock = SystemClock::default();
        let mut history = RestartHistory::new(self.restart);
        for life in 1.. {
            let reason = self.live(life).await;
            self.have_blocks_kept().await;
            // One that was killed could not clear its scratch folders itself.
            self.config.scratch.iter().for_each(|root| sweep(root));
            if self.stop.is_cancelled() {
                return;
            }
            self.tell(ExecutorEvent::Down { life, reason: reason.clone() }).await;
            match history.ended(clock.now()) {
                Restart::After(delay) => {
                    tracing::warn!(executor = %self.config.id, reason, ?delay, "executor down, starting it again");
                    self.pause(delay).await;
                }
                Restart::GiveUp { ends } => {
                    let window = self.restart.window;
                    let reason = format!("ended {ends} times within {window:?}, the last time: {reason}");
                    self.tell(ExecutorEvent::GivenUp { reason }).await;
                    return;
                }
            }
        }
    }

    /// Waits until the keeper has what the executor left behind: it must have opened the files before these are removed.
    async fn have_blocks_kept(&self) {
        let Some(keeper) = &self.keeper else { return };
        if tokio::time::timeout(KEEP_TIMEOUT, keeper.taken_over(&self.config.id)).await.is_err() {
            tracing::warn!(executor = %self.config.id, "the keeper of its blocks takes its time");
        }
    }

    /// The memory of its next life: what is kept of the lives before it takes its part, but never more than half.
    fn memory(&self) -> ByteSize {
        let kept = self.keeper.as_ref().map_or(0, |keeper| keeper.memory_of(&self.config.id));
        let memory = self.config.memory.0;
        ByteSize(memory.saturating_sub(kept).max(memory / 2))
    }

    async fn pause(&self, delay: Duration) {
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = tokio::time::sleep(delay) => {}
        }
    }

    async fn tell(&self, event: ExecutorEvent) {
        // Nobody listens any more when the worker ends.
        let _ = self.events.send(Event::Executor { index: self.index, event }).await;
    }

    /// One life, from start to end, in a control group of its own; tells why it ended.
    async fn live(&self, life: u64) -> String {
        let config = self.config_of_life();
        match ChildGroup::of_executor(self.groups.as_deref(), &config) {
            Ok(group) => {
                let reason = self.live_in(life, &config, &group).await;
                group.end(reason).await
            }
            Err(fault) => fault.to_string(),
        }
    }

    async fn live_in(&self, life: u64, config: &ExecutorProcessConfig, group: &ChildGroup) -> String {
        let (mut child, _stdin) = match self.start(config, group).await {
            Ok(started) => started,
            Err(fault) => return fault.to_string(),
        };
        let mut stdout = BufReader::new(child.stdout.take().expect("standard output was piped"));
        let lived = tokio::select! {
            biased;
            () = self.stop.cancelled() => None,
            lived = self.live_with(life, &mut child, &mut stdout) => Some(lived),
        };
        match lived {
            Some(Ended::ByItself(reason)) => reason,
            Some(Ended::Unfit(reason)) => {
                child::kill(&mut child).await;
                reason
            }
            None => {
                child::end(&mut child, self.limits.stop_timeout).await;
                "stopped".to_owned()
            }
        }
    }

    fn config_of_life(&self) -> ExecutorProcessConfig {
        ExecutorProcessConfig {
            memory: self.memory(),
            // A certificate may have been renewed since its last life.
            security: self.security.handover(),
            ..self.config.clone()
        }
    }

    async fn start(
        &self,
        config: &ExecutorProcessConfig,
        group: &ChildGroup,
    ) -> Result<(Child, ChildStdin), UserError> {
        let mut command = self.command.to_command(self.run_as);
        group.join(&mut command)?;
        command.stdout(Stdio::piped());
        command.stderr(child::log_to(self.log_folder.as_deref(), &format!("executor-{}", self.index))?);
        let config = serde_json::to_string(config).expect("plain data becomes JSON");
        child::start(command, &format!("executor {}", self.config.id), &config).await
    }

    async fn live_with(&self, life: u64, child: &mut Child, stdout: &mut BufReader<ChildStdout>) -> Ended {
        let ready = tokio::select! {
            ready = tokio::time::timeout(self.limits.ready_timeout, read_ready(stdout)) => ready,
            status = child.wait() => {
                return Ended::ByItself(format!("{} before it was ready", child::describe(status)));
            }
        };
        let ready = match ready {
            Ok(Some(ready)) => ready,
            Ok(None) => return self.unready(child).await,
            Err(_) => return Ended::Unfit(format!("not ready within {:?}", self.limits.ready_timeout)),
        };
        let probe = StatusProbe::new(ready.control.clone(), self.security.clone());
        tracing::info!(executor = %self.config.id, pid = ready.pid, control = ready.control, "executor ready");
        self.tell(ExecutorEvent::Up { life, ready }).await;
        tokio::select! {
            status = child.wait() => Ended::ByItself(child::describe(status)),
            reason = self.watch_health(life, probe) => Ended::Unfit(reason),
            () = discard_output(stdout) => unreachable!("it never completes"),
        }
    }

    /// The executor closed its output without being ready: it is about to end, or will never be of use.
    async fn unready(&self, child: &mut Child) -> Ended {
        match tokio::time::timeout(self.limits.stop_timeout, child.wait()).await {
            Ok(status) => Ended::ByItself(format!("{} before it was ready", child::describe(status))),
            Err(_) => Ended::Unfit("it did not say that it is ready".to_owned()),
        }
    }

    /// Asks the executor how it is, and hands it its epoch, until it has been silent for too long.
    async fn watch_health(&self, life: u64, mut probe: StatusProbe) -> String {
        let mut epoch = self.epoch.clone();
        let mut pace = self.pace.clone();
        let mut tick = tokio::time::interval(*pace.borrow_and_update());
        let mut answered = Instant::now();
        loop {
            let waits = Instant::now();
            tokio::select! {
                _ = tick.tick() => {}
                Ok(()) = epoch.changed() => {}
                Ok(()) = pace.changed() => tick = tokio::time::interval(*pace.borrow_and_update()),
            }
            let is_late = waits.elapsed() > self.limits.status_interval + STARVED;
            let known = epoch.borrow_and_update().and_then(|(of, epoch)| (of == life).then_some(epoch));
            let asked = Instant::now();
            let reply = probe.ask(known, self.limits.silence_max).await;
            let is_late = is_late || asked.elapsed() > self.limits.silence_max + STARVED;
            match reply {
                Ok(reply) => {
                    answered = Instant::now();
                    self.tell(ExecutorEvent::Usage { reply }).await;
                }
                // This worker stood still, and its connections have timed out: that the executor was silent is not known.
                Err(fault) if is_late => {
                    answered = Instant::now();
                    tracing::warn!(executor = %self.config.id, %fault, "the worker has stood still; its executor is asked again");
                }
                Err(fault) if answered.elapsed() >= self.limits.silence_max => {
                    return format!("silent for {:?}: {}", answered.elapsed(), fault.message);
                }
                Err(fault) => {
                    tracing::warn!(executor = %self.config.id, %fault, "an executor did not answer")
                }
            }
        }
    }
}

/// How a life ended.
enum Ended {
    /// The process is gone.
    ByItself(String),
    /// The process is of no use and must be killed.
    Unfit(String),
}

/// Output lines that may come before the ready line.
const LINES_BEFORE_READY_MAX: usize = 100;

/// The ready line; `None` when the output ends without one.
async fn read_ready(stdout: &mut BufReader<ChildStdout>) -> Option<Ready> {
    let mut line = String::new();
    for _ in 0..LINES_BEFORE_READY_MAX {
        line.clear();
        if stdout.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        if let Ok(ready) = serde_json::from_str(&line) {
            return Some(ready);
        }
    }
    None
}

/// Reads on so that the executor never blocks on a full pipe. Never completes.
async fn discard_output(stdout: &mut BufReader<ChildStdout>) {
    if let Err(fault) = tokio::io::copy(stdout, &mut tokio::io::sink()).await {
        tracing::debug!(%fault, "reading an executor's output failed");
    }
    std::future::pending().await
}
