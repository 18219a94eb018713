//! Rows that a join will drop are dropped near where they are read.

mod memo;

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{AsArray, BooleanArray};
use datafusion::arrow::compute::{BatchCoalescer, filter_record_batch};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Statistics, exec_err};
use datafusion::datasource::physical_plan::FileScanConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::Result;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::{Column, DynamicFilterPhysicalExpr, Literal};
use datafusion::physical_expr::{PhysicalExpr, split_conjunction};
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::statistics::{ChildStats, StatisticsArgs};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::{StreamExt, stream};

use self::memo::{Answer, Memo};
use super::plan_boilerplate;

/// Rows after which it is known whether a filter is worth its time.
const SAMPLE_ROWS: usize = 32 << 10;
/// A filter that lets more than this part of the rows pass, in percent, is not worth it: the join looks the same rows up.
const PASSED_PERCENT_MAX: usize = 10;
/// The same for one that mostly remembers, which costs a tenth.
const REMEMBERED_PERCENT_MAX: usize = 80;
/// Batches that such a filter is let alone for, before it is tried again: what a scan reads may change within a file.
const REST_BATCHES: usize = 128;

type Plan = Arc<dyn ExecutionPlan>;
type Expr = Arc<dyn PhysicalExpr>;

/// Applies filters that joins make while they run to the rows of the scan that they were handed to.
///
/// A scan by itself only skips row groups and pages by them. What lies between the scan and the join, an exchange or an
/// aggregation, is spared the rows. Each filter is dropped for a while where it turns out to let most rows pass.
#[derive(Debug)]
pub struct RuntimeFilterExec {
    input: Plan,
    picks: Vec<usize>,
    filters: Vec<Expr>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl RuntimeFilterExec {
    /// Applies those filters to `input` that stand at the places `picks` among [`runtime_filters`] of it.
    ///
    /// # Errors
    /// When one of them is not there.
    pub fn over(input: Plan, picks: Vec<usize>) -> Result<Self> {
        let known = runtime_filters(&input)?;
        let filters = picks.iter().map(|&pick| match known.get(pick) {
            Some(Some(filter)) => Ok(Arc::clone(filter)),
            _ => exec_err!("the scan has no runtime filter {pick}"),
        });
        let filters = filters.collect::<Result<_>>()?;
        let properties = Arc::clone(input.properties());
        Ok(Self { input, picks, filters, properties, metrics: ExecutionPlanMetricsSet::new() })
    }

    /// The places of its filters among those of the scan.
    #[must_use]
    pub fn picks(&self) -> &[usize] {
        &self.picks
    }

    /// The same over another input with the same columns.
    fn with_input(&self, input: Plan) -> Plan {
        let properties = Arc::clone(input.properties());
        Arc::new(Self {
            input,
            picks: self.picks.clone(),
            filters: self.filters.clone(),
            properties,
            metrics: ExecutionPlanMetricsSet::new(),
        })
    }
}

impl DisplayAs for RuntimeFilterExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let on = self.filters.iter().map(|filter| {
            let columns: Vec<_> = filter.children().into_iter().map(ToString::to_string).collect();
            columns.join(" and ")
        });
        write!(f, "RuntimeFilterExec: on=[{}]", on.collect::<Vec<_>>().join(", "))
    }
}

impl ExecutionPlan for RuntimeFilterExec {
    plan_boilerplate!(RuntimeFilterExec, |filter, mut children| Ok(
        filter.with_input(children.swap_remove(0))
    ));

    fn children(&self) -> Vec<&Plan> {
        vec![&self.input]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let batch_rows = context.session_config().batch_size();
        let pool = Arc::clone(context.memory_pool());
        let filters = self.filters.iter().map(|filter| Watched::new(filter, &self.schema(), &pool));
        let filtering = Filtering {
            input: self.input.execute(partition, context)?,
            filters: filters.collect::<Result<_>>()?,
            kept: BatchCoalescer::new(self.schema(), batch_rows)
                .with_biggest_coalesce_batch_size(Some(batch_rows / 2)),
            ended: false,
            metrics: BaselineMetrics::new(&self.metrics, partition),
        };
        let batches = stream::try_unfold(filtering, |mut filtering| async {
            let batch = filtering.next().await?;
            Ok(batch.map(|batch| (batch, filtering)))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), batches)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        vec![ChildStats::At(partition)]
    }

