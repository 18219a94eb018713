//! Orders and their lines, the same in every run.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, Date32Array, Decimal128Array, Int64Array, RecordBatch, StringViewArray,
};
use datafusion::arrow::row::{RowConverter, SortField};
use datafusion::parquet::arrow::ArrowWriter;
use firesteel_engine::datafusion;
use firesteel_micro::Digest;

/// Lines of an order.
pub const LINES_PER_ORDER: usize = 4;
/// Rows of a batch: what sessions have by default.
const BATCH_ROWS: usize = 8192;

/// A small generator of numbers (xorshift64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    fn money(&mut self, rows: usize, limit: u64) -> ArrayRef {
        let values = (0..rows).map(|_| Some(i128::from(self.below(limit)))).collect::<Decimal128Array>();
        Arc::new(values.with_precision_and_scale(15, 2).expect("a valid precision"))
    }

    fn words(&mut self, rows: usize, words: &[&str]) -> ArrayRef {
        let word = |_| Some(words[self.below(words.len() as u64) as usize]);
        Arc::new((0..rows).map(word).collect::<StringViewArray>())
    }

    fn text(&mut self, rows: usize) -> ArrayRef {
        let text = |_| Some(format!("{:x}-{:x}", self.below(1 << 44), self.below(1 << 30)));
        Arc::new((0..rows).map(text).collect::<StringViewArray>())
    }
}

/// Batches of `rows` rows in all; `columns` makes those of one batch, given its first row and how many it has.
fn batches(
    rows: usize,
    mut columns: impl FnMut(usize, usize) -> Vec<(&'static str, ArrayRef)>,
) -> Vec<RecordBatch> {
    let starts = (0..rows).step_by(BATCH_ROWS);
    let batch = |start| {
        let columns = columns(start, BATCH_ROWS.min(rows - start));
        RecordBatch::try_from_iter_with_nullable(
            columns.into_iter().map(|(name, column)| (name, column, true)),
        )
        .expect("columns of one length")
    };
    starts.map(batch).collect()
}

/// Lines, those of an order in no order among the others.
pub fn lines(rows: usize) -> Vec<RecordBatch> {
    let mut numbers = Numbers(0x9E37_79B9_7F4A_7C15);
    let orders = (rows / LINES_PER_ORDER).max(1) as u64;
    batches(rows, |_, rows| {
        let order = (0..rows).map(|_| Some(numbers.below(orders) as i64)).collect::<Int64Array>();
        let part = (0..rows).map(|_| Some(numbers.below(200_000) as i64)).collect::<Int64Array>();
        let shipped = (0..rows).map(|_| (numbers.below(50) > 0).then(|| numbers.below(2_500) as i32 + 8_000));
        vec![
            ("orderkey", Arc::new(order)),
            ("partkey", Arc::new(part)),
            ("shipped", Arc::new(shipped.collect::<Date32Array>())),
            ("quantity", numbers.money(rows, 5_000)),
            ("price", numbers.money(rows, 10_000_000)),
            ("discount", numbers.money(rows, 11)),
            ("flag", numbers.words(rows, &["A", "N", "R"])),
            ("comment", numbers.text(rows)),
        ]
    })
}

/// The orders of that many lines.
pub fn orders(of_lines: usize) -> Vec<RecordBatch> {
    let mut numbers = Numbers(0xD1B5_4A32_D192_ED03);
    batches((of_lines / LINES_PER_ORDER).max(1), |start, rows| {
        let keys = start as i64..(start + rows) as i64;
        vec![
            ("orderkey", Arc::new(keys.collect::<Int64Array>())),
            (
                "priority",
                numbers.words(rows, &["1-URGENT", "2-HIGH", "3-MEDIUM", "4-NOT SPECIFIED", "5-LOW"]),
            ),
        ]
    })
}

/// Writes the rows as a Parquet file.
pub fn write_parquet(path: &Path, batches: &[RecordBatch]) {
    let file = File::create(path).expect("the folder can be written to");
    let mut writer = ArrowWriter::try_new(file, batches[0].schema(), None).expect("types that Parquet has");
    batches.iter().for_each(|batch| writer.write(batch).expect("there is room"));
    writer.close().expect("there is room");
}

/// How many rows there are.
pub fn rows_of(batches: &[RecordBatch]) -> u64 {
    batches.iter().map(|batch| batch.num_rows() as u64).sum()
}

/// Adds the rows, in whatever order and batches they come.
pub fn digest_rows(batches: &Vec<RecordBatch>, digest: &mut Digest) {
    let mut rows = Vec::new();
    for batch in batches {
        let fields =
            batch.schema_ref().fields().iter().map(|field| SortField::new(field.data_type().clone()));
        let converter = RowConverter::new(fields.collect()).expect("types with a row form");
        let converted = converter.convert_columns(batch.columns()).expect("columns of these types");
        rows.extend(converted.iter().map(|row| row.as_ref().to_vec()));
    }
    digest.unordered(&rows);
}
