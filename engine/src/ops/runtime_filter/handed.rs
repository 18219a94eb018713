//! The filters that joins make while they run, as the scans have them that they were handed to.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::datasource::physical_plan::FileScanConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::Result;
use datafusion::physical_expr::expressions::{Column, DynamicFilterPhysicalExpr};
use datafusion::physical_expr::split_conjunction;
use datafusion::physical_plan::filter::FilterExec;

use super::{Expr, Plan};

/// The filters that joins make while they run and that were handed to the scan beneath `plan`, in the scan's order and
/// over the columns of `plan`; `None` for one whose columns are not among those. Empty when there is more than a static
/// filter above the scan.
///
/// # Errors
/// When an expression does not accept other columns.
pub fn runtime_filters(plan: &Plan) -> Result<Vec<Option<Expr>>> {
    if let Some(filter) = plan.downcast_ref::<FilterExec>() {
        let beneath = runtime_filters(filter.input())?;
        let place = |column: usize| match filter.projection() {
            Some(projection) => projection.iter().position(|&projected| projected == column),
            None => Some(column),
        };
        let moved = beneath.into_iter().map(|filter| match filter {
            Some(filter) => over_columns(&filter, plan, place),
            None => Ok(None),
        });
        return moved.collect();
    }
    let Some(scan) = plan.downcast_ref::<DataSourceExec>() else { return Ok(Vec::new()) };
    let Some(files) = scan.data_source().downcast_ref::<FileScanConfig>() else { return Ok(Vec::new()) };
    let source = files.file_source();
    let Some(predicate) = source.filter() else { return Ok(Vec::new()) };
    let place = |column: usize| match source.projection() {
        Some(projection) => projection.iter().position(|projected| {
            projected.expr.downcast_ref::<Column>().is_some_and(|c| c.index() == column)
        }),
        None => Some(column),
    };
    split_conjunction(&predicate)
        .into_iter()
        .filter(|conjunct| conjunct.is::<DynamicFilterPhysicalExpr>())
        .map(|filter| over_columns(filter, plan, place))
        .collect()
}

/// The expression with each column at its place in `plan`; `None` when one has none there.
fn over_columns(expr: &Expr, plan: &Plan, place: impl Fn(usize) -> Option<usize>) -> Result<Option<Expr>> {
    let schema = plan.schema();
    let mut missing = false;
    let moved = Arc::clone(expr)
        .transform_up(|node| {
            let Some(column) = node.downcast_ref::<Column>() else { return Ok(Transformed::no(node)) };
            match place(column.index()) {
                Some(index) => {
                    let moved: Expr = Arc::new(Column::new(schema.field(index).name(), index));
                    Ok(Transformed::yes(moved))
                }
                None => {
                    missing = true;
                    Ok(Transformed::no(node))
                }
            }
        })
        .data()?;
    Ok((!missing).then_some(moved))
}
