//! Where the filters that joins make while they run are applied to rows.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::Result;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::joins::HashJoinExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::recursive_query::RecursiveQueryExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;

use crate::ops::{RuntimeFilterExec, runtime_filters};
use crate::session::SessionSettings;
use crate::stage::narrow::replace_children;

type Plan = Arc<dyn ExecutionPlan>;

/// Puts a [`RuntimeFilterExec`] above each scan that joins have handed filters to, where rows that one of them will drop have
/// a way to go until then. Right beneath its join a filter brings nothing, the join itself looks the rows up as quickly; but
/// where others are applied it comes first, and spares them the rows that it drops.
#[derive(Debug)]
pub struct ApplyRuntimeFilters {
    /// Whether exchanges stay inside one executor: a filter does not cross to another.
    pub local: bool,
}

/// What lies between a join and where one is in its probe side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Between {
    Nothing,
    Operators,
    Exchange,
}

/// The joins above by the identity of their filter, the nearest last.
type Joins = Vec<(u64, Between)>;

impl PhysicalOptimizerRule for ApplyRuntimeFilters {
    fn optimize(&self, plan: Plan, config: &ConfigOptions) -> Result<Plan> {
        if !SessionSettings::of(config).runtime_filters {
            return Ok(plan);
        }
        self.apply(plan, &Joins::new())
    }

    fn name(&self) -> &'static str {
        "apply_runtime_filters"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

impl ApplyRuntimeFilters {
    fn apply(&self, plan: Plan, joins: &Joins) -> Result<Plan> {
        if plan.is::<RecursiveQueryExec>() {
            // What is beneath runs many times, and its filters are made anew each time.
            return Ok(plan);
        }
        if is_scan(&plan) {
            return self.filtered(plan, joins);
        }
        let children = plan.children().into_iter().enumerate();
        let children = children.map(|(number, child)| {
            let joins = self.beneath(&plan, number, joins);
            self.apply(Arc::clone(child), &joins)
        });
        let children = children.collect::<Result<_>>()?;
        replace_children(plan, children)
    }

    /// The joins above the child of that number.
    fn beneath(&self, plan: &Plan, child: usize, joins: &Joins) -> Joins {
        let mut joins = joins.clone();
        let crosses = !self.local && is_exchange(plan);
        for (_, between) in &mut joins {
            if crosses {
                *between = Between::Exchange;
            } else if *between == Between::Nothing && !is_passed_quickly(plan) {
                *between = Between::Operators;
            }
        }
        if let Some(join) = plan.downcast_ref::<HashJoinExec>()
            && child == 1
        {
            let made = join.dynamic_expressions_produced();
            joins.extend(
                made.iter().filter_map(|filter| filter.expression_id()).map(|id| (id, Between::Nothing)),
            );
        }
        joins
    }

    fn filtered(&self, scan: Plan, joins: &Joins) -> Result<Plan> {
        let filters = runtime_filters(&scan)?;
        let place = |id: u64| filters.iter().position(|filter| id_of(filter.as_ref()) == Some(id));
        let near_first = joins.iter().rev().filter(|(_, between)| *between != Between::Exchange);
        let picked: Vec<_> = near_first.filter_map(|(id, between)| Some((place(*id)?, *between))).collect();
        if picked.iter().all(|(_, between)| *between == Between::Nothing) {
            return Ok(scan);
        }
        let picks = picked.into_iter().map(|(place, _)| place).collect();
        Ok(Arc::new(RuntimeFilterExec::over(scan, picks)?))
    }
}

fn id_of(filter: Option<&Arc<dyn PhysicalExpr>>) -> Option<u64> {
    filter.and_then(|filter| filter.expression_id())
}

/// A scan, with the static filter above it if there is one.
fn is_scan(plan: &Plan) -> bool {
    let scan = plan.downcast_ref::<FilterExec>().map_or(plan, FilterExec::input);
    scan.is::<DataSourceExec>()
}

fn is_exchange(plan: &Plan) -> bool {
    plan.is::<RepartitionExec>()
        || plan.is::<CoalescePartitionsExec>()
        || plan.is::<SortPreservingMergeExec>()
}

fn is_passed_quickly(plan: &Plan) -> bool {
    plan.is::<ProjectionExec>() || plan.is::<CooperativeExec>() || plan.is::<FilterExec>()
}
