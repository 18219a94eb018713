//! Writing the output of a lane: rows are scattered to partitions and encoded into frames.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow_array::RecordBatch;
use firesteel_base::{AttemptKey, Class};

use crate::format::FormatError;
use crate::key::LaneOutput;
use crate::store::StoreError;

/// Where the rows of a batch go.
#[derive(Debug, Clone, Copy)]
pub enum Assignment<'a> {
    /// All rows to partition 0.
    Single,
    /// The partition of each row.
    Rows(&'a [u32]),
    /// The whole batch to that partition.
    Whole(u32),
}

/// Why a lane's output could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The batch is not of the lane's schema.
    #[error("column {column} of the shuffled batch has type {found}, expected was {expected}")]
    Schema {
        /// The column, or the number of columns.
        column: String,
        /// Its type in the lane's schema.
        expected: String,
        /// Its type in the batch.
        found: String,
    },
    /// The assignment does not fit the batch or the exchange.
    #[error("the assignment of rows to partitions does not fit: {0}")]
    Assignment(String),
    /// The rows cannot be encoded.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The frames cannot be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The attempt was discarded, or its stage or job freed, while it was being written.
    #[error("the output of attempt {0} was discarded while it was being written")]
    Discarded(AttemptKey),
}

impl WriteError {
    /// What may be done about it.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Schema { .. } | Self::Assignment(_) | Self::Format(_) => Class::User,
            Self::Store(error) => error.class(),
            Self::Discarded(_) => Class::Cancelled,
        }
    }
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
}

/// Writes the output of one lane of an attempt. Dropped unfinished, it takes back what it wrote.
#[derive(Debug)]
pub struct LaneWriter {}

impl LaneWriter {
    /// Takes the rows of `batch`. Blocks the thread only when memory is full and frames go to files.
    ///
    /// # Errors
    /// When batch or assignment do not fit, or the rows find no place.
    pub fn write(&mut self, batch: &RecordBatch, assignment: &Assignment<'_>) -> Result<(), WriteError> {
        let _ = (batch, assignment);
        todo!()
    }

    /// Encodes what is buffered and hands the lane over to the store, where it waits for the attempt's commit.
    ///
    /// # Errors
    /// When the rows find no place.
    pub fn finish(self) -> Result<LaneOutput, WriteError> {
        todo!()
    }

    /// What it has done so far.
    #[must_use]
    pub fn counters(&self) -> Arc<WriteCounters> {
        todo!()
    }
}
