//! A filter on its way through rows, and whether it is worth its time.

use std::sync::Arc;

use datafusion::arrow::array::{AsArray, BooleanArray};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::error::Result;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool};
use datafusion::physical_expr::expressions::{Column, DynamicFilterPhysicalExpr, Literal};

use super::Expr;
use super::key_set::KeySet;
use super::memo::{Answer, Memo};

/// Rows after which it is known whether a filter is worth its time.
pub(super) const SAMPLE_ROWS: usize = 32 << 10;
/// A filter that lets more than this part of the rows pass, in percent, is not worth it: the join looks the same rows up.
const PASSED_PERCENT_MAX: usize = 10;
/// The same for one that mostly remembers, or looks into a set of keys, which costs a tenth.
const QUICK_PERCENT_MAX: usize = 80;
/// Batches that such a filter is let alone for, before it is tried again: what a scan reads may change within a file.
pub(super) const REST_BATCHES: usize = 128;

/// A filter, and what came of it.
pub(super) struct Watched {
    filter: Filter,
    rows: usize,
    passed: usize,
    resting: usize,
}

enum Filter {
    /// A join of the same stage is asked, through what it said of values before when the filter is of one column of
    /// whole numbers; that column.
    Asked { filter: Expr, memo: Option<(usize, Memo)> },
    /// Another stage told the keys that this column may have.
    Told { column: usize, keys: Arc<KeySet> },
}

impl Watched {
    /// The filter of a join of the same stage.
    pub(super) fn asked(filter: &Expr, schema: &SchemaRef, pool: &Arc<dyn MemoryPool>) -> Result<Self> {
        let memo = match filter.children().as_slice() {
            [child] => child.downcast_ref::<Column>().map(|column| memo(filter, column, schema, pool)),
            _ => None,
        };
        let memo = memo.transpose()?.flatten();
        Ok(Self::new(Filter::Asked { filter: Arc::clone(filter), memo }))
    }

    /// That `column` has one of `keys`.
    pub(super) fn told(column: usize, keys: Arc<KeySet>) -> Self {
        Self::new(Filter::Told { column, keys })
    }

    fn new(filter: Filter) -> Self {
        Self { filter, rows: 0, passed: 0, resting: 0 }
    }

    /// Which rows pass; `None` when all may.
    pub(super) fn passes(&mut self, batch: &RecordBatch) -> Result<Option<BooleanArray>> {
        if self.resting > 0 {
            self.resting -= 1;
            return Ok(None);
        }
        if batch.num_rows() == 0 || !self.filter.is_made()? {
            return Ok(None);
        }
        let passes = self.filter.ask(batch)?;
        self.count(passes.len(), passes.true_count());
        Ok(Some(passes))
    }

    fn count(&mut self, rows: usize, passed: usize) {
        self.rows += rows;
        self.passed += passed;
        if self.rows >= SAMPLE_ROWS {
            let percent_max = if self.filter.is_quick() { QUICK_PERCENT_MAX } else { PASSED_PERCENT_MAX };
            if self.passed * 100 > self.rows * percent_max {
                self.resting = REST_BATCHES;
            }
            (self.rows, self.passed) = (0, 0);
        }
    }
}

impl Filter {
    /// Whether the join has made its filter: before that, all rows pass.
    fn is_made(&self) -> Result<bool> {
        let Self::Asked { filter, .. } = self else { return Ok(true) };
        match filter.downcast_ref::<DynamicFilterPhysicalExpr>() {
            Some(filter) => Ok(!filter.current()?.is::<Literal>()),
            None => Ok(true),
        }
    }

    fn ask(&mut self, batch: &RecordBatch) -> Result<BooleanArray> {
        let (filter, memo) = match self {
            Self::Told { column, keys } => return keys.contains(batch.column(*column)),
            Self::Asked { filter, memo } => (filter, memo),
        };
        if let Some((column, remembered)) = memo {
            match remembered.ask(batch.column(*column))? {
                Answer::Known(passes) => return Ok(passes),
                Answer::TooWide => *memo = None,
            }
        }
        let passes = filter.evaluate(batch)?.into_array(batch.num_rows())?;
        Ok(passes.as_boolean().clone())
    }

    /// Whether most rows since the last time this was asked took one look into a table.
    fn is_quick(&mut self) -> bool {
        match self {
            Self::Told { .. } => true,
            Self::Asked { memo, .. } => memo.as_mut().is_some_and(|(_, memo)| memo.knew_most()),
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
