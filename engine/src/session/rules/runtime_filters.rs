//! Where the filters that joins make while they run are applied to rows.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::common::NullEquality;
use datafusion::common::config::ConfigOptions;
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::Result;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::joins::HashJoinExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::recursive_query::RecursiveQueryExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, Partitioning};

use crate::ops::{RuntimeFilterExec, TellKeysExec, Teller, ToldFilter, is_of_whole_numbers, runtime_filters};
use crate::session::SessionSettings;
use crate::stage::narrow::replace_children;

type Plan = Arc<dyn ExecutionPlan>;

/// Rows that a scan must read, before filters of its own, for its stage to wait until it is told the keys of a join: a stage
/// more that is waited for takes as long as reading so many.
const TOLD_ROWS_MIN: usize = 100_000;
/// The part of the probe side's rows that the build side may have at most, as 1 / n, for it to cross an exchange only so that
/// its keys are told.
const CROSSING_PART_MAX: usize = 4;

/// Puts a [`RuntimeFilterExec`] above each scan that joins have handed filters to, where rows that one of them will drop have
/// a way to go until then. Right beneath its join a filter brings nothing, the join itself looks the rows up as quickly; but
/// where others are applied it comes first, and spares them the rows that it drops.
///
/// In a cluster a join across an exchange is another stage's. There the keys are told by the stage of the build side, when
/// that drops rows of its own: a [`TellKeysExec`] says so to the cut. A build side that would be read where the join is
/// becomes a stage for it, when few rows are left of it.
#[derive(Debug)]
pub struct ApplyRuntimeFilters {
    /// Whether exchanges stay inside one executor.
    pub local: bool,
}

/// What lies between a join and where one is in its probe side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Between {
    Nothing,
    Operators,
    Exchange,
}

/// A join above.
#[derive(Debug, Clone)]
struct Above {
    /// Its filter's identity.
    id: u64,
    between: Between,
    keys: Arc<Keys>,
}

/// The key columns of a join's build side whose values can be told; none where they cannot.
#[derive(Debug, Default)]
struct Keys {
    /// For each pair of keys, the place among those that are told.
    numbers: Vec<Option<usize>>,
    columns: Vec<usize>,
}

/// The joins above, the nearest last.
type Joins = Vec<Above>;
/// The filters of joins whose keys are to be told.
type Wanted = BTreeSet<u64>;

impl PhysicalOptimizerRule for ApplyRuntimeFilters {
    fn optimize(&self, plan: Plan, config: &ConfigOptions) -> Result<Plan> {
        if !SessionSettings::of(config).runtime_filters {
            return Ok(plan);
        }
        self.apply(plan, &Joins::new(), &mut Wanted::new())
    }

    fn name(&self) -> &'static str {
        "apply_runtime_filters"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

impl ApplyRuntimeFilters {
    fn apply(&self, plan: Plan, joins: &Joins, wanted: &mut Wanted) -> Result<Plan> {
        if plan.is::<RecursiveQueryExec>() {
            // What is beneath runs many times, and its filters are made anew each time.
            return Ok(plan);
        }
        if is_scan(&plan) {
            return self.filtered(plan, joins, wanted);
        }
        if let Some(join) = plan.downcast_ref::<HashJoinExec>()
            && let Some(id) = filter_id(join)
        {
            return self.join(&plan, join, id, joins, wanted);
        }
        let joins = self.beneath(&plan, joins);
        let children = plan.children().into_iter();
        let children = children.map(|child| self.apply(Arc::clone(child), &joins, wanted));
        let children = children.collect::<Result<_>>()?;
        replace_children(plan, children)
    }

    /// The build side first: what it drops decides whether its keys are worth telling.
    fn join(
        &self,
        plan: &Plan,
        join: &HashJoinExec,
        id: u64,
        joins: &Joins,
        wanted: &mut Wanted,
    ) -> Result<Plan> {
        let mut joins = self.beneath(plan, joins);
        let build = self.apply(Arc::clone(join.left()), &joins, wanted)?;
        let keys = if self.local { Keys::default() } else { Keys::of(join, &build) };
        let keys = Arc::new(keys);
        joins.push(Above { id, between: Between::Nothing, keys: Arc::clone(&keys) });
        let probe = self.apply(Arc::clone(join.right()), &joins, wanted)?;
        let build = if wanted.contains(&id) { tell(build, join, id, &keys)? } else { build };
        replace_children(Arc::clone(plan), vec![build, probe])
    }

    /// The joins above the inputs of `plan`.
    fn beneath(&self, plan: &Plan, joins: &Joins) -> Joins {
        let mut joins = joins.clone();
        let crosses = !self.local && is_exchange(plan);
        for Above { between, .. } in &mut joins {
            if crosses {
                *between = Between::Exchange;
            } else if *between == Between::Nothing && !is_passed_quickly(plan) {
                *between = Between::Operators;
            }
        }
        joins
    }

