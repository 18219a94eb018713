//! One attempt, from its launch to its report.

use std::sync::Arc;
use std::time::{Duration, Instant};

use firesteel_base::{AttemptKey, Class, UserError};
use firesteel_engine::run::{LaneSpawner, Task, TaskError, TaskSpec, prepare};
use firesteel_protocol::v1;
use firesteel_protocol::v1::executor_to_driver::Message;
use firesteel_shuffle::{LaneOutput, LaneSizes};
use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;

use crate::convert;
use crate::cores::CoreLease;
use crate::executor::Executor;
use crate::registry::{Cancel, Cancelled, StageEntry};
use crate::scope::AttemptScope;

/// An attempt that was admitted. It is steered from the control runtime and computes on its cores only.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) executor: Arc<Executor>,
    pub(crate) spec: TaskSpec,
    pub(crate) stage: StageEntry,
    pub(crate) cancel: Cancel,
    pub(crate) lease: oneshot::Receiver<CoreLease>,
}

/// What all lanes wrote, and what it took.
struct Written {
    lanes: Vec<LaneOutput>,
    metrics: v1::AttemptMetrics,
}

/// A lane's number and how it ended.
type LaneEnd = (usize, Result<LaneOutput, TaskError>);

impl Attempt {
    /// Runs the attempt to its end and reports it. All it had, cores included, is given back before.
    pub(crate) async fn run(mut self) {
        let written = self.run_on_cores().await;
        let executor = Arc::clone(&self.executor);
        executor.registry.end(&self.spec.attempt, |cancelled| self.settle(cancelled, written));
    }

    async fn run_on_cores(&mut self) -> Result<Written, TaskError> {
        let lease = tokio::select! {
            biased;
            () = self.cancel.requested() => return Err(ended_early()),
            lease = &mut self.lease => lease.map_err(|_| ended_early())?,
        };
        let started = Instant::now();
        let key = self.spec.attempt;
        tracing::debug!(attempt = %key, cores = ?lease.cores(), "started");
        self.executor.registry.report(&key, started_report(key));
        let scope = Arc::new(AttemptScope::new(self.executor.core_handles(lease.cores())));
        let written = self.run_in(&scope, started).await;
        scope.stop().await;
        match scope.fault() {
            Some(fault) => {
                Err(transient(format!("attempt {key} on executor {} {fault}", self.executor.id())))
            }
            None => written,
        }
    }

    async fn run_in(&self, scope: &Arc<AttemptScope>, started: Instant) -> Result<Written, TaskError> {
        let task = tokio::select! {
            biased;
            () = self.cancel.requested() => return Err(ended_early()),
            task = self.prepare(scope) => task?,
        };
        let mut memory_peak = 0;
        let lanes = self.run_lanes(scope, &task, &mut memory_peak).await;
        let metrics = task.metrics();
        // Plans and what they hold are dropped where they ran.
        scope.stop().await;
        scope.spawn_detached(0, Box::pin(async move { drop(task) }));
        let metrics = convert::wire_metrics(&metrics, millis(started.elapsed()), memory_peak);
        Ok(Written { lanes: lanes?, metrics })
    }

    /// Has the plan decoded on the first lane's core.
    async fn prepare(&self, scope: &Arc<AttemptScope>) -> Result<Arc<Task>, TaskError> {
        let (answer, prepared) = oneshot::channel();
        let env = Arc::clone(self.executor.env());
        let stage = self.stage.clone();
        let spec = self.spec.clone();
        let lanes: Arc<dyn LaneSpawner> = Arc::clone(scope) as _;
        let work = async move {
            // Nobody waits any more when the attempt was cancelled meanwhile.
            let _ = answer.send(prepare(&env, &stage.source, &stage.settings, spec, lanes));
        };
        scope.spawn(0, Box::pin(work));
        prepared.await.map_err(|_| ended_early())?
    }

