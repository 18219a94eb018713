//! The tables of the benchmarks, and how each is cut into files.

mod tpcds;
mod tpch;

use std::fmt;
use std::str::FromStr;

use arrow::record_batch::RecordBatchReader;
use firesteel_base::UserError;
use serde::{Deserialize, Serialize};

use super::manifest::Recipe;

/// A file holds at least about this many rows, so a small table is not cut into crumbs.
const ROWS_PER_FILE_MIN: u64 = 5_000;

/// A benchmark that data is generated for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Benchmark {
    /// TPC-H: 8 tables, 22 queries.
    Tpch,
    /// TPC-DS: 24 tables, 99 queries.
    Tpcds,
}

impl Benchmark {
    /// The generator of its rows; another version may make other rows.
    #[must_use]
    pub fn generator(self) -> &'static str {
        match self {
            Self::Tpch => "tpchgen 4.0.0",
            Self::Tpcds => "tpcdsgen 4.0.0",
        }
    }

    /// The names of its tables, by name.
    #[must_use]
    pub fn table_names(self) -> Vec<&'static str> {
        let mut names: Vec<_> = self.tables().into_iter().map(Table::name).collect();
        names.sort_unstable();
        names
    }

    /// Its tables, the largest first.
    pub(super) fn tables(self) -> Vec<Table> {
        match self {
            Self::Tpch => tpch::Table::ALL.into_iter().map(Table::Tpch).collect(),
            Self::Tpcds => tpcds::ALL.into_iter().map(Table::Tpcds).collect(),
        }
    }
}

impl fmt::Display for Benchmark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tpch => "tpch",
            Self::Tpcds => "tpcds",
        })
    }
}

impl FromStr for Benchmark {
    type Err = UserError;

    fn from_str(text: &str) -> Result<Self, UserError> {
        match text.to_ascii_lowercase().as_str() {
            "tpch" | "tpc-h" => Ok(Self::Tpch),
            "tpcds" | "tpc-ds" => Ok(Self::Tpcds),
            _ => Err(UserError::new(format!("there is no benchmark '{text}'")).hint("give tpch or tpcds")),
        }
    }
}

/// A table of a benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Table {
    Tpch(tpch::Table),
    Tpcds(tpcdsgen::config::Table),
}

impl Table {
    /// Its name in SQL.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tpch(table) => table.name(),
            Self::Tpcds(table) => table.get_name(),
        }
    }

    /// Its rows at `scale`, about.
    pub fn rows(self, scale: f64) -> u64 {
        match self {
            Self::Tpch(table) => table.rows(scale),
            Self::Tpcds(table) => tpcds::rows(table, scale),
        }
    }

    fn files(self, recipe: &Recipe) -> u32 {
        let worth = self.rows(recipe.scale) / ROWS_PER_FILE_MIN;
        u32::try_from(worth).unwrap_or(u32::MAX).clamp(1, recipe.files)
    }
}

/// A file's share of a table: the `index`th of `count`, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    pub table: Table,
    pub index: u32,
    pub count: u32,
}

impl Part {
    /// Where it lies below the folder.
    pub fn path(&self) -> String {
        format!("{}/part-{:03}.parquet", self.table.name(), self.index)
    }

    fn has_rows(&self, scale: f64) -> bool {
        match self.table {
            Table::Tpch(_) => true,
            Table::Tpcds(table) => tpcds::has_rows(table, scale, self.index, self.count),
        }
    }

    /// Its rows.
    pub fn read(&self, scale: f64) -> Result<Box<dyn RecordBatchReader>, UserError> {
        match self.table {
            Table::Tpch(table) => Ok(table.read(scale, self.index, self.count)),
            Table::Tpcds(table) => tpcds::read(table, scale, self.index, self.count),
        }
    }
}

/// All files of all tables.
pub(super) fn parts(recipe: &Recipe) -> Vec<Part> {
    let of_table = |table: Table| {
        let count = table.files(recipe);
        let parts = (0..count).map(move |index| Part { table, index, count });
        parts.filter(|part| part.has_rows(recipe.scale))
    };
    recipe.benchmark.tables().into_iter().flat_map(of_table).collect()
}

/// Rows of all tables, about.
pub(super) fn estimated_rows(recipe: &Recipe) -> u64 {
    recipe.benchmark.tables().into_iter().map(|table| table.rows(recipe.scale)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generators_named_are_those_that_are_linked() {
        let lock = include_str!("../../../../Cargo.lock");
        for benchmark in [Benchmark::Tpch, Benchmark::Tpcds] {
            let (name, version) = benchmark.generator().split_once(' ').unwrap();
            assert!(lock.contains(&format!("name = \"{name}\"\nversion = \"{version}\"\n")), "{name}");
        }
    }
}