    fn filtered(&self, scan: Plan, joins: &Joins, wanted: &mut Wanted) -> Result<Plan> {
        let filters = runtime_filters(&scan)?;
        let may_wait = is_large(&scan);
        let mut picked = Vec::new();
        let mut told = Vec::new();
        for join in joins.iter().rev() {
            let place = filters.iter().position(|filter| id_of(filter.as_ref()) == Some(join.id));
            let Some((place, filter)) = place.and_then(|place| Some((place, filters[place].as_ref()?)))
            else {
                continue;
            };
            match join.between {
                Between::Exchange if may_wait => told.extend(join.told(filter, &scan)),
                Between::Exchange => {}
                Between::Nothing | Between::Operators => picked.push((place, join.between)),
            }
        }
        wanted.extend(told.iter().map(|(join, _)| *join));
        if told.is_empty() && picked.iter().all(|(_, between)| *between == Between::Nothing) {
            return Ok(scan);
        }
        let picks = picked.into_iter().map(|(place, _)| place).collect();
        let told = told.into_iter().map(|(_, told)| told).collect();
        Ok(Arc::new(RuntimeFilterExec::over(scan, picks, told)?))
    }
}

impl Above {
    /// The filters of `scan` by the keys that are told for this join, whose own filter there is `filter`.
    fn told(&self, filter: &Arc<dyn PhysicalExpr>, scan: &Plan) -> Vec<(u64, ToldFilter)> {
        let schema = scan.schema();
        let keys = filter.children().into_iter().zip(&self.keys.numbers);
        let told = keys.filter_map(|(key, number)| {
            let column = key.downcast_ref::<Column>()?.index();
            let whole = is_of_whole_numbers(schema.field(column).data_type());
            let (number, of) = ((*number).filter(|_| whole)?, self.keys.columns.len());
            Some((self.id, ToldFilter { column, teller: Teller::Join(self.id), number, of }))
        });
        told.collect()
    }
}

impl Keys {
    /// Those of `join` over `build`, its build side with filters applied.
    fn of(join: &HashJoinExec, build: &Plan) -> Self {
        if join.null_equality() != NullEquality::NullEqualsNothing || !is_worth_telling(join, build) {
            return Self::default();
        }
        let schema = build.schema();
        let mut keys = Self::default();
        for (key, _) in join.on() {
            let column = key.downcast_ref::<Column>().map(Column::index);
            let column = column.filter(|&column| is_of_whole_numbers(schema.field(column).data_type()));
            keys.numbers.push(column.map(|column| {
                keys.columns.push(column);
                keys.columns.len() - 1
            }));
        }
        keys
    }
}

/// Whether the keys of `build`, the build side of `join`, are worth telling.
fn is_worth_telling(join: &HashJoinExec, build: &Plan) -> bool {
    if ends_a_stage(build) || is_single(build) {
        return drops_rows(build);
    }
    // It would be read where the join is. To tell its keys before, its rows cross an exchange more.
    let rows = [build, join.right()].map(rows);
    let are_few = matches!(rows, [Some(build), Some(probe)] if build <= probe / CROSSING_PART_MAX);
    ends_with_a_filter(build) || are_few && drops_rows(build)
}

/// `build`, the build side of `join`, as the end of a stage that tells its keys.
fn tell(build: Plan, join: &HashJoinExec, id: u64, keys: &Keys) -> Result<Plan> {
    let telling = |input: &Plan| Arc::new(TellKeysExec::new(Arc::clone(input), id, keys.columns.clone()));
    if ends_a_stage(&build) {
        let told = build.children().into_iter().map(|input| telling(input) as Plan).collect();
        return replace_children(build, told);
    }
    if is_single(&build) {
        return Ok(Arc::new(CoalescePartitionsExec::new(telling(&build))));
    }
    let by = join.on().iter().map(|(key, _)| Arc::clone(key)).collect();
    let partitions = build.output_partitioning().partition_count();
    Ok(Arc::new(RepartitionExec::try_new(telling(&build), Partitioning::Hash(by, partitions))?))
}

/// The identity of the filter that the join hands down.
fn filter_id(join: &HashJoinExec) -> Option<u64> {
    join.dynamic_expressions_produced().first().and_then(|filter| filter.expression_id())
}

fn id_of(filter: Option<&Arc<dyn PhysicalExpr>>) -> Option<u64> {
    filter.and_then(|filter| filter.expression_id())
}

/// Whether as many rows are read, as far as one knows, that dropping some is worth waiting for who tells the keys.
fn is_large(scan: &Plan) -> bool {
    let scan = scan.downcast_ref::<FilterExec>().map_or(scan, FilterExec::input);
    rows(scan).is_none_or(|rows| rows >= TOLD_ROWS_MIN)
}

/// How many rows it is expected to have; `None` when that is not known.
fn rows(plan: &Plan) -> Option<usize> {
    let statistics = StatisticsContext::new().compute(plan.as_ref(), &StatisticsArgs::new());
    statistics.ok().and_then(|statistics| statistics.num_rows.get_value().copied())
}

/// Whether rows are dropped in it: keys of a whole table let all rows of another pass that refer to it.
fn drops_rows(plan: &Plan) -> bool {
    plan.is::<FilterExec>() || plan.is::<RuntimeFilterExec>() || plan.children().into_iter().any(drops_rows)
}

/// Whether all rows are in one partition.
fn is_single(plan: &Plan) -> bool {
    plan.output_partitioning().partition_count() == 1
}

/// Whether rows are dropped last of all, so that few are left.
fn ends_with_a_filter(plan: &Plan) -> bool {
    let beneath = || plan.children().into_iter().any(ends_with_a_filter);
    plan.is::<FilterExec>() || is_passed_quickly(plan) && beneath()
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

/// Whether the stage cut ends a stage at that exchange, with all rows that come to it.
fn ends_a_stage(plan: &Plan) -> bool {
    let lanes = || plan.children()[0].output_partitioning().partition_count();
    is_exchange(plan) && plan.fetch().is_none() && (plan.is::<RepartitionExec>() || lanes() > 1)
}

fn is_passed_quickly(plan: &Plan) -> bool {
    plan.is::<ProjectionExec>() || plan.is::<CooperativeExec>() || plan.is::<FilterExec>()
}
