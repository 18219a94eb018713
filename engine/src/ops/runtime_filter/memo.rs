//! What a filter says of a whole number, remembered.
//!
//! A join's filter looks every row up in the join's hash table, or tables, and in its bounds: some 20 ns a row. A foreign key
//! takes few values in many rows, so what was said of a value is kept in two bits of a table over the values' range, and
//! most rows cost one look there. A join makes its filter once, so what was said stays true.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, UInt32Array, new_null_array};
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::compute::kernels::aggregate::{max, min};
use datafusion::arrow::compute::take;
use datafusion::arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Field, Int32Type, Int64Type, Schema, SchemaRef,
};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::error::Result;
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::physical_expr::PhysicalExpr;

use super::table::{ValueTable, is_of_whole_numbers};

/// The widest range of values that is remembered: 16 MiB.
const VALUES_MAX: i64 = 1 << 26;
const UNKNOWN: u64 = 0;
const FAILS: u64 = 1;
const PASSES: u64 = 2;
/// Marked to be learned, with both bits: what is learned takes one away.
const ASKED: u64 = 3;

/// A filter of one column of whole numbers.
pub(super) struct Memo {
    /// Over a batch of that column alone.
    filter: Arc<dyn PhysicalExpr>,
    schema: SchemaRef,
    table: ValueTable<2>,
    /// What is said of NULL.
    null: Option<bool>,
    /// Rows that were asked for, and values that the filter itself had to be asked about.
    asked: usize,
    learned: usize,
}

/// What a memo says of the rows of a batch.
pub(super) enum Answer {
    /// Which rows pass.
    Known(BooleanArray),
    /// The values range too widely, or memory is short: the memo is of no use.
    TooWide,
}

impl Memo {
    /// A memo that knows nothing; `None` for a column that is not of whole numbers. `filter` is over a batch of one column.
    pub(super) fn new(
        filter: Arc<dyn PhysicalExpr>,
        data_type: &DataType,
        memory: MemoryReservation,
    ) -> Option<Self> {
        if !is_of_whole_numbers(data_type) {
            return None;
        }
        let schema = Arc::new(Schema::new(vec![Field::new("key", data_type.clone(), true)]));
        let table = ValueTable::new(VALUES_MAX, memory);
        Some(Self { filter, schema, table, null: None, asked: 0, learned: 0 })
    }

    /// What the filter says of the values of `column`.
    pub(super) fn ask(&mut self, column: &ArrayRef) -> Result<Answer> {
        match column.data_type() {
            DataType::Int32 => self.ask_typed::<Int32Type>(column),
            DataType::Int64 => self.ask_typed::<Int64Type>(column),
            DataType::Date32 => self.ask_typed::<Date32Type>(column),
            _ => Ok(Answer::TooWide),
        }
    }

    fn ask_typed<T: ArrowPrimitiveType>(&mut self, column: &ArrayRef) -> Result<Answer>
    where
        T::Native: Into<i64>,
    {
        let values = column.as_primitive::<T>();
        let (Some(least), Some(most)) = (min(values), max(values)) else {
            let passes = self.null_passes()?;
            return Ok(Answer::Known(BooleanArray::from(vec![passes; values.len()])));
        };
        if !self.table.cover(least.into(), most.into()) {
            return Ok(Answer::TooWide);
        }
        let nulls = values.nulls().filter(|nulls| nulls.null_count() > 0);
        let of_null = if nulls.is_some() { self.null_passes()? } else { false };
        let is_null = |row: usize| nulls.is_some_and(|nulls| nulls.is_null(row));
        let unknown = self.mark_unknown(values.values(), is_null);
        if !unknown.is_empty() {
            self.learn::<T>(column, unknown)?;
        }
        let natives = values.values();
        let passes = BooleanBuffer::collect_bool(values.len(), |row| match is_null(row) {
            true => of_null,
            false => self.state(natives[row].into()) == PASSES,
        });
        self.asked += values.len();
        Ok(Answer::Known(BooleanArray::new(passes, None)))
    }

    /// Whether most rows since the last time this was asked had a value that it knew.
    pub(super) fn knew_most(&mut self) -> bool {
        let knew = self.learned * 2 <= self.asked;
        (self.asked, self.learned) = (0, 0);
        knew
    }

    /// One row for each value that nothing is known of yet.
    fn mark_unknown<N: Copy + Into<i64>>(
        &mut self,
        values: &[N],
        is_null: impl Fn(usize) -> bool,
    ) -> Vec<u32> {
        let mut unknown = Vec::new();
        for (row, value) in values.iter().enumerate() {
            // What lies under a NULL is no value, and may lie anywhere.
            if is_null(row) {
                continue;
            }
            let (word, shift) = self.table.place((*value).into());
            let word = self.table.word(word);
            if *word >> shift & 3 == UNKNOWN {
                *word |= ASKED << shift;
                unknown.push(row as u32);
            }
        }
        unknown
    }

