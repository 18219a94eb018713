//! EXPLAIN ANALYZE: runs the job, then shows what each stage's operators measured, over all its tasks.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::Session;
use datafusion::common::not_impl_err;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Analyze, ExplainFormat};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use firesteel_base::{ByteSize, StageId};
use futures::{StreamExt, TryStreamExt};

use super::explain::{batch, place, plural};
use super::job::one_partition;
use super::planner::JobPlanner;
use crate::ops::plan_boilerplate;
use crate::run::{Measure, OperatorMetrics, StageMetrics};
use crate::runner::MetricsSink;

/// The operator whose rows are the answer to EXPLAIN ANALYZE.
pub(super) async fn analyze(
    planner: &JobPlanner,
    analyze: &Analyze,
    session: &dyn Session,
) -> Result<Arc<dyn ExecutionPlan>> {
    if analyze.format != ExplainFormat::Indent {
        return not_impl_err!("EXPLAIN ANALYZE in another format than the indented one");
    }
    let planned = planner.plan(&analyze.input, session).await?;
    let stages = planned.graph.stages.iter().map(|stage| Head {
        title: format!("stage {}", stage.id),
        output: stage.output.to_string(),
        place: place(stage, &planned.graph, &planned.shape),
    });
    let stages = stages.collect();
    let sink = Arc::new(MetricsSink::default());
    let job = planner.job(planned, Some(Arc::clone(&sink)))?;
    let schema = Arc::clone(analyze.schema.inner());
    let properties = one_partition(schema);
    Ok(Arc::new(AnalyzeJobExec { job, sink, stages, verbose: analyze.verbose, properties }))
}

/// What is known of a stage before it runs.
#[derive(Debug, Clone)]
struct Head {
    title: String,
    output: String,
    place: String,
}

/// Runs a job for its measures and drops its rows.
#[derive(Debug)]
struct AnalyzeJobExec {
    job: Arc<dyn ExecutionPlan>,
    sink: Arc<MetricsSink>,
    stages: Vec<Head>,
    verbose: bool,
    properties: Arc<PlanProperties>,
}

impl DisplayAs for AnalyzeJobExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AnalyzeJobExec: verbose={}", self.verbose)
    }
}

impl ExecutionPlan for AnalyzeJobExec {
    plan_boilerplate!(AnalyzeJobExec, |analyze, mut children| Ok(Arc::new(Self {
        job: children.swap_remove(0),
        sink: Arc::clone(&analyze.sink),
        stages: analyze.stages.clone(),
        verbose: analyze.verbose,
        properties: Arc::clone(&analyze.properties),
    })));

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.job]
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let mut rows = self.job.execute(partition, context)?;
        let (sink, stages, verbose) = (Arc::clone(&self.sink), self.stages.clone(), self.verbose);
        let schema: SchemaRef = self.schema();
        let answer_schema = Arc::clone(&schema);
        let answer = async move {
            let start = Instant::now();
            let mut count = 0;
            while let Some(batch) = rows.try_next().await? {
                count += batch.num_rows();
            }
            let took = start.elapsed();
            let mut answer = report(&stages, sink.taken(), &sink.notes(), verbose);
            answer.push(("total".to_owned(), format!("{count} row{} in {took:.1?}", plural(count))));
            batch(&answer_schema, answer)
        };
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, futures::stream::once(answer).boxed())))
    }
}

/// A row for each stage, and with `verbose` one for each of its tasks.
fn report(
    stages: &[Head],
    measured: Vec<StageMetrics>,
    notes: &[(StageId, String)],
    verbose: bool,
) -> Vec<(String, String)> {
    let mut by_stage: BTreeMap<u32, Vec<StageMetrics>> = BTreeMap::new();
    for metrics in measured {
        by_stage.entry(metrics.stage).or_default().push(metrics);
    }
    let mut rows = Vec::new();
    for (number, head) in (0..).zip(stages) {
        let mut tasks = by_stage.remove(&number).unwrap_or_default();
        tasks.sort_by_key(|metrics| metrics.task);
        let decided =
            notes.iter().filter(|(stage, _)| stage.0 == number).map(|(_, decision)| decision.as_str());
        rows.push((head.title.clone(), stage_text(head, &tasks, decided)));
        if verbose {
            let task_row =
                |task: &StageMetrics| (format!("{} task {}", head.title, task.task), task_text(task));
            rows.extend(tasks.iter().map(task_row));
        }
    }
    rows
}

