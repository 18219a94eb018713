//! Strings that lie in many buffers are gathered into one.
//!
//! A column of string views names every buffer that one of its rows might lie in. What a join puts out names all buffers of
//! its build side; a build side made of such batches names those buffers once for each batch, and every batch that is
//! gathered from it clones the whole list. Two joins after each other so came to half a million buffers a batch, and to
//! nine tenths of the time of a query.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, GenericByteViewArray};
use datafusion::arrow::datatypes::{BinaryViewType, ByteViewType, DataType, StringViewType};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::error::Result;

/// The most buffers that a column may name and be left as it is: a scan's batch has a few.
const BUFFERS_MAX: usize = 8;

/// The batch, with each column of strings in few buffers.
pub(super) fn compact(batch: RecordBatch) -> Result<RecordBatch> {
    if batch.columns().iter().all(|column| buffers(column) <= BUFFERS_MAX) {
        return Ok(batch);
    }
    let columns = batch.columns().iter().map(compact_column).collect();
    Ok(RecordBatch::try_new(batch.schema(), columns)?)
}

fn buffers(column: &ArrayRef) -> usize {
    match column.data_type() {
        DataType::Utf8View => column.as_string_view().data_buffers().len(),
        DataType::BinaryView => column.as_binary_view().data_buffers().len(),
        _ => 0,
    }
}

fn compact_column(column: &ArrayRef) -> ArrayRef {
    match column.data_type() {
        DataType::Utf8View => gathered::<StringViewType>(column),
        DataType::BinaryView => gathered::<BinaryViewType>(column),
        _ => Arc::clone(column),
    }
}

fn gathered<T: ByteViewType>(column: &ArrayRef) -> ArrayRef {
    let views: &GenericByteViewArray<T> = column.as_byte_view();
    if views.data_buffers().len() <= BUFFERS_MAX { Arc::clone(column) } else { Arc::new(views.gc()) }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Int32Array, StringViewArray};
    use datafusion::arrow::compute::concat;

    use super::*;

    fn text(number: usize) -> String {
        format!("a string of more than twelve bytes, number {number}")
    }

    /// As a join puts them out: `count` buffers.
    fn scattered(count: usize) -> ArrayRef {
        let parts: Vec<_> = (0..count).map(|part| StringViewArray::from(vec![text(part)])).collect();
        concat(&parts.iter().map(|part| part as &dyn Array).collect::<Vec<_>>()).unwrap()
    }

    fn batch(strings: ArrayRef) -> RecordBatch {
        let numbers: ArrayRef = Arc::new(Int32Array::from_iter_values(0..strings.len() as i32));
        RecordBatch::try_from_iter([("n", numbers), ("s", strings)]).unwrap()
    }

    #[test]
    fn many_buffers_become_one_and_the_rows_stay() {
        let before = batch(scattered(100));
        assert_eq!(buffers(before.column(1)), 100);
        let after = compact(before.clone()).unwrap();
        assert_eq!(buffers(after.column(1)), 1);
        assert_eq!(after, before);
    }

    #[test]
    fn few_buffers_are_left_as_they_are() {
        let before = batch(scattered(BUFFERS_MAX));
        let after = compact(before.clone()).unwrap();
        assert!(Arc::ptr_eq(before.column(1), after.column(1)));
    }
}