    /// Remembers what the filter says of the values in those rows.
    fn learn<T: ArrowPrimitiveType>(&mut self, column: &ArrayRef, rows: Vec<u32>) -> Result<()>
    where
        T::Native: Into<i64>,
    {
        let values = take(column, &UInt32Array::from(rows), None)?;
        let passes = self.evaluate(&values)?;
        for (row, value) in values.as_primitive::<T>().values().iter().enumerate() {
            let state = if passes.is_valid(row) && passes.value(row) { PASSES } else { FAILS };
            let (word, shift) = self.table.place((*value).into());
            *self.table.word(word) &= !((ASKED ^ state) << shift);
        }
        self.learned += values.len();
        Ok(())
    }

    fn evaluate(&self, values: &ArrayRef) -> Result<BooleanArray> {
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), vec![Arc::clone(values)])?;
        let passes = self.filter.evaluate(&batch)?.into_array(values.len())?;
        Ok(passes.as_boolean().clone())
    }

    fn null_passes(&mut self) -> Result<bool> {
        if let Some(passes) = self.null {
            return Ok(passes);
        }
        let passes = self.evaluate(&new_null_array(self.schema.field(0).data_type(), 1))?;
        let passes = passes.is_valid(0) && passes.value(0);
        self.null = Some(passes);
        Ok(passes)
    }

    fn state(&self, value: i64) -> u64 {
        let (word, shift) = self.table.place(value);
        self.table.words()[word] >> shift & 3
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::Int64Array;
    use datafusion::execution::memory_pool::{GreedyMemoryPool, MemoryConsumer, MemoryPool};
    use datafusion::logical_expr::Operator;
    use datafusion::physical_expr::expressions::{Column, binary, lit};

    use super::*;

    fn memo(memory_bytes: usize) -> Memo {
        let schema = Schema::new(vec![Field::new("key", DataType::Int64, true)]);
        let key: Arc<dyn PhysicalExpr> = Arc::new(Column::new("key", 0));
        let modulo = binary(key, Operator::Modulo, lit(3_i64), &schema).unwrap();
        let filter = binary(modulo, Operator::Eq, lit(0_i64), &schema).unwrap();
        let pool: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(memory_bytes));
        Memo::new(filter, &DataType::Int64, MemoryConsumer::new("test").register(&pool)).unwrap()
    }

    fn ask(memo: &mut Memo, values: Vec<Option<i64>>) -> Option<Vec<bool>> {
        let column: ArrayRef = Arc::new(Int64Array::from(values));
        match memo.ask(&column).unwrap() {
            Answer::Known(passes) => Some(passes.values().iter().collect()),
            Answer::TooWide => None,
        }
    }

    #[test]
    fn it_says_what_the_filter_says_while_its_range_grows_both_ways() {
        let mut memo = memo(1 << 20);
        for (from, to) in [(1000, 1200), (1000, 1200), (-77, 40), (900, 5000), (-500, 5000)] {
            let values: Vec<i64> = (from..to).collect();
            let expected = values.iter().map(|value| value % 3 == 0).collect();
            assert_eq!(ask(&mut memo, values.into_iter().map(Some).collect()), Some(expected));
        }
    }

    #[test]
    fn null_does_not_pass_unless_the_filter_says_so() {
        let mut memo = memo(1 << 20);
        assert_eq!(ask(&mut memo, vec![None, Some(3), None, Some(4)]), Some(vec![false, true, false, false]));
        assert_eq!(ask(&mut memo, vec![None, None]), Some(vec![false, false]));
        assert_eq!(ask(&mut memo, vec![]), Some(vec![]));
    }

    #[test]
    fn values_too_far_apart_or_too_little_memory_are_told() {
        assert_eq!(ask(&mut memo(1 << 30), vec![Some(0), Some(VALUES_MAX)]), None);
        assert_eq!(ask(&mut memo(1 << 30), vec![Some(i64::MIN), Some(i64::MAX)]), None);
        assert_eq!(ask(&mut memo(1 << 30), vec![Some(i64::MIN)]), Some(vec![false]));
        let mut at_the_end = memo(1 << 30);
        for _ in 0..2 {
            assert_eq!(ask(&mut at_the_end, vec![Some(i64::MAX)]), Some(vec![false]));
        }
        assert_eq!(ask(&mut memo(1000), vec![Some(0), Some(1_000_000)]), None);
        assert!(ask(&mut memo(1 << 30), vec![Some(0), Some(VALUES_MAX - 1)]).is_some());
    }
}
