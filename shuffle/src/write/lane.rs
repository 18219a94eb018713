//! The writer of one lane: what it takes, and when it encodes what it holds.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use firesteel_base::Grant;

use super::flush::FRAME_BYTES_TARGET;
use super::held::{Held, batch_bytes, check_assignment};
use super::{Assignment, WriteError};
use crate::format::{Scratch, fingerprint, same_layout};
use crate::key::{BlockStat, LaneOutput};
use crate::store::{BlockStore, Lane};

/// The most bytes of batches held before they are encoded: a core's share of cache, about.
const HELD_BYTES_MAX: usize = 16 << 20;
/// The most rows held, however small: their places are numbers of 32 bits.
const HELD_ROWS_MAX: usize = 16 << 20;
/// In whose name held batches, and the buffers in which their rows are ordered, are counted in the budget.
const HELD: &str = "shuffle write buffers";

/// With very many partitions more is held, so that each has as much as this of it: a frame costs as much as some KiB.
const HELD_PER_PARTITION: u64 = 32 << 10;
/// But no more than that, and no more than this part of the budget.
const HELD_BYTES_MANY_MAX: u64 = 64 << 20;
const HELD_PER_BUDGET: u64 = 64;

/// How many bytes of batches are held before they are encoded.
fn held_bytes_max(partitions: u32, budget: u64) -> usize {
    let usual = (partitions as usize * FRAME_BYTES_TARGET).clamp(1, HELD_BYTES_MAX);
    let many = u64::from(partitions) * HELD_PER_PARTITION;
    usual.max(many.min(HELD_BYTES_MANY_MAX).min(budget / HELD_PER_BUDGET) as usize)
}

/// What a writer has done so far; shared, so that progress can be read while it writes.
#[derive(Debug, Default)]
pub struct WriteCounters {
    rows: AtomicU64,
    bytes: AtomicU64,
    frames: AtomicU64,
}

impl WriteCounters {
    /// Rows taken.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    /// Bytes of frames encoded.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Frames encoded.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.frames.load(Ordering::Relaxed)
    }

    pub(super) fn count_frame(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.frames.fetch_add(1, Ordering::Relaxed);
    }
}

/// Writes the output of one lane of an attempt. Dropped unfinished, it takes back what it wrote.
#[derive(Debug)]
pub struct LaneWriter {
    pub(super) store: Arc<BlockStore>,
    pub(super) lane: Arc<Lane>,
    schema: SchemaRef,
    /// The last batch's schema that was found to fit.
    fitting: SchemaRef,
    pub(super) fingerprint: u64,
    taken: bool,
    pub(super) held: Held,
    held_bytes_max: usize,
    /// Counts what is held.
    pub(super) grant: Grant,
    pub(super) scratch: Scratch,
    /// Counts the scratch buffers.
    pub(super) scratch_grant: Grant,
    pub(super) output: Vec<BlockStat>,
    /// Rows of each frame of the first partition.
    pub(super) first_frames: Vec<u32>,
    pub(super) counters: Arc<WriteCounters>,
}

impl LaneWriter {
    pub(crate) fn new(store: Arc<BlockStore>, lane: Arc<Lane>, schema: SchemaRef, taken: bool) -> Self {
        let partitions = lane.partitions();
        Self {
            fitting: Arc::clone(&schema),
            fingerprint: fingerprint(&schema),
            held: Held::new(partitions),
            held_bytes_max: held_bytes_max(partitions, store.budget().limit()),
            grant: store.budget().open(HELD),
            scratch: Scratch::default(),
            scratch_grant: store.budget().open(HELD),
            output: vec![BlockStat::default(); partitions as usize],
            first_frames: Vec::new(),
            counters: Arc::default(),
            store,
            lane,
            schema,
            taken,
        }
    }

    /// Takes the rows of `batch`. Blocks the thread only when memory is full and frames go to files.
    ///
    /// # Errors
    /// When batch or assignment do not fit, or the rows find no place.
    pub fn write(&mut self, batch: &RecordBatch, assignment: &Assignment<'_>) -> Result<(), WriteError> {
        self.check_alive()?;
        self.check_schema(batch)?;
        check_assignment(assignment, batch.num_rows(), self.lane.partitions())?;
        self.counters.rows.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
        let bytes = batch_bytes(batch);
        let parts = self.parts_of(assignment, bytes).max(batch.num_rows().div_ceil(HELD_ROWS_MAX));
        if parts <= 1 {
            return self.hold(batch.clone(), assignment, bytes);
        }
        let len = batch.num_rows().div_ceil(parts);
        for start in (0..batch.num_rows()).step_by(len) {
            let rows = start..batch.num_rows().min(start + len);
            let part = batch.slice(start, rows.len());
            let bytes = batch_bytes(&part);
            self.hold(part, &assignment.of(rows), bytes)?;
        }
        Ok(())
    }

