//! A join as a part of the stage that makes its probe side's rows.
//!
//! As planned, both sides are divided by key and meet in a stage of their own. When the build side turns out to be small and
//! the probe side's stage has not begun, it is cheaper to give every task of that stage the whole build side: the rows of
//! the probe side are joined where they are made.

use std::sync::Arc;

use datafusion::common::internal_err;
use datafusion::error::Result;
use datafusion::physical_plan::joins::{HashJoinExec, PartitionMode};
use datafusion::physical_plan::{Distribution, ExecutionPlan, ExecutionPlanProperties, Partitioning};
use firesteel_base::StageId;

use super::{Adapts, Broadcast, is_partitioned, read_beneath};
use crate::Stage;
use crate::ops::{ReadKind, ShuffleReadExec, emits_unmatched_left};
use crate::stage::cut::inputs_of;
use crate::stage::narrow::replace_children;

/// The join of the stage's two inputs, when the stage could become a part of that which makes its probe side.
pub(super) fn candidate(
    plan: &Arc<dyn ExecutionPlan>,
    divided: &[StageId],
    may_grow: bool,
    stages: &[Stage],
) -> Option<Broadcast> {
    let join = join_beneath(plan)?;
    let by_row = !emits_unmatched_left(*join.join_type()) && !join.null_aware;
    let (build, probe) = (read_beneath(join.left())?.stage(), read_beneath(join.right())?.stage());
    let [one, other] = divided else { return None };
    let alone = (*one, *other) == (build, probe) || (*one, *other) == (probe, build);
    let producer = stages.iter().find(|stage| stage.id == probe)?;
    let partitions = plan.output_partitioning().partition_count();
    let lanes_fit = may_grow || producer.partitions <= partitions;
    (by_row && alone && lanes_fit && producer.tells.is_empty()).then_some(Broadcast { build, probe })
}

/// The partitioned join at the end of operators that do not mind how its rows are divided.
fn join_beneath(plan: &Arc<dyn ExecutionPlan>) -> Option<&HashJoinExec> {
    if let Some(join) = plan.downcast_ref::<HashJoinExec>() {
        return is_partitioned(join).then_some(join);
    }
    let [input] = plan.children()[..] else { return None };
    let minds = !matches!(
        plan.input_distribution_requirements().child_distribution(0),
        Some(Distribution::UnspecifiedDistribution)
    );
    (!minds).then(|| join_beneath(input)).flatten()
}

/// `stage` as a part of `probe`, the stage that makes the rows of its join's probe side: it reads the build side whole, and
/// has the partitions of `probe`.
///
/// # Errors
/// When `stage` is no such join.
pub fn absorb(stage: &Stage, probe: &Stage) -> Result<Stage> {
    let Some(broadcast) = stage.adapts.broadcast.filter(|broadcast| broadcast.probe == probe.id) else {
        return internal_err!("{} is no join that could be a part of {}", stage.id, probe.id);
    };
    let plan = rebuild(&stage.plan, broadcast, &probe.plan)?;
    let partitions = plan.output_partitioning().partition_count();
    if partitions != probe.partitions {
        return internal_err!("{} as a part of {} has {partitions} partitions", stage.id, probe.id);
    }
    let (inputs, told_by) = inputs_of(&plan);
    Ok(Stage { plan, partitions, inputs, told_by, adapts: Adapts::default(), encoded: None, ..stage.clone() })
}

fn rebuild(
    plan: &Arc<dyn ExecutionPlan>,
    broadcast: Broadcast,
    probe: &Arc<dyn ExecutionPlan>,
) -> Result<Arc<dyn ExecutionPlan>> {
    if let Some(read) = plan.downcast_ref::<ShuffleReadExec>() {
        return match read.stage() {
            stage if stage == broadcast.probe => Ok(Arc::clone(probe)),
            stage if stage == broadcast.build => Ok(Arc::new(read_whole(read)?)),
            _ => Ok(Arc::clone(plan)),
        };
    }
    let children = plan.children().into_iter().map(|child| rebuild(child, broadcast, probe));
    let children = children.collect::<Result<Vec<_>>>()?;
    let node = match plan.downcast_ref::<HashJoinExec>().filter(|join| is_partitioned(join)) {
        Some(join) => join
            .builder()
            .with_partition_mode(PartitionMode::CollectLeft)
            .recompute_properties()
            .build_exec()?,
        None => Arc::clone(plan),
    };
    replace_children(node, children)
}

/// The read of all partitions at once.
fn read_whole(read: &ShuffleReadExec) -> Result<ShuffleReadExec> {
    let kind = ReadKind::All { partitions: read.partitioning().partition_count() };
    let single = Partitioning::UnknownPartitioning(1);
    ShuffleReadExec::try_new(read.stage(), kind, read.schema(), single, None, read.same().to_vec())
}
