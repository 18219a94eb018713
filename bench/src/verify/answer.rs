//! An answer to be judged.

use std::fs::File;
use std::path::Path;

use arrow::array::{Array, RecordBatch};
use arrow::csv::WriterBuilder;
use arrow::util::display::{ArrayFormatter, FormatOptions};

use firesteel_base::UserError;

use super::Expected;
use super::cell::Kind;

/// An answer: each cell as text, each column with what its type says about comparing it.
#[derive(Debug, Clone)]
pub struct Answer {
    pub(super) kinds: Vec<Kind>,
    pub(super) rows: Vec<Vec<Option<String>>>,
}

impl Answer {
    /// The answer in `batches`, of which there must be one at least to know the columns when there are no rows.
    ///
    /// # Errors
    /// When a column has a type that cannot be printed.
    pub fn from_batches(batches: &[RecordBatch]) -> anyhow::Result<Self> {
        let kinds = batches.first().map_or_else(Vec::new, |batch| {
            batch.schema().fields().iter().map(|field| Kind::of(field.data_type())).collect()
        });
        let mut rows = Vec::new();
        for batch in batches {
            append_rows(batch, &mut rows)?;
        }
        Ok(Self { kinds, rows })
    }

    /// The answer as a command printed it, CSV with a header, in which types are lost.
    ///
    /// # Errors
    /// When it is no such CSV.
    pub fn from_csv(text: &str) -> anyhow::Result<Self> {
        let Expected { columns, rows } = Expected::from_csv(text)?;
        let rows = rows.into_iter().map(|row| row.into_iter().map(Some).collect()).collect();
        Ok(Self { kinds: vec![Kind::Untyped; columns.len()], rows })
    }

    /// The number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows.len()
    }
}

/// Writes an answer as CSV with a header, NULL as nothing.
///
/// # Errors
/// When the file cannot be written, or a column has a type that CSV cannot hold.
pub fn write_csv(batches: &[RecordBatch], path: &Path) -> Result<(), UserError> {
    let refused = |fault: String| UserError::new(format!("{} cannot be written: {fault}", path.display()));
    let file = File::create(path).map_err(|fault| refused(fault.to_string()))?;
    let mut writer = WriterBuilder::new().with_header(true).build(file);
    batches.iter().try_for_each(|batch| writer.write(batch)).map_err(|fault| refused(fault.to_string()))
}

fn append_rows(batch: &RecordBatch, rows: &mut Vec<Vec<Option<String>>>) -> anyhow::Result<()> {
    let options = FormatOptions::new();
    let columns = batch
        .columns()
        .iter()
        .map(|column| Ok((column, ArrayFormatter::try_new(column.as_ref(), &options)?)))
        .collect::<anyhow::Result<Vec<_>>>()?;
    for row in 0..batch.num_rows() {
        let cell = |(column, text): &(&arrow::array::ArrayRef, ArrayFormatter<'_>)| {
            column.is_valid(row).then(|| text.value(row).to_string())
        };
        rows.push(columns.iter().map(cell).collect());
    }
    Ok(())
}
