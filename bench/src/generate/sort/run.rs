//! Sorted runs on the disk, and the buckets that are taken from them.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::reader::FileReader;
use arrow::ipc::writer::FileWriter;
use arrow::record_batch::{RecordBatch, RecordBatchReader};

use super::super::writer::RowsFault;
use super::key::{Bounds, KeyOf, order};

/// Rows that are handed on at once.
const BATCH_ROWS: usize = 8192;

/// The runs of a table: Arrow files, the nth batch of each being its rows of the nth bucket.
#[derive(Clone, Copy)]
pub(super) struct Runs<'a> {
    pub folder: &'a Path,
    pub key: &'a KeyOf,
    pub bounds: &'a Bounds,
}

impl Runs<'_> {
    /// Where a run lies.
    pub fn path(&self, run: u32) -> PathBuf {
        self.folder.join(format!("run-{run:05}.arrow"))
    }

    /// Sorts rows and writes them as a run.
    pub fn write(&self, path: &Path, rows: &RecordBatch) -> Result<(), RowsFault> {
        let keys = self.key.of(rows)?;
        let order = order(&keys);
        let buckets = self.bounds.cut(&keys, &order);
        let sorted = take_record_batch(rows, &UInt32Array::from(order))?;
        let file = BufWriter::new(File::create(path)?);
        let mut writer = FileWriter::try_new(file, &rows.schema())?;
        for bucket in buckets {
            writer.write(&compact(&sorted.slice(bucket.start, bucket.len()))?)?;
        }
        writer.finish()?;
        Ok(())
    }

    /// The rows of a bucket, sorted. Runs are in the generator's order, so rows that tie stay in it.
    fn bucket(&self, schema: &SchemaRef, runs: u32, bucket: u32) -> Result<RecordBatch, ArrowError> {
        let mut pieces = Vec::new();
        for run in 0..runs {
            let mut reader = FileReader::try_new(BufReader::new(File::open(self.path(run))?), None)?;
            if (bucket as usize) < reader.num_batches() {
                reader.set_index(bucket as usize)?;
                pieces.extend(reader.next().transpose()?);
            }
        }
        let rows = concat_batches(schema, &pieces)?;
        let order = order(&self.key.of(&rows)?);
        take_record_batch(&rows, &UInt32Array::from(order))
    }
}

/// The batch without the bytes of strings that are not in it: slices share them, and each would be written with all.
fn compact(rows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let columns = rows.columns().iter().map(|column| match column.data_type() {
        DataType::Utf8View => Arc::new(column.as_string_view().gc()) as ArrayRef,
        _ => Arc::clone(column),
    });
    RecordBatch::try_new(rows.schema(), columns.collect())
}

/// The rows of some consecutive buckets, in order.
pub(super) struct Buckets<'a> {
    runs: Runs<'a>,
    schema: SchemaRef,
    run_count: u32,
    left: Range<u32>,
    ready: VecDeque<RecordBatch>,
}

impl<'a> Buckets<'a> {
    /// Those that `buckets` counts, from `run_count` runs.
    pub fn new(runs: Runs<'a>, schema: SchemaRef, run_count: u32, buckets: Range<u32>) -> Self {
        Self { runs, schema, run_count, left: buckets, ready: VecDeque::new() }
    }

    fn load(&mut self, bucket: u32) -> Result<(), ArrowError> {
        let rows = self.runs.bucket(&self.schema, self.run_count, bucket)?;
        let starts = (0..rows.num_rows()).step_by(BATCH_ROWS);
        self.ready.extend(starts.map(|start| rows.slice(start, BATCH_ROWS.min(rows.num_rows() - start))));
        Ok(())
    }
}

impl Iterator for Buckets<'_> {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.ready.is_empty() {
            let bucket = self.left.next()?;
            if let Err(error) = self.load(bucket) {
                self.left = 0..0;
                return Some(Err(error));
            }
        }
        self.ready.pop_front().map(Ok)
    }
}

impl RecordBatchReader for Buckets<'_> {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}
