//! Rows change core inside a task, without being encoded.
//!
//! DataFusion's own exchange starts the work of all its inputs on the runtime of whichever output is read first: with
//! a runtime on each core, one core would do all the work. Here every input is driven by its own core, and rows pass
//! by pointer through queues.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::exec_datafusion_err;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit};
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::metrics::{
    ExecutionPlanMetricsSet, MetricBuilder, MetricsSet, SpillMetrics, Time,
};
use datafusion::physical_plan::repartition::BatchPartitioner;
use datafusion::physical_plan::spill::SpillManager;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning, PlanProperties,
};
use futures::future::BoxFuture;
use futures::{FutureExt, Stream, StreamExt, ready};
use parking_lot::Mutex;

use super::compact::compact;
use super::gate::{Feeding, Gate, Queued, Room, Sent};
use super::plan_boilerplate;
use crate::run::Lanes;

/// Batches that a driver may run ahead of its only reader.
const PASS_DEPTH_MAX: usize = 2;

/// Queued batches get at most one part in so many of the executor's memory, before they go to files.
const QUEUED_MEMORY_PART: usize = 4;

/// How a [`LocalExchangeExec`] divides rows.
#[derive(Debug, Clone)]
pub enum LocalExchange {
    /// By hash, range or in turn.
    Partition(Partitioning),
    /// All inputs into one output.
    Gather,
    /// Input `i` is output `i`, but driven by its own core.
    Pass,
}

/// An exchange between the cores of one executor.
#[derive(Debug)]
pub struct LocalExchangeExec {
    input: Arc<dyn ExecutionPlan>,
    how: LocalExchange,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
    running: Mutex<Option<Arc<Running>>>,
}

/// An exchange that has readers. Its drivers start when one of these asks for a batch, and not before: what a join asks for
/// last, it shall read with the filters that the join has made by then.
struct Running {
    gate: Arc<Gate>,
    /// The drivers that wait to be started.
    waiting: Mutex<Vec<BoxFuture<'static, ()>>>,
    lanes: Arc<Lanes>,
}

impl Running {
    /// Starts the drivers, each on its own core, unless they run.
    fn start(&self) {
        let waiting = std::mem::take(&mut *self.waiting.lock());
        for (input, driver) in waiting.into_iter().enumerate() {
            self.lanes.0.spawn(input % self.lanes.0.lanes().max(1), driver);
        }
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Running")
    }
}

impl LocalExchangeExec {
    /// Divides the rows of `input` in that way.
    #[must_use]
    pub fn new(input: Arc<dyn ExecutionPlan>, how: LocalExchange) -> Self {
        let inputs = input.output_partitioning().partition_count();
        let mut properties = input.properties().as_ref().clone();
        if !matches!(how, LocalExchange::Pass) {
            let partitioning = match &how {
                LocalExchange::Partition(partitioning) => partitioning.clone(),
                LocalExchange::Gather | LocalExchange::Pass => Partitioning::UnknownPartitioning(1),
            };
            let mut equivalences = input.equivalence_properties().clone();
            if inputs > 1 {
                equivalences.clear_orderings();
                equivalences.clear_per_partition_constants();
            }
            properties = properties.with_partitioning(partitioning).with_eq_properties(equivalences);
        }
        Self {
            input,
            how,
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
            running: Mutex::new(None),
        }
    }

    fn outputs(&self) -> usize {
        self.properties.output_partitioning().partition_count()
    }

    /// The queues and the drivers; the first reader makes them.
    fn running(&self, context: &Arc<TaskContext>) -> Result<Arc<Running>> {
        let mut running = self.running.lock();
        if let Some(running) = running.as_ref() {
            return Ok(Arc::clone(running));
        }
        let lanes = context
            .session_config()
            .get_extension::<Lanes>()
            .ok_or_else(|| DataFusionError::Internal("a local exchange ran outside a task".to_owned()))?;
        let inputs = self.input.output_partitioning().partition_count();
        let feeding = match self.how {
            LocalExchange::Pass => Feeding::Own { depth_max: PASS_DEPTH_MAX },
            LocalExchange::Gather | LocalExchange::Partition(_) => Feeding::All,
        };
        let gate = Arc::new(Gate::new(self.outputs(), inputs, feeding, self.room(context)));
        let drivers = (0..inputs)
            .map(|input| Ok(self.driver(input, inputs, Arc::clone(&gate), Arc::clone(context))?.boxed()));
        let waiting = Mutex::new(drivers.collect::<Result<_>>()?);
        let made = Arc::new(Running { gate, waiting, lanes });
        *running = Some(Arc::clone(&made));
        Ok(made)
    }