    fn statistics_from_inputs(
        &self,
        input_stats: &[Arc<Statistics>],
        _args: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        Ok(Arc::new(input_stats[0].as_ref().clone().to_inexact()))
    }
}

/// One partition on its way.
struct Filtering {
    input: SendableRecordBatchStream,
    filters: Vec<Watched>,
    kept: BatchCoalescer,
    ended: bool,
    metrics: BaselineMetrics,
}

impl Filtering {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            if let Some(batch) = self.kept.next_completed_batch() {
                self.metrics.record_output(batch.num_rows());
                return Ok(Some(batch));
            }
            if self.ended {
                return Ok(None);
            }
            match self.input.next().await.transpose()? {
                Some(batch) => self.take(batch)?,
                None => {
                    self.ended = true;
                    self.kept.finish_buffered_batch()?;
                }
            }
        }
    }

    fn take(&mut self, mut batch: RecordBatch) -> Result<()> {
        let time = self.metrics.elapsed_compute().clone();
        let _timer = time.timer();
        for filter in &mut self.filters {
            if let Some(passes) = filter.passes(&batch)? {
                batch = filter_record_batch(&batch, &passes)?;
            }
        }
        Ok(self.kept.push_batch(batch)?)
    }
}

/// A filter, and what came of it.
struct Watched {
    filter: Expr,
    /// What it said of values, when it is of one column of whole numbers, and that column.
    memo: Option<(usize, Memo)>,
    rows: usize,
    passed: usize,
    resting: usize,
}

impl Watched {
    fn new(filter: &Expr, schema: &SchemaRef, pool: &Arc<dyn MemoryPool>) -> Result<Self> {
        let memo = match filter.children().as_slice() {
            [child] => child.downcast_ref::<Column>().map(|column| memo(filter, column, schema, pool)),
            _ => None,
        };
        let memo = memo.transpose()?.flatten();
        Ok(Self { filter: Arc::clone(filter), memo, rows: 0, passed: 0, resting: 0 })
    }

    /// Which rows pass; `None` when all may.
    fn passes(&mut self, batch: &RecordBatch) -> Result<Option<BooleanArray>> {
        if self.resting > 0 {
            self.resting -= 1;
            return Ok(None);
        }
        if batch.num_rows() == 0 || !is_made(&self.filter)? {
            return Ok(None);
        }
        let passes = self.ask(batch)?;
        self.count(passes.len(), passes.true_count());
        Ok(Some(passes))
    }

    fn ask(&mut self, batch: &RecordBatch) -> Result<BooleanArray> {
        if let Some((column, memo)) = &mut self.memo {
            match memo.ask(batch.column(*column))? {
                Answer::Known(passes) => return Ok(passes),
                Answer::TooWide => self.memo = None,
            }
        }
        let passes = self.filter.evaluate(batch)?.into_array(batch.num_rows())?;
        Ok(passes.as_boolean().clone())
    }

    fn count(&mut self, rows: usize, passed: usize) {
        self.rows += rows;
        self.passed += passed;
        if self.rows >= SAMPLE_ROWS {
            let remembers = self.memo.as_mut().is_some_and(|(_, memo)| memo.knew_most());
            let percent_max = if remembers { REMEMBERED_PERCENT_MAX } else { PASSED_PERCENT_MAX };
            if self.passed * 100 > self.rows * percent_max {
                self.resting = REST_BATCHES;
            }
            (self.rows, self.passed) = (0, 0);
        }
    }
}

/// A memo of a filter of that column alone, when it can have one.
fn memo(
    filter: &Expr,
    column: &Column,
    schema: &SchemaRef,
    pool: &Arc<dyn MemoryPool>,
) -> Result<Option<(usize, Memo)>> {
    let alone: Expr = Arc::new(Column::new(column.name(), 0));
    let of_column = Arc::clone(filter).with_new_children(vec![alone])?;
    let memory = MemoryConsumer::new("RuntimeFilter").register(pool);
    let memo = Memo::new(of_column, schema.field(column.index()).data_type(), memory);
    Ok(memo.map(|memo| (column.index(), memo)))
}

