//! sqllogictest files, run over any engine that answers SQL.
//!
//! How values are written in them: NULL, `(empty)` for an empty text, decimals and integers as they are, floating point with 12
//! significant digits (sums of it depend on the order of the rows), dates and timestamps in ISO form, lists as
//! `[1, NULL]`, structs as `{a: 1}`. A query's type string has one letter a column: `I` integer, `R` decimal or
//! floating point, `T` text, `B` boolean, `D` date, `P` timestamp, `?` anything else, and it is checked.

use std::path::{Path, PathBuf};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float32Type, Float64Type, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use async_trait::async_trait;
use firesteel_base::UserError;
use sqllogictest::{AsyncDB, DBOutput, Runner, strict_column_validator};

/// Something that answers SQL, one statement at a time.
pub trait Engine: Send {
    /// Runs one statement to its end. A statement without rows answers an empty schema.
    fn sql(
        &mut self,
        sql: &str,
    ) -> impl Future<Output = Result<(SchemaRef, Vec<RecordBatch>), UserError>> + Send;
}

/// The files of `testing/slt`, by name.
///
/// # Panics
/// When the folder cannot be read.
#[must_use]
pub fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("slt");
    let entries = std::fs::read_dir(&folder).expect("the folder of sqllogictest files is there");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("it can be listed").path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "slt"));
    files.sort();
    files
}

/// Runs a file over a new engine.
///
/// # Errors
/// The first record that does not answer as the file says, with its place.
pub async fn run_file<E, F>(path: &Path, engine: impl Fn() -> F) -> anyhow::Result<()>
where
    E: Engine,
    F: Future<Output = Result<E, UserError>>,
{
    let mut runner = Runner::new(|| async { Ok(Database(engine().await.map_err(Fault)?)) });
    runner.with_column_validator(strict_column_validator);
    let outcome = runner.run_file_async(path).await;
    runner.shutdown_async().await;
    outcome.map_err(|error| anyhow::anyhow!("{}", error.display(false)))
}

struct Database<E>(E);

/// `UserError` as one line, which is what `statement error` patterns are matched against.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.to_string().replace('\n', " "))]
struct Fault(UserError);

#[async_trait]
impl<E: Engine> AsyncDB for Database<E> {
    type Error = Fault;
    type ColumnType = Column;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<Column>, Fault> {
        let (schema, batches) = self.0.sql(sql).await.map_err(Fault)?;
        if schema.fields().is_empty() {
            return Ok(DBOutput::StatementComplete(0));
        }
        let types = schema.fields().iter().map(|field| Column::of(field.data_type())).collect();
        let rows = batches.iter().flat_map(rows_as_text).collect();
        Ok(DBOutput::Rows { types, rows })
    }

    async fn shutdown(&mut self) {}

    fn engine_name(&self) -> &str {
        "firesteel"
    }
}

/// The type of a column, as far as the files tell types apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Column(char);

impl Column {
    fn of(data_type: &DataType) -> Self {
        Self(match data_type {
            DataType::Dictionary(_, values) => return Self::of(values),
            DataType::Boolean => 'B',
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => 'T',
            DataType::Date32 | DataType::Date64 => 'D',
            DataType::Timestamp(..) => 'P',
            other if other.is_integer() => 'I',
            other if other.is_numeric() => 'R',
            _ => '?',
        })
    }
}

impl sqllogictest::ColumnType for Column {
    fn from_char(letter: char) -> Option<Self> {
        "IRTBDP?".contains(letter).then_some(Self(letter))
    }

    fn to_char(&self) -> char {
        self.0
    }
}

fn rows_as_text(batch: &RecordBatch) -> Vec<Vec<String>> {
    let options = FormatOptions::new().with_null("NULL");
    let columns: Vec<_> = batch
        .columns()
        .iter()
        .map(|column| {
            let formatter =
                ArrayFormatter::try_new(column.as_ref(), &options).expect("the type can be printed");
            (column.as_ref(), formatter)
        })
        .collect();
    let cell = |row: usize, (column, formatter): &(&dyn Array, ArrayFormatter<'_>)| {
        cell_as_text(*column, row).unwrap_or_else(|| formatter.value(row).to_string())
    };
    (0..batch.num_rows()).map(|row| columns.iter().map(|column| cell(row, column)).collect()).collect()
}

/// The values that are not written as Arrow prints them.
fn cell_as_text(column: &dyn Array, row: usize) -> Option<String> {
    if column.is_null(row) {
        return Some("NULL".to_owned());
    }
    match column.data_type() {
        DataType::Float64 => Some(rounded(column.as_primitive::<Float64Type>().value(row))),
        DataType::Float32 => Some(rounded(f64::from(column.as_primitive::<Float32Type>().value(row)))),
        DataType::Utf8 => or_empty(column.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => or_empty(column.as_string::<i64>().value(row)),
        DataType::Utf8View => or_empty(column.as_string_view().value(row)),
        _ => None,
    }
}

fn or_empty(text: &str) -> Option<String> {
    text.is_empty().then(|| "(empty)".to_owned())
}

/// 12 significant digits, without zeros that say nothing.
fn rounded(value: f64) -> String {
    if !value.is_finite() {
        return value.to_string();
    }
    let digits: f64 = format!("{value:.11e}").parse().expect("a number reads back");
    // Minus zero is zero.
    (digits + 0.0).to_string()
}

#[cfg(test)]
mod tests;
