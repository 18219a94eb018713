//! One attempt of a task.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use datafusion::execution::TaskContext;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionContext;
use firesteel_base::{AttemptKey, Class, MemoryBudget, UserError};
use firesteel_shuffle::fetch::Fetcher;
use firesteel_shuffle::store::BlockStore;
use firesteel_shuffle::{LaneOutput, Slice};
use futures::StreamExt;

use super::aside::{Aside, failed};
use super::write::{self, Router};
use super::{
    LaneSpawner, Lanes, LocalFiles, OperatorMetrics, ShuffleInputs, StageMetrics, TaskError, TaskInputs,
    TaskMetrics, metrics,
};
use crate::memory::GrantPool;
use crate::ops::spill_joins;
use crate::session::stores;
use crate::stage::{adapt, codec, narrow};
use crate::{Settings, Stage};

/// What all attempts of an executor share.
pub struct TaskEnv {
    store: Arc<BlockStore>,
    fetcher: Arc<Fetcher>,
    runtime: Arc<RuntimeEnv>,
}

impl TaskEnv {
    /// The environment of an executor whose operators draw on `budget` and spill into the `scratch` folders.
    ///
    /// # Errors
    /// When the scratch folders cannot be used.
    pub fn new(
        store: Arc<BlockStore>,
        fetcher: Arc<Fetcher>,
        budget: MemoryBudget,
        scratch: Vec<PathBuf>,
    ) -> Result<Self, UserError> {
        let disk = DiskManagerBuilder::default()
            .with_mode(DiskManagerMode::Directories(scratch))
            .with_max_temp_directory_size(u64::MAX);
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(GrantPool::new(budget, Some(Arc::clone(&store)))))
            .with_disk_manager_builder(disk)
            .build_arc()
            .map_err(|fault| {
                UserError::new("the scratch folders cannot be used").detail(fault.strip_backtrace())
            })?;
        LocalFiles::serve_in(&runtime);
        Ok(Self { store, fetcher, runtime })
    }

    /// The store that attempts write to; the executor commits there.
    #[must_use]
    pub fn store(&self) -> &Arc<BlockStore> {
        &self.store
    }
}

impl fmt::Debug for TaskEnv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TaskEnv")
    }
}

/// Which task of which stage, and where its input lies.
#[derive(Debug, Clone)]
pub struct TaskSpec {
    /// The attempt.
    pub attempt: AttemptKey,
    /// The first partition of the stage's plan that this task drives.
    pub first_partition: usize,
    /// How many partitions it drives, one a lane.
    pub lanes: usize,
    /// The outputs of the stages it reads, to which more may come.
    pub inputs: Arc<TaskInputs>,
    /// What each lane reads of the exchanges that the stage is divided as; empty when that is the partition it drives.
    pub slices: Vec<Slice>,
}

/// A stage as an executor has it.
#[derive(Debug, Clone)]
pub enum StageSource {
    /// As it came over the wire; decoded afresh for each attempt, because a plan that has run holds state.
    Encoded(Bytes),
    /// By pointer, from a driver in this process. Good for one attempt.
    Shared(Arc<Stage>),
}

/// An attempt that is ready to run.
pub struct Task {
    env: Arc<TaskEnv>,
    spec: TaskSpec,
    stage: Arc<Stage>,
    /// That of the stage, narrowed to the task's partitions.
    plan: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
    inputs: Arc<ShuffleInputs>,
    analyze: bool,
    rows_out: AtomicU64,
    bytes_out: AtomicU64,
}