/// Whether the join has made its filter: before that, all rows pass.
fn is_made(filter: &Expr) -> Result<bool> {
    match filter.downcast_ref::<DynamicFilterPhysicalExpr>() {
        Some(filter) => Ok(!filter.current()?.is::<Literal>()),
        None => Ok(true),
    }
}

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

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::Int64Array;
    use datafusion::arrow::datatypes::{DataType, Field, Schema};
    use datafusion::execution::memory_pool::UnboundedMemoryPool;
    use datafusion::logical_expr::Operator;
    use datafusion::physical_expr::expressions::{binary, col, lit};

    use super::*;

    fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new("k", DataType::Int64, false)]))
    }

    fn batch(from: i64, rows: i64) -> RecordBatch {
        let column = Int64Array::from_iter_values(from..from + rows);
        RecordBatch::try_new(schema(), vec![Arc::new(column)]).unwrap()
    }

    fn below(limit: i64) -> Expr {
        binary(col("k", &schema()).unwrap(), Operator::Lt, lit(limit), &schema()).unwrap()
    }

    fn filter() -> Arc<DynamicFilterPhysicalExpr> {
        Arc::new(DynamicFilterPhysicalExpr::new(vec![col("k", &schema()).unwrap()], lit(true)))
    }

    /// The rows that come out of `batches`; `before` is called before each of them is read.
    async fn rows(
        filter: &Arc<DynamicFilterPhysicalExpr>,
        batches: Vec<RecordBatch>,
        before: impl Fn(usize) + Send + 'static,
    ) -> Vec<i64> {
        let metrics = ExecutionPlanMetricsSet::new();
        let pool: Arc<dyn MemoryPool> = Arc::new(UnboundedMemoryPool::default());
        let input = stream::iter(batches.into_iter().enumerate().map(move |(number, batch)| {
            before(number);
            Ok(batch)
        }));
        let mut filtering = Filtering {
            input: Box::pin(RecordBatchStreamAdapter::new(schema(), input)),
            filters: vec![Watched::new(&(Arc::clone(filter) as Expr), &schema(), &pool).unwrap()],
            kept: BatchCoalescer::new(schema(), 8192).with_biggest_coalesce_batch_size(Some(4096)),
            ended: false,
            metrics: BaselineMetrics::new(&metrics, 0),
        };
        let mut rows = Vec::new();
        while let Some(batch) = filtering.next().await.unwrap() {
            let column = batch.column(0).as_primitive::<datafusion::arrow::datatypes::Int64Type>();
            rows.extend_from_slice(column.values());
        }
        rows
    }

    #[tokio::test]
    async fn rows_are_dropped_from_the_moment_the_filter_is_made_and_keep_their_order() {
        let filter = filter();
        let made = Arc::clone(&filter);
        let before = move |number: usize| {
            if number == 1 {
                made.update(below(15)).unwrap();
            }
        };
        let found = rows(&filter, vec![batch(18, 3), batch(0, 10), batch(10, 10)], before).await;
        assert_eq!(found, [vec![18, 19, 20], (0..15).collect()].concat());
    }

    #[tokio::test]
    async fn a_filter_that_drops_little_is_let_alone_and_tried_again() {
        let filter = filter();
        filter.update(below(90_000)).unwrap();
        let sampled = SAMPLE_ROWS as i64 / 8192;
        // Rows that pass while the sample is taken; then those that would not, while it rests; then some more.
        let mut batches: Vec<_> = (0..sampled).map(|number| batch(number * 8192, 8192)).collect();
        batches.extend((0..REST_BATCHES as i64).map(|number| batch(100_000 + number, 1)));
        batches.push(batch(200_000, 5));
        let found = rows(&filter, batches, |_| ()).await;
        assert_eq!(found.len(), SAMPLE_ROWS + REST_BATCHES);
        assert!(found.iter().all(|row| *row < 200_000));
    }
}
