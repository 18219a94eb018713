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
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricBuilder, MetricsSet, Time};
use datafusion::physical_plan::repartition::BatchPartitioner;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning, PlanProperties,
};
use futures::{FutureExt, Stream, StreamExt};
use parking_lot::Mutex;

use super::compact::compact;
use super::gate::{Gate, Sent};
use super::plan_boilerplate;
use crate::run::Lanes;

/// Batches that a driver may run ahead of its only reader.
const PASS_DEPTH_MAX: usize = 2;

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
    started: Mutex<Option<Arc<Gate>>>,
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gate")
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
            started: Mutex::new(None),
        }
    }

    fn outputs(&self) -> usize {
        self.properties.output_partitioning().partition_count()
    }

    /// The queues; the first reader makes them and starts the drivers.
    fn gate(&self, context: &Arc<TaskContext>) -> Result<Arc<Gate>> {
        let mut started = self.started.lock();
        if let Some(gate) = started.as_ref() {
            return Ok(Arc::clone(gate));
        }
        let lanes = context
            .session_config()
            .get_extension::<Lanes>()
            .ok_or_else(|| DataFusionError::Internal("a local exchange ran outside a task".to_owned()))?;
        let inputs = self.input.output_partitioning().partition_count();
        let queued = MemoryConsumer::new("LocalExchange").register(context.memory_pool());
        let depth_max = match self.how {
            LocalExchange::Pass => PASS_DEPTH_MAX,
            LocalExchange::Gather | LocalExchange::Partition(_) => usize::MAX,
        };
        let gate = Arc::new(Gate::new(self.outputs(), inputs, depth_max, queued));
        for input in 0..inputs {
            let driver = self.driver(input, inputs, Arc::clone(&gate), Arc::clone(context))?;
            lanes.0.spawn(input % lanes.0.lanes().max(1), driver.boxed());
        }
        *started = Some(Arc::clone(&gate));
        Ok(gate)
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
        let guard = DriverGuard { gate: Arc::clone(&gate), ended: false };
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
    ended: bool,
}

impl DriverGuard {
    fn end(&mut self, fault: Option<DataFusionError>) {
        self.ended = true;
        self.gate.driver_ended(fault);
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
    gate: Arc<Gate>,
    output: usize,
    schema: SchemaRef,
}

impl Stream for Reader {
    type Item = Result<RecordBatch>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.gate.poll_receive(cx, self.output)
    }
}

impl RecordBatchStream for Reader {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.gate.close(self.output);
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
        let gate = self.gate(&context)?;
        Ok(Box::pin(Reader { gate, output: partition, schema: self.schema() }))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}