    /// Into how many parts a batch of `bytes` bytes is cut: whose rows are going to be ordered takes as much again for that.
    fn parts_of(&self, assignment: &Assignment<'_>, bytes: usize) -> usize {
        match assignment {
            Assignment::Rows(_) => bytes.div_ceil(self.held_bytes_max),
            Assignment::Single | Assignment::Whole(_) => 1,
        }
    }

    fn hold(
        &mut self,
        batch: RecordBatch,
        assignment: &Assignment<'_>,
        bytes: usize,
    ) -> Result<(), WriteError> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        if self.held.bytes() > 0 && self.parts_of(assignment, self.held.bytes() + bytes) > 1 {
            self.flush()?;
        }
        let taken = self.held.push(batch, assignment, bytes);
        let refused = self.grant.try_grow(taken as u64).is_err();
        if refused || self.held.bytes() >= self.held_bytes_max || self.held.rows() >= HELD_ROWS_MAX {
            self.flush()?;
        }
        if refused {
            self.let_go_of_scratch();
        }
        Ok(())
    }

    /// Encodes what is held; how many rows each frame of the first partition has.
    ///
    /// # Errors
    /// When the rows find no place.
    pub fn frames(&mut self) -> Result<&[u32], WriteError> {
        self.check_alive()?;
        self.flush()?;
        Ok(&self.first_frames)
    }

    /// Takes rows of other columns than the lane's into the last partition, to which no other rows may go. They can be read
    /// with their own schema alone.
    ///
    /// # Errors
    /// When the partition has rows, or they find no place.
    pub fn write_aside(&mut self, batch: &RecordBatch) -> Result<(), WriteError> {
        self.check_alive()?;
        self.flush()?;
        let last = self.lane.partitions() - 1;
        if self.output[last as usize].rows > 0 {
            return Err(WriteError::Aside { partition: last });
        }
        self.counters.rows.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
        self.flush_aside(batch)
    }

    /// Encodes what is held and hands the lane over to the store, where it waits for the attempt's commit.
    ///
    /// # Errors
    /// When the rows find no place, or the attempt was discarded.
    pub fn finish(mut self) -> Result<LaneOutput, WriteError> {
        self.check_alive()?;
        self.flush()?;
        self.store.wait_passed()?;
        self.check_alive()?;
        self.lane.finish();
        Ok(LaneOutput { partitions: std::mem::take(&mut self.output) })
    }

    /// What it has done so far.
    #[must_use]
    pub fn counters(&self) -> Arc<WriteCounters> {
        Arc::clone(&self.counters)
    }

    fn check_alive(&self) -> Result<(), WriteError> {
        let (attempt, lane) = self.lane.name();
        match () {
            () if self.taken => Err(WriteError::Taken { attempt, lane }),
            () if self.lane.is_discarded() => Err(WriteError::Discarded(attempt)),
            () => Ok(()),
        }
    }

    fn check_schema(&mut self, batch: &RecordBatch) -> Result<(), WriteError> {
        for (column, field) in batch.columns().iter().zip(self.schema.fields()) {
            if !field.is_nullable() && column.null_count() > 0 {
                return Err(WriteError::Schema {
                    expected: format!("column {} without nulls", field.name()),
                    found: format!("{} nulls", column.null_count()),
                });
            }
        }
        let found = batch.schema_ref();
        if Arc::ptr_eq(found, &self.fitting) {
            return Ok(());
        }
        let (found_fields, fields) = (found.fields(), self.schema.fields());
        if found_fields.len() != fields.len() {
            return Err(WriteError::Schema {
                expected: format!("{} columns", fields.len()),
                found: format!("{} columns", found_fields.len()),
            });
        }
        for (found, expected) in found_fields.iter().zip(fields) {
            if !same_layout(found.data_type(), expected.data_type()) {
                return Err(WriteError::Schema {
                    expected: format!("column {} of type {}", expected.name(), expected.data_type()),
                    found: format!("column {} of type {}", found.name(), found.data_type()),
                });
            }
        }
        self.fitting = Arc::clone(found);
        Ok(())
    }
}

impl Drop for LaneWriter {
    fn drop(&mut self) {
        if !self.lane.is_finished() {
            self.store.abandon(&self.lane);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_is_held_for_very_many_partitions_where_there_is_memory() {
        let mib = |partitions, budget: u64| held_bytes_max(partitions, budget) >> 20;
        assert_eq!([1, 4, 16, 512].map(|partitions| mib(partitions, 8 << 30)), [1, 4, 16, 16]);
        assert_eq!([1024, 4096, 100_000].map(|partitions| mib(partitions, 8 << 30)), [32, 64, 64]);
        assert_eq!([1024, 4096].map(|partitions| mib(partitions, 1 << 30)), [16, 16]);
    }
}
