//! The plan of a job that one executor runs alone: one stage, in which rows change core without being encoded.

use std::cmp::Ordering;
use std::sync::Arc;

use datafusion::error::Result;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::limit::GlobalLimitExec;
use datafusion::physical_plan::recursive_query::RecursiveQueryExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, Partitioning};
use firesteel_base::StageId;

use super::adapt::Adapts;
use super::cut::estimated_bytes;
use super::narrow::replace_children;
use crate::ops::{LocalExchange, LocalExchangeExec, PadExec};
use crate::{Output, Place, Stage, StageGraph};

/// The graph of one stage that computes `plan`, with each exchange between partitions driven by the cores.
///
/// # Errors
/// When an operator does not accept its new inputs.
pub fn localize(plan: Arc<dyn ExecutionPlan>) -> Result<StageGraph> {
    let plan = rewrite(plan)?;
    let stage = Stage {
        id: StageId(0),
        partitions: plan.output_partitioning().partition_count(),
        adapts: Adapts::default(),
        estimated_bytes: estimated_bytes(&plan),
        output: Output::Result,
        tells: Vec::new(),
        inputs: Vec::new(),
        told_by: Vec::new(),
        encoded: None,
        plan,
    };
    Ok(StageGraph { stages: vec![Arc::new(stage)], place: Place::Cluster })
}

/// The stage as one task over `cores` core threads runs it: a partition for each, so that the task gets them all.
#[must_use]
pub fn over_cores(stage: &Arc<Stage>, cores: usize) -> Arc<Stage> {
    let plan = Arc::clone(&stage.plan);
    let plan: Arc<dyn ExecutionPlan> = match stage.partitions.cmp(&cores) {
        Ordering::Equal => return Arc::clone(stage),
        Ordering::Less => Arc::new(PadExec::new(plan, cores)),
        Ordering::Greater => {
            let dealt = LocalExchange::Partition(Partitioning::RoundRobinBatch(cores));
            Arc::new(LocalExchangeExec::new(plan, dealt))
        }
    };
    Arc::new(Stage { plan, partitions: cores, ..stage.as_ref().clone() })
}

fn rewrite(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    if plan.is::<RecursiveQueryExec>() {
        // Its inner plan is reset and run again for each round; DataFusion's own exchanges know how.
        return Ok(plan);
    }
    let children = plan.children().into_iter().map(|child| rewrite(Arc::clone(child)));
    let plan = replace_children(Arc::clone(&plan), children.collect::<Result<Vec<_>>>()?)?;
    if let Some(repartition) = plan.downcast_ref::<RepartitionExec>() {
        if repartition.preserve_order() {
            return Ok(plan);
        }
        let how = LocalExchange::Partition(repartition.partitioning().clone());
        return Ok(exchange(repartition.input(), how));
    }
    if let Some(coalesce) = plan.downcast_ref::<CoalescePartitionsExec>() {
        if partitions(coalesce.input()) <= 1 {
            return Ok(plan);
        }
        let gathered = exchange(coalesce.input(), LocalExchange::Gather);
        return Ok(match plan.fetch() {
            Some(rows) => Arc::new(GlobalLimitExec::new(gathered, 0, Some(rows))),
            None => gathered,
        });
    }
    if let Some(merge) = plan.downcast_ref::<SortPreservingMergeExec>()
        && partitions(merge.input()) > 1
    {
        let driven = exchange(merge.input(), LocalExchange::Pass);
        return replace_children(Arc::clone(&plan), vec![driven]);
    }
    Ok(plan)
}

fn partitions(plan: &Arc<dyn ExecutionPlan>) -> usize {
    plan.output_partitioning().partition_count()
}

fn exchange(input: &Arc<dyn ExecutionPlan>, how: LocalExchange) -> Arc<dyn ExecutionPlan> {
    Arc::new(LocalExchangeExec::new(Arc::clone(input), how))
}
