//! `sort`: the lineitem of TPC-H, sorted into Parquet files and grouped into many groups.

use std::path::{Path, PathBuf};

use firesteel_base::UserError;
use tempfile::TempDir;
use tokio::sync::OnceCell;

use super::lineitem::{Digest, Groups, Lineitem};
use super::{Check, Input, WorkloadQuery};
use crate::Benchmark;
use crate::generate::Format;
use crate::run::checked_manifest;

/// Sorts, the names of their queries and the columns that they sort by.
const SORTS: [(&str, &str); 2] = [("sort-orderkey", "l_orderkey"), ("sort-partkey", "l_partkey")];

/// Groupings; the groups are reduced to a row that no wrong group leaves as it is.
const GROUPINGS: [(&str, &str, Check); 3] = [
    (
        "group-orders",
        "SELECT count(*) AS groups, sum(lines * lines) AS squares, sum(quantity) AS quantity, max(quantity) AS most \
         FROM (SELECT l_orderkey, count(*) AS lines, sum(l_quantity) AS quantity FROM lineitem GROUP BY l_orderkey)",
        Check::Groups(Groups::of_orders),
    ),
    (
        "distinct-suppliers",
        "SELECT count(*) AS groups, sum(suppliers) AS suppliers, sum(suppliers * suppliers) AS squares \
         FROM (SELECT l_orderkey, count(DISTINCT l_suppkey) AS suppliers FROM lineitem GROUP BY l_orderkey)",
        Check::Groups(Groups::of_suppliers),
    ),
    (
        "group-parts",
        "SELECT count(*) AS groups, sum(lines * lines) AS squares, sum(quantity) AS quantity, max(quantity) AS most \
         FROM (SELECT l_suppkey, l_partkey, count(*) AS lines, sum(l_quantity) AS quantity FROM lineitem \
         GROUP BY l_suppkey, l_partkey)",
        Check::Groups(Groups::of_parts),
    ),
];

/// Sorts and groupings of a folder's lineitem.
#[derive(Debug)]
pub struct Sort {
    data: PathBuf,
    lineitem: Lineitem,
    rows: u64,
    /// Where sorted files are written. Goes away in the end.
    written: TempDir,
    digest: OnceCell<Digest>,
    groups: OnceCell<Groups>,
}

impl Sort {
    pub(super) const NAME: &str = "sort";
    /// What answers are held against.
    pub(super) const AGAINST: &str = "the files read another way";

    /// Over the TPC-H data in `data`. Sorted files are written to a folder of its own in `out`, the system's temporary folder
    /// when that is none, which every executor must reach under the same path.
    ///
    /// # Errors
    /// When `data` does not hold complete data of TPC-H in Parquet files, or nothing can be written to `out`.
    pub fn new(data: &Path, out: Option<&Path>) -> Result<Self, UserError> {
        let manifest = checked_manifest(data, Benchmark::Tpch)?;
        if manifest.recipe.format != Format::Parquet {
            let format = manifest.recipe.format;
            return Err(UserError::new(format!("{} holds {format} files", data.display()))
                .detail("what sorts and groupings give is checked against Parquet files")
                .hint("generate the data as Parquet files"));
        }
        let table = &manifest.tables["lineitem"];
        let lineitem = Lineitem::open(table.files.iter().map(|file| data.join(&file.path)).collect())?;
        let out = out.map_or_else(std::env::temp_dir, Path::to_owned);
        let made = out
            .canonicalize()
            .and_then(|out| tempfile::Builder::new().prefix("firesteel-bench-").tempdir_in(out));
        let written = made.map_err(|fault| {
            UserError::new(format!("sorted files cannot be written to {}: {fault}", out.display()))
                .hint("give a folder that is there, and that you may write to")
        })?;
        Ok(Self {
            data: data.to_owned(),
            lineitem,
            rows: table.rows,
            written,
            digest: OnceCell::new(),
            groups: OnceCell::new(),
        })
    }

    pub(in crate::run) fn data(&self) -> &Path {
        &self.data
    }

    pub(super) fn queries(&self) -> Vec<WorkloadQuery> {
        let input = Some(Input { rows: self.rows, bytes: None });
        let sorts = SORTS.map(|(name, column)| {
            let path = self.written.path().join(format!("{name}.parquet"));
            let to = path.display().to_string().replace('\'', "''");
            let sql = format!("COPY (SELECT * FROM lineitem ORDER BY {column}) TO '{to}' STORED AS PARQUET");
            WorkloadQuery { name: name.to_owned(), sql, input, check: Check::File { path, column } }
        });
        let groupings = GROUPINGS.map(|(name, sql, check)| WorkloadQuery {
            name: name.to_owned(),
            sql: sql.to_owned(),
            input,
            check,
        });
        sorts.into_iter().chain(groupings).collect()
    }

    /// Holds a file against the table: the same rows, and in the order of a column.
    pub(super) async fn check_file(&self, path: &Path, column: &str) -> Result<(), UserError> {
        let right = self.digest.get_or_try_init(|| self.lineitem.digest()).await?;
        let found = self.lineitem.digest_sorted(path, column).await?;
        match found == *right {
            true => Ok(()),
            false => Err(UserError::new(format!("{found} were written, not {right}"))),
        }
    }

    /// The groups of the table.
    pub(super) async fn groups(&self) -> Result<&Groups, UserError> {
        self.groups.get_or_try_init(|| self.lineitem.groups()).await
    }
}