fn stage_text<'a>(head: &Head, tasks: &[StageMetrics], decided: impl Iterator<Item = &'a str>) -> String {
    let rows: u64 = tasks.iter().map(|task| task.rows_out).sum();
    let bytes: u64 = tasks.iter().map(|task| task.bytes_out).sum();
    let mut text = format!("-> {}, ran as {}\n", head.output, head.place);
    let measured = tasks.len();
    writeln!(
        text,
        "{measured} attempt{} committed, rows={rows}, bytes={}",
        plural(measured),
        ByteSize(bytes)
    )
    .expect("a String takes what is written");
    for decision in decided {
        text += decision;
        text.push('\n');
    }
    text + &operators_text(&merged(tasks))
}

fn task_text(task: &StageMetrics) -> String {
    let head = format!("rows={}, bytes={}\n", task.rows_out, ByteSize(task.bytes_out));
    head + &operators_text(&task.operators)
}

/// The operators of a stage with the sums over its tasks. Tasks of a stage run the same plan, narrowed: the same operators
/// in the same order, but for those that have nothing to read.
fn merged(tasks: &[StageMetrics]) -> Vec<OperatorMetrics> {
    let Some(longest) = tasks.iter().max_by_key(|task| task.operators.len()) else {
        return Vec::new();
    };
    let mut sums = longest.operators.clone();
    for task in tasks.iter().filter(|task| task.task != longest.task) {
        let mut at = 0;
        for operator in &task.operators {
            let name = operator_name(&operator.text);
            let same =
                |sum: &OperatorMetrics| sum.depth == operator.depth && operator_name(&sum.text) == name;
            if let Some(found) = sums[at..].iter().position(same) {
                at += found;
                add(&mut sums[at].measures, &operator.measures);
                at += 1;
            }
        }
    }
    sums
}

fn operator_name(text: &str) -> &str {
    text.split(':').next().unwrap_or(text)
}

fn add(sums: &mut BTreeMap<String, Measure>, more: &BTreeMap<String, Measure>) {
    for (name, measure) in more {
        let sum = sums.entry(name.clone()).or_insert(match measure {
            Measure::Count(_) => Measure::Count(0),
            Measure::Bytes(_) => Measure::Bytes(0),
            Measure::Nanos(_) => Measure::Nanos(0),
        });
        match (sum, measure) {
            (Measure::Count(sum), Measure::Count(more))
            | (Measure::Bytes(sum), Measure::Bytes(more))
            | (Measure::Nanos(sum), Measure::Nanos(more)) => *sum += more,
            // A name that means different things in two tasks cannot be summed.
            _ => {}
        }
    }
}

fn operators_text(operators: &[OperatorMetrics]) -> String {
    let mut text = String::new();
    for operator in operators {
        let measures = operator.measures.iter().filter_map(|(name, measure)| Some((name, shown(*measure)?)));
        let measures: Vec<_> = measures.map(|(name, value)| format!("{name}={value}")).collect();
        let indent = "  ".repeat(operator.depth);
        writeln!(text, "{indent}{}, metrics=[{}]", operator.text, measures.join(", "))
            .expect("a String takes what is written");
    }
    text.truncate(text.trim_end().len());
    text
}

/// A measure for people; nothing for what did not happen.
fn shown(measure: Measure) -> Option<String> {
    match measure {
        Measure::Count(0) | Measure::Bytes(0) | Measure::Nanos(0) => None,
        Measure::Count(count) => Some(count.to_string()),
        Measure::Bytes(bytes) => Some(ByteSize(bytes).to_string()),
        Measure::Nanos(nanos) => Some(format!("{:.1?}", Duration::from_nanos(nanos))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operator(depth: usize, text: &str, rows: u64) -> OperatorMetrics {
        let measures = BTreeMap::from([("output_rows".to_owned(), Measure::Count(rows))]);
        OperatorMetrics { depth, text: text.to_owned(), measures }
    }

    #[test]
    fn tasks_of_a_stage_are_summed_operator_by_operator() {
        let task = |task, operators| StageMetrics { task, rows_out: 2, bytes_out: 512, operators, stage: 0 };
        let tasks = [
            task(0, vec![operator(0, "FilterExec: a", 2), operator(1, "ScanExec: x", 5)]),
            task(1, vec![operator(0, "FilterExec: a", 3), operator(1, "ScanExec: y", 7)]),
        ];
        let head = Head { title: "stage s0".into(), output: "result".into(), place: "2 tasks".into() };
        assert_eq!(
            stage_text(&head, &tasks, ["adapted: less"].into_iter()),
            "-> result, ran as 2 tasks\n2 attempts committed, rows=4, bytes=1KiB\nadapted: less\n\
             FilterExec: a, metrics=[output_rows=5]\n  ScanExec: y, metrics=[output_rows=12]"
        );
    }
}
