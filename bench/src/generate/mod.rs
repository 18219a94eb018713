//! TPC-H and TPC-DS data as Parquet files: `OUT/<table>/part-000.parquet`, ...
//!
//! The rows depend on the scale alone: neither the number of files nor threads changes them. Each file is written under
//! a temporary name and renamed when it is whole, and `manifest.json` comes last, so a folder with a manifest is complete and
//! one without is taken up where the last run stopped.

mod fault;
mod folder;
mod manifest;
mod options;
mod tables;
mod write;

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};

use firesteel_base::UserError;
use parking_lot::Mutex;

pub use manifest::{FileEntry, Manifest, Recipe, TableEntry};
pub use options::{Compression, GenerateOptions};
pub use tables::Benchmark;

use crate::progress::Progress;
use folder::{Claim, Folder};
use tables::{Part, Table};

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
    let parts = tables::parts(&recipe);
    progress.start(tables::estimated_rows(&recipe));
    let outcome = write_all(&folder, &recipe, &parts, threads(options), progress);
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

/// Writes the parts by several threads, each of which takes the next part that nobody has; the first fault stops all.
fn write_all(
    folder: &Folder,
    recipe: &Recipe,
    parts: &[Part],
    threads: usize,
    progress: &dyn Progress,
) -> Result<Vec<(Table, FileEntry)>, UserError> {
    let next = AtomicUsize::new(0);
    let fault = Mutex::new(None);
    let written = Mutex::new(Vec::with_capacity(parts.len()));
    let work = || {
        while let Some(part) = parts.get(next.fetch_add(1, Ordering::Relaxed)) {
            let stop = || fault.lock().is_some();
            match write::ensure_part(folder, recipe, part, progress, &stop) {
                Ok(Some(entry)) => written.lock().push((part.table, entry)),
                Ok(None) => return,
                Err(error) => {
                    fault.lock().get_or_insert(error);
                    return;
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads.min(parts.len()) {
            scope.spawn(work);
        }
    });
    match fault.into_inner() {
        Some(error) => Err(error),
        None => Ok(written.into_inner()),
    }
}
