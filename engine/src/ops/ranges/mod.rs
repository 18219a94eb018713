//! Sorted rows in ranges of their keys.
//!
//! ```text
//!   samples.rs   what a lane that writes sorted rows tells of their keys, beside the rows
//!   splits.rs    where the ranges begin, and from which frame on each lane's rows are read, from the samples of all lanes
//!   cut.rs       a lane's rows on their way to a reader that wants those of one range
//!   read.rs      the rows of one range, of all lanes, merged
//! ```
//!
//! Keys are compared as bytes in Arrow's row format, in which they are ordered as the rows are, whatever the types of the
//! columns and the directions that they are sorted in.

mod cut;
mod read;
mod samples;
mod splits;

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch};
use datafusion::arrow::datatypes::Schema;
use datafusion::arrow::row::{RowConverter, Rows, SortField};
use datafusion::common::exec_err;
use datafusion::error::Result;
use datafusion::physical_expr::{LexOrdering, PhysicalExpr};
use datafusion::physical_expr_common::physical_expr::is_volatile;

pub use self::samples::LaneSamples;

pub(super) use self::read::{RangeRead, SharedSplits};

/// The most bytes of a key that are told. A longer one is cut: where a range begins need not be a key that there is, and of two
/// keys that are cut alike it is not said which comes first.
const KEY_BYTES_MAX: usize = 256;
/// The most samples that a lane tells.
const SAMPLES_MAX: usize = 1024;

/// Makes the keys of rows by which they are sorted.
struct SortKeys {
    exprs: Vec<Arc<dyn PhysicalExpr>>,
    converter: RowConverter,
}

/// Whether rows of `schema` in that order can be divided into ranges.
#[must_use]
pub fn can_be_divided(ordering: &LexOrdering, schema: &Schema) -> bool {
    check(ordering, schema).is_ok()
}

/// Refuses what has not the same key each time it is asked for, or keys that differ from what rows are sorted by: of nested
/// values it is not said that their bytes are ordered as sorting does.
pub(crate) fn check(ordering: &LexOrdering, schema: &Schema) -> Result<()> {
    for sort in ordering.iter() {
        if is_volatile(&sort.expr) || sort.expr.data_type(schema)?.is_nested() {
            return exec_err!("rows sorted by {sort} cannot be divided into ranges");
        }
    }
    Ok(())
}

impl SortKeys {
    fn try_new(ordering: &LexOrdering, schema: &Schema) -> Result<Self> {
        check(ordering, schema)?;
        let fields = ordering.iter().map(|sort| {
            let data_type = sort.expr.data_type(schema)?;
            Ok(SortField::new_with_options(data_type, sort.options))
        });
        let converter = RowConverter::new(fields.collect::<Result<_>>()?)?;
        Ok(Self { exprs: ordering.iter().map(|sort| Arc::clone(&sort.expr)).collect(), converter })
    }

    /// The keys of all rows.
    fn of(&self, batch: &RecordBatch) -> Result<Rows> {
        let columns = self.exprs.iter().map(|expr| expr.evaluate(batch)?.into_array(batch.num_rows()));
        Ok(self.converter.convert_columns(&columns.collect::<Result<Vec<ArrayRef>>>()?)?)
    }

    /// The key of one row, which the batch has.
    fn of_row(&self, batch: &RecordBatch, row: usize) -> Result<Box<[u8]>> {
        let keys = self.of(&batch.slice(row, 1))?;
        Ok(keys.row(0).data().into())
    }
}
