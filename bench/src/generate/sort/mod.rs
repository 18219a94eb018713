//! Files of sorted rows: the first file of a table holds the smallest keys, the last one the largest.
//!
//! A table need not fit in memory. Its range of keys is cut into buckets by a sample, so many that one fits in memory with
//! ease, and each file is some consecutive buckets. The rows are made in shares of about a bucket's size; each is sorted and
//! written to a scratch file as a run, which is cut at the bounds of the buckets. Then each file takes its buckets from all
//! runs, one after the other, sorts and writes them. Shares and files are worked on in parallel, each thread with one bucket's
//! rows in memory at a time (a few copies of 2^18 rows; of more where a table has above 2^27 rows, as the square root of their
//! number).
//!
//! Rows that tie stay in the generator's order, so the rows of a table are in one order however many files there are. The runs
//! take about the uncompressed size of the table, and are removed before the next table begins. When the work was stopped,
//! files that are whole are kept, and the runs are made anew for the rest.

mod key;
mod run;

use std::path::Path;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use firesteel_base::UserError;

use super::fault;
use super::manifest::FileEntry;
use super::parallel::{Stop, in_parallel};
use super::tables::{Part, Table};
use super::write::Filling;
use super::writer::RowsFault;
use key::{Bounds, KeyOf};
use run::{Buckets, Runs};

/// Rows of a run and of a bucket, about.
const ROWS_MIN: u64 = 1 << 18;
/// Rows that a bucket has in a run, at least: with less, reading them costs more than sorting them.
const ROWS_PER_PIECE_MIN: u64 = 512;
/// Places of a table that are looked at for its bounds.
const SAMPLE_SLICES: u32 = 64;
/// Rows that are looked at for each bucket, and for all.
const SAMPLE_ROWS_PER_BUCKET: u64 = 64;
const SAMPLE_ROWS_MIN: u64 = 16 * 1024;

/// How a table is worked through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Plan {
    rows: u64,
    runs: u32,
    buckets_per_file: u32,
    files: u32,
}

impl Plan {
    fn new(rows: u64, files: u32) -> Self {
        let at_once = ROWS_MIN.max((rows * ROWS_PER_PIECE_MIN).isqrt());
        let small = |number: u64| u32::try_from(number).expect("it grows with the square root of the rows");
        Self {
            rows,
            runs: small(rows.div_ceil(at_once).max(1)),
            buckets_per_file: small(rows.div_ceil(at_once * u64::from(files)).max(1)),
            files,
        }
    }

    fn buckets(self) -> u32 {
        self.buckets_per_file * self.files
    }

    /// How many shares the table is cut into for the sample, of which [`SAMPLE_SLICES`] are read.
    fn sample_shares(self) -> u32 {
        let wanted = SAMPLE_ROWS_MIN.max(SAMPLE_ROWS_PER_BUCKET * u64::from(self.buckets()));
        let shares = self.rows * u64::from(SAMPLE_SLICES) / wanted;
        u32::try_from(shares).expect("there are fewer than rows in a bucket").max(SAMPLE_SLICES)
    }
}

/// Makes the files of a table, `parts`, those that an earlier run made excepted.
pub(super) fn ensure_table(
    filling: &Filling<'_>,
    table: Table,
    parts: &[Part],
    threads: usize,
) -> Result<Vec<FileEntry>, UserError> {
    let mut whole = Vec::new();
    let mut missing = Vec::new();
    for part in parts {
        match filling.whole_part(part)? {
            Some(entry) => {
                filling.progress.advance(entry.rows);
                whole.push(entry);
            }
            None => missing.push(*part),
        }
    }
    if missing.is_empty() {
        // Nothing has to be made a first time either.
        filling.progress.advance(whole.iter().map(|entry| entry.rows).sum());
        return Ok(whole);
    }
    let files = u32::try_from(parts.len()).expect("files are counted so");
    let plan = Plan::new(table.rows(filling.recipe.scale), files);
    whole.extend(make(filling, table, &missing, plan, threads)?);
    Ok(whole)
}

/// Makes the files of `parts` from all rows of the table.
fn make(
    filling: &Filling<'_>,
    table: Table,
    parts: &[Part],
    plan: Plan,
    threads: usize,
) -> Result<Vec<FileEntry>, UserError> {
    let folder = filling.folder.scratch(table.name())?;
    let key = KeyOf::table(table);
    let bounds = sampled_bounds(filling, table, &key, plan)?;
    let runs = Runs { folder: &folder, key: &key, bounds: &bounds };
    make_runs(filling, table, runs, plan, threads)?;
    let written = in_parallel(threads, parts, |part, stop| {
        let first = part.index * plan.buckets_per_file;
        let rows = Buckets::new(runs, table.schema(), plan.runs, first..first + plan.buckets_per_file);
        filling.write_part(part, Box::new(rows), stop)
    })?;
    filling.folder.remove_scratch()?;
    Ok(written)
}

