//! The whole numbers of a `generate_series` or `range`, in parts.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Int64Array};
use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::common::stats::Precision;
use datafusion::common::{Statistics, exec_err};
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::functions_table::generate_series::GenericSeriesState;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalSortExpr};
use datafusion::physical_plan::coop::cooperative;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, SchedulingType};
use datafusion::physical_plan::memory::LazyMemoryExec;
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};
use futures::{StreamExt, stream};

use super::plan_boilerplate;

/// A series shorter than this for each partition has fewer partitions: a task costs more than these numbers.
const NUMBERS_PER_PARTITION_MIN: u64 = 1 << 16;

/// The numbers `start`, `start + step`, ... up to `count` of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Series {
    /// The first number.
    pub start: i64,
    /// What each is more than the one before; never 0.
    pub step: i64,
    /// How many there are.
    pub count: u64,
}

impl Series {
    /// The numbers from `start` on, by steps, that do not pass `end`; `end` itself is one of them when `closed`.
    #[must_use]
    pub fn between(start: i64, end: i64, step: i64, closed: bool) -> Self {
        let (distance, stride) = if step > 0 {
            (i128::from(end) - i128::from(start), i128::from(step))
        } else {
            (i128::from(start) - i128::from(end), -i128::from(step))
        };
        let last = if closed { distance } else { distance - 1 };
        let count = if last < 0 || stride == 0 { 0 } else { last / stride + 1 };
        Self { start, step, count: u64::try_from(count).unwrap_or(u64::MAX) }
    }

    /// The number at a place, counted from 0.
    fn at(&self, place: u64) -> i64 {
        let number = i128::from(self.start) + i128::from(self.step) * i128::from(place);
        i64::try_from(number).expect("the series ends before its numbers do not fit")
    }

    /// The places of part `part` of `parts`.
    fn part(&self, part: usize, parts: usize) -> Range<u64> {
        let cut = |part: usize| {
            let place = u128::from(self.count) * part as u128 / parts as u128;
            u64::try_from(place).expect("a part of a count is no larger")
        };
        cut(part)..cut(part + 1)
    }
}

/// A leaf: a series, divided among its partitions in order.
#[derive(Debug)]
pub struct SeriesExec {
    series: Series,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl SeriesExec {
    /// `series` in a schema of one column, or of none where only the number of rows counts.
    ///
    /// # Errors
    /// When the schema has other columns, or the series could not end.
    pub fn try_new(series: Series, schema: SchemaRef, partitions: usize) -> Result<Self> {
        let fits = match schema.fields().as_ref() {
            [] => true,
            [only] => *only.data_type() == DataType::Int64,
            _ => false,
        };
        let last =
            i128::from(series.start) + i128::from(series.step) * i128::from(series.count.saturating_sub(1));
        if !fits || partitions == 0 || series.step == 0 || i64::try_from(last).is_err() {
            return exec_err!(
                "a series of {series:?} in {partitions} partitions cannot have the columns {schema}"
            );
        }
        let mut equivalences = EquivalenceProperties::new(Arc::clone(&schema));
        if let [only] = schema.fields().as_ref() {
            let options = SortOptions { descending: series.step < 0, nulls_first: false };
            equivalences
                .add_ordering([PhysicalSortExpr::new(Arc::new(Column::new(only.name(), 0)), options)]);
        }
        let partitioning = Partitioning::UnknownPartitioning(partitions);
        let properties =
            PlanProperties::new(equivalences, partitioning, EmissionType::Incremental, Boundedness::Bounded)
                .with_scheduling_type(SchedulingType::Cooperative);
        Ok(Self { series, properties: Arc::new(properties), metrics: ExecutionPlanMetricsSet::new() })
    }

    /// What DataFusion plans for a series of whole numbers, in at most `partitions_max` partitions; `None` for other
    /// plans.
    pub fn of(plan: &Arc<dyn ExecutionPlan>, partitions_max: usize) -> Result<Option<Self>> {
        let Some([generator]) =
            plan.downcast_ref::<LazyMemoryExec>().map(|lazy| lazy.generators().as_slice())
        else {
            return Ok(None);
        };
        let generator = generator.read();
        let Some(state) = generator.as_any().downcast_ref::<GenericSeriesState<i64>>() else {
            return Ok(None);
        };
        let series = Series::between(*state.start(), *state.end(), *state.step(), state.include_end());
        let useful = usize::try_from(series.count / NUMBERS_PER_PARTITION_MIN).unwrap_or(usize::MAX);
        let partitions = partitions_max.min(useful).max(1);
        Self::try_new(series, plan.schema(), partitions).map(Some)
    }

    /// The series.
    #[must_use]
    pub fn series(&self) -> Series {
        self.series
    }

    fn partitions(&self) -> usize {
        self.properties.output_partitioning().partition_count()
    }
}

impl DisplayAs for SeriesExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Series { start, step, count } = self.series;
        write!(f, "SeriesExec: start={start}, step={step}, count={count}, partitions={}", self.partitions())
    }
}

