//! A lane's rows on their way to a reader that wants those of one range.

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::exec_err;
use datafusion::error::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::stream::BoxStream;
use futures::{TryStreamExt, stream};

use super::SortKeys;
use super::splits::Range;

/// Takes the rows of a range out of sorted batches.
pub(super) struct Cutter {
    keys: SortKeys,
    range: Range,
    /// The key of the last row that has come.
    last: Option<Box<[u8]>>,
}

/// What a batch has of a range.
struct Cut {
    rows: RecordBatch,
    /// No later batch has more.
    is_past: bool,
}

impl Cutter {
    pub fn new(keys: SortKeys, range: Range) -> Self {
        Self { keys, range, last: None }
    }

    /// The rows of the range in `batches`, which are read no further than it goes.
    pub fn stream(
        self,
        batches: BoxStream<'static, Result<RecordBatch>>,
        schema: SchemaRef,
    ) -> SendableRecordBatchStream {
        let cut = stream::try_unfold((self, Some(batches)), |(mut cutter, mut batches)| async move {
            while let Some(source) = &mut batches {
                let Some(batch) = source.try_next().await? else { return Ok(None) };
                if batch.num_rows() == 0 {
                    continue;
                }
                let cut = cutter.cut(&batch)?;
                if cut.is_past {
                    // Nobody has to send what comes after.
                    batches = None;
                }
                if cut.rows.num_rows() > 0 {
                    return Ok(Some((cut.rows, (cutter, batches))));
                }
            }
            Ok(None)
        });
        Box::pin(RecordBatchStreamAdapter::new(schema, cut))
    }

    /// Cuts a batch with rows, which comes after those that have come.
    fn cut(&mut self, batch: &RecordBatch) -> Result<Cut> {
        let rows = batch.num_rows();
        let (first, last) = (self.keys.of_row(batch, 0)?, self.keys.of_row(batch, rows - 1)?);
        if first > last || self.last.as_ref().is_some_and(|before| *before > first) {
            return exec_err!("rows that were sorted have come in another order");
        }
        let start = match &self.range.lower {
            Some(lower) if first < *lower => self.place(batch, lower)?,
            _ => 0,
        };
        let (end, is_past) = match &self.range.upper {
            Some(upper) if last >= *upper => (self.place(batch, upper)?, true),
            _ => (rows, false),
        };
        self.last = Some(last);
        // A batch may lie before the range, or past it.
        Ok(Cut { rows: batch.slice(start, end.saturating_sub(start)), is_past })
    }

    /// How many rows of `batch` have keys before `bound`.
    fn place(&self, batch: &RecordBatch, bound: &[u8]) -> Result<usize> {
        let (mut low, mut high) = (0, batch.num_rows());
        while low < high {
            let middle = low.midpoint(high);
            match *self.keys.of_row(batch, middle)? < *bound {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        Ok(low)
    }
}
