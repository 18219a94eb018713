//! Series of numbers made divisible.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::error::Result;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;

use crate::ops::SeriesExec;

/// Puts [`SeriesExec`] in the place of DataFusion's generators of whole numbers, which have one partition and lose their
/// columns on the way to an executor. Runs first, so that all other rules see the partitions.
#[derive(Debug, Default)]
pub struct DivideSeries;

impl PhysicalOptimizerRule for DivideSeries {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| match SeriesExec::of(&node, config.execution.target_partitions)? {
            Some(series) => Ok(Transformed::yes(Arc::new(series) as Arc<dyn ExecutionPlan>)),
            None => Ok(Transformed::no(node)),
        })
        .data()
    }

    fn name(&self) -> &'static str {
        "divide_series"
    }

    fn schema_check(&self) -> bool {
        true
    }
}
