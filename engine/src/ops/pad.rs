//! More partitions than there are rows for.

use std::fmt;
use std::sync::Arc;

use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, EmptyRecordBatchStream, ExecutionPlan, ExecutionPlanProperties,
    Partitioning, PlanProperties,
};

use super::plan_boilerplate;

/// Its input's partitions, and empty ones after them. A task gets a core for each partition of its plan: one whose result
/// is a single partition gets all cores of its executor by this, for the exchanges beneath.
#[derive(Debug)]
pub struct PadExec {
    input: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
}

impl PadExec {
    /// `input` with empty partitions up to `partitions`.
    #[must_use]
    pub fn new(input: Arc<dyn ExecutionPlan>, partitions: usize) -> Self {
        let partitioning = Partitioning::UnknownPartitioning(partitions);
        let properties = input.properties().as_ref().clone().with_partitioning(partitioning);
        Self { input, properties: Arc::new(properties) }
    }
}

impl DisplayAs for PadExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PadExec: partitions={}", self.properties.output_partitioning().partition_count())
    }
}

impl ExecutionPlan for PadExec {
    plan_boilerplate!(PadExec, |pad, mut children| Ok(Arc::new(Self::new(
        children.swap_remove(0),
        pad.properties.output_partitioning().partition_count(),
    ))));

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        if partition < self.input.output_partitioning().partition_count() {
            self.input.execute(partition, context)
        } else {
            Ok(Box::pin(EmptyRecordBatchStream::new(self.schema())))
        }
    }
}
