//! `FILTER (WHERE ...)` of aggregates over windows.
//!
//! DataFusion 55's protocol has no place for it: an executor would count the rows that the filter leaves out. For an
//! aggregate that passes over NULLs the filter moves into its arguments.

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::error::Result;
use datafusion::logical_expr::expr::{WindowFunction, WindowFunctionParams};
use datafusion::logical_expr::{Expr, LogicalPlan, WindowFunctionDefinition, when};
use datafusion::optimizer::AnalyzerRule;

/// Aggregates whose value does not change with NULLs among their rows.
const PASS_OVER_NULLS: [&str; 20] = [
    "avg",
    "bit_and",
    "bit_or",
    "bit_xor",
    "bool_and",
    "bool_or",
    "corr",
    "count",
    "covar_pop",
    "covar_samp",
    "max",
    "mean",
    "median",
    "min",
    "stddev",
    "stddev_pop",
    "string_agg",
    "sum",
    "var",
    "var_pop",
];

/// Moves filters of windows' aggregates into their arguments.
#[derive(Debug)]
pub(super) struct FilterWindowArguments;

impl AnalyzerRule for FilterWindowArguments {
    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|node| match node {
            LogicalPlan::Window(_) => node.map_expressions(into_arguments),
            other => Ok(Transformed::no(other)),
        })
        .data()
    }

    fn name(&self) -> &'static str {
        "filter_window_arguments"
    }
}

fn into_arguments(expr: Expr) -> Result<Transformed<Expr>> {
    let Some(filter) = filter_of(&expr).filter(|_| can_move(&expr)) else {
        return Ok(Transformed::no(expr));
    };
    let filter = filter.clone();
    // Operators above know it by this name.
    let name = expr.schema_name().to_string();
    let Expr::WindowFunction(mut function) = expr else {
        return Ok(Transformed::no(expr));
    };
    function.params.filter = None;
    if let Some(first) = function.params.args.first_mut() {
        *first = when(filter, std::mem::take(first)).end()?;
    }
    Ok(Transformed::yes(Expr::WindowFunction(function).alias(name)))
}

fn filter_of(expr: &Expr) -> Option<&Expr> {
    match expr {
        Expr::WindowFunction(function) => function.params.filter.as_deref(),
        _ => None,
    }
}

fn can_move(expr: &Expr) -> bool {
    let Expr::WindowFunction(function) = expr else { return false };
    let WindowFunction { fun, params: WindowFunctionParams { args, .. } } = function.as_ref();
    match fun {
        WindowFunctionDefinition::AggregateUDF(udaf) => {
            PASS_OVER_NULLS.contains(&udaf.name()) && !args.is_empty()
        }
        WindowFunctionDefinition::WindowUDF(_) => false,
    }
}

/// Whether a filter is left that no argument could take: such a plan must not travel.
pub fn has_window_filters(plan: &LogicalPlan) -> Result<bool> {
    plan.exists(|node| {
        let is_window = matches!(node, LogicalPlan::Window(_));
        let mut found = false;
        if is_window {
            for expr in node.expressions() {
                found |= expr.exists(|expr| Ok(filter_of(expr).is_some()))?;
            }
        }
        Ok(found)
    })
}