    async fn run_lanes(
        &self,
        scope: &AttemptScope,
        task: &Arc<Task>,
        memory_peak: &mut u64,
    ) -> Result<Vec<LaneOutput>, TaskError> {
        let mut ends = spawn_lanes(scope, task);
        let mut outputs = vec![None; self.spec.lanes];
        let mut progress = tokio::time::interval(self.executor.limits().progress_interval);
        progress.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = self.cancel.requested() => return Err(ended_early()),
                end = ends.recv() => match end {
                    Some((lane, output)) => outputs[lane] = Some(output?),
                    None => break,
                },
                _ = progress.tick() => self.report_progress(task, memory_peak),
            }
        }
        *memory_peak = (*memory_peak).max(self.executor.memory().used());
        outputs.into_iter().collect::<Option<_>>().ok_or_else(ended_early)
    }

    fn report_progress(&self, task: &Task, memory_peak: &mut u64) {
        *memory_peak = (*memory_peak).max(self.executor.memory().used());
        let metrics = task.metrics();
        let progress = v1::AttemptProgress {
            attempt: Some(self.spec.attempt.into()),
            rows: metrics.rows_out,
            bytes: metrics.bytes_out,
        };
        self.executor.registry.report_progress(&self.spec.attempt, Message::Progress(progress));
    }

    /// Commits what was written, or discards it.
    fn settle(&self, cancelled: Option<Cancelled>, written: Result<Written, TaskError>) -> Message {
        let key = self.spec.attempt;
        let store = self.executor.env().store();
        let committed = match (cancelled, written) {
            (Some(cancelled), _) => Err(cancelled.into_error(&key)),
            (None, Err(fault)) => Err(fault),
            (None, Ok(written)) => match store.commit(&key) {
                Ok(()) => Ok(written),
                Err(fault) => Err(TaskError::new(fault.class(), UserError::new(fault.to_string()))),
            },
        };
        match committed {
            Ok(written) => finished_report(key, &written),
            Err(fault) => {
                store.discard(&key);
                tracing::debug!(attempt = %key, class = ?fault.class, reason = %fault.error.message, "failed");
                failed_report(key, convert::wire_failure(fault))
            }
        }
    }
}

impl Cancelled {
    fn into_error(self, key: &AttemptKey) -> TaskError {
        TaskError::new(self.class, UserError::new(format!("attempt {key} was cancelled: {}", self.reason)))
    }
}

/// Starts every lane on its core. The receiver ends when all lanes have ended, whichever way: it gets one message of each.
fn spawn_lanes(scope: &AttemptScope, task: &Arc<Task>) -> mpsc::UnboundedReceiver<LaneEnd> {
    let (sender, ends) = mpsc::unbounded_channel();
    for lane in 0..scope.lanes() {
        let (task, sender) = (Arc::clone(task), sender.clone());
        let work = async move {
            let output = task.run_lane(lane).await;
            let _ = sender.send((lane, output));
        };
        scope.spawn(lane, Box::pin(work));
    }
    ends
}

/// Stands for "the reason is recorded elsewhere": in the attempt's cancellation or its scope's fault.
fn ended_early() -> TaskError {
    transient("the attempt ended without a result".to_owned())
}

fn transient(message: String) -> TaskError {
    TaskError::new(Class::Transient, UserError::new(message))
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

pub(crate) fn started_report(key: AttemptKey) -> Message {
    Message::Started(v1::AttemptStarted { attempt: Some(key.into()) })
}

pub(crate) fn failed_report(key: AttemptKey, failure: v1::Failure) -> Message {
    Message::Failed(v1::AttemptFailed { attempt: Some(key.into()), failure: Some(failure) })
}

fn finished_report(key: AttemptKey, written: &Written) -> Message {
    let sizes = written.lanes.iter().map(LaneSizes::of);
    let lanes = sizes.map(|sizes| convert::wire_lane_sizes(&sizes)).collect();
    let metrics = Some(written.metrics.clone());
    Message::Finished(v1::AttemptFinished { attempt: Some(key.into()), lanes, metrics })
}
