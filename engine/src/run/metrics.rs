//! What an attempt measured.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::physical_plan::metrics::{MetricValue, MetricsSet};
use datafusion::physical_plan::{ExecutionPlan, displayable};
use serde::{Deserialize, Serialize};

/// Totals of one attempt.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskMetrics {
    /// Rows written.
    pub rows_out: u64,
    /// Bytes written, as blocks.
    pub bytes_out: u64,
    /// Bytes of blocks fetched.
    pub bytes_fetched: u64,
    /// Bytes of operator state spilled.
    pub spilled_bytes: u64,
    /// Bytes of tables read.
    pub bytes_read: u64,
    /// Bytes copied for the blocks written and fetched: into frames, into a socket and out of one, out of a file. What is
    /// fetched by pointer or in shared memory is not copied.
    pub bytes_copied: u64,
    /// What each operator measured, when EXPLAIN ANALYZE asks for it.
    pub operators: Option<StageMetrics>,
}

/// One attempt's operators with what each measured.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageMetrics {
    /// The stage.
    pub stage: u32,
    /// The task.
    pub task: u32,
    /// Rows written.
    pub rows_out: u64,
    /// Bytes written, as blocks.
    pub bytes_out: u64,
    /// The plan's operators, each before its inputs.
    pub operators: Vec<OperatorMetrics>,
}

/// An operator of a task's plan and what it measured, over all its partitions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorMetrics {
    /// How deep it stands in the plan.
    pub depth: usize,
    /// As EXPLAIN prints it.
    pub text: String,
    /// Sums by name.
    pub measures: BTreeMap<String, Measure>,
}

/// A sum that can be added to others of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Measure {
    /// Things.
    Count(u64),
    /// Bytes.
    Bytes(u64),
    /// Nanoseconds.
    Nanos(u64),
}

/// The sum of one measure over all operators of a plan.
pub(super) fn sum_over(plan: &Arc<dyn ExecutionPlan>, measure: fn(&MetricsSet) -> Option<usize>) -> u64 {
    let own = plan.metrics().and_then(|metrics| measure(&metrics)).unwrap_or(0) as u64;
    own + plan.children().into_iter().map(|child| sum_over(child, measure)).sum::<u64>()
}

/// What scans count the bytes that they read as.
const BYTES_SCANNED: &str = "bytes_scanned";

/// Bytes of tables that the plan has read.
pub(super) fn bytes_read(plan: &Arc<dyn ExecutionPlan>) -> u64 {
    sum_over(plan, |metrics| metrics.sum_by_name(BYTES_SCANNED).map(|sum| sum.as_usize()))
}

/// Bytes of operator state that the plan has spilled.
pub(super) fn spilled_bytes(plan: &Arc<dyn ExecutionPlan>) -> u64 {
    sum_over(plan, MetricsSet::spilled_bytes)
}

impl OperatorMetrics {
    /// The operators of `plan`, each before its inputs.
    #[must_use]
    pub fn of_plan(plan: &Arc<dyn ExecutionPlan>) -> Vec<Self> {
        let mut operators = Vec::new();
        collect(plan, 0, &mut operators);
        operators
    }
}

fn collect(plan: &Arc<dyn ExecutionPlan>, depth: usize, operators: &mut Vec<OperatorMetrics>) {
    let text = displayable(plan.as_ref()).one_line().to_string().trim_end().to_owned();
    let measures = plan.metrics().map(|metrics| measures(&metrics)).unwrap_or_default();
    operators.push(OperatorMetrics { depth, text, measures });
    plan.children().into_iter().for_each(|child| collect(child, depth + 1, operators));
}

fn measures(metrics: &MetricsSet) -> BTreeMap<String, Measure> {
    let sums = metrics.aggregate_by_name();
    sums.iter()
        .filter_map(|metric| Some((metric.value().name().to_owned(), measure(metric.value())?)))
        .collect()
}

fn measure(value: &MetricValue) -> Option<Measure> {
    let amount = value.as_usize() as u64;
    match value {
        MetricValue::OutputRows(_)
        | MetricValue::OutputBatches(_)
        | MetricValue::SpillCount(_)
        | MetricValue::SpilledRows(_)
        | MetricValue::Count { .. }
        | MetricValue::Gauge { .. } => Some(Measure::Count(amount)),
        MetricValue::SpilledBytes(_)
        | MetricValue::OutputBytes(_)
        | MetricValue::CurrentMemoryUsage(_)
        | MetricValue::PeakMemoryUsage { .. } => Some(Measure::Bytes(amount)),
        MetricValue::ElapsedCompute(_) | MetricValue::Time { .. } => Some(Measure::Nanos(amount)),
        // Instants and ratios do not add up.
        _ => None,
    }
}
