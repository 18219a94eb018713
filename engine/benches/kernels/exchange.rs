//! Operators between cores, and between stages. One core does all the work of all sides.

use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::{ScalarValue, SplitPoint};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::execution::TaskContext;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{LexOrdering, PhysicalExpr, PhysicalSortExpr, RangePartitioning};
use datafusion::physical_plan::{ExecutionPlan, Partitioning, execute_stream_partitioned};
use datafusion::prelude::{SessionConfig, SessionContext};
use firesteel_base::{AttemptKey, ByteSize, Epoch, JobId, MemoryBudget, StageId};
use firesteel_engine::ops::{LocalExchange, LocalExchangeExec, ReadKind, ShuffleReadExec};
use firesteel_engine::stage::adapt::Adapts;
use firesteel_engine::task::{
    LaneSpawner, Lanes, ShuffleInputs, StageInput, StageSource, TaskEnv, TaskInputs, TaskSpec, prepare,
};
use firesteel_engine::{Output, Settings, Stage, datafusion};
use firesteel_micro::{Bench, Throughput};
use firesteel_shuffle::{
    BlockStore, FetchConfig, Fetcher, Holder, LaneOutput, LaneSizes, MapOutput, StoreConfig,
};
use futures::TryStreamExt;
use futures::future::{BoxFuture, try_join_all};
use tokio::runtime::{Builder, Runtime};

use crate::data::{LINES_PER_ORDER, digest_rows, lines, rows_of};

/// Lines: full size, and tiny.
const LINES: (usize, usize) = (1 << 19, 2_000);
/// Inputs and outputs of a local exchange.
const CORES: usize = 4;
/// Partitions of an exchange between stages.
const PARTITIONS: usize = 16;

/// Lanes that all run on the thread that measures.
#[derive(Debug)]
struct OneThread(usize);

impl LaneSpawner for OneThread {
    fn lanes(&self) -> usize {
        self.0
    }

    fn spawn(&self, _lane: usize, work: BoxFuture<'static, ()>) {
        tokio::spawn(work);
    }
}

fn one_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn order_key() -> Arc<dyn PhysicalExpr> {
    Arc::new(Column::new("orderkey", 0))
}

/// A plan of the rows, dealt to that many partitions.
fn in_memory(rows: &[RecordBatch], partitions: usize) -> Arc<dyn ExecutionPlan> {
    let dealt = |i| rows.iter().skip(i).step_by(partitions).cloned().collect();
    let dealt: Vec<Vec<_>> = (0..partitions).map(dealt).collect();
    MemorySourceConfig::try_new_exec(&dealt, rows[0].schema(), None).expect("batches of one schema")
}

/// Runs all partitions of a plan at the same time; and their rows.
async fn collect_all(plan: Arc<dyn ExecutionPlan>, context: Arc<TaskContext>) -> Vec<RecordBatch> {
    let streams = execute_stream_partitioned(plan, context).expect("it starts");
    let rows = streams.into_iter().map(|stream| stream.try_collect::<Vec<_>>());
    try_join_all(rows).await.expect("rows").concat()
}

/// Rows change core inside an executor.
pub fn local(bench: &mut Bench) {
    let rows = lines(bench.size(LINES.0, LINES.1));
    let runtime = one_thread();
    let config = SessionConfig::new().with_extension(Arc::new(Lanes(Arc::new(OneThread(CORES)))));
    let context = SessionContext::new_with_config(config).task_ctx();
    let mut group = bench.group("local_exchange", Throughput::Elements(rows_of(&rows)));
    group.samples(20);
    for (name, how) in [
        ("hash", LocalExchange::Partition(Partitioning::Hash(vec![order_key()], CORES))),
        ("gather", LocalExchange::Gather),
        ("pass", LocalExchange::Pass),
    ] {
        let time = |times| {
            time_each(
                times,
                || LocalExchangeExec::new(in_memory(&rows, CORES), how.clone()),
                |exchange| runtime.block_on(collect_all(Arc::new(exchange), Arc::clone(&context))),
            )
        };
        group.bench_timed(name, time, digest_rows);
    }
}

/// Times `work` on something made anew each time, the making left out; and the last result.
fn time_each<P, T>(times: u64, make: impl Fn() -> P, work: impl Fn(P) -> T) -> (Duration, T) {
    let mut took = Duration::ZERO;
    let mut last = None;
    for _ in 0..times {
        let made = make();
        let start = Instant::now();
        last = Some(work(made));
        took += start.elapsed();
    }
    (took, last.expect("it is done once at least"))
}

/// An executor, and the rows that its tasks write.
struct Executor {
    runtime: Runtime,
    store: Arc<BlockStore>,
    fetcher: Arc<Fetcher>,
    env: Arc<TaskEnv>,
    holder: Holder,
    rows: Vec<RecordBatch>,
}