impl ExecutionPlan for SeriesExec {
    plan_boilerplate!(SeriesExec, |series, _children| Ok(Arc::new(Self {
        series: series.series,
        properties: Arc::clone(&series.properties),
        metrics: ExecutionPlanMetricsSet::new(),
    })));

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        if partition >= self.partitions() {
            return exec_err!("a series of {} partitions has no partition {partition}", self.partitions());
        }
        let schema = self.schema();
        let series = self.series;
        let places = series.part(partition, self.partitions());
        let rows = context.session_config().batch_size().max(1) as u64;
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let batch_schema = Arc::clone(&schema);
        let batches = stream::iter(chunks(places, rows)).map(move |chunk| {
            let batch = numbers(series, chunk, &batch_schema)?;
            metrics.record_output(batch.num_rows());
            Ok(batch)
        });
        Ok(Box::pin(cooperative(RecordBatchStreamAdapter::new(schema, batches))))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn statistics_from_inputs(
        &self,
        _input_stats: &[Arc<Statistics>],
        args: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        let rows = match args.partition() {
            Some(partition) => {
                let places = self.series.part(partition, self.partitions());
                places.end - places.start
            }
            None => self.series.count,
        };
        let rows = usize::try_from(rows).map_or(Precision::Absent, Precision::Exact);
        Ok(Arc::new(Statistics::new_unknown(&self.schema()).with_num_rows(rows)))
    }
}

/// `places` in pieces of at most `rows`.
fn chunks(places: Range<u64>, rows: u64) -> impl Iterator<Item = Range<u64>> {
    let end = places.end;
    let mut next = places.start;
    std::iter::from_fn(move || {
        let start = next;
        next = start.saturating_add(rows).min(end);
        (start < end).then_some(start..next)
    })
}

fn numbers(series: Series, places: Range<u64>, schema: &SchemaRef) -> Result<RecordBatch> {
    let rows = usize::try_from(places.end - places.start).expect("a batch's rows are few");
    let columns: Vec<ArrayRef> = if schema.fields().is_empty() {
        Vec::new()
    } else {
        // The numbers fit, so wrapping arithmetic gives them, and is quick.
        let first = series.at(places.start);
        let number = |at: i64| first.wrapping_add(series.step.wrapping_mul(at));
        vec![Arc::new(Int64Array::from_iter_values((0..rows as i64).map(number)))]
    };
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::AsArray;
    use datafusion::arrow::datatypes::{Field, Int64Type, Schema};

    use super::*;

    fn all(series: Series, parts: usize) -> Vec<i64> {
        let places = (0..parts).flat_map(|part| series.part(part, parts));
        places.map(|place| series.at(place)).collect()
    }

    #[test]
    fn a_series_ends_where_sql_says() {
        for (start, end, step, closed, expected) in [
            (1, 5, 2, true, vec![1, 3, 5]),
            (1, 5, 2, false, vec![1, 3]),
            (1, 6, 2, false, vec![1, 3, 5]),
            (5, 1, -2, true, vec![5, 3, 1]),
            (5, 1, -2, false, vec![5, 3]),
            (3, 3, 1, true, vec![3]),
            (3, 3, 1, false, vec![]),
            (5, 1, 1, true, vec![]),
            (1, 5, -1, true, vec![]),
            (i64::MAX - 1, i64::MAX, 1, true, vec![i64::MAX - 1, i64::MAX]),
            (i64::MIN, i64::MIN + 3, 2, true, vec![i64::MIN, i64::MIN + 2]),
            (i64::MIN, i64::MAX, i64::MAX, true, vec![i64::MIN, -1, i64::MAX - 1]),
        ] {
            let series = Series::between(start, end, step, closed);
            for parts in [1, 2, 3, 7] {
                assert_eq!(all(series, parts), expected, "{start}..{end} by {step}, {parts} parts");
            }
        }
    }

    #[test]
    fn batches_hold_the_numbers_of_their_places() {
        let schema = Arc::new(Schema::new(vec![Field::new("value", DataType::Int64, false)]));
        for series in
            [Series { start: i64::MIN, step: i64::MAX, count: 3 }, Series { start: 9, step: -4, count: 70 }]
        {
            let places = 1..series.count;
            let batch = numbers(series, places.clone(), &schema).unwrap();
            let expected: Vec<i64> = places.map(|place| series.at(place)).collect();
            assert_eq!(batch.column(0).as_primitive::<Int64Type>().values(), expected.as_slice());
        }
    }

    #[test]
    fn chunks_cover_all_places_once() {
        let chunks: Vec<_> = chunks(3..10, 3).collect();
        assert_eq!(chunks, [3..6, 6..9, 9..10]);
    }
}
