//! TPC-H and TPC-DS data as files: `OUT/<table>/part-000.parquet`, or `.csv`, ...
//!
//! The rows depend on the scale alone, and on the skew where one is asked for: neither the number of files nor threads
//! changes them. Each file is written under a temporary name and renamed when it is whole, and `manifest.json` comes last, so
//! a folder with a manifest is complete and one without is taken up where the last run stopped.
//!
//! Where sorted rows are asked for, a table is sorted within and across its files: the fact tables by what queries filter
//! them by, the others by their primary key, all ascending with nulls last. Parquet files say so in their metadata.
//!
//! | table | sorted by |
//! | --- | --- |
//! | `lineitem` | `l_shipdate` |
//! | `orders` | `o_orderdate` |
//! | `partsupp` | `ps_partkey`, `ps_suppkey` |
//! | `store_sales`, `catalog_sales`, `web_sales` | `ss_sold_date_sk`, `cs_sold_date_sk`, `ws_sold_date_sk` |
//! | `store_returns`, `catalog_returns`, `web_returns` | `sr_returned_date_sk`, `cr_returned_date_sk`, `wr_returned_date_sk` |
//! | `inventory` | `inv_date_sk` |
//! | every other | its key, by which it is generated |

mod fault;
mod folder;
mod format;
mod manifest;
mod options;
mod parallel;
mod skew;
mod sort;
mod tables;
mod write;
mod writer;

use std::num::NonZeroUsize;

use firesteel_base::UserError;

pub use format::{Compression, Format};
pub use manifest::{FileEntry, Manifest, Recipe, TableEntry};
pub use options::GenerateOptions;
pub use skew::Skew;
pub use tables::Benchmark;

use crate::progress::Progress;
use folder::{Claim, Folder};
use parallel::in_parallel;
use tables::{Part, Table};
use write::Filling;

/// Makes the tables that `options` ask for, or finds them already made.
///
/// # Errors
/// When the options make no sense, the folder holds something else or is being written by another process, or it cannot be written.
pub fn generate(options: &GenerateOptions, progress: &dyn Progress) -> Result<Manifest, UserError> {
    let recipe = options.recipe()?;
    let folder = match Folder::claim(&options.out, &recipe)? {
        Claim::Complete(manifest) => {
            progress.note(&format!("{} is complete already", options.out.display()));
            return Ok(manifest);
        }
        Claim::ToDo(folder) => folder,
    };
    progress.start(tables::estimated_rows(&recipe));
    let outcome = write_all(&Filling { folder: &folder, recipe: &recipe, progress }, threads(options));
    progress.finish();
    let manifest = Manifest::new(recipe, outcome?);
    for (table, entry) in &manifest.tables {
        progress.note(&format!("{table}: {} rows in {} files", entry.rows, entry.files.len()));
    }
    folder.complete(&manifest)?;
    Ok(manifest)
}

fn threads(options: &GenerateOptions) -> usize {
    let all = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    options.threads.map_or_else(all, |n| n.max(1))
}

/// Writes all files: first those of rows as they are made, then those of tables that are to be sorted, table by table.
fn write_all(filling: &Filling<'_>, threads: usize) -> Result<Vec<(Table, FileEntry)>, UserError> {
    let recipe = filling.recipe;
    let (sorted, plain): (Vec<_>, Vec<_>) =
        tables::parts(recipe).into_iter().partition(|part| part.table.needs_sorting(recipe));
    let mut written = in_parallel(threads, &plain, |part, stop| {
        Ok(filling.ensure_part(part, stop)?.map(|entry| (part.table, entry)))
    })?;
    for parts in sorted.chunk_by(|one, other| one.table == other.table) {
        let Some(Part { table, .. }) = parts.first() else { continue };
        let entries = sort::ensure_table(filling, *table, parts, threads)?;
        written.extend(entries.into_iter().map(|entry| (*table, entry)));
    }
    Ok(written)
}
