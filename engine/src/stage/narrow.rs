//! Narrowing: from a stage's plan to the plan of one of its tasks.
//!
//! A task drives some partitions of a stage. DataFusion's operators share state among *all* partitions of a plan object:
//! a build table waits for every probe partition to report, a filter for every build side. So a task gets a plan that
//! has its own partitions only, and within it everything is complete.

use std::sync::Arc;

use datafusion::common::internal_err;
use datafusion::error::Result;
use datafusion::physical_plan::union::UnionExec;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, ExecutionPlan, ExecutionPlanProperties, ReplaceChildrenOptions,
};

use crate::ops::PartitionSubsetExec;

/// The plan that computes partitions `first .. first + count` of `plan`, numbered from 0.
///
/// # Errors
/// When `plan` has not these partitions, or an operator whose partitions cannot be told apart.
pub fn narrow(plan: Arc<dyn ExecutionPlan>, first: usize, count: usize) -> Result<Arc<dyn ExecutionPlan>> {
    let partitions = plan.output_partitioning().partition_count();
    if count == 0 || first + count > partitions {
        return internal_err!("a task asked for partitions {first}..{} of {partitions}", first + count);
    }
    if count == partitions {
        return Ok(plan);
    }
    if plan.children().is_empty() {
        return Ok(Arc::new(PartitionSubsetExec::new(plan, first, count)));
    }
    if plan.is::<UnionExec>() {
        return narrow_union(&plan, first, count);
    }
    let children = plan.children().into_iter().map(|child| {
        match child.output_partitioning().partition_count() {
            // A build side, or another input that each task reads whole.
            1 => Ok(Arc::clone(child)),
            same if same == partitions => narrow(Arc::clone(child), first, count),
            other => internal_err!(
                "{} has {partitions} partitions over an input of {other}: a task cannot run some of them",
                plan.name()
            ),
        }
    });
    let children = children.collect::<Result<Vec<_>>>()?;
    replace_children(plan, children)
}

/// A union's partitions are those of its inputs, one after the other: inputs that the task has no partition of go.
fn narrow_union(plan: &Arc<dyn ExecutionPlan>, first: usize, count: usize) -> Result<Arc<dyn ExecutionPlan>> {
    let mut inputs = Vec::new();
    let mut before = 0;
    for child in plan.children() {
        let partitions = child.output_partitioning().partition_count();
        let start = first.max(before);
        let end = (first + count).min(before + partitions);
        if start < end {
            inputs.push(narrow(Arc::clone(child), start - before, end - start)?);
        }
        before += partitions;
    }
    UnionExec::try_new(inputs)
}

/// `plan` over other children.
pub(crate) fn replace_children(
    plan: Arc<dyn ExecutionPlan>,
    children: Vec<Arc<dyn ExecutionPlan>>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let unchanged = plan.children().iter().zip(&children).all(|(old, new)| Arc::ptr_eq(old, new));
    if unchanged {
        return Ok(plan);
    }
    plan.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
}
