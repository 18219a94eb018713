//! Columns that `JOIN ... USING` merges.
//!
//! The merged column of a right or full join has the right side's value where no left row matched. DataFusion 55 takes the
//! left side's column, which is NULL there; a plan no longer tells whether the query named the merged column or the left
//! side's own. Such a query is refused: no answer is better than a wrong one.

use std::collections::HashSet;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Column, JoinConstraint, JoinType};
use datafusion::error::Result;
use datafusion::logical_expr::LogicalPlan;
use datafusion::logical_expr::logical_plan::Join;
use datafusion::optimizer::AnalyzerRule;
use firesteel_base::UserError;

use crate::session::statements::external;

/// Refuses queries that use the merged column of a right or full join.
#[derive(Debug)]
pub(super) struct RefuseMergedColumns;

impl AnalyzerRule for RefuseMergedColumns {
    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        check(&plan)?;
        Ok(plan)
    }

    fn name(&self) -> &'static str {
        "refuse_merged_columns"
    }
}

/// The columns of the plan's output that may stand for a merged one.
fn check(plan: &LogicalPlan) -> Result<HashSet<Column>> {
    let mut doubtful = HashSet::new();
    for input in plan.inputs() {
        doubtful.extend(check(input)?);
    }
    plan.apply_subqueries(|subquery| {
        check(subquery)?;
        Ok(TreeNodeRecursion::Jump)
    })?;
    for expr in plan.expressions() {
        if let Some(column) = expr.column_refs().into_iter().find(|column| doubtful.contains(*column)) {
            return Err(external(refusal(column)));
        }
    }
    match plan {
        LogicalPlan::Join(join) if merges(join) => {
            let columns = join.on.iter().filter_map(|(left, _)| left.try_as_col().cloned());
            doubtful.extend(columns);
            Ok(doubtful)
        }
        // New columns: those that were used were refused above.
        LogicalPlan::Projection(_) | LogicalPlan::SubqueryAlias(_) | LogicalPlan::Aggregate(_) => {
            Ok(HashSet::new())
        }
        _ => Ok(doubtful),
    }
}

fn merges(join: &Join) -> bool {
    join.join_constraint == JoinConstraint::Using
        && matches!(join.join_type, JoinType::Right | JoinType::Full)
}

fn refusal(column: &Column) -> UserError {
    let name = &column.name;
    UserError::new(format!("the merged column '{name}' of a RIGHT or FULL JOIN ... USING is not supported"))
        .hint(format!(
            "join with ON a.{name} = b.{name} and write b.{name}, or coalesce(a.{name}, b.{name}), for the merged column"
        ))
}
