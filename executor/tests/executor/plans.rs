//! Stages to run.

use std::fmt;
use std::sync::Arc;

use firesteel_base::StageId;
use firesteel_engine::datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use firesteel_engine::datafusion::arrow::record_batch::RecordBatch;
use firesteel_engine::datafusion::error::Result;
use firesteel_engine::datafusion::execution::{SendableRecordBatchStream, TaskContext};
use firesteel_engine::datafusion::physical_plan::ExecutionPlan;
use firesteel_engine::datafusion::physical_plan::ExecutionPlanProperties;
use firesteel_engine::datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use firesteel_engine::datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use firesteel_engine::datafusion::prelude::{SessionConfig, SessionContext};
use firesteel_engine::stage::adapt::Adapts;
use firesteel_engine::{Output, Stage};
use futures::Stream;

/// A result stage that computes `plan`.
pub fn stage(plan: Arc<dyn ExecutionPlan>) -> Stage {
    Stage {
        id: StageId(0),
        partitions: plan.output_partitioning().partition_count(),
        plan,
        output: Output::Result,
        tells: Vec::new(),
        inputs: Vec::new(),
        told_by: Vec::new(),
        estimated_bytes: 0,
        encoded: None,
        adapts: Adapts::default(),
    }
}

/// A result stage that computes `query`, in one partition where that is up to the planner.
pub async fn sql(query: &str) -> Stage {
    let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1));
    stage(context.sql(query).await.unwrap().create_physical_plan().await.unwrap())
}

/// Three rows.
pub async fn three_rows() -> Stage {
    sql("select * from (values (1), (2), (3)) as t(a)").await
}

/// A result stage of `partitions` partitions that never give a row and never end.
pub fn endless(partitions: usize) -> Stage {
    streaming(partitions, futures::stream::pending)
}

/// A result stage whose only partition panics with `boom` when it is polled.
pub fn panicking() -> Stage {
    streaming(1, || futures::stream::poll_fn(|_| panic!("boom")))
}

fn streaming<S>(partitions: usize, make: fn() -> S) -> Stage
where
    S: Stream<Item = Result<RecordBatch>> + Send + 'static,
{
    let schema = Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, true)]));
    let partition = || Arc::new(Made { schema: Arc::clone(&schema), make }) as Arc<dyn PartitionStream>;
    let partitions = (0..partitions).map(|_| partition()).collect();
    let plan = StreamingTableExec::try_new(Arc::clone(&schema), partitions, None, [], false, None);
    stage(Arc::new(plan.unwrap()))
}

struct Made<S> {
    schema: SchemaRef,
    make: fn() -> S,
}

impl<S> fmt::Debug for Made<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Made")
    }
}

impl<S> PartitionStream for Made<S>
where
    S: Stream<Item = Result<RecordBatch>> + Send + 'static,
{
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), (self.make)()))
    }
}
