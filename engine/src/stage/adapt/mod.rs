//! What may be decided of a stage once it is known how much its inputs hold.
//!
//! A plan is made from estimates. When the stages that a stage reads have run, the driver knows the bytes of every partition,
//! and four things may be done about it without asking anybody else: read small partitions together, divide a skewed one
//! over several lanes by who wrote its rows or by their keys, do without the other side of a join whose one side has no rows, and send a small build side to
//! where the probe side's rows are made, so that these never travel. Which of them a stage's plan allows is found here,
//! when it is cut; the driver decides ([`Adapts`] is all that it sees); the rewriting of plans is here again.

mod absorb;
mod empty;
mod slices;

use std::sync::Arc;

use datafusion::physical_expr_common::physical_expr::is_volatile;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::joins::{HashJoinExec, PartitionMode};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::union::UnionExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use firesteel_base::StageId;

pub use absorb::absorb;
pub use slices::over_slices;

use crate::Output;
use crate::ops::{ReadKind, RuntimeFilterExec, ShuffleReadExec, emits_unmatched_left};

/// What the sizes of a stage's inputs may decide, and from which bytes on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Adapts {
    /// The inputs whose partitions are the stage's own: they may be read in other groups, the same for all of them.
    pub divided: Vec<StageId>,
    /// The one of them of which a partition may be divided further, while the others are read whole with each part.
    pub splits: Option<StageId>,
    /// Whether a partition may be divided by the keys of its rows, of all those inputs alike.
    pub by_key: bool,
    /// Inputs that need not be read when another has no rows.
    pub spares: Vec<Spares>,
    /// The join of two inputs that may run where the rows of one are made.
    pub broadcast: Option<Broadcast>,
    /// The inputs that may be read while some of it is still being written.
    pub pipelined: Vec<StageId>,
    /// From which sizes on.
    pub limits: AdaptLimits,
}

/// Inputs of which nothing comes into the result when `empty` has no rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spares {
    /// The input that may turn out to be empty.
    pub empty: StageId,
    /// What is then not read.
    pub spared: Vec<StageId>,
}

/// A join of two inputs that are divided by its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broadcast {
    /// The input that becomes the join's table.
    pub build: StageId,
    /// The input whose stage the join may become a part of.
    pub probe: StageId,
}

/// Sizes that decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdaptLimits {
    /// Neighbouring partitions are read together up to so many bytes. 0: never.
    pub merge_below: u64,
    /// A stage of more lanes than this reads more of them together than `merge_below` says, as long as so many are left. Of use
    /// where `merge_below` is not 0.
    pub merge_beyond: u64,
    /// A partition of more bytes, and several times those of others, is read by several lanes. 0: never.
    pub split_above: u64,
    /// The most lanes that a partition is divided over by key: each of them reads all of it. 0: never.
    pub key_parts_max: u32,
    /// A build side of at most so many bytes is sent whole to every task. 0: never.
    pub broadcast_below: u64,
    /// Whether an empty side ends a join early.
    pub spare_inputs: bool,
    /// An exchange of at least so many bytes for each task that reads it may be read while it is written. 0: never.
    pub pipeline_above: u64,
    /// Whether tasks that take much longer than others are run a second time beside the first.
    pub speculate: bool,
}

impl AdaptLimits {
    /// Everything runs as planned.
    pub const NEVER: Self = Self {
        merge_below: 0,
        merge_beyond: u64::MAX,
        split_above: 0,
        key_parts_max: 0,
        broadcast_below: 0,
        spare_inputs: false,
        pipeline_above: 0,
        speculate: false,
    };
}

impl Default for AdaptLimits {
    fn default() -> Self {
        Self::NEVER
    }
}

impl Adapts {
    /// What may be decided of a stage with that plan and output; `stages` are those before it.
    #[must_use]
    pub fn of(
        plan: &Arc<dyn ExecutionPlan>,
        output: &Output,
        stages: &[crate::Stage],
        limits: AdaptLimits,
    ) -> Self {
        let pipelined = if limits.pipeline_above > 0 { pipelined(plan, stages) } else { Vec::new() };
        if (AdaptLimits { pipeline_above: 0, speculate: false, ..limits }) == AdaptLimits::NEVER {
            return Self { pipelined, limits, ..Self::default() };
        }
        let partitions = plan.output_partitioning().partition_count();
        let mut divided = Vec::new();
        if partitions < 2 || !collect_divided(plan, partitions, &mut divided) {
            divided.clear();
        }
        // Whoever merges the lanes of this stage counts on no more of them than were planned.
        let may_grow = !matches!(output, Output::Merge { .. });
        let splits =
            may_grow.then(|| divisible_input(plan)).flatten().filter(|input| divided.contains(input));
        Self {
            splits,
            by_key: may_grow && are_divided_by_key(&divided, partitions, stages),
            spares: if limits.spare_inputs { empty::spares(plan) } else { Vec::new() },
            broadcast: absorb::candidate(plan, &divided, may_grow, stages),
            divided,
            pipelined,
            limits,
        }
    }

    /// True when nothing can be decided of it while it waits.
    #[must_use]
    pub fn is_fixed(&self) -> bool {
        self.divided.is_empty() && self.spares.is_empty() && self.broadcast.is_none()
    }

