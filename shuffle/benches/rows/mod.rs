//! Rows of several widths for a lane to write, the same in every run.

use std::sync::Arc;

use arrow_array::*;

use crate::data::Numbers;

/// How often each key comes.
#[derive(Debug, Clone, Copy)]
pub enum Keys {
    /// Each about as often as any other.
    Uniform,
    /// The n-th most frequent key about 1/n as often as the first.
    Zipf,
}

/// Keys are below this power of two.
const KEY_BITS: u64 = 22;

impl Keys {
    fn next(self, numbers: &mut Numbers) -> i64 {
        let bound = match self {
            Self::Uniform => return numbers.below(1 << KEY_BITS) as i64,
            // As many keys below each power of two as below the next: their logarithm is uniform.
            Self::Zipf => 1_u64 << numbers.below(KEY_BITS),
        };
        (bound + numbers.below(bound)) as i64
    }

    fn column(self, seed: u64, rows: usize) -> ArrayRef {
        let mut numbers = Numbers::new(seed);
        Arc::new(Int64Array::from_iter_values((0..rows).map(|_| self.next(&mut numbers))))
    }
}

/// Rows of a shape, by what their columns cost.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// A key and a number.
    Narrow,
    /// The 16 columns of TPC-H's lineitem: numbers, decimals, short strings and a comment.
    LineItem,
    /// A key and 63 numbers of 1 to 16 bytes, some of them null.
    Wide,
}

impl Shape {
    /// A batch of `rows` rows whose first column is the key.
    pub fn batch(self, keys: Keys, seed: u64, rows: usize) -> RecordBatch {
        let mut columns = vec![keys.column(seed, rows)];
        let mut numbers = Numbers::new(seed.wrapping_mul(31));
        match self {
            Self::Narrow => columns.push(doubles(&mut numbers, rows)),
            Self::LineItem => columns.extend(line_item_columns(&mut numbers, rows)),
            Self::Wide => columns.extend((0..63).map(|column| wide_column(&mut numbers, column, rows))),
        }
        let named =
            columns.into_iter().enumerate().map(|(number, column)| (format!("c{number}"), column, true));
        RecordBatch::try_from_iter_with_nullable(named).expect("columns of one length")
    }
}

fn doubles(numbers: &mut Numbers, rows: usize) -> ArrayRef {
    Arc::new(Float64Array::from_iter_values((0..rows).map(|_| numbers.below(1 << 40) as f64)))
}

fn integers(numbers: &mut Numbers, rows: usize) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values((0..rows).map(|_| numbers.below(1 << 22) as i64)))
}

fn money(numbers: &mut Numbers, rows: usize) -> ArrayRef {
    let values = Decimal128Array::from_iter_values((0..rows).map(|_| i128::from(numbers.below(1 << 24))));
    Arc::new(values.with_precision_and_scale(15, 2).expect("a valid precision"))
}

fn days(numbers: &mut Numbers, rows: usize) -> ArrayRef {
    Arc::new(Date32Array::from_iter_values((0..rows).map(|_| 8000 + numbers.below(2500) as i32)))
}

fn words(numbers: &mut Numbers, rows: usize, words: &[&str]) -> ArrayRef {
    let words = (0..rows).map(|_| words[numbers.below(words.len() as u64) as usize]);
    Arc::new(StringViewArray::from_iter_values(words))
}

fn comments(numbers: &mut Numbers, rows: usize) -> ArrayRef {
    let mut comment = || {
        let (number, width) = (numbers.below(1 << 30), 10 + numbers.below(34) as usize);
        format!("{number:0width$}")
    };
    Arc::new(StringViewArray::from_iter_values((0..rows).map(|_| comment())))
}

/// All columns of a line item but its key.
fn line_item_columns(numbers: &mut Numbers, rows: usize) -> Vec<ArrayRef> {
    let lines = Int32Array::from_iter_values((0..rows).map(|row| row as i32 % 7));
    vec![
        integers(numbers, rows),
        integers(numbers, rows),
        Arc::new(lines),
        money(numbers, rows),
        money(numbers, rows),
        money(numbers, rows),
        money(numbers, rows),
        words(numbers, rows, &["A", "N", "R"]),
        words(numbers, rows, &["O", "F"]),
        days(numbers, rows),
        days(numbers, rows),
        days(numbers, rows),
        words(numbers, rows, &["DELIVER IN PERSON", "COLLECT COD", "NONE", "TAKE BACK RETURN"]),
        words(numbers, rows, &["TRUCK", "MAIL", "REG AIR", "AIR", "RAIL", "SHIP", "FOB"]),
        comments(numbers, rows),
    ]
}

fn wide_column(numbers: &mut Numbers, column: usize, rows: usize) -> ArrayRef {
    match column % 8 {
        0 | 1 => integers(numbers, rows),
        2 | 3 => doubles(numbers, rows),
        4 => days(numbers, rows),
        5 => money(numbers, rows),
        6 => Arc::new((0..rows).map(|_| Some(numbers.below(2) == 0)).collect::<BooleanArray>()),
        _ => Arc::new((0..rows).map(|row| (row % 11 > 0).then_some(row as i16)).collect::<Int16Array>()),
    }
}
