//! Rows divided into files by a hash of their keys.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{RecordBatch, UInt32Array};
use datafusion::arrow::compute::{concat_batches, take_record_batch};
use datafusion::common::hash_utils::create_hashes;
use datafusion::error::Result;
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::execution::{SendableRecordBatchStream, SpillFile, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::joins::SeededRandomState;
use datafusion::physical_plan::spill::SpillManager;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, EmptyRecordBatchStream, ExecutionPlan, Partitioning, PlanProperties,
};
use futures::StreamExt;

use super::super::plan_boilerplate;

/// Files that the rows of one side are divided into.
pub(super) const PARTS: usize = 16;

/// Rows of a part are gathered until they are so many bytes, so that files are read in batches worth their while.
const GATHERED_BYTES: usize = 256 << 10;

/// Divides rows into files.
pub(super) struct Divider {
    keys: Vec<Arc<dyn PhysicalExpr>>,
    seed: SeededRandomState,
    files: SpillManager,
    parts: Vec<Writing>,
    /// Parts that nobody reads: their rows are dropped.
    unread: [bool; PARTS],
    hashes: Vec<u64>,
    gathered: MemoryReservation,
}

#[derive(Default)]
struct Writing {
    batches: Vec<RecordBatch>,
    bytes: usize,
    file: Option<OpenFile>,
    rows: usize,
    written: usize,
}

/// A file that is written. The library has a type for it that has no name outside: so it is what one can do with it.
type OpenFile = Box<dyn FnMut(Step<'_>) -> Result<Wrote> + Send>;

enum Step<'a> {
    Append(&'a RecordBatch),
    Finish,
}

/// What a [`Step`] came to.
struct Wrote {
    bytes: usize,
    file: Option<Arc<dyn SpillFile>>,
}

fn create(files: &SpillManager) -> Result<OpenFile> {
    let mut file = files.create_in_progress_file("a hash join")?;
    Ok(Box::new(move |step| match step {
        Step::Append(batch) => Ok(Wrote { bytes: file.append_batch(batch)?, file: None }),
        Step::Finish => Ok(Wrote { bytes: 0, file: file.finish()? }),
    }))
}

/// The rows of a part.
#[derive(Clone)]
pub(super) struct Part {
    file: Option<Arc<dyn SpillFile>>,
    files: SpillManager,
    /// How many.
    pub rows: usize,
    /// Their bytes in memory.
    pub bytes: usize,
}

impl Divider {
    /// Divides rows by `keys`, in another way at each depth and than exchanges do. What it gathers is counted in `gathered`.
    pub(super) fn new(
        keys: Vec<Arc<dyn PhysicalExpr>>,
        depth: usize,
        files: SpillManager,
        gathered: MemoryReservation,
    ) -> Self {
        Self {
            keys,
            seed: SeededRandomState::with_seed(1 + depth as u64),
            files,
            parts: (0..PARTS).map(|_| Writing::default()).collect(),
            unread: [false; PARTS],
            hashes: Vec::new(),
            gathered,
        }
    }

    /// Drops the rows of the parts for which that says so.
    pub(super) fn leave_out(&mut self, is_unread: impl Fn(usize) -> bool) {
        self.unread = std::array::from_fn(is_unread);
    }

    /// Divides the rows of `batch`.
    pub(super) fn add(&mut self, batch: &RecordBatch) -> Result<()> {
        let evaluate = |key: &Arc<dyn PhysicalExpr>| key.evaluate(batch)?.into_array(batch.num_rows());
        let keys = self.keys.iter().map(evaluate).collect::<Result<Vec<_>>>()?;
        self.hashes.clear();
        self.hashes.resize(batch.num_rows(), 0);
        create_hashes(&keys, self.seed.random_state(), &mut self.hashes)?;
        let mut rows: [Vec<u32>; PARTS] = Default::default();
        for (row, hash) in (0..).zip(&self.hashes) {
            let part = (hash % PARTS as u64) as usize;
            if !self.unread[part] {
                rows[part].push(row);
            }
        }
        for (part, rows) in rows.into_iter().enumerate().filter(|(_, rows)| !rows.is_empty()) {
            self.gather(part, take_record_batch(batch, &UInt32Array::from(rows))?)?;
        }
        Ok(())
    }

    /// Divides all rows that come.
    pub(super) async fn add_all(&mut self, mut rows: SendableRecordBatchStream) -> Result<()> {
        while let Some(batch) = rows.next().await {
            self.add(&batch?)?;
        }
        Ok(())
    }

    fn gather(&mut self, part: usize, batch: RecordBatch) -> Result<()> {
        let writing = &mut self.parts[part];
        let bytes = batch.get_array_memory_size();
        self.gathered.grow(bytes);
        writing.bytes += bytes;
        writing.rows += batch.num_rows();
        writing.batches.push(batch);
        if writing.bytes < GATHERED_BYTES { Ok(()) } else { self.write(part) }
    }

    fn write(&mut self, part: usize) -> Result<()> {
        let writing = &mut self.parts[part];
        if writing.batches.is_empty() {
            return Ok(());
        }
        let batch = concat_batches(self.files.schema(), &writing.batches)?;
        let file = match &mut writing.file {
            Some(file) => file,
            none => none.insert(create(&self.files)?),
        };
        writing.written += file(Step::Append(&batch))?.bytes;
        writing.batches.clear();
        self.gathered.shrink(std::mem::take(&mut writing.bytes));
        Ok(())
    }

    /// All parts, when no more rows come.
    pub(super) fn finish(mut self) -> Result<Vec<Part>> {
        (0..PARTS).try_for_each(|part| self.write(part))?;
        let Self { parts, files, .. } = self;
        let part = |mut writing: Writing| {
            let ended = writing.file.as_mut().map(|file| file(Step::Finish)).transpose()?;
            let file = ended.and_then(|ended| ended.file);
            Ok(Part { file, files: files.clone(), rows: writing.rows, bytes: writing.written })
        };
        parts.into_iter().map(part).collect()
    }
}

/// Reads a part.
pub(super) struct PartExec {
    part: Part,
    properties: Arc<PlanProperties>,
}

impl PartExec {
    /// Its rows, as one partition.
    pub(super) fn new(part: Part) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(part.files.schema())),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self { part, properties: Arc::new(properties) }
    }
}

impl fmt::Debug for PartExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PartExec({} rows)", self.part.rows)
    }
}

impl DisplayAs for PartExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PartExec: rows={}", self.part.rows)
    }
}

impl ExecutionPlan for PartExec {
    plan_boilerplate!(PartExec, |part, _children| Ok(Arc::new(Self::new(part.part.clone()))));

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn execute(&self, _partition: usize, _context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        match &self.part.file {
            Some(file) => self.part.files.read_spill_as_stream_unbuffered(Arc::clone(file), None),
            None => Ok(Box::pin(EmptyRecordBatchStream::new(self.schema()))),
        }
    }
}