    fn room(&self, context: &TaskContext) -> Room {
        let pool = context.memory_pool();
        let queued_max = match pool.memory_limit() {
            MemoryLimit::Finite(bytes) => bytes / QUEUED_MEMORY_PART,
            MemoryLimit::Infinite | MemoryLimit::Unknown => usize::MAX,
        };
        let spilled = SpillMetrics::new(&self.metrics, 0);
        Room {
            queued: MemoryConsumer::new("LocalExchange").register(pool),
            queued_max,
            spill: SpillManager::new(context.runtime_env(), spilled, self.schema()),
        }
    }

    /// The future that runs one input to its end. Its guard tells the readers however it ends: done, failed, panicked
    /// or dropped by a cancellation, so that none takes an early end for a complete one.
    fn driver(
        &self,
        input: usize,
        inputs: usize,
        gate: Arc<Gate>,
        context: Arc<TaskContext>,
    ) -> Result<impl Future<Output = ()> + Send + 'static> {
        let time = MetricBuilder::new(&self.metrics).subset_time("repartition_time", input);
        let route = Route::new(&self.how, input, inputs, time)?;
        let plan = Arc::clone(&self.input);
        let guard = DriverGuard { gate: Arc::clone(&gate), driver: input, ended: false };
        Ok(async move {
            let mut guard = guard;
            let drive = AssertUnwindSafe(drive(plan, input, context, route, &gate)).catch_unwind();
            let fault = match drive.await {
                Ok(Ok(())) => None,
                Ok(Err(fault)) => Some(fault),
                Err(panic) => Some(exec_datafusion_err!("panicked: {}", panic_text(panic.as_ref()))),
            };
            guard.end(fault);
        })
    }
}

