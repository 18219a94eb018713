//! The stage cut: where rows must cross executors, the plan is cut into a stage that writes and a stage that reads.

mod joins;

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::common::internal_err;
use datafusion::error::Result;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::limit::{GlobalLimitExec, LocalLimitExec};
use datafusion::physical_plan::recursive_query::RecursiveQueryExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, Partitioning};
use firesteel_base::StageId;

pub use joins::MakeJoinsDistributable;

use super::adapt::{AdaptLimits, Adapts, row_by_row};
use super::narrow::replace_children;
use crate::ops::{
    ReadKind, RuntimeFilterExec, SameValue, ShuffleReadExec, TellKeysExec, Teller, ToldFilter, can_be_divided,
};
use crate::{Output, Place, Stage, StageGraph};

/// How a plan is cut.
#[derive(Debug, Clone, Copy)]
pub struct CutOptions {
    /// What sizes may decide of its stages.
    pub adapts: AdaptLimits,
    /// The ranges that the rows of a sort are merged in; with one, a single task merges all.
    pub ranges: usize,
}

/// Cuts `plan` into stages.
///
/// # Errors
/// When an operator does not accept its new inputs.
pub fn cut(plan: Arc<dyn ExecutionPlan>, options: CutOptions) -> Result<StageGraph> {
    let CutOptions { adapts, ranges } = options;
    let last_merge = last_merge(&plan).filter(|_| ranges > 1).cloned();
    let mut cutter = Cutter { adapts, ranges, last_merge, ..Cutter::default() };
    let plan = cutter.cut(plan)?;
    cutter.end_stage(plan, Output::Result);
    let stages = cutter.stages.into_iter().map(Arc::new).collect();
    Ok(StageGraph { stages, place: Place::Cluster })
}

#[derive(Default)]
struct Cutter {
    stages: Vec<Stage>,
    /// The stages that tell the keys of a join, by its runtime filter.
    tellers: BTreeMap<u64, StageId>,
    adapts: AdaptLimits,
    ranges: usize,
    /// The merge of sorted rows whose order is that of the result.
    last_merge: Option<Arc<dyn ExecutionPlan>>,
}

impl Cutter {
    /// `plan` with every exchange in it replaced by a read of the stage that ends there.
    fn cut(&mut self, plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
        if plan.is::<RecursiveQueryExec>() {
            // Its rounds run within one task; DataFusion's own exchanges serve inside.
            return Ok(plan);
        }
        let is_last_merge = self.last_merge.as_ref().is_some_and(|last| Arc::ptr_eq(last, &plan));
        let children = plan.children().into_iter().map(|child| self.cut(Arc::clone(child)));
        let plan = replace_children(Arc::clone(&plan), children.collect::<Result<Vec<_>>>()?)?;
        if let Some(repartition) = plan.downcast_ref::<RepartitionExec>() {
            return self.repartition(repartition);
        }
        if let Some(coalesce) = plan.downcast_ref::<CoalescePartitionsExec>() {
            return self.gather(&plan, coalesce.input());
        }
        if let Some(merge) = plan.downcast_ref::<SortPreservingMergeExec>() {
            if is_last_merge && comes_in_divisible_order(merge)? {
                return self.merge_ranges(merge);
            }
            return self.merge(&plan, merge.input());
        }
        if let Some(filter) = plan.downcast_ref::<RuntimeFilterExec>() {
            return Ok(Arc::new(filter.with_told(self.told(filter))));
        }
        Ok(plan)
    }

    /// The filters of which it is known which stage tells the keys. The build side of a join is cut before its other side.
    fn told(&self, filter: &RuntimeFilterExec) -> Vec<ToldFilter> {
        let told = filter.told().iter().filter_map(|told| {
            let teller = match told.teller {
                Teller::Join(join) => Teller::Stage(*self.tellers.get(&join)?),
                stage @ Teller::Stage(_) => stage,
            };
            Some(ToldFilter { teller, ..*told })
        });
        told.collect()
    }