/// Makes the rows, share by share, and writes each as a run.
fn make_runs(
    filling: &Filling<'_>,
    table: Table,
    runs: Runs<'_>,
    plan: Plan,
    threads: usize,
) -> Result<(), UserError> {
    let shares: Vec<u32> = (0..plan.runs).collect();
    in_parallel(threads, &shares, |share, stop| {
        let path = runs.path(*share);
        let told = |error: RowsFault| fault::rows("write", &path, &*error);
        let Some(rows) = read_share(filling, table, *share, plan, stop)? else { return Ok(None) };
        runs.write(&path, &rows).map_err(told)?;
        Ok(Some(()))
    })?;
    Ok(())
}

/// The rows of a share, unless they are not wanted any more.
fn read_share(
    filling: &Filling<'_>,
    table: Table,
    share: u32,
    plan: Plan,
    stop: Stop<'_>,
) -> Result<Option<RecordBatch>, UserError> {
    let told = |error| fault::rows("generate", Path::new(table.name()), &error);
    let mut batches = Vec::new();
    for batch in table.slice(filling.recipe, share, plan.runs)? {
        if stop() {
            return Ok(None);
        }
        let batch = batch.map_err(told)?;
        filling.progress.advance(batch.num_rows() as u64);
        batches.push(batch);
    }
    concat_batches(&table.schema(), &batches).map(Some).map_err(told)
}

/// Where buckets begin and end, so that they hold about as many rows each.
fn sampled_bounds(filling: &Filling<'_>, table: Table, key: &KeyOf, plan: Plan) -> Result<Bounds, UserError> {
    let told = |error| fault::rows("generate", Path::new(table.name()), &error);
    let shares = plan.sample_shares();
    let mut keys = Vec::new();
    // Keys may grow or fall along the table, so it is looked at all over.
    for slice in 0..SAMPLE_SLICES {
        let middle = u64::from(2 * slice + 1) * u64::from(shares) / u64::from(2 * SAMPLE_SLICES);
        let share = u32::try_from(middle).expect("it is one of the shares");
        for batch in table.slice(filling.recipe, share, shares)? {
            key.extend(&mut keys, &batch.map_err(told)?).map_err(told)?;
        }
    }
    Ok(Bounds::of_sample(keys, plan.buckets()))
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    use super::*;
    use crate::generate::folder::{Claim, Folder};
    use crate::generate::{Benchmark, GenerateOptions};
    use crate::progress::Silent;

    #[test]
    fn many_runs_and_buckets_give_what_one_gives() {
        let dir = tempfile::tempdir().unwrap();
        let options =
            GenerateOptions { sorted: true, ..GenerateOptions::new(Benchmark::Tpch, 0.01, dir.path()) };
        let recipe = options.recipe().unwrap();
        let Claim::ToDo(folder) = Folder::claim(dir.path(), &recipe).unwrap() else { panic!("it is empty") };
        let filling = Filling { folder: &folder, recipe: &recipe, progress: &Silent };
        let table = Benchmark::Tpch.tables()[0];
        let made = |runs, buckets_per_file, files| {
            let plan = Plan { rows: table.rows(0.01), runs, buckets_per_file, files };
            let parts: Vec<_> = (0..files).map(|index| Part { table, index, count: files }).collect();
            let entries = make(&filling, table, &parts, plan, 2).unwrap();
            let batches: Vec<_> = entries
                .iter()
                .flat_map(|entry| {
                    let file = File::open(dir.path().join(&entry.path)).unwrap();
                    ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap()
                })
                .map(Result::unwrap)
                .collect();
            concat_batches(&table.schema(), &batches).unwrap()
        };
        let one = made(1, 1, 1);
        assert_eq!(one.num_rows(), 60_175);
        for (runs, buckets_per_file, files) in [(7, 1, 1), (1, 5, 2), (5, 3, 4)] {
            assert!(made(runs, buckets_per_file, files) == one, "{runs} {buckets_per_file} {files}");
        }
    }

    #[test]
    fn memory_grows_with_the_square_root_of_the_rows() {
        let plan = |rows, files| Plan::new(rows, files);
        assert_eq!(plan(60_000, 8), Plan { rows: 60_000, runs: 1, buckets_per_file: 1, files: 8 });
        assert_eq!(plan(6_000_000, 8), Plan { rows: 6_000_000, runs: 23, buckets_per_file: 3, files: 8 });
        assert_eq!(plan(6_000_000, 1).buckets(), 23);
        let large = plan(6_000_000_000, 16);
        assert!(large.runs < 4_000 && large.buckets() < 4_000, "{large:?}");
        assert!(plan(600_000_000_000, 10_000).runs < 40_000);
    }

    #[test]
    fn the_sample_is_large_enough_and_no_larger() {
        for (rows, files) in [(1_500, 1), (60_000, 8), (6_000_000, 8), (6_000_000_000, 16)] {
            let plan = Plan::new(rows, files);
            let sampled = rows * u64::from(SAMPLE_SLICES) / u64::from(plan.sample_shares());
            let wanted = SAMPLE_ROWS_MIN.max(64 * u64::from(plan.buckets()));
            assert!(
                sampled >= wanted.min(rows) * 9 / 10 && sampled <= wanted * 11 / 10,
                "{plan:?} {sampled}"
            );
        }
    }
}
