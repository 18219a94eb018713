//! The conditions of a filter, those that cost little before those that cost much.
//!
//! Conditions joined by AND are tried in the order in which they stand, and later ones only on the rows that the earlier ones
//! have left when these are few. DataFusion 55.2 leaves them as the query has them: comparing the strings of every row
//! took a fifth of TPC-H's q12, whose dates leave one row in twenty.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TransformedResult};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::Result;
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, Filter, LogicalPlan, Operator};

/// What it costs to compare two values of fixed width.
const NUMBERS: u32 = 1;
/// What it costs to compare two strings.
const STRINGS: u32 = 8;
/// What it costs to match a string against a pattern.
const PATTERN: u32 = 64;

/// Orders the conditions of every filter by what they cost. One that might fail keeps its place behind all that cannot, so
/// that it never sees a row that the query's own order would have kept from it.
///
/// # Errors
/// When the plan cannot be put together again.
pub fn cheap_conditions_first(logical: LogicalPlan) -> Result<LogicalPlan> {
    let reorder = |node| match node {
        LogicalPlan::Filter(filter) => reordered(filter),
        node => Ok(Transformed::no(node)),
    };
    logical.transform_down_with_subqueries(reorder).data()
}

fn reordered(filter: Filter) -> Result<Transformed<LogicalPlan>> {
    let schema = filter.input.schema();
    let conditions = split_conjunction(&filter.predicate);
    let mut ordered = conditions.clone();
    // A stable sort: those of equal cost stay in the order of the query.
    ordered.sort_by_key(|condition| cost(condition, schema).unwrap_or(u32::MAX));
    if ordered == conditions {
        return Ok(Transformed::no(LogicalPlan::Filter(filter)));
    }
    let predicate = conjunction(ordered.into_iter().cloned()).expect("a filter has a condition");
    Ok(Transformed::yes(LogicalPlan::Filter(Filter::try_new(predicate, filter.input)?)))
}

/// What a condition costs for each row; `None` when it might fail, or nothing is known of it.
fn cost(condition: &Expr, schema: &DFSchema) -> Option<u32> {
    match condition {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And | Operator::Or, right }) => {
            Some(cost(left, schema)?.saturating_add(cost(right, schema)?))
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if compares(*op) => {
            is_plain(left).then_some(())?;
            is_plain(right).then_some(())?;
            comparing(left, schema)
        }
        Expr::Not(inner) => cost(inner, schema),
        Expr::IsNull(inner) | Expr::IsNotNull(inner) => is_plain(inner).then_some(NUMBERS),
        Expr::Between(between) => {
            let plain = [&between.expr, &between.low, &between.high].into_iter().all(|expr| is_plain(expr));
            plain.then_some(())?;
            Some(2 * comparing(&between.expr, schema)?)
        }
        Expr::InList(list) => {
            (is_plain(&list.expr) && list.list.iter().all(is_plain)).then_some(())?;
            Some(2 * comparing(&list.expr, schema)?)
        }
        Expr::Like(like) => (is_plain(&like.expr) && is_plain(&like.pattern)).then_some(PATTERN),
        Expr::Literal(ScalarValue::Boolean(_), _) => Some(0),
        _ => None,
    }
}

fn compares(op: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
}

/// A value that is there without computing anything.
fn is_plain(expr: &Expr) -> bool {
    match expr {
        Expr::Column(_) | Expr::Literal(..) => true,
        Expr::Alias(alias) => is_plain(&alias.expr),
        _ => false,
    }
}

fn comparing(expr: &Expr, schema: &DFSchema) -> Option<u32> {
    let data_type = expr.get_type(schema).ok()?;
    Some(if is_of_fixed_width(&data_type) { NUMBERS } else { STRINGS })
}

fn is_of_fixed_width(data_type: &DataType) -> bool {
    data_type.is_primitive() || matches!(data_type, DataType::Boolean | DataType::Null)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::datatypes::{Field, Schema};
    use datafusion::logical_expr::{LogicalPlanBuilder, cast};
    use datafusion::logical_expr::{col, lit, logical_plan::builder::LogicalTableSource};

    use super::*;

    fn after(condition: Expr) -> String {
        let schema = Schema::new(vec![
            Field::new("n", DataType::Int64, true),
            Field::new("m", DataType::Int64, true),
            Field::new("s", DataType::Utf8View, true),
        ]);
        let source = Arc::new(LogicalTableSource::new(Arc::new(schema)));
        let plan = LogicalPlanBuilder::scan("t", source, None).unwrap().filter(condition).unwrap();
        match cheap_conditions_first(plan.build().unwrap()).unwrap() {
            LogicalPlan::Filter(filter) => filter.predicate.to_string(),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn numbers_come_before_strings_and_these_before_patterns() {
        let condition = col("s").like(lit("a%")).and(col("s").eq(lit("x"))).and(col("n").lt(col("m")));
        assert_eq!(after(condition), r#"t.n < t.m AND t.s = Utf8("x") AND t.s LIKE Utf8("a%")"#);
    }

    #[test]
    fn what_costs_the_same_stays_in_order() {
        let condition = col("n").gt(lit(1_i64)).and(col("m").eq(lit(2_i64)));
        assert_eq!(after(condition), "t.n > Int64(1) AND t.m = Int64(2)");
    }

    #[test]
    fn what_might_fail_stays_behind() {
        let divides = (lit(1_i64) / col("n")).gt(lit(0_i64));
        let casts = cast(col("s"), DataType::Int64).eq(lit(3_i64));
        let condition = col("s").not_eq(lit("x")).and(divides).and(casts).and(col("n").not_eq(lit(0_i64)));
        assert_eq!(
            after(condition),
            r#"t.n != Int64(0) AND t.s != Utf8("x") AND Int64(1) / t.n > Int64(0) AND CAST(t.s AS Int64) = Int64(3)"#
        );
    }
}
