//! A session over executors that live in the test: stages run one after the other, through the same calls that an
//! executor makes, and their rows pass through a real block store.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use datafusion::arrow::record_batch::RecordBatch;
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use firesteel_base::{AttemptKey, ByteSize, Epoch, JobId, MemoryBudget, StageId, UserError};
use firesteel_engine::datafusion;
use firesteel_engine::task::{
    LaneSpawner, StageInput, StageSource, Task, TaskEnv, TaskError, TaskInputs, TaskSpec, prepare,
};
use firesteel_engine::{ClusterShape, EngineSession, JobRunner, JobSpec, Place, SessionOptions, Stage};
use firesteel_shuffle::fetch::{FetchConfig, Fetcher};
use firesteel_shuffle::store::{BlockStore, StoreConfig};
use firesteel_shuffle::{BlockKey, Holder, KeysOf, LaneSizes, MapOutput, Part, Slice};
use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt};
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::task::JoinSet;

/// The memory of all executors together, where a test does not say.
const MEMORY: u64 = 1 << 30;

/// A session, a folder of its own, and executors.
pub struct Lab {
    pub folder: TempDir,
    pub session: EngineSession,
    pub runner: Arc<Executors>,
}

impl Lab {
    /// One executor in this process, with two core threads.
    pub fn local() -> Self {
        Self::local_with_memory(MEMORY)
    }

    /// The same with so many bytes of memory.
    pub fn local_with_memory(memory: u64) -> Self {
        Self::new(ClusterShape { executors: 1, cores_per_executor: 2, cores: 2, local: true }, memory)
    }

    /// A cluster of `executors` with `cores` each.
    pub fn cluster(executors: usize, cores: usize) -> Self {
        Self::cluster_with_memory(executors, cores, MEMORY)
    }

    /// The same, with so many bytes of memory for all executors together.
    pub fn cluster_with_memory(executors: usize, cores: usize, memory: u64) -> Self {
        let shape =
            ClusterShape { executors, cores_per_executor: cores, cores: executors * cores, local: false };
        Self::new(shape, memory)
    }

    /// A local one and a cluster of two: what holds must hold in both.
    pub fn both() -> [Self; 2] {
        [Self::local(), Self::cluster(2, 1)]
    }

    fn new(shape: ClusterShape, memory: u64) -> Self {
        let runner = Arc::new(Executors::new(shape, memory));
        let session =
            EngineSession::new(Arc::clone(&runner) as Arc<dyn JobRunner>, SessionOptions::default());
        Self { folder: tempfile::tempdir().unwrap(), session: session.unwrap(), runner }
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file in the folder, with its parents.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    /// The statement with `$dir` replaced by the folder.
    fn text(&self, sql: &str) -> String {
        sql.replace("$dir", self.folder.path().to_str().unwrap())
    }

    pub async fn batches(&self, sql: &str) -> Result<Vec<RecordBatch>, UserError> {
        let frame = self.session.sql(&self.text(sql)).await?;
        frame.collect().await.map_err(|fault| self.session.describe_error(&fault))
    }

    /// The answer as a table.
    pub async fn rows(&self, sql: &str) -> String {
        let batches = self.batches(sql).await.unwrap_or_else(|fault| panic!("{sql}: {fault}"));
        pretty_format_batches(&batches).unwrap().to_string()
    }

    /// The answer's only value.
    pub async fn value(&self, sql: &str) -> String {
        let table = self.rows(sql).await;
        table.lines().nth(3).unwrap_or_default().trim_matches(['|', ' ']).to_owned()
    }

    /// How the statement fails, the folder's name replaced by `$dir`.
    pub async fn fault(&self, sql: &str) -> String {
        let fault = self.batches(sql).await.expect_err(sql).to_string();
        self.scrub(&fault)
    }

    /// The text with the folder's name replaced by `$dir`.
    pub fn scrub(&self, text: &str) -> String {
        let folder = self.folder.path().to_str().unwrap();
        text.replace(folder, "$dir").replace(folder.trim_start_matches('/'), "$dir")
    }

    /// All files under `name`, sorted; hidden ones too.
    pub fn files(&self, name: &str) -> Vec<String> {
        let mut files = Vec::new();
        walk(&self.path(name), &mut files);
        let root = self.path(name);
        let relative = |file: PathBuf| file.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
        let mut files: Vec<_> = files.into_iter().map(relative).collect();
        files.sort();
        files
    }
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() { walk(&path, files) } else { files.push(path) }
    }
}

