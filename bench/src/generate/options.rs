//! What is to be generated, and how it is laid out in files.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use firesteel_base::UserError;
use serde::{Deserialize, Serialize};

use super::manifest::Recipe;
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
    /// Files a table; a small table gets fewer.
    pub files: u32,
    /// Rows a row group.
    pub row_group_rows: u64,
    /// How pages are compressed.
    pub compression: Compression,
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
            files: Self::FILES,
            row_group_rows: Self::ROW_GROUP_ROWS,
            compression: Compression::default(),
            threads: None,
        }
    }

    /// The part of the options that decides what the files hold, checked.
    pub(super) fn recipe(&self) -> Result<Recipe, UserError> {
        if !(SCALE_MIN..=SCALE_MAX).contains(&self.scale) {
            return Err(out_of_range("scale", self.scale, SCALE_MIN, SCALE_MAX));
        }
        if !(1..=FILES_MAX).contains(&self.files) {
            return Err(out_of_range("number of files", self.files, 1, FILES_MAX));
        }
        if !(1..=u64::from(u32::MAX)).contains(&self.row_group_rows) {
            return Err(out_of_range("number of rows a row group", self.row_group_rows, 1, u32::MAX));
        }
        Ok(Recipe {
            benchmark: self.benchmark,
            scale: self.scale,
            files: self.files,
            row_group_rows: self.row_group_rows,
            compression: self.compression,
            generator: self.benchmark.generator().to_owned(),
        })
    }
}

fn out_of_range<T: fmt::Display>(
    what: &str,
    found: T,
    min: impl fmt::Display,
    max: impl fmt::Display,
) -> UserError {
    UserError::new(format!("the {what} is {found}")).hint(format!("give one from {min} to {max}"))
}

/// How Parquet pages are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Snappy: quick, what most writers take.
    #[default]
    Snappy,
    /// Zstandard at its first level: smaller files.
    Zstd,
    /// LZ4: quicker to read.
    Lz4,
    /// Not at all.
    None,
}

impl Compression {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Snappy, Self::Zstd, Self::Lz4, Self::None];
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Snappy => "snappy",
            Self::Zstd => "zstd",
            Self::Lz4 => "lz4",
            Self::None => "none",
        })
    }
}

impl FromStr for Compression {
    type Err = UserError;

    fn from_str(text: &str) -> Result<Self, UserError> {
        Self::ALL.into_iter().find(|c| c.to_string() == text.to_ascii_lowercase()).ok_or_else(|| {
            UserError::new(format!("'{text}' is no compression")).hint("give snappy, zstd, lz4 or none")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_out_of_range_are_named_with_their_range() {
        let good = GenerateOptions::new(Benchmark::Tpch, 1.0, "data");
        for (bad, names) in [
            (GenerateOptions { scale: 0.0, ..good.clone() }, "scale is 0"),
            (GenerateOptions { scale: f64::NAN, ..good.clone() }, "scale is NaN"),
            (GenerateOptions { files: 0, ..good.clone() }, "files is 0"),
            (GenerateOptions { row_group_rows: 0, ..good.clone() }, "row group is 0"),
        ] {
            let error = bad.recipe().unwrap_err();
            assert!(error.message.contains(names), "{error}");
            assert!(error.hint.is_some());
        }
        assert!(good.recipe().is_ok());
    }

    #[test]
    fn compressions_print_and_parse() {
        for compression in Compression::ALL {
            assert_eq!(compression.to_string().parse(), Ok(compression));
        }
        assert!("gzip".parse::<Compression>().is_err());
    }
}
