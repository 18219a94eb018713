//! EXPLAIN: DataFusion's plans, and the stages with where each would run.

use std::fmt::Write;
use std::sync::Arc;

use datafusion::arrow::array::{RecordBatch, StringArray};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::Session;
use datafusion::common::internal_datafusion_err;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::error::Result;
use datafusion::logical_expr::{Explain, ExplainFormat, LogicalPlan};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::explain::ExplainExec;
use datafusion::physical_planner::{DefaultPhysicalPlanner, PhysicalPlanner};

use super::planner::{JobPlanner, Planned};
use crate::{ClusterShape, Place, Stage, StageGraph};

/// The operator whose rows are the answer to EXPLAIN.
pub(super) async fn explain(
    planner: &JobPlanner,
    explain: &Explain,
    session: &dyn Session,
) -> Result<Arc<dyn ExecutionPlan>> {
    let planned = planner.plan(&explain.plan, session).await?;
    let again = Explain { plan: Arc::new(planned.logical.clone()), ..explain.clone() };
    let plan = DefaultPhysicalPlanner::default()
        .create_physical_plan(&LogicalPlan::Explain(again), &planned.state)
        .await?;
    let shown = plan
        .downcast_ref::<ExplainExec>()
        .ok_or_else(|| internal_datafusion_err!("EXPLAIN was planned as something else"))?;
    let mut rows: Vec<(String, String)> = shown
        .stringified_plans()
        .iter()
        .filter(|plan| plan.should_display(shown.verbose()))
        .map(|plan| (plan.plan_type.to_string(), plan.plan.to_string()))
        .collect();
    let for_people = matches!(explain.explain_format, ExplainFormat::Indent | ExplainFormat::Tree);
    if for_people && !planned.state.config_options().explain.logical_plan_only {
        rows.push(("stage_graph".to_owned(), stages(&planned)));
    }
    table(shown.schema(), rows)
}

/// The rows as an operator.
fn table(schema: SchemaRef, rows: Vec<(String, String)>) -> Result<Arc<dyn ExecutionPlan>> {
    let batch = batch(&schema, rows)?;
    let plan = MemorySourceConfig::try_new_exec(&[vec![batch]], schema, None)?;
    Ok(plan)
}

/// The rows as a batch of two text columns.
pub(super) fn batch(schema: &SchemaRef, rows: Vec<(String, String)>) -> Result<RecordBatch> {
    let (kinds, texts): (Vec<_>, Vec<_>) = rows.into_iter().unzip();
    let columns: Vec<_> = [kinds, texts].map(|column| Arc::new(StringArray::from(column)) as _).into();
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}

fn stages(planned: &Planned) -> String {
    let mut text = String::new();
    for stage in &planned.graph.stages {
        let shown = stage.to_string();
        let (head, plan) = shown.split_once('\n').unwrap_or((&shown, ""));
        let place = place(stage, &planned.graph, &planned.shape);
        writeln!(text, "{head}\n  runs as {place}\n{}", plan.trim_end())
            .expect("a String takes what is written");
    }
    if planned.write_here.is_some() {
        text += "the rows are written by the driver\n";
    }
    text.truncate(text.trim_end().len());
    text
}

/// Where a stage would run: how many tasks of how many lanes, over how many executors.
pub(super) fn place(stage: &Stage, graph: &StageGraph, shape: &ClusterShape) -> String {
    if let Place::Driver(why) = &graph.place {
        return format!("one task in the driver, because {why}");
    }
    let lanes = if shape.local { stage.partitions } else { shape.cores_per_executor.min(stage.partitions) };
    let tasks = stage.tasks(lanes);
    let lanes = format!("{lanes} lane{}", plural(lanes));
    if shape.local {
        return format!("{tasks} task{} of {lanes} in this process", plural(tasks));
    }
    let executors = tasks.min(shape.executors);
    format!("{tasks} task{} of {lanes} over {executors} executor{}", plural(tasks), plural(executors))
}

pub(super) fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}