/// The inputs of a task, which is launched as early as its stage allows: more comes while it runs.
fn launch_early(stage: &Stage, outputs: &[Vec<MapOutput>]) -> Arc<TaskInputs> {
    let known = |input: &StageId| {
        let mut outputs = outputs[input.0 as usize].clone();
        let coming = stage.adapts.pipelined.contains(input);
        // Not even the first in every case.
        outputs.truncate(if coming { outputs.len() / 2 } else { outputs.len() });
        StageInput { stage: *input, outputs, coming }
    };
    let inputs = Arc::new(TaskInputs::new(stage.inputs.iter().map(known).collect()));
    for &input in &stage.adapts.pipelined {
        let (inputs, outputs) = (Arc::clone(&inputs), outputs[input.0 as usize].clone());
        tokio::spawn(async move {
            let count = outputs.len();
            // The last first, and those that are known again.
            for (number, output) in outputs.into_iter().rev().enumerate() {
                tokio::time::sleep(Duration::from_millis(1)).await;
                inputs.add(StageInput { stage: input, outputs: vec![output], coming: number + 1 < count });
            }
        });
    }
    inputs
}

/// Executors in the test. All share one store; each task has tokio's threads for its cores.
pub struct Executors {
    shape: ClusterShape,
    env: Arc<TaskEnv>,
    store: Arc<BlockStore>,
    pub fetcher: Arc<Fetcher>,
    holder: Holder,
    jobs: AtomicU64,
    /// Makes every first attempt of a result stage get lost after it has run to its end.
    pub lose_first_results: AtomicBool,
    /// Has every partition that may be divided by key read in so many parts.
    pub key_parts: AtomicU32,
    pub last: Mutex<Option<JobSpec>>,
}

impl fmt::Debug for Executors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Executors({:?})", self.shape)
    }
}

impl Executors {
    fn new(shape: ClusterShape, memory: u64) -> Self {
        let budget = MemoryBudget::new(ByteSize(memory));
        let config = StoreConfig { budget: budget.clone(), memory_max: memory / 2, scratch: Vec::new() };
        let store = BlockStore::new(config).unwrap();
        let holder = Holder {
            executor: "test/e0".parse().unwrap(),
            epoch: Epoch(1),
            address: "nowhere:1".to_owned(),
            keeper: String::new(),
        };
        let fetcher = Fetcher::new(FetchConfig {
            local: Some((holder.executor.clone(), holder.epoch, Arc::clone(&store))),
            ..FetchConfig::default()
        });
        let env = TaskEnv::new(Arc::clone(&store), Arc::clone(&fetcher), budget, vec![std::env::temp_dir()])
            .unwrap();
        Self {
            shape,
            env: Arc::new(env),
            store,
            fetcher,
            holder,
            jobs: AtomicU64::new(1),
            lose_first_results: AtomicBool::new(false),
            key_parts: AtomicU32::new(0),
            last: Mutex::default(),
        }
    }

    async fn execute(&self, job: JobSpec, id: JobId) -> Result<Vec<RecordBatch>> {
        let mut outputs: Vec<Vec<MapOutput>> = Vec::new();
        for stage in &job.graph.stages {
            let mut of_stage = Vec::new();
            let one_task = self.shape.local || matches!(job.graph.place, Place::Driver(_));
            let lanes = if one_task { stage.partitions } else { self.shape.cores_per_executor };
            for task in 0..stage.tasks(lanes) {
                of_stage.push(self.task(&job, id, stage, task, lanes, &outputs).await.map_err(external)?);
            }
            outputs.push(of_stage);
        }
        let schema = job.graph.result().plan.schema();
        let mut batches = Vec::new();
        for output in outputs.pop().unwrap() {
            for lane in 0..u32::try_from(output.lanes.len()).unwrap() {
                let key = BlockKey { producer: output.producer, lane, partition: 0 };
                let block = self.fetcher.fetch(output.holder.clone(), key, Arc::clone(&schema));
                batches.extend(block.try_collect::<Vec<_>>().await.map_err(external)?);
            }
        }
        self.store.free_job(id);
        Ok(batches)
    }

