//! The rows of one partition on their way through filters.

use datafusion::arrow::compute::{BatchCoalescer, filter_record_batch};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::error::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::metrics::BaselineMetrics;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{StreamExt, stream};

use super::watched::Watched;

/// One partition on its way.
pub(super) struct Filtering {
    input: SendableRecordBatchStream,
    filters: Vec<Watched>,
    kept: BatchCoalescer,
    ended: bool,
    metrics: BaselineMetrics,
}

impl Filtering {
    /// The rows of `input` that pass `filters`, in batches of `batch_rows`, about.
    pub(super) fn new(
        input: SendableRecordBatchStream,
        filters: Vec<Watched>,
        batch_rows: usize,
        metrics: BaselineMetrics,
    ) -> Self {
        let kept = BatchCoalescer::new(input.schema(), batch_rows)
            .with_biggest_coalesce_batch_size(Some(batch_rows / 2));
        Self { input, filters, kept, ended: false, metrics }
    }

    /// Them as a stream.
    pub(super) fn into_stream(self) -> SendableRecordBatchStream {
        let schema = self.input.schema();
        let batches = stream::try_unfold(self, |mut filtering| async {
            let batch = filtering.next().await?;
            Ok(batch.map(|batch| (batch, filtering)))
        });
        Box::pin(RecordBatchStreamAdapter::new(schema, batches))
    }

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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{AsArray, Int64Array};
    use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
    use datafusion::execution::memory_pool::{MemoryPool, UnboundedMemoryPool};
    use datafusion::logical_expr::Operator;
    use datafusion::physical_expr::expressions::{DynamicFilterPhysicalExpr, binary, col, lit};
    use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
    use futures::TryStreamExt;

    use super::super::Expr;
    use super::super::watched::{REST_BATCHES, SAMPLE_ROWS};
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
        let input = Box::pin(RecordBatchStreamAdapter::new(schema(), input));
        let filter = Arc::clone(filter) as Expr;
        let filters = vec![Watched::asked(&filter, &schema(), &pool).unwrap()];
        let mut filtering =
            Filtering::new(input, filters, 8192, BaselineMetrics::new(&metrics, 0)).into_stream();
        let mut rows = Vec::new();
        while let Some(batch) = filtering.try_next().await.unwrap() {
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