    fn repartition(&mut self, repartition: &RepartitionExec) -> Result<Arc<dyn ExecutionPlan>> {
        let partitioning = repartition.partitioning().clone();
        let output = match &partitioning {
            Partitioning::Hash(exprs, partitions) => {
                Output::Hash { exprs: exprs.clone(), partitions: *partitions }
            }
            Partitioning::RoundRobinBatch(partitions) => Output::RoundRobin { partitions: *partitions },
            Partitioning::Range(_) => Output::Range(partitioning.clone()),
            Partitioning::UnknownPartitioning(_) => {
                return internal_err!("a repartition says not how it divides its rows");
            }
        };
        let schema = repartition.schema();
        let same = SameValue::of(repartition.input());
        let stage = self.end_stage(Arc::clone(repartition.input()), output);
        let read = ShuffleReadExec::try_new(stage, ReadKind::Partition, schema, partitioning, None, same)?;
        let read: Arc<dyn ExecutionPlan> = Arc::new(read);
        match repartition.input().output_ordering() {
            // Rows of several lanes arrive mixed: what relied on their order gets it back by sorting.
            Some(ordering) if repartition.preserve_order() => {
                Ok(Arc::new(SortExec::new(ordering.clone(), read).with_preserve_partitioning(true)))
            }
            _ => Ok(read),
        }
    }

    fn gather(
        &mut self,
        plan: &Arc<dyn ExecutionPlan>,
        input: &Arc<dyn ExecutionPlan>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if input.output_partitioning().partition_count() == 1 && !input.is::<TellKeysExec>() {
            return Ok(Arc::clone(plan));
        }
        let producer: Arc<dyn ExecutionPlan> = match plan.fetch() {
            Some(rows) => Arc::new(LocalLimitExec::new(Arc::clone(input), rows)),
            None => Arc::clone(input),
        };
        let schema = producer.schema();
        let same = SameValue::of(&producer);
        let stage = self.end_stage(producer, Output::Single);
        let single = Partitioning::UnknownPartitioning(1);
        let read: Arc<dyn ExecutionPlan> = Arc::new(ShuffleReadExec::try_new(
            stage,
            ReadKind::All { partitions: 1 },
            schema,
            single,
            None,
            same,
        )?);
        Ok(match plan.fetch() {
            Some(rows) => Arc::new(GlobalLimitExec::new(read, 0, Some(rows))),
            None => read,
        })
    }

    fn merge(
        &mut self,
        plan: &Arc<dyn ExecutionPlan>,
        input: &Arc<dyn ExecutionPlan>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let lanes = input.output_partitioning().partition_count();
        let Some(ordering) = input.output_ordering().cloned().filter(|_| lanes > 1) else {
            return Ok(Arc::clone(plan));
        };
        let schema = input.schema();
        let same = SameValue::of(input);
        let stage = self.end_stage(Arc::clone(input), Output::Merge { ordering: ordering.clone() });
        let lanes = Partitioning::UnknownPartitioning(lanes);
        let read = ShuffleReadExec::try_new(stage, ReadKind::Lane, schema, lanes, Some(ordering), same)?;
        replace_children(Arc::clone(plan), vec![Arc::new(read)])
    }

    /// The rows of a merge in as many partitions as other stages have, whose rows are in order one partition after the other.
    fn merge_ranges(&mut self, merge: &SortPreservingMergeExec) -> Result<Arc<dyn ExecutionPlan>> {
        let (input, ordering) = (merge.input(), merge.expr().clone());
        let (schema, same) = (input.schema(), SameValue::of(input));
        let stage = self.end_stage(Arc::clone(input), Output::SampledRange { ordering: ordering.clone() });
        let ranges = Partitioning::UnknownPartitioning(self.ranges);
        let kind = ReadKind::Range(ordering.clone());
        let read = ShuffleReadExec::try_new(stage, kind, schema, ranges, Some(ordering), same)?;
        Ok(Arc::new(read))
    }

