//! Joins that tasks cannot run apart as planned.
//!
//! A join that collects its left side gives each task a copy of it. Joins that emit left rows by what *no* right row
//! matched must see all right rows in one place: each task alone would emit a left row that another task matched.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::error::Result;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::joins::{HashJoinExec, NestedLoopJoinExec, PartitionMode};

use crate::ops::{GatherExec, emits_unmatched_left};
use crate::stage::narrow::replace_children;

/// Divides both sides of such joins by key where they have one, and gathers the right side where they do not. Runs after
/// the join sides are chosen and before distribution is enforced.
#[derive(Debug, Default)]
pub struct MakeJoinsDistributable;

impl PhysicalOptimizerRule for MakeJoinsDistributable {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| {
            if let Some(join) = node.downcast_ref::<HashJoinExec>() {
                return hash_join(join, &node);
            }
            if let Some(join) = node.downcast_ref::<NestedLoopJoinExec>()
                && emits_unmatched_left(*join.join_type())
            {
                return gather_right(&node);
            }
            Ok(Transformed::no(node))
        })
        .data()
    }

    fn name(&self) -> &str {
        "make_joins_distributable"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn hash_join(
    join: &HashJoinExec,
    node: &Arc<dyn ExecutionPlan>,
) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
    let collected = *join.partition_mode() == PartitionMode::CollectLeft;
    if !collected || !emits_unmatched_left(*join.join_type()) {
        return Ok(Transformed::no(Arc::clone(node)));
    }
    if join.null_aware {
        // One NULL among all right rows decides over every left row.
        return gather_right(node);
    }
    let divided = join.builder().with_partition_mode(PartitionMode::Partitioned).recompute_properties();
    Ok(Transformed::yes(divided.build_exec()?))
}

fn gather_right(node: &Arc<dyn ExecutionPlan>) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
    let children = node.children();
    let (left, right) = (Arc::clone(children[0]), Arc::clone(children[1]));
    let gathered = Arc::new(GatherExec::new(right));
    Ok(Transformed::yes(replace_children(Arc::clone(node), vec![left, gathered])?))
}
