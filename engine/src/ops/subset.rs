//! A leaf with only some of its partitions.

use std::fmt;
use std::sync::Arc;

use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning, PlanProperties,
};

use super::plan_boilerplate;

/// Consecutive partitions of a leaf, numbered from 0: what narrowing a plan to a task puts over its leaves.
#[derive(Debug)]
pub struct PartitionSubsetExec {
    input: Arc<dyn ExecutionPlan>,
    first: usize,
    properties: Arc<PlanProperties>,
}

impl PartitionSubsetExec {
    /// Partitions `first .. first + count` of `input`.
    #[must_use]
    pub fn new(input: Arc<dyn ExecutionPlan>, first: usize, count: usize) -> Self {
        let partitioning = match input.output_partitioning() {
            // Within the task, rows of equal keys still meet in one of these partitions.
            Partitioning::Hash(exprs, _) => Partitioning::Hash(exprs.clone(), count),
            _ => Partitioning::UnknownPartitioning(count),
        };
        let properties = input.properties().as_ref().clone().with_partitioning(partitioning);
        Self { input, first, properties: Arc::new(properties) }
    }
}

impl DisplayAs for PartitionSubsetExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.properties.output_partitioning().partition_count();
        write!(f, "PartitionSubsetExec: partitions={}..{}", self.first, self.first + count)
    }
}

impl ExecutionPlan for PartitionSubsetExec {
    plan_boilerplate!(PartitionSubsetExec, |subset, mut children| Ok(Arc::new(Self::new(
        children.swap_remove(0),
        subset.first,
        subset.properties.output_partitioning().partition_count(),
    ))));

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        self.input.execute(self.first + partition, context)
    }

    fn metrics(&self) -> Option<MetricsSet> {
        None
    }
}
