//! A stage's plan over partitions in other groups than planned.

use std::sync::Arc;

use datafusion::common::{exec_err, internal_err};
use datafusion::error::Result;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use firesteel_shuffle::Slice;

use crate::ops::{ReadKind, ShuffleReadExec};
use crate::stage::narrow::replace_children;

/// The plan with one partition for each of `slices`, which reads those of the exchanges that the plan is divided as.
///
/// # Errors
/// When the exchanges have no such partitions, or the plan is not divided as they are.
pub fn over_slices(plan: Arc<dyn ExecutionPlan>, slices: &[Slice]) -> Result<Arc<dyn ExecutionPlan>> {
    let partitions = plan.output_partitioning().partition_count();
    for slice in slices {
        if slice.partitions.is_empty() || slice.partitions.end as usize > partitions {
            return exec_err!("a task was told to read partitions {slice} of {partitions}");
        }
    }
    let sliced = rebuild(plan, partitions, slices)?;
    match sliced.output_partitioning().partition_count() {
        count if count == slices.len() => Ok(sliced),
        other => internal_err!("{} slices made {other} partitions", slices.len()),
    }
}

fn rebuild(
    plan: Arc<dyn ExecutionPlan>,
    partitions: usize,
    slices: &[Slice],
) -> Result<Arc<dyn ExecutionPlan>> {
    if let Some(read) = plan.downcast_ref::<ShuffleReadExec>()
        && *read.kind() == ReadKind::Partition
    {
        return Ok(Arc::new(read.with_slices(slices.into())?));
    }
    if plan.children().is_empty() {
        return internal_err!("{} is not divided as the exchanges that its stage reads", plan.name());
    }
    let children =
        plan.children().into_iter().map(|child| match child.output_partitioning().partition_count() {
            // A build side, or another input that each lane reads whole.
            1 => Ok(Arc::clone(child)),
            same if same == partitions => rebuild(Arc::clone(child), partitions, slices),
            other => internal_err!("{} has {partitions} partitions over an input of {other}", plan.name()),
        });
    let children = children.collect::<Result<Vec<_>>>()?;
    replace_children(plan, children)
}
