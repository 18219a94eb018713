//! Which inputs of a stage say nothing when another has no rows.

use std::sync::Arc;

use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::joins::HashJoinExec;
use firesteel_base::StageId;

use super::{Spares, read_beneath};
use crate::ops::{ShuffleReadExec, is_empty_without};

/// For each join of the plan, what an empty side of it spares.
pub(super) fn spares(plan: &Arc<dyn ExecutionPlan>) -> Vec<Spares> {
    let mut found = Vec::new();
    collect(plan, &mut found);
    found
}

fn collect(plan: &Arc<dyn ExecutionPlan>, found: &mut Vec<Spares>) {
    if let Some(join) = plan.downcast_ref::<HashJoinExec>() {
        let (by_left, by_right) = is_empty_without(*join.join_type());
        for (decides, side, other) in
            [(by_left, join.left(), join.right()), (by_right, join.right(), join.left())]
        {
            let spared = stages_read(other);
            if let Some(read) = read_beneath(side).filter(|_| decides && !spared.is_empty()) {
                found.push(Spares { empty: read.stage(), spared });
            }
        }
    }
    plan.children().into_iter().for_each(|child| collect(child, found));
}

/// The stages whose rows the plan reads.
fn stages_read(plan: &Arc<dyn ExecutionPlan>) -> Vec<StageId> {
    match plan.downcast_ref::<ShuffleReadExec>() {
        Some(read) => vec![read.stage()],
        None => plan.children().into_iter().flat_map(stages_read).collect(),
    }
}
