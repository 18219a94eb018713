//! Hash joins that go on in files when their table finds no room.
//!
//! A hash join holds its build side and a table of it in memory. What it reads for that is kept an eye on here, so that nothing is
//! lost when the executor has no memory left: rows of both sides are then divided by a hash of the keys into files, and joined
//! one pair of files after the other, each by a join that has a fraction of the rows to hold, and may divide them again.
//!
//! ```text
//!   build rows -> Feed -> HashJoinExec -> rows out            it fits: nothing is copied
//!                  | kept until the table is made
//!                  v no room
//!   build rows -> 16 files   \  pair by pair
//!   probe rows -> 16 files   /  -> a SpillingJoinExec of each, one deeper -> rows out
//! ```
//!
//! It stands in the place of a join in the plan of a task, which is where joins run: plans that are cut, sent and shown know
//! hash joins only.

mod divide;
mod feed;
mod spill;

use std::fmt;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::joins::{HashJoinExec, PartitionMode};
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::recursive_query::RecursiveQueryExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties,
};
use futures::{StreamExt, TryStreamExt};

use self::feed::{FedExec, Feeds, Side};
use self::spill::Spilling;
use super::{emits_unmatched_left, plan_boilerplate};

/// A hash join that divides its rows into files when its table finds no room.
#[derive(Debug)]
pub struct SpillingJoinExec {
    /// Over what it reads, as the plan has it.
    join: Arc<HashJoinExec>,
    /// The same join over the feeds of `feeds`.
    fed: Arc<HashJoinExec>,
    feeds: Arc<Feeds>,
    properties: Arc<PlanProperties>,
    spilled: ExecutionPlanMetricsSet,
    depth: usize,
}

/// The plan, with every hash join that can go on in files made to do so.
///
/// # Errors
/// When an operator does not accept its new inputs.
pub(crate) fn spill_joins(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let down = |node: Arc<dyn ExecutionPlan>| {
        // What is beneath runs many times, and its joins are reset each time.
        let go_on = if node.is::<RecursiveQueryExec>() {
            TreeNodeRecursion::Jump
        } else {
            TreeNodeRecursion::Continue
        };
        Ok(Transformed::new(node, false, go_on))
    };
    let up = |node: Arc<dyn ExecutionPlan>| match node.downcast_ref::<HashJoinExec>() {
        Some(join) if can_spill(join) => {
            let join = Arc::new(join.builder().build()?);
            let spilling = SpillingJoinExec::new(join, ExecutionPlanMetricsSet::new(), 0)?;
            Ok(Transformed::yes(Arc::new(spilling) as Arc<dyn ExecutionPlan>))
        }
        _ => Ok(Transformed::no(node)),
    };
    Ok(plan.transform_down_up(down, up)?.data)
}

/// Whether the join is the same over parts of its rows, in any order.
fn can_spill(join: &HashJoinExec) -> bool {
    let lanes = join.right().output_partitioning().partition_count();
    let is_divisible = match join.partition_mode() {
        PartitionMode::Partitioned => true,
        // Each lane joins its rows with all of the build side's: which of these have no match is between the lanes.
        PartitionMode::CollectLeft => lanes == 1 || !emits_unmatched_left(*join.join_type()),
        PartitionMode::Auto => false,
    };
    // One null among the rows of one part decides for all others too.
    is_divisible && !join.null_aware && join.properties().output_ordering().is_none() && keys_are_alike(join)
}

/// Whether equal keys have equal hashes, whichever side they are of.
fn keys_are_alike(join: &HashJoinExec) -> bool {
    let (build, probe) = (join.left().schema(), join.right().schema());
    join.on().iter().all(|(left, right)| {
        matches!((left.data_type(&build), right.data_type(&probe)), (Ok(left), Ok(right)) if left == right)
    })
}

impl SpillingJoinExec {
    /// `join`, whose rows have been divided `depth` times; what it spills is counted in `spilled`.
    fn new(join: Arc<HashJoinExec>, spilled: ExecutionPlanMetricsSet, depth: usize) -> Result<Self> {
        let feeds = Arc::new(Feeds::default());
        let fed = |side, input| Arc::new(FedExec::new(side, Arc::clone(input), Arc::clone(&feeds)));
        let inputs: [Arc<dyn ExecutionPlan>; 2] =
            [fed(Side::Build, join.left()), fed(Side::Probe, join.right())];
        let fed = Arc::new(join.builder().with_new_children(inputs.into())?.build()?);
        let properties = Arc::clone(join.properties());
        Ok(Self { join, fed, feeds, properties, spilled, depth })
    }
}

impl DisplayAs for SpillingJoinExec {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.join.fmt_as(t, f)
    }
}

impl ExecutionPlan for SpillingJoinExec {
    plan_boilerplate!(SpillingJoinExec, |spilling, children| {
        let join = spilling.join.builder().recompute_properties().with_new_children(children)?.build()?;
        Ok(Arc::new(Self::new(Arc::new(join), spilling.spilled.clone(), spilling.depth)?))
    });

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.join.children()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![false, false]
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let build_partition = match self.join.partition_mode() {
            PartitionMode::CollectLeft => 0,
            PartitionMode::Partitioned | PartitionMode::Auto => partition,
        };
        let build = || {
            let copy = MemoryConsumer::new(format!("HashJoinRows[{build_partition}]"));
            let rows = self.join.left().execute(build_partition, Arc::clone(&context))?;
            Ok((rows, copy.register(context.memory_pool())))
        };
        let probe = self.join.right().execute(partition, Arc::clone(&context))?;
        let feed = self.feeds.open(partition, probe, build_partition, build)?;
        let mut rows = self.fed.execute(partition, Arc::clone(&context))?;
        let spilling = Spilling {
            join: Arc::clone(&self.join),
            partition,
            depth: self.depth,
            context,
            spilled: self.spilled.clone(),
        };
        let rows = async move {
            match rows.next().await {
                Some(Err(full)) if feed.build.can_spill(&full) => {
                    // Its table goes, and others that wait for what it would tell of its keys do not wait any longer.
                    drop(rows);
                    spilling.run(&feed).await
                }
                first => Ok(futures::stream::iter(first).chain(rows).boxed()),
            }
        };
        let rows = futures::stream::once(rows).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        let mut metrics = self.join.metrics()?;
        self.spilled.clone_inner().iter().for_each(|metric| metrics.push(Arc::clone(metric)));
        Some(metrics)
    }

    fn fetch(&self) -> Option<usize> {
        self.join.fetch()
    }
}

#[cfg(test)]
mod tests;
