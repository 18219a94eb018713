//! The tables of the benchmarks, and how each is cut into files.

mod tpcds;
mod tpch;

use std::fmt;
use std::str::FromStr;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatchReader;
use firesteel_base::UserError;
use serde::{Deserialize, Serialize};

use super::manifest::Recipe;
pub(super) use tpch::Table as TpchTable;

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

    /// The names of its tables, by name, with their columns.
    pub(crate) fn schemas(self) -> Vec<(&'static str, SchemaRef)> {
        let mut schemas: Vec<_> =
            self.tables().into_iter().map(|table| (table.name(), table.schema())).collect();
        schemas.sort_unstable_by_key(|(name, _)| *name);
        schemas
    }

    /// Its tables whose number of rows at `scale` is known before they are made, with it.
    pub(crate) fn rows_known(self, scale: f64) -> impl Iterator<Item = (&'static str, u64)> {
        let known = self.tables().into_iter().filter(|table| table.rows_are_exact());
        known.map(move |table| (table.name(), table.rows(scale)))
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

    fn rows_are_exact(self) -> bool {
        match self {
            Self::Tpch(table) => table.rows_are_exact(),
            Self::Tpcds(table) => tpcds::rows_are_exact(table),
        }
    }

    /// Its columns.
    pub fn schema(self) -> SchemaRef {
        match self {
            Self::Tpch(table) => table.schema(),
            Self::Tpcds(table) => tpcds::schema(table),
        }
    }

    /// By what it is sorted.
    pub fn sort_key(self) -> SortKey {
        match self {
            Self::Tpch(table) => table.sort_key(),
            Self::Tpcds(table) => tpcds::sort_key(table),
        }
    }

    /// Whether its rows have to be brought into the order that the recipe asks for.
    pub fn needs_sorting(self, recipe: &Recipe) -> bool {
        recipe.sorted && !self.sort_key().is_generated
    }

    /// The `index`th of `count` shares of its rows, from 0, in the generator's order. Every table is cut; a share of few rows
    /// may be empty.
    pub fn slice(
        self,
        recipe: &Recipe,
        index: u32,
        count: u32,
    ) -> Result<Box<dyn RecordBatchReader>, UserError> {
        match self {
            Self::Tpch(table) => Ok(table.read(recipe.scale, recipe.skew, index, count)),
            Self::Tpcds(table) => tpcds::slice(table, recipe.scale, recipe.skew, index, count),
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
    pub fn path(&self, recipe: &Recipe) -> String {
        let extension = recipe.format.extension(recipe.compression);
        format!("{}/part-{:03}.{extension}", self.table.name(), self.index)
    }

    fn has_rows(&self, recipe: &Recipe) -> bool {
        match self.table {
            // However the generator cuts them: files of sorted rows are cut by their key.
            table if table.needs_sorting(recipe) => true,
            Table::Tpch(_) => true,
            Table::Tpcds(table) => tpcds::has_rows(table, recipe.scale, self.index, self.count),
        }
    }

    /// Its rows in the generator's order.
    pub fn read(&self, recipe: &Recipe) -> Result<Box<dyn RecordBatchReader>, UserError> {
        match self.table {
            Table::Tpch(table) => Ok(table.read(recipe.scale, recipe.skew, self.index, self.count)),
            Table::Tpcds(table) => tpcds::read(table, recipe.scale, recipe.skew, self.index, self.count),
        }
    }
}

/// By what the rows of a table are sorted: ascending, nulls last. Rows that tie stay in the generator's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SortKey {
    pub columns: &'static [&'static str],
    /// Whether the generator makes the rows in this order.
    pub is_generated: bool,
}

impl SortKey {
    const fn sorted(columns: &'static [&'static str]) -> Self {
        Self { columns, is_generated: false }
    }

    const fn generated(columns: &'static [&'static str]) -> Self {
        Self { columns, is_generated: true }
    }

    /// Where its columns stand among those of the table.
    pub fn positions(&self, schema: &SchemaRef) -> Vec<usize> {
        self.columns.iter().map(|name| schema.index_of(name).expect("the key is of the table")).collect()
    }
}

/// All files of all tables.
pub(super) fn parts(recipe: &Recipe) -> Vec<Part> {
    let of_table = |table: Table| {
        let count = table.files(recipe);
        let parts = (0..count).map(move |index| Part { table, index, count });
        parts.filter(|part| part.has_rows(recipe))
    };
    recipe.benchmark.tables().into_iter().flat_map(of_table).collect()
}

/// Rows that are written, about: each once, and once more where tables have to be sorted.
pub(super) fn estimated_rows(recipe: &Recipe) -> u64 {
    let times = |table: Table| if table.needs_sorting(recipe) { 2 } else { 1 };
    recipe.benchmark.tables().into_iter().map(|table| times(table) * table.rows(recipe.scale)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_is_sorted_by_columns_of_its_own() {
        for benchmark in [Benchmark::Tpch, Benchmark::Tpcds] {
            for table in benchmark.tables() {
                let key = table.sort_key();
                assert_eq!(key.positions(&table.schema()).len(), key.columns.len());
                assert!(!key.columns.is_empty());
            }
        }
    }

    #[test]
    fn the_generators_named_are_those_that_are_linked() {
        let lock = include_str!("../../../../Cargo.lock");
        for benchmark in [Benchmark::Tpch, Benchmark::Tpcds] {
            let (name, version) = benchmark.generator().split_once(' ').unwrap();
            assert!(lock.contains(&format!("name = \"{name}\"\nversion = \"{version}\"\n")), "{name}");
        }
    }
}
