//! Whether a plan comes out of the codec as it went in.

use std::sync::Arc;

use datafusion::common::internal_err;
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::physical_expr::expressions::{CastExpr, Column};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, displayable};

use super::decode;
use crate::Stage;

/// Refuses a stage that does not come out of the codec as it went in.
///
/// # Errors
/// When the decoded stage differs in its columns, its partitions, or what EXPLAIN shows of its operators.
pub fn check_round_trip(stage: &Stage, encoded: &[u8], context: &TaskContext) -> Result<()> {
    let decoded = decode(encoded, context)?;
    let same = lines(&stage.plan) == lines(&decoded.plan)
        && stage.output.to_string() == decoded.output.to_string()
        && (&stage.tells, &stage.told_by) == (&decoded.tells, &decoded.told_by)
        && stage.plan.output_partitioning().partition_count() == decoded.partitions
        && names_and_types(&stage.plan) == names_and_types(&decoded.plan);
    if same { Ok(()) } else { internal_err!("the codec changed a plan:\n{stage}\ninto:\n{decoded}") }
}

fn names_and_types(plan: &Arc<dyn ExecutionPlan>) -> Vec<(String, String)> {
    let schema = plan.schema();
    schema.fields().iter().map(|field| (field.name().clone(), field.data_type().to_string())).collect()
}

/// The operators with their depth, as EXPLAIN shows them.
fn lines(plan: &Arc<dyn ExecutionPlan>) -> Vec<(usize, String)> {
    fn collect(plan: &Arc<dyn ExecutionPlan>, depth: usize, lines: &mut Vec<(usize, String)>) {
        if let Some(input) = changes_nothing(plan) {
            return collect(input, depth, lines);
        }
        let text = displayable(plan.as_ref()).one_line().to_string();
        lines.push((depth, without_scan_hints(text.trim_end()).to_owned()));
        for child in plan.children() {
            collect(child, depth + 1, lines);
        }
    }
    let mut all = Vec::new();
    collect(plan, 0, &mut all);
    all
}

/// The input of a projection that only casts columns to the types they have: a union puts such above inputs that differ
/// from it in what may be NULL, each time it is made.
fn changes_nothing(plan: &Arc<dyn ExecutionPlan>) -> Option<&Arc<dyn ExecutionPlan>> {
    let projection = plan.downcast_ref::<ProjectionExec>()?;
    let input = projection.input();
    let schema = input.schema();
    let in_place = projection.expr().len() == schema.fields().len()
        && projection.expr().iter().enumerate().all(|(place, projected)| {
            let cast = projected.expr.downcast_ref::<CastExpr>();
            let column = cast.map_or(&projected.expr, |cast| cast.expr()).downcast_ref::<Column>();
            let field = schema.field(place);
            column.is_some_and(|column| column.index() == place)
                && projected.alias == *field.name()
                && cast.is_none_or(|cast| cast.cast_type() == field.data_type())
        });
    in_place.then_some(input)
}

/// A line of a plan without the hints at the end of a Parquet scan, which only help it to read row groups in a better
/// order: DataFusion's protocol has no place for them.
fn without_scan_hints(line: &str) -> &str {
    let hints = [", sort_order_for_reorder=", ", dynamic_rg_pruning="];
    let start = hints.iter().filter_map(|hint| line.find(hint)).min();
    &line[..start.unwrap_or(line.len())]
}