async fn drive(
    plan: Arc<dyn ExecutionPlan>,
    input: usize,
    context: Arc<TaskContext>,
    mut route: Route,
    gate: &Gate,
) -> Result<()> {
    let mut stream = plan.execute(input, context)?;
    while let Some(batch) = stream.next().await {
        for (output, part) in route.parts(batch?)? {
            let mut part = Some(compact(part)?);
            let sent = futures::future::poll_fn(|cx| gate.poll_send(cx, output, &mut part)).await?;
            if sent == Sent::AllClosed {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Where a batch's rows go.
enum Route {
    To(usize),
    Parts(Box<BatchPartitioner>),
}

impl Route {
    fn new(how: &LocalExchange, input: usize, inputs: usize, time: Time) -> Result<Self> {
        Ok(match how {
            LocalExchange::Gather => Self::To(0),
            LocalExchange::Pass => Self::To(input),
            LocalExchange::Partition(partitioning) => {
                Self::Parts(Box::new(BatchPartitioner::try_new(partitioning.clone(), time, input, inputs)?))
            }
        })
    }

    fn parts(&mut self, batch: RecordBatch) -> Result<Vec<(usize, RecordBatch)>> {
        match self {
            Self::To(output) => Ok(vec![(*output, batch)]),
            Self::Parts(partitioner) => {
                let mut parts = Vec::new();
                partitioner.partition(batch, |output, part| {
                    parts.push((output, part));
                    Ok(())
                })?;
                Ok(parts)
            }
        }
    }
}

struct DriverGuard {
    gate: Arc<Gate>,
    driver: usize,
    ended: bool,
}

impl DriverGuard {
    fn end(&mut self, fault: Option<DataFusionError>) {
        self.ended = true;
        self.gate.driver_ended(self.driver, fault);
    }
}

impl Drop for DriverGuard {
    fn drop(&mut self) {
        if !self.ended {
            self.end(Some(exec_datafusion_err!("the attempt was cancelled")));
        }
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

/// One output of the exchange, as its reader sees it.
struct Reader {
    running: Arc<Running>,
    output: usize,
    schema: SchemaRef,
    /// The batch that is read from a file.
    spilled: Option<SendableRecordBatchStream>,
}

impl Stream for Reader {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.running.start();
        loop {
            if let Some(spilled) = &mut self.spilled {
                match ready!(spilled.poll_next_unpin(cx)) {
                    Some(batch) => return Poll::Ready(Some(batch)),
                    None => self.spilled = None,
                }
            }
            match ready!(self.running.gate.poll_receive(cx, self.output)) {
                Some(Ok(Queued::Held(batch))) => return Poll::Ready(Some(Ok(batch))),
                Some(Ok(Queued::Spilled(file))) => self.spilled = Some(self.running.gate.read(file)?),
                Some(Err(fault)) => return Poll::Ready(Some(Err(fault))),
                None => return Poll::Ready(None),
            }
        }
    }
}

impl RecordBatchStream for Reader {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.running.gate.close(self.output);
    }
}

impl DisplayAs for LocalExchangeExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inputs = self.input.output_partitioning().partition_count();
        match &self.how {
            LocalExchange::Partition(partitioning) => {
                write!(f, "LocalExchangeExec: {partitioning}, inputs={inputs}")
            }
            LocalExchange::Gather => write!(f, "LocalExchangeExec: gather, inputs={inputs}"),
            LocalExchange::Pass => write!(f, "LocalExchangeExec: pass, inputs={inputs}"),
        }
    }
}

impl ExecutionPlan for LocalExchangeExec {
    plan_boilerplate!(LocalExchangeExec, |exchange, mut children| Ok(Arc::new(Self::new(
        children.swap_remove(0),
        exchange.how.clone()
    ))));

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        let one_input = self.input.output_partitioning().partition_count() <= 1;
        vec![one_input || matches!(self.how, LocalExchange::Pass)]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let running = self.running(&context)?;
        Ok(Box::pin(Reader { running, output: partition, schema: self.schema(), spilled: None }))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{AsArray, Int64Array};
    use datafusion::arrow::datatypes::{DataType, Field, Int64Type, Schema};
    use datafusion::datasource::memory::MemorySourceConfig;
    use datafusion::execution::runtime_env::RuntimeEnvBuilder;
    use datafusion::physical_expr::expressions::col;
    use datafusion::physical_plan::common::collect;
    use datafusion::prelude::{SessionConfig, SessionContext};

    use super::*;
    use crate::run::LaneSpawner;

    const BATCHES: i64 = 200;
    const ROWS: i64 = 1000;
    const MEMORY: usize = 400_000;

    #[derive(Debug)]
    struct OnThisRuntime;

    impl LaneSpawner for OnThisRuntime {
        fn lanes(&self) -> usize {
            1
        }

        fn spawn(&self, _lane: usize, work: BoxFuture<'static, ()>) {
            tokio::spawn(work);
        }
    }

    /// Rows of one key: all of them go to the same output.
    fn input() -> Arc<dyn ExecutionPlan> {
        let field = |name| Field::new(name, DataType::Int64, false);
        let schema = Arc::new(Schema::new(vec![field("key"), field("value")]));
        let batch = |number: i64| {
            let values = Int64Array::from_iter_values(number * ROWS..(number + 1) * ROWS);
            let keys = Int64Array::from_value(7, values.len());
            RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(keys), Arc::new(values)]).unwrap()
        };
        let batches: Vec<_> = (0..BATCHES).map(batch).collect();
        MemorySourceConfig::try_new_exec(&[batches], schema, None).unwrap()
    }

    #[tokio::test]
    async fn nothing_is_read_before_a_reader_asks() {
        let config = SessionConfig::new().with_extension(Arc::new(Lanes(Arc::new(OnThisRuntime))));
        let context = SessionContext::new_with_config(config).task_ctx();
        let exchange = LocalExchangeExec::new(input(), LocalExchange::Gather);
        let mut output = exchange.execute(0, Arc::clone(&context)).unwrap();
        let waiting = || exchange.running(&context).unwrap().waiting.lock().len();
        tokio::task::yield_now().await;
        assert_eq!(waiting(), 1);
        assert!(output.next().await.unwrap().is_ok());
        assert_eq!(waiting(), 0);
    }

    #[tokio::test]
    async fn what_memory_has_no_room_for_waits_in_files() {
        let runtime = RuntimeEnvBuilder::new().with_memory_limit(MEMORY, 1.0).build_arc().unwrap();
        let config = SessionConfig::new().with_extension(Arc::new(Lanes(Arc::new(OnThisRuntime))));
        let context = SessionContext::new_with_config_rt(config, runtime).task_ctx();
        let input = input();
        let by_key = Partitioning::Hash(vec![col("key", &input.schema()).unwrap()], 2);
        let exchange = LocalExchangeExec::new(input, LocalExchange::Partition(by_key));

        let outputs = [0, 1].map(|output| exchange.execute(output, Arc::clone(&context)).unwrap());
        exchange.running(&context).unwrap().start();
        // The driver ends without a reader: the output without rows never has anything queued.
        for _ in 0..10 * BATCHES {
            tokio::task::yield_now().await;
        }
        let mut values = Vec::new();
        for output in outputs {
            for batch in collect(output).await.unwrap() {
                values.extend_from_slice(batch.column(1).as_primitive::<Int64Type>().values());
            }
        }
        assert!(exchange.metrics().unwrap().spilled_bytes().unwrap() > MEMORY);
        assert_eq!(context.memory_pool().reserved(), 0);
        values.sort_unstable();
        assert_eq!(values, (0..BATCHES * ROWS).collect::<Vec<_>>());
    }
}
