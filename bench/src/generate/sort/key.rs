//! Keys of rows, as bytes that compare as the rows do.

use arrow::array::RecordBatch;
use arrow::compute::SortOptions;
use arrow::error::ArrowError;
use arrow::row::{RowConverter, Rows, SortField};

use super::super::tables::Table;

/// Ascending, nulls last: as SQL orders unless told otherwise.
const ORDER: SortOptions = SortOptions { descending: false, nulls_first: false };

/// Where the key stands in a table's rows.
pub(super) struct KeyOf {
    converter: RowConverter,
    columns: Vec<usize>,
}

impl KeyOf {
    /// The sort key of a table.
    pub fn table(table: Table) -> Self {
        let schema = table.schema();
        let columns = table.sort_key().positions(&schema);
        let fields = columns
            .iter()
            .map(|at| SortField::new_with_options(schema.field(*at).data_type().clone(), ORDER));
        let converter = RowConverter::new(fields.collect()).expect("keys are numbers and dates");
        Self { converter, columns }
    }

    /// The keys of some rows.
    pub fn of(&self, rows: &RecordBatch) -> Result<Rows, ArrowError> {
        let columns: Vec<_> = self.columns.iter().map(|at| rows.column(*at).clone()).collect();
        self.converter.convert_columns(&columns)
    }

    /// Adds the keys of some rows.
    pub fn extend(&self, keys: &mut Vec<Vec<u8>>, rows: &RecordBatch) -> Result<(), ArrowError> {
        keys.extend(self.of(rows)?.iter().map(|key| key.as_ref().to_vec()));
        Ok(())
    }
}

/// The order of rows by their keys. Those that tie stay in the order in which they are.
pub(super) fn order(keys: &Rows) -> Vec<u32> {
    let count = u32::try_from(keys.num_rows()).expect("a run has few rows");
    let mut order: Vec<u32> = (0..count).collect();
    order.sort_by_key(|at| keys.row(*at as usize));
    order
}

/// The first key of each bucket but the first one, which begins with the smallest.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Bounds(Vec<Vec<u8>>);

impl Bounds {
    /// Those that cut a sample into `buckets` alike.
    pub fn of_sample(mut keys: Vec<Vec<u8>>, buckets: u32) -> Self {
        keys.sort_unstable();
        let cut = |bucket: u32| keys.get(keys.len() * bucket as usize / buckets as usize).cloned();
        Self((1..buckets).filter_map(cut).collect())
    }

    /// The rows of each bucket, as ranges of `order`, which is that of `keys`.
    pub fn cut(&self, keys: &Rows, order: &[u32]) -> Vec<std::ops::Range<usize>> {
        let start_of =
            |bound: &Vec<u8>| order.partition_point(|at| keys.row(*at as usize).as_ref() < bound.as_slice());
        let mut starts = vec![0];
        starts.extend(self.0.iter().map(start_of));
        starts.push(order.len());
        starts.windows(2).map(|ends| ends[0]..ends[1]).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::Int32Array;
    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;

    fn numbers(values: Vec<Option<i32>>) -> (KeyOf, RecordBatch) {
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int32, true)]));
        let rows = RecordBatch::try_new(schema, vec![Arc::new(Int32Array::from(values))]).unwrap();
        let field = SortField::new_with_options(DataType::Int32, ORDER);
        (KeyOf { converter: RowConverter::new(vec![field]).unwrap(), columns: vec![0] }, rows)
    }

    #[test]
    fn rows_are_in_order_and_cut_where_a_key_begins() {
        let (key, rows) = numbers(vec![Some(3), None, Some(-1), Some(3), Some(2)]);
        let keys = key.of(&rows).unwrap();
        let order = order(&keys);
        assert_eq!(order, [2, 4, 0, 3, 1]);
        let bounds = Bounds(vec![keys.row(0).as_ref().to_vec(), keys.row(1).as_ref().to_vec()]);
        assert_eq!(bounds.cut(&keys, &order), [0..2, 2..4, 4..5]);
    }

    #[test]
    fn a_sample_is_cut_alike() {
        let (key, rows) = numbers((0..100).rev().map(Some).collect());
        let mut sample = Vec::new();
        key.extend(&mut sample, &rows).unwrap();
        let keys = key.of(&rows).unwrap();
        let bounds = Bounds::of_sample(sample, 4);
        assert_eq!(bounds.cut(&keys, &order(&keys)), [0..25, 25..50, 50..75, 75..100]);
        assert_eq!(Bounds::of_sample(Vec::new(), 4), Bounds(Vec::new()));
    }
}
