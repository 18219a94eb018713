//! The writer of one lane.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use firesteel_base::Grant;

use super::scatter::Held;
use super::{Assignment, WriteError};
use crate::format::{FormatError, FramePlan, Piece, Rows, fingerprint, same_layout};
use crate::key::{BlockStat, LaneOutput};
use crate::store::{BlockStore, Lane};

/// The size that frames should have: large enough for the wire, small enough for a cache.
const FRAME_BYTES_TARGET: usize = 1 << 20;
/// The most rows of a frame, which becomes one batch of its reader.
const FRAME_ROWS_MAX: usize = 32 << 10;
/// A frame that turns out larger than this (rows of very different sizes) is cut in two.
const FRAME_BYTES_CUT: usize = 8 << 20;
/// The most bytes of batches held before they are encoded: a core's share of cache, about.
const HELD_BYTES_MAX: usize = 16 << 20;
/// In whose name held batches are counted in the budget.
const HELD: &str = "shuffle write buffers";

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
}

/// Writes the output of one lane of an attempt. Dropped unfinished, it takes back what it wrote.
#[derive(Debug)]
pub struct LaneWriter {
    store: Arc<BlockStore>,
    lane: Arc<Lane>,
    schema: SchemaRef,
    /// The last batch's schema that was found to fit.
    fitting: SchemaRef,
    fingerprint: u64,
    taken: bool,
    held: Vec<Held>,
    held_bytes: usize,
    held_bytes_max: usize,
    grant: Grant,
    output: Vec<BlockStat>,
    counters: Arc<WriteCounters>,
}

impl LaneWriter {
    pub(crate) fn new(store: Arc<BlockStore>, lane: Arc<Lane>, schema: SchemaRef, taken: bool) -> Self {
        let partitions = lane.partitions() as usize;
        let grant = store.budget().open(HELD);
        Self {
            fitting: Arc::clone(&schema),
            fingerprint: fingerprint(&schema),
            held: Vec::new(),
            held_bytes: 0,
            held_bytes_max: partitions.saturating_mul(FRAME_BYTES_TARGET).min(HELD_BYTES_MAX),
            grant,
            output: vec![BlockStat::default(); partitions],
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
        let held = Held::new(batch, assignment, self.lane.partitions())?;
        if batch.num_rows() == 0 {
            return Ok(());
        }
        self.counters.rows.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
        let refused = self.grant.try_grow(held.held_bytes() as u64).is_err();
        self.held_bytes += held.held_bytes();
        self.held.push(held);
        if refused || self.held_bytes >= self.held_bytes_max { self.flush() } else { Ok(()) }
    }

    /// Encodes what is held and hands the lane over to the store, where it waits for the attempt's commit.
    ///
    /// # Errors
    /// When the rows find no place, or the attempt was discarded.
    pub fn finish(mut self) -> Result<LaneOutput, WriteError> {
        self.check_alive()?;
        self.flush()?;
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

    /// Encodes all that is held.
    fn flush(&mut self) -> Result<(), WriteError> {
        let held = std::mem::take(&mut self.held);
        self.held_bytes = 0;
        for partition in 0..self.lane.partitions() {
            self.flush_partition(&held, partition)?;
        }
        drop(held);
        self.grant.shrink(self.grant.bytes());
        Ok(())
    }

    fn flush_partition(&mut self, held: &[Held], partition: u32) -> Result<(), WriteError> {
        let (mut rows, mut bytes) = (0, 0);
        let mut pieces = Vec::new();
        for batch in held {
            let piece = batch.piece(partition);
            if !piece.rows.is_empty() {
                rows += piece.rows.len();
                bytes += batch.bytes_of(piece.rows.len());
                pieces.push(piece);
            }
        }
        let frames = (bytes + FRAME_BYTES_TARGET / 2) / FRAME_BYTES_TARGET;
        let frames = frames.max(rows.div_ceil(FRAME_ROWS_MAX)).clamp(1, rows.max(1));
        for frame in 0..frames {
            let (start, end) = (rows * frame / frames, rows * (frame + 1) / frames);
            self.add_frame(partition, &cut(&pieces, start, end - start))?;
        }
        Ok(())
    }

    /// Encodes rows into one frame, or into several when they do not go into one.
    fn add_frame(&mut self, partition: u32, pieces: &[Piece<'_>]) -> Result<(), WriteError> {
        let rows: usize = pieces.iter().map(|piece| piece.rows.len()).sum();
        if rows == 0 {
            return Ok(());
        }
        let plan = match FramePlan::new(self.fingerprint, pieces) {
            Ok(plan) if plan.frame_bytes() <= FRAME_BYTES_CUT || rows == 1 => plan,
            // Too large, or made of dictionaries that do not go into one.
            Ok(_) | Err(FormatError::Limit { .. } | FormatError::Gather(_)) if rows > 1 => {
                self.add_frame(partition, &cut(pieces, 0, rows / 2))?;
                return self.add_frame(partition, &cut(pieces, rows / 2, rows - rows / 2));
            }
            Ok(plan) => plan,
            Err(error) => return Err(error.into()),
        };
        let bytes = self.store.add(&self.lane, partition, plan)?;
        let stat = &mut self.output[partition as usize];
        stat.rows += rows as u64;
        stat.bytes += bytes;
        self.counters.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.counters.frames.fetch_add(1, Ordering::Relaxed);
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

/// The `len` rows from row `start` on of all pieces together.
fn cut<'a>(pieces: &[Piece<'a>], mut start: usize, mut len: usize) -> Vec<Piece<'a>> {
    let mut cuts = Vec::with_capacity(pieces.len());
    for piece in pieces {
        let skipped = start.min(piece.rows.len());
        let taken = len.min(piece.rows.len() - skipped);
        start -= skipped;
        len -= taken;
        if taken > 0 {
            cuts.push(Piece { batch: piece.batch, rows: part_of(piece.rows, skipped, taken) });
        }
    }
    cuts
}

fn part_of(rows: Rows<'_>, skipped: usize, taken: usize) -> Rows<'_> {
    match rows {
        Rows::Range { start, .. } => Rows::Range { start: start + skipped, len: taken },
        Rows::Take(rows) => Rows::Take(&rows[skipped..skipped + taken]),
    }
}