impl Executor {
    fn new(rows: Vec<RecordBatch>) -> Self {
        let budget = MemoryBudget::new(ByteSize(1 << 40));
        let config = StoreConfig { budget: budget.clone(), memory_max: 1 << 40, scratch: Vec::new() };
        let store = BlockStore::new(config).expect("a store");
        let executor = "bench/e0".parse().expect("an executor's name");
        let holder =
            Holder { executor, epoch: Epoch(1), address: "nowhere:1".to_owned(), keeper: String::new() };
        let local = (holder.executor.clone(), holder.epoch, Arc::clone(&store));
        let fetcher = Fetcher::new(FetchConfig { local: Some(local), ..FetchConfig::default() });
        let env = TaskEnv::new(Arc::clone(&store), Arc::clone(&fetcher), budget, vec![std::env::temp_dir()]);
        let env = Arc::new(env.expect("an environment"));
        Self { runtime: one_thread(), store, fetcher, env, holder, rows }
    }

    fn schema(&self) -> SchemaRef {
        self.rows[0].schema()
    }

    fn attempt(&self) -> AttemptKey {
        AttemptKey::new(JobId(1), StageId(0), 0, 0)
    }

    /// Runs a task that divides the rows in that way and keeps them as blocks; what it wrote.
    fn write(&self, output: &Output) -> (Duration, LaneOutput) {
        let plan = in_memory(&self.rows, 1);
        let stage = Stage {
            id: StageId(0),
            plan,
            partitions: 1,
            output: output.clone(),
            tells: Vec::new(),
            inputs: Vec::new(),
            told_by: Vec::new(),
            adapts: Adapts::default(),
            estimated_bytes: 0,
            encoded: None,
        };
        let source = StageSource::Shared(Arc::new(stage));
        let spec = TaskSpec {
            attempt: self.attempt(),
            first_partition: 0,
            lanes: 1,
            inputs: Arc::default(),
            slices: Vec::new(),
        };
        let task = prepare(&self.env, &source, &Settings::default(), spec, Arc::new(OneThread(1)));
        let task = task.expect("a task");
        let start = Instant::now();
        let written = self.runtime.block_on(task.run_lane(0)).expect("room for its blocks");
        (start.elapsed(), written)
    }

    fn time_writes(&self, times: u64, output: &Output) -> (Duration, LaneOutput) {
        let (mut took, mut last) = (Duration::ZERO, LaneOutput::default());
        for _ in 0..times {
            let (this, written) = self.write(output);
            self.store.discard(&self.attempt());
            took += this;
            last = written;
        }
        (took, last)
    }

    /// Reads all partitions of what was written.
    fn read(&self, written: &LaneOutput, partitioning: &Partitioning) -> Vec<RecordBatch> {
        let output = MapOutput {
            producer: self.attempt(),
            holder: self.holder.clone(),
            lanes: vec![LaneSizes::of(written)],
        };
        let input = StageInput { stage: StageId(0), outputs: vec![output], coming: false };
        let inputs = ShuffleInputs::new(Arc::clone(&self.fetcher), Arc::new(TaskInputs::new(vec![input])));
        let config = SessionConfig::new().with_extension(Arc::new(inputs));
        let context = SessionContext::new_with_config(config).task_ctx();
        let (schema, partitioning) = (self.schema(), partitioning.clone());
        let read =
            ShuffleReadExec::try_new(StageId(0), ReadKind::Partition, schema, partitioning, None, Vec::new());
        self.runtime.block_on(collect_all(Arc::new(read.expect("a plan")), context))
    }
}

/// Split points that give each partition as many of `orders` orders.
fn ranges(orders: usize) -> Partitioning {
    let ordering = LexOrdering::new([PhysicalSortExpr::new_default(order_key())]).expect("an expression");
    let splits = (1..PARTITIONS).map(|i| {
        let key = i64::try_from(orders * i / PARTITIONS).expect("a key");
        SplitPoint::new(vec![ScalarValue::Int64(Some(key))])
    });
    Partitioning::Range(RangePartitioning::try_new(ordering, splits.collect()).expect("ascending splits"))
}

/// A stage writes, and another reads on the same executor.
pub fn shuffled(bench: &mut Bench) {
    let count = bench.size(LINES.0, LINES.1);
    let executor = Executor::new(lines(count));
    let range = ranges(count / LINES_PER_ORDER);
    let hash = Output::Hash { exprs: vec![order_key()], partitions: PARTITIONS };
    let mut group = bench.group("write", Throughput::Elements(count as u64));
    group.samples(20);
    for output in
        [hash.clone(), Output::Range(range), Output::RoundRobin { partitions: PARTITIONS }, Output::Single]
    {
        group.bench_timed(
            output.kind(),
            |times| executor.time_writes(times, &output),
            |written, digest| {
                for block in &written.partitions {
                    digest.number(block.rows);
                    digest.number(block.bytes);
                }
            },
        );
    }
    drop(group);

    let (_, written) = executor.write(&hash);
    executor.store.commit(&executor.attempt()).expect("it is finished");
    let partitioning = Partitioning::Hash(vec![order_key()], PARTITIONS);
    let mut group = bench.group("read", Throughput::Elements(count as u64));
    group.samples(20);
    group.bench("hash", || executor.read(&written, &partitioning), digest_rows);
}