    async fn task(
        &self,
        job: &JobSpec,
        id: JobId,
        stage: &Arc<Stage>,
        task: usize,
        lanes: usize,
        outputs: &[Vec<MapOutput>],
    ) -> Result<MapOutput, TaskError> {
        let first_partition = task * lanes;
        let lanes = lanes.min(stage.partitions - first_partition);
        let slices = self.slices(stage, first_partition..first_partition + lanes);
        let lanes = if slices.is_empty() { lanes } else { slices.len() };
        let is_result = Arc::ptr_eq(stage, job.graph.result());
        // A plan that went by pointer is good for one attempt only.
        let lose = stage.encoded.is_some() && is_result && self.lose_first_results.load(Ordering::SeqCst);
        let mut attempt = AttemptKey::new(id, stage.id, u32::try_from(task).unwrap(), 0);
        loop {
            let inputs = launch_early(stage, outputs);
            let spec = TaskSpec { attempt, first_partition, lanes, inputs, slices: slices.clone() };
            let spawner = Arc::new(TokioLanes { lanes, tasks: Mutex::default() });
            let source = match &stage.encoded {
                Some(bytes) => StageSource::Encoded(bytes.clone()),
                None => StageSource::Shared(Arc::clone(stage)),
            };
            let ready = prepare(&self.env, &source, &job.settings, spec, spawner)?;
            let lanes = run_lanes(&ready, lanes).await?.iter().map(LaneSizes::of).collect();
            if lose && attempt.attempt == 0 {
                self.store.discard(&attempt);
                attempt.attempt += 1;
                continue;
            }
            self.store.commit(&attempt).unwrap();
            if let (Some(sink), Some(metrics)) = (&job.analyze, ready.metrics().operators) {
                sink.add(metrics);
            }
            return Ok(MapOutput { producer: attempt, holder: self.holder.clone(), lanes });
        }
    }
}

impl Executors {
    /// What the lanes of a task read instead of those partitions.
    fn slices(&self, stage: &Stage, partitions: Range<usize>) -> Vec<Slice> {
        let parts = if stage.adapts.by_key { self.key_parts.load(Ordering::SeqCst) } else { 0 };
        let slice = |partition: u32, part: u32| Slice {
            partitions: partition..partition + 1,
            part: Some(Part::Keys(KeysOf { part, parts })),
        };
        let partitions = partitions.map(|partition| u32::try_from(partition).unwrap());
        partitions.flat_map(|partition| (0..parts).map(move |part| slice(partition, part))).collect()
    }
}

async fn run_lanes(task: &Arc<Task>, lanes: usize) -> Result<Vec<firesteel_shuffle::LaneOutput>, TaskError> {
    futures::future::try_join_all((0..lanes).map(|lane| task.run_lane(lane))).await
}

fn external(fault: impl std::error::Error + Send + Sync + 'static) -> DataFusionError {
    DataFusionError::External(Box::new(fault))
}

#[async_trait::async_trait]
impl JobRunner for Executors {
    async fn shape(&self) -> Result<ClusterShape> {
        Ok(self.shape)
    }

    fn run(&self, job: JobSpec) -> Result<SendableRecordBatchStream> {
        let schema = job.graph.result().plan.schema();
        *self.last.lock() = Some(job.clone());
        let id = JobId(self.jobs.fetch_add(1, Ordering::SeqCst));
        let this = Self {
            shape: self.shape,
            env: Arc::clone(&self.env),
            store: Arc::clone(&self.store),
            fetcher: Arc::clone(&self.fetcher),
            holder: self.holder.clone(),
            jobs: AtomicU64::new(0),
            lose_first_results: AtomicBool::new(self.lose_first_results.load(Ordering::SeqCst)),
            key_parts: AtomicU32::new(self.key_parts.load(Ordering::SeqCst)),
            last: Mutex::default(),
        };
        let rows = async move {
            let batches = this.execute(job, id).await?;
            Ok::<_, DataFusionError>(futures::stream::iter(batches.into_iter().map(Ok)))
        };
        let rows = futures::stream::once(rows).try_flatten().boxed();
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }
}

/// Lanes on the threads of the test's runtime; their work ends when the attempt does.
#[derive(Debug)]
struct TokioLanes {
    lanes: usize,
    tasks: Mutex<JoinSet<()>>,
}

impl LaneSpawner for TokioLanes {
    fn lanes(&self) -> usize {
        self.lanes
    }

    fn spawn(&self, _lane: usize, work: BoxFuture<'static, ()>) {
        self.tasks.lock().spawn(work);
    }
}