    /// The same with every stage renamed.
    #[must_use]
    pub fn renamed(&self, name: impl Fn(StageId) -> StageId) -> Self {
        let all = |stages: &[StageId]| stages.iter().map(|stage| name(*stage)).collect();
        Self {
            divided: all(&self.divided),
            splits: self.splits.map(&name),
            by_key: self.by_key,
            spares: self
                .spares
                .iter()
                .map(|spares| Spares { empty: name(spares.empty), spared: all(&spares.spared) })
                .collect(),
            broadcast: self
                .broadcast
                .map(|broadcast| Broadcast { build: name(broadcast.build), probe: name(broadcast.probe) }),
            pipelined: all(&self.pipelined),
            limits: self.limits,
        }
    }
}

/// The exchanges whose partitions are those of `plan`; false when a partition of it is made of something else too.
fn collect_divided(plan: &Arc<dyn ExecutionPlan>, partitions: usize, divided: &mut Vec<StageId>) -> bool {
    if let Some(read) = plan.downcast_ref::<ShuffleReadExec>() {
        divided.push(read.stage());
        return *read.kind() == ReadKind::Partition;
    }
    if plan.is::<UnionExec>() || plan.children().is_empty() {
        return false;
    }
    plan.children().into_iter().all(|child| match child.output_partitioning().partition_count() {
        1 => true,
        same if same == partitions => collect_divided(child, partitions, divided),
        _ => false,
    })
}

/// Whether a partition of each of these exchanges is made of the rows of some keys, and a lane can tell which. Then it may be made
/// of fewer keys as well, whatever the stage's plan does with it: the exchanges are as if they had been planned with more
/// partitions, and rows of one key, of all of them, are still in one.
fn are_divided_by_key(divided: &[StageId], partitions: usize, stages: &[crate::Stage]) -> bool {
    let is_by_key = |input: &StageId| {
        let stage = stages.iter().find(|stage| stage.id == *input);
        stage.is_some_and(|stage| match &stage.output {
            // What is made anew each time, such as a random number, cannot be told a second time.
            Output::Hash { exprs, partitions: count } => {
                *count == partitions && !exprs.is_empty() && !exprs.iter().any(is_volatile)
            }
            Output::Range(_)
            | Output::RoundRobin { .. }
            | Output::Single
            | Output::Broadcast
            | Output::Merge { .. }
            | Output::SampledRange { .. }
            | Output::Result => false,
        })
    };
    !divided.is_empty() && divided.iter().all(is_by_key)
}

/// The inputs of which each task reads a part, in whatever order it comes. What every task reads whole, or must see all lanes
/// of before its first row, is waited for.
fn pipelined(plan: &Arc<dyn ExecutionPlan>, stages: &[crate::Stage]) -> Vec<StageId> {
    if let Some(read) = plan.downcast_ref::<ShuffleReadExec>() {
        let is_divided = stages.iter().find(|stage| stage.id == read.stage()).is_some_and(|stage| {
            matches!(
                stage.output,
                Output::Hash { .. } | Output::Range(_) | Output::RoundRobin { .. } | Output::Single
            )
        });
        return if is_divided { vec![read.stage()] } else { Vec::new() };
    }
    let mut inputs: Vec<_> = plan.children().into_iter().flat_map(|child| pipelined(child, stages)).collect();
    inputs.sort_unstable();
    inputs.dedup();
    inputs
}

/// The exchange of which a partition's rows may go to several lanes: nothing between them and the stage's output needs
/// to see all rows of a partition.
fn divisible_input(plan: &Arc<dyn ExecutionPlan>) -> Option<StageId> {
    if let Some(read) = plan.downcast_ref::<ShuffleReadExec>() {
        return (*read.kind() == ReadKind::Partition).then(|| read.stage());
    }
    if let Some(join) = plan.downcast_ref::<HashJoinExec>() {
        let by_row = !emits_unmatched_left(*join.join_type()) && !join.null_aware;
        return by_row.then(|| divisible_input(join.right())).flatten();
    }
    if let Some(aggregate) = plan.downcast_ref::<AggregateExec>()
        && *aggregate.mode() == AggregateMode::Partial
    {
        return divisible_input(aggregate.input());
    }
    row_by_row(plan).and_then(divisible_input)
}

/// The input of an operator that makes its rows of single rows of that input, in whatever order they come.
pub(super) fn row_by_row(plan: &Arc<dyn ExecutionPlan>) -> Option<&Arc<dyn ExecutionPlan>> {
    let is_known = plan.is::<FilterExec>()
        || plan.is::<ProjectionExec>()
        || plan.is::<CooperativeExec>()
        || plan.is::<RuntimeFilterExec>();
    let has_fetch = plan.fetch().is_some();
    (is_known && !has_fetch).then(|| plan.children().swap_remove(0))
}

/// The read at the end of operators that make rows of single rows.
fn read_beneath(plan: &Arc<dyn ExecutionPlan>) -> Option<&ShuffleReadExec> {
    plan.downcast_ref::<ShuffleReadExec>().or_else(|| row_by_row(plan).and_then(read_beneath))
}

fn is_partitioned(join: &HashJoinExec) -> bool {
    *join.partition_mode() == PartitionMode::Partitioned
}