/// Decodes and narrows the stage's plan for this task. Takes milliseconds for a large plan: call it on a core thread.
///
/// # Errors
/// When the plan, its settings or the partitions asked for make no sense here.
pub fn prepare(
    env: &Arc<TaskEnv>,
    source: &StageSource,
    settings: &Settings,
    spec: TaskSpec,
    lanes: Arc<dyn LaneSpawner>,
) -> Result<Arc<Task>, TaskError> {
    let user = |error| TaskError::new(Class::User, error);
    let inputs = Arc::new(ShuffleInputs::new(Arc::clone(&env.fetcher), Arc::clone(&spec.inputs)));
    let mut config = settings.session_config().map_err(user)?;
    config.options_mut().execution.enable_file_stream_work_stealing = is_whole(source, &spec);
    let config = config.with_extension(Arc::new(Lanes(lanes))).with_extension(Arc::clone(&inputs));
    stores::register(&env.runtime, settings).map_err(user)?;
    let session = SessionContext::new_with_config_rt(config, Arc::clone(&env.runtime));
    let context = session.task_ctx();
    let stage = match source {
        StageSource::Encoded(bytes) => Arc::new(codec::decode_in(bytes, &context).map_err(user)?),
        StageSource::Shared(stage) => Arc::clone(stage),
    };
    let plan = Arc::clone(&stage.plan);
    let plan = match spec.slices.is_empty() {
        true => narrow::narrow(plan, spec.first_partition, spec.lanes)?,
        false => adapt::over_slices(plan, &spec.slices)?,
    };
    let plan = spill_joins(plan)?;
    Ok(Arc::new(Task {
        env: Arc::clone(env),
        spec,
        stage,
        plan,
        context,
        inputs,
        analyze: settings.analyze(),
        rows_out: AtomicU64::new(0),
        bytes_out: AtomicU64::new(0),
    }))
}

/// Whether the task is all of its stage: then its lanes may read each other's files, and none waits for the one that has
/// most to read.
fn is_whole(source: &StageSource, spec: &TaskSpec) -> bool {
    match source {
        StageSource::Shared(stage) => spec.first_partition == 0 && spec.lanes == stage.partitions,
        StageSource::Encoded(_) => false,
    }
}

impl Task {
    /// Runs one lane to its end and leaves its rows, not yet committed, in the block store.
    ///
    /// # Errors
    /// When the plan fails, or its output finds no room.
    pub async fn run_lane(&self, lane: usize) -> Result<LaneOutput, TaskError> {
        let mut stream = self.plan.execute(lane, Arc::clone(&self.context))?;
        let mut router = Router::new(&self.stage.output, lane)?;
        let mut aside = Aside::new(&self.stage, &stream.schema(), self.context.memory_pool())?;
        let count = |number: usize| u32::try_from(number).expect("lanes and partitions fit in 32 bits");
        let mut writer = self.env.store.writer(
            self.spec.attempt,
            count(lane),
            stream.schema(),
            count(self.stage.blocks()),
        );
        while let Some(batch) = stream.next().await {
            let batch = batch?;
            self.rows_out.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
            aside.take(&batch)?;
            router.write(batch, &mut writer)?;
        }
        aside.write(&mut writer)?;
        let output = writer.finish().map_err(failed)?;
        let bytes = output.partitions.iter().map(|block| block.bytes).sum();
        self.bytes_out.fetch_add(bytes, Ordering::Relaxed);
        Ok(output)
    }

    /// What was measured so far.
    #[must_use]
    pub fn metrics(&self) -> TaskMetrics {
        let bytes_out = self.bytes_out.load(Ordering::Relaxed);
        let fetched = &self.inputs.fetched;
        TaskMetrics {
            rows_out: self.rows_out.load(Ordering::Relaxed),
            bytes_out,
            bytes_fetched: fetched.local_bytes() + fetched.remote_bytes(),
            spilled_bytes: metrics::spilled_bytes(&self.plan),
            bytes_read: metrics::bytes_read(&self.plan),
            // What comes over TCP was copied into a socket by who sent it.
            bytes_copied: bytes_out * write::copies(&self.stage.output)
                + fetched.copied_bytes()
                + fetched.tcp_bytes(),
            operators: self.analyze.then(|| self.operators()),
        }
    }

    fn operators(&self) -> StageMetrics {
        let attempt = &self.spec.attempt;
        StageMetrics {
            stage: attempt.stage().0,
            task: attempt.task.task,
            rows_out: self.rows_out.load(Ordering::Relaxed),
            bytes_out: self.bytes_out.load(Ordering::Relaxed),
            operators: OperatorMetrics::of_plan(&self.plan),
        }
    }
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Task({})", self.spec.attempt)
    }
}
