//! Joining in files.

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::joins::{HashJoinExec, PartitionMode};
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, SpillMetrics};
use datafusion::physical_plan::spill::SpillManager;
use datafusion::physical_plan::{ExecutionPlan, SendableRecordBatchStream};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};

use super::SpillingJoinExec;
use super::divide::{Divider, Part, PartExec};
use super::feed::{Feed, Unjoined};
use crate::memory::Unrefused;
use crate::ops::is_empty_without;

/// A part that has this share of all rows, or more, is not made smaller by dividing it: its rows have one key.
const UNDIVIDED_PERCENT: usize = 90;

/// A part of so many bytes takes what memory it needs. Others may hold all there is until this one has joined its rows: to
/// divide it further would bring no end nearer, and ever smaller files.
const UNREFUSED_BYTES: usize = 4 << 20;

/// One partition of a join whose table found no room.
pub(super) struct Spilling {
    /// The join.
    pub join: Arc<HashJoinExec>,
    /// Which partition of it.
    pub partition: usize,
    /// How often its rows have been divided.
    pub depth: usize,
    /// Where it runs.
    pub context: Arc<TaskContext>,
    /// Counts what it writes.
    pub spilled: ExecutionPlanMetricsSet,
}

impl Spilling {
    /// Divides all rows into files, and joins these one after the other.
    pub(super) async fn run(self, feed: &Feed) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let (build_keys, probe_keys) = self.join.on().iter().cloned().unzip();
        let divided = feed.build.divided.get_or_try_init(|| async {
            let Unjoined { kept, unread, held } = feed.build.take()?;
            let mut divider = self.divider(build_keys, unread.schema());
            for batch in kept {
                divider.add(&batch)?;
                held.shrink(batch.get_array_memory_size());
            }
            divider.add_all(unread).await?;
            divider.finish()
        });
        let build = divided.await?.clone();
        let (needs_build_rows, _) = is_empty_without(*self.join.join_type());
        let probe = feed.take_probe();
        let mut divider = self.divider(probe_keys, probe.schema());
        divider.leave_out(|part| build[part].rows == 0 && needs_build_rows);
        divider.add_all(probe).await?;
        let probe = divider.finish()?;
        Ok(self.join_parts(build, probe))
    }

    fn divider(&self, keys: Vec<Arc<dyn PhysicalExpr>>, schema: SchemaRef) -> Divider {
        let spilled = SpillMetrics::new(&self.spilled, self.partition);
        let files = SpillManager::new(self.context.runtime_env(), spilled, schema);
        let gathered = MemoryConsumer::new(format!("HashJoinRows[{}]", self.partition));
        Divider::new(keys, self.depth, files, gathered.register(self.context.memory_pool()))
    }

    fn join_parts(self, build: Vec<Part>, probe: Vec<Part>) -> BoxStream<'static, Result<RecordBatch>> {
        let all: usize = build.iter().map(|part| part.bytes).sum();
        let limit = self.join.fetch().unwrap_or(usize::MAX);
        let pairs = futures::stream::iter(build.into_iter().zip(probe));
        let rows = pairs.map(move |(build, probe)| self.join_part(build, probe, all)).try_flatten();
        // Each pair has the limit of all.
        let limited = rows.scan(limit, |left, rows| {
            let rows = rows.map(|rows| rows.slice(0, rows.num_rows().min(*left)));
            let ended = *left == 0;
            *left -= rows.as_ref().map_or(0, RecordBatch::num_rows);
            std::future::ready((!ended).then_some(rows))
        });
        limited.boxed()
    }

    fn join_part(&self, build: Part, probe: Part, all: usize) -> Result<SendableRecordBatchStream> {
        let bytes = build.bytes;
        let inputs: Vec<Arc<dyn ExecutionPlan>> =
            vec![Arc::new(PartExec::new(build)), Arc::new(PartExec::new(probe))];
        let join = self.join.builder().with_partition_mode(PartitionMode::Partitioned);
        let join = Arc::new(join.recompute_properties().with_new_children(inputs)?.build()?);
        if bytes <= UNREFUSED_BYTES {
            return join.execute(0, refusing_nothing(&self.context));
        }
        let context = Arc::clone(&self.context);
        if bytes.saturating_mul(100) >= all.saturating_mul(UNDIVIDED_PERCENT) {
            return join.execute(0, context);
        }
        SpillingJoinExec::new(join, self.spilled.clone(), self.depth + 1)?.execute(0, context)
    }
}

/// What a join needs of its context, without refusals of memory.
fn refusing_nothing(context: &TaskContext) -> Arc<TaskContext> {
    let mut runtime = context.runtime_env().as_ref().clone();
    runtime.memory_pool = Arc::new(Unrefused(Arc::clone(context.memory_pool())));
    let config = context.session_config().clone();
    Arc::new(TaskContext::default().with_session_config(config).with_runtime(Arc::new(runtime)))
}
