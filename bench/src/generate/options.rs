//! What is to be generated, and how it is laid out in files.

use std::fmt;
use std::path::PathBuf;

use firesteel_base::UserError;

use super::format::{Compression, Format};
use super::manifest::{FIXED_SEED, Recipe};
use super::skew::Skew;
use super::tables::Benchmark;

/// The smallest scale at which every table has rows.
const SCALE_MIN: f64 = 0.001;
/// The largest scale that the specification names.
const SCALE_MAX: f64 = 100_000.0;
const FILES_MAX: u32 = 10_000;

/// What [`generate`](super::generate()) is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateOptions {
    /// Whose tables.
    pub benchmark: Benchmark,
    /// The scale factor: 1 is about a gigabyte of text, a third of that as Parquet.
    pub scale: f64,
    /// The folder that gets one folder a table.
    pub out: PathBuf,
    /// The format of the files.
    pub format: Format,
    /// How they are compressed; as is usual for the format when unset.
    pub compression: Option<Compression>,
    /// Files a table; a small table gets fewer.
    pub files: u32,
    /// Rows a row group of a Parquet file; [`Self::ROW_GROUP_ROWS`] when unset.
    pub row_group_rows: Option<u64>,
    /// Whether the rows of each table are sorted, within files and across them.
    pub sorted: bool,
    /// How foreign keys of fact tables are spread; as the specification says when unset.
    pub skew: Option<Skew>,
    /// Threads that write; all of the machine's when unset.
    pub threads: Option<usize>,
}

impl GenerateOptions {
    /// Files a table unless told otherwise.
    pub const FILES: u32 = 8;
    /// Rows a row group unless told otherwise.
    pub const ROW_GROUP_ROWS: u64 = 256 * 1024;

    /// The usual layout of `benchmark` at `scale` in `out`.
    pub fn new(benchmark: Benchmark, scale: f64, out: impl Into<PathBuf>) -> Self {
        Self {
            benchmark,
            scale,
            out: out.into(),
            format: Format::default(),
            compression: None,
            files: Self::FILES,
            row_group_rows: None,
            sorted: false,
            skew: None,
            threads: None,
        }
    }

    /// Whether the options make sense.
    ///
    /// # Errors
    /// Names the one that does not.
    pub fn check(&self) -> Result<(), UserError> {
        self.recipe().map(|_| ())
    }

    /// The part of the options that decides what the files hold, checked.
    pub(super) fn recipe(&self) -> Result<Recipe, UserError> {
        in_range("scale", self.scale, SCALE_MIN, SCALE_MAX)?;
        in_range("number of files", self.files, 1, FILES_MAX)?;
        Ok(Recipe {
            benchmark: self.benchmark,
            scale: self.scale,
            format: self.format,
            files: self.files,
            row_group_rows: self.rows_a_row_group()?,
            compression: self.format.compression(self.compression)?,
            sorted: self.sorted,
            skew: self.skew,
            generator: self.benchmark.generator().to_owned(),
            seed: FIXED_SEED.to_owned(),
        })
    }

    fn rows_a_row_group(&self) -> Result<Option<u64>, UserError> {
        match (self.format, self.row_group_rows) {
            (Format::Csv, None) => Ok(None),
            (Format::Csv, Some(_)) => {
                Err(UserError::new("csv files have no row groups").hint("leave --row-group-rows out"))
            }
            (Format::Parquet, asked) => {
                let rows = asked.unwrap_or(Self::ROW_GROUP_ROWS);
                in_range("number of rows a row group", rows, 1, u64::from(u32::MAX))?;
                Ok(Some(rows))
            }
        }
    }
}

fn in_range<T: PartialOrd + fmt::Display>(what: &str, found: T, min: T, max: T) -> Result<(), UserError> {
    if (&min..=&max).contains(&&found) {
        return Ok(());
    }
    Err(UserError::new(format!("the {what} is {found}")).hint(format!("give one from {min} to {max}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_out_of_range_are_named_with_their_range() {
        let good = GenerateOptions::new(Benchmark::Tpch, 1.0, "data");
        let csv = GenerateOptions { format: Format::Csv, ..good.clone() };
        for (bad, names) in [
            (GenerateOptions { scale: 0.0, ..good.clone() }, "scale is 0"),
            (GenerateOptions { scale: f64::NAN, ..good.clone() }, "scale is NaN"),
            (GenerateOptions { files: 0, ..good.clone() }, "files is 0"),
            (GenerateOptions { row_group_rows: Some(0), ..good.clone() }, "row group is 0"),
            (GenerateOptions { row_group_rows: Some(5), ..csv.clone() }, "no row groups"),
            (GenerateOptions { compression: Some(Compression::Snappy), ..csv.clone() }, "snappy"),
        ] {
            let error = bad.check().unwrap_err();
            assert!(error.message.contains(names), "{error}");
            assert!(error.hint.is_some());
        }
        assert!(good.check().is_ok() && csv.check().is_ok());
    }
}
