//! Filters pushed towards the scans, never onto another column of the same name.
//!
//! DataFusion 55.2's rule of this name finds a filter's column in a child by the column's *name*, so that below a join of
//! two tables that name a column alike it may filter the wrong one (its issues 21246 and 25244; its pull request 25259
//! mends it, unreleased). This rule walks the plan as that one does and asks the same two questions of each node, but
//! withholds a filter where a name would not tell which column is meant. A filter withheld stays where it is: right, and
//! seldom slower, since few filters stand above such joins. Delete it when DataFusion goes by position.

use std::sync::Arc;

use datafusion::arrow::datatypes::Schema;
use datafusion::common::config::ConfigOptions;
use datafusion::error::{DataFusionError, Result};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr_common::physical_expr::is_volatile;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::filter_pushdown::{
    ChildFilterPushdownResult, ChildPushdownResult, FilterPushdownPhase, PushedDown, PushedDownPredicate,
};
use datafusion::physical_plan::joins::HashJoinExec;
use datafusion::physical_plan::projection::ProjectionExec;

use crate::stage::narrow::replace_children;

type Plan = Arc<dyn ExecutionPlan>;
type Filter = Arc<dyn PhysicalExpr>;
type Rule = Arc<dyn PhysicalOptimizerRule + Send + Sync>;

/// The rule for one phase of optimizing: `Pre` for the filters of the query, `Post` for those that operators make while
/// they run.
#[derive(Debug)]
pub struct PushFiltersDown(FilterPushdownPhase);

impl PushFiltersDown {
    /// Puts this rule in the place of DataFusion's, in each of its phases.
    pub fn replace_in(rules: &mut [Rule]) {
        for rule in rules {
            let phase = match rule.name() {
                "FilterPushdown" => FilterPushdownPhase::Pre,
                "FilterPushdown(Post)" => FilterPushdownPhase::Post,
                _ => continue,
            };
            *rule = Arc::new(Self(phase));
        }
    }
}

impl PhysicalOptimizerRule for PushFiltersDown {
    fn optimize(&self, plan: Plan, config: &ConfigOptions) -> Result<Plan> {
        Ok(Walk { phase: self.0, config }.push(&plan, &[])?.0)
    }

    fn name(&self) -> &'static str {
        match self.0 {
            FilterPushdownPhase::Pre => "push_filters_down",
            FilterPushdownPhase::Post => "push_filters_down(post)",
        }
    }

    fn schema_check(&self) -> bool {
        true
    }
}

struct Walk<'a> {
    phase: FilterPushdownPhase,
    config: &'a ConfigOptions,
}

impl Walk<'_> {
    /// The plan with the filters in it, and for each filter whether the plan now applies it.
    fn push(&self, node: &Plan, filters: &[Filter]) -> Result<(Plan, Vec<PushedDown>)> {
        let given: Vec<usize> = (0..filters.len()).filter(|at| may_pass(node, &filters[*at])).collect();
        let parents: Vec<Filter> = given.iter().map(|at| Arc::clone(&filters[*at])).collect();
        let described = node.gather_filters_for_pushdown(self.phase, parents.clone(), self.config)?;

        let children: Vec<Plan> = node.children().into_iter().map(Arc::clone).collect();
        let (of_parents, of_self) = (described.parent_filters(), described.self_filters());
        if of_parents.len() != children.len() || of_self.len() != children.len() {
            let message = format!("{} describes filters for another number of children", node.name());
            return Err(DataFusionError::Internal(message));
        }
        let mut parent_filters: Vec<ChildFilterPushdownResult> = parents
            .into_iter()
            .map(|filter| ChildFilterPushdownResult { filter, child_results: vec![] })
            .collect();
        let mut self_filters = Vec::with_capacity(children.len());
        let mut pushed_children = Vec::with_capacity(children.len());
        for ((child, from_parent), own) in children.iter().zip(of_parents).zip(of_self) {
            let (pushed, outcome) = self.push_into(child, &from_parent, own)?;
            for (parent, result) in parent_filters.iter_mut().zip(outcome.parent) {
                parent.child_results.push(result);
            }
            self_filters.push(outcome.own);
            pushed_children.push(pushed);
        }

        let node = replace_children(Arc::clone(node), pushed_children)?;
        let outcome = ChildPushdownResult { parent_filters, self_filters };
        let answer = node.handle_child_pushdown_result(self.phase, outcome, self.config)?;
        let mut results = vec![PushedDown::No; filters.len()];
        for (at, result) in given.into_iter().zip(answer.filters) {
            results[at] = result;
        }
        Ok((answer.updated_node.unwrap_or(node), results))
    }

    /// The child with those filters in it that its node may give it.
    fn push_into(
        &self,
        child: &Plan,
        from_parent: &[PushedDownPredicate],
        own: Vec<Filter>,
    ) -> Result<(Plan, ChildOutcome)> {
        let supported = |filter: &PushedDownPredicate| matches!(filter.discriminant, PushedDown::Yes);
        let passed = from_parent.iter().filter(|filter| supported(filter)).map(|filter| &filter.predicate);
        let all: Vec<Filter> = own.iter().chain(passed).map(Arc::clone).collect();
        let (child, results) = self.push(child, &all)?;
        let (own_results, passed_results) = results.split_at(own.len());
        let mut passed_results = passed_results.iter();
        let parent = from_parent
            .iter()
            .map(|filter| if supported(filter) { passed_results.next().copied() } else { None })
            .map(|result| result.unwrap_or(PushedDown::No))
            .collect();
        let own =
            own.into_iter().zip(own_results).map(|(filter, result)| result.wrap_expression(filter)).collect();
        Ok((child, ChildOutcome { parent, own }))
    }
}

/// What became of the filters that a node gave one of its children.
struct ChildOutcome {
    /// In the order in which the node was given them.
    parent: Vec<PushedDown>,
    own: Vec<PushedDownPredicate>,
}

/// Whether the node may be asked to take the filter: it means the same at each evaluation, and its columns' names say
/// which columns they are.
fn may_pass(node: &Plan, filter: &Filter) -> bool {
    !is_volatile(filter) && collect_columns(filter).iter().all(|column| told_by_name(node, column))
}

/// Whether the node finds this column of its output in its children if it looks for the name.
fn told_by_name(node: &Plan, column: &Column) -> bool {
    if node.is::<ProjectionExec>() {
        return is_unique(&node.schema(), column.name());
    }
    if let Some(aggregate) = node.downcast_ref::<AggregateExec>() {
        let group = aggregate.group_expr().expr().get(column.index());
        let same = group.and_then(|(expr, _)| expr.downcast_ref::<Column>());
        return same.is_some_and(|inner| inner.name() == column.name())
            && is_unique(&aggregate.input().schema(), column.name());
    }
    let children = node.children();
    if node.is::<HashJoinExec>() {
        // It knows each column's side, and looks for the name on that side.
        return children.iter().all(|child| !is_repeated(&child.schema(), column.name()));
    }
    let in_place = children.len() > 1;
    children.iter().all(|child| {
        let schema = child.schema();
        let same_place =
            schema.fields().get(column.index()).is_some_and(|field| field.name() == column.name());
        is_unique(&schema, column.name()) && (same_place || !in_place)
    })
}

fn is_unique(schema: &Schema, name: &str) -> bool {
    count(schema, name) == 1
}

fn is_repeated(schema: &Schema, name: &str) -> bool {
    count(schema, name) > 1
}

fn count(schema: &Schema, name: &str) -> usize {
    schema.fields().iter().filter(|field| field.name() == name).count()
}