    /// Ends a stage with `plan` as its root; its number.
    fn end_stage(&mut self, plan: Arc<dyn ExecutionPlan>, output: Output) -> StageId {
        let id = StageId(u32::try_from(self.stages.len()).expect("a plan has fewer than 2^32 exchanges"));
        let (plan, tells) = match plan.downcast_ref::<TellKeysExec>() {
            Some(tell) => {
                self.tellers.insert(tell.join(), id);
                (Arc::clone(tell.input()), tell.columns().to_vec())
            }
            None => (plan, Vec::new()),
        };
        let partitions = plan.output_partitioning().partition_count();
        let (inputs, told_by) = inputs_of(&plan);
        if partitions > 1 {
            self.mark_broadcasts(&plan);
        }
        let adapts = Adapts::of(&plan, &output, &self.stages, self.adapts);
        let estimated_bytes = estimated_bytes(&plan);
        self.stages.push(Stage {
            id,
            plan,
            partitions,
            output,
            tells,
            inputs,
            told_by,
            adapts,
            estimated_bytes,
            encoded: None,
        });
        id
    }

    /// What is gathered into a stage of several tasks is read by each of them.
    fn mark_broadcasts(&mut self, plan: &Arc<dyn ExecutionPlan>) {
        if let Some(read) = plan.downcast_ref::<ShuffleReadExec>()
            && matches!(read.kind(), ReadKind::All { .. })
        {
            self.stages[read.stage().0 as usize].output = Output::Broadcast;
        }
        plan.children().into_iter().for_each(|child| self.mark_broadcasts(child));
    }
}

/// The merge of several sorted partitions, with nothing above it but operators that make their rows of single rows, in the order of
/// these: the driver, which reads partition by partition, needs no merge in one task.
fn last_merge(plan: &Arc<dyn ExecutionPlan>) -> Option<&Arc<dyn ExecutionPlan>> {
    match plan.downcast_ref::<SortPreservingMergeExec>() {
        Some(merge) => {
            let is_parallel = merge.input().output_partitioning().partition_count() > 1;
            (is_parallel && merge.fetch().is_none() && !merge.input().is::<TellKeysExec>()).then_some(plan)
        }
        None => row_by_row(plan).and_then(last_merge),
    }
}

/// Whether the rows of each partition are known to come in the order of the merge, now that it is cut off from those who made them, and
/// ranges can be made of it.
fn comes_in_divisible_order(merge: &SortPreservingMergeExec) -> Result<bool> {
    let ordering = merge.expr();
    let is_known = merge.input().equivalence_properties().ordering_satisfy(ordering.clone())?;
    Ok(is_known && can_be_divided(ordering, &merge.schema()))
}

/// The stages that `plan` reads, and those of them of which it reads not rows, but the keys that they tell; ascending.
pub(super) fn inputs_of(plan: &Arc<dyn ExecutionPlan>) -> (Vec<StageId>, Vec<StageId>) {
    let (mut inputs, mut told_by) = (Vec::new(), Vec::new());
    collect_inputs(plan, &mut inputs, &mut told_by);
    told_by.retain(|stage| !inputs.contains(stage));
    inputs.extend_from_slice(&told_by);
    for stages in [&mut inputs, &mut told_by] {
        stages.sort_unstable();
        stages.dedup();
    }
    (inputs, told_by)
}

/// The stages whose rows `plan` reads, and those whose keys it is told.
fn collect_inputs(plan: &Arc<dyn ExecutionPlan>, rows_of: &mut Vec<StageId>, told_by: &mut Vec<StageId>) {
    if let Some(read) = plan.downcast_ref::<ShuffleReadExec>() {
        rows_of.push(read.stage());
    }
    if let Some(filter) = plan.downcast_ref::<RuntimeFilterExec>() {
        told_by.extend(filter.told().iter().filter_map(|told| match told.teller {
            Teller::Stage(stage) => Some(stage),
            Teller::Join(_) => None,
        }));
    }
    plan.children().into_iter().for_each(|child| collect_inputs(child, rows_of, told_by));
}

/// Bytes that `plan` is expected to produce, 0 when unknown.
pub(super) fn estimated_bytes(plan: &Arc<dyn ExecutionPlan>) -> u64 {
    let statistics = StatisticsContext::new().compute(plan.as_ref(), &StatisticsArgs::new()).ok();
    let bytes = statistics.and_then(|statistics| statistics.total_byte_size.get_value().copied());
    bytes.map_or(0, |bytes| bytes as u64)
}
