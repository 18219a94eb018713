//! Foreign keys that follow Zipf's law: some parts, customers and items are in demand, most are hardly asked for.
//!
//! Only keys of fact tables change; every other value of a row, prices among them, is what it is without. A row's keys are
//! drawn by what identifies the row (its order and line), so neither the number of files nor threads changes them. What they
//! name exists: see [`tpch`] and [`tpcds`] for which columns follow the law, and how.

mod keys;
pub(super) mod tpcds;
pub(super) mod tpch;
mod zipf;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, PrimitiveArray};
use arrow::datatypes::{ArrowPrimitiveType, SchemaRef};
use arrow::error::ArrowError;
use arrow::record_batch::{RecordBatch, RecordBatchReader};
use firesteel_base::UserError;
use serde::{Deserialize, Serialize};

/// The largest exponent: beyond, all but a few rows would have the same key.
const EXPONENT_MAX: f64 = 10.0;

/// How foreign keys of fact tables are spread.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "distribution", rename_all = "lowercase", deny_unknown_fields)]
pub enum Skew {
    /// The key of the nth rank is drawn with a probability in proportion to `1 / n ^ exponent`.
    Zipf {
        /// Above 0; at 1 the first key is drawn more often than the whole last half of them.
        exponent: f64,
        /// What the draws begin with.
        seed: u64,
    },
}

impl Skew {
    /// The seed of what is asked for by its exponent alone.
    pub const SEED: u64 = 1949;
}

impl fmt::Display for Skew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Zipf { exponent, .. } = self;
        write!(f, "zipf:{exponent}")
    }
}

impl FromStr for Skew {
    type Err = UserError;

    fn from_str(text: &str) -> Result<Self, UserError> {
        let exponent = text
            .split_once(':')
            .filter(|(law, _)| law.eq_ignore_ascii_case("zipf"))
            .and_then(|(_, exponent)| exponent.trim().parse::<f64>().ok())
            .filter(|exponent| *exponent > 0.0 && *exponent <= EXPONENT_MAX);
        exponent.map(|exponent| Self::Zipf { exponent, seed: Self::SEED }).ok_or_else(|| {
            UserError::new(format!("'{text}' is no skew")).hint(format!(
                "give zipf:A with an exponent A above 0 and up to {EXPONENT_MAX}, such as zipf:1"
            ))
        })
    }
}

/// Rows of a reader, each batch changed.
struct Mapped<F> {
    rows: Box<dyn RecordBatchReader>,
    change: F,
}

impl<F: FnMut(RecordBatch) -> Result<RecordBatch, ArrowError>> Iterator for Mapped<F> {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.rows.next()?.and_then(&mut self.change))
    }
}

impl<F: FnMut(RecordBatch) -> Result<RecordBatch, ArrowError>> RecordBatchReader for Mapped<F> {
    fn schema(&self) -> SchemaRef {
        self.rows.schema()
    }
}

/// The values of a column, whose type is known.
fn column<'a, T: ArrowPrimitiveType>(batch: &'a RecordBatch, name: &str) -> &'a PrimitiveArray<T> {
    let column = batch.column_by_name(name).expect("the table has the column");
    column.as_any().downcast_ref().expect("the column has the type")
}

/// The batch with other values in some columns.
fn replace(batch: &RecordBatch, columns: Vec<(&str, ArrayRef)>) -> Result<RecordBatch, ArrowError> {
    let mut all = batch.columns().to_vec();
    for (name, values) in columns {
        all[batch.schema_ref().index_of(name)?] = values;
    }
    RecordBatch::try_new(Arc::clone(batch.schema_ref()), all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skew_prints_and_parses() {
        for text in ["zipf:1", "zipf:0.5", "zipf:1.25", "zipf:10"] {
            assert_eq!(text.parse::<Skew>().unwrap().to_string(), text);
        }
        for text in [
            "", "zipf", "zipf:", "zipf:0", "zipf:-1", "zipf:x", "zipf:nan", "zipf:inf", "zipf:11", "normal",
            "normal:1",
        ] {
            let error = text.parse::<Skew>().unwrap_err();
            assert!(error.message.contains(&format!("'{text}'")) && error.hint.is_some(), "{error}");
        }
    }

    #[test]
    fn a_skew_is_written_down_in_full() {
        let text = serde_json::to_string(&"zipf:1.5".parse::<Skew>().unwrap()).unwrap();
        assert_eq!(text, r#"{"distribution":"zipf","exponent":1.5,"seed":1949}"#);
        assert!(serde_json::from_str::<Skew>(&text).is_ok());
    }
}
