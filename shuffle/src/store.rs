//! The blocks of one executor: in memory first, then in files.

use std::path::PathBuf;
use std::sync::Arc;

use arrow_schema::SchemaRef;
use firesteel_base::{AttemptKey, Class, JobId, MemoryBudget, OutOfBudget, StageKey};

use crate::key::BlockKey;
use crate::write::LaneWriter;

/// What a store may use.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// The executor's memory; frames and buffered rows are counted in it.
    pub budget: MemoryBudget,
    /// Bytes of frames kept in memory before the coldest go to files.
    pub memory_max: u64,
    /// Folders for files, used in turn; none: frames stay in memory.
    pub scratch: Vec<PathBuf>,
}

/// What a store holds now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StoreUsage {
    /// Bytes of frames in memory.
    pub memory_bytes: u64,
    /// Bytes of frames in files.
    pub disk_bytes: u64,
    /// Blocks that hold at least one frame.
    pub blocks: u64,
}

/// Why a block could not be kept, found or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No folder took the frame.
    #[error("no scratch folder could take {bytes} bytes of shuffle output: {}", reasons.join("; "))]
    DiskFull {
        /// Bytes that found no place.
        bytes: u64,
        /// What each folder said.
        reasons: Vec<String>,
    },
    /// A scratch folder cannot be used.
    #[error("the scratch folder {} cannot be used: {reason}", path.display())]
    Scratch {
        /// The folder.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// Memory is full and there is no folder to write to.
    #[error("shuffle output finds no memory and there is no scratch folder: {0}")]
    Budget(#[from] OutOfBudget),
    /// Reading a file failed.
    #[error("shuffle file {}: {reason}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Nothing is known of the attempt.
    #[error("attempt {0} wrote nothing here, or it was freed")]
    UnknownAttempt(AttemptKey),
    /// Nothing is known of the block.
    #[error("block {0} is not here")]
    UnknownBlock(BlockKey),
    /// The attempt has not committed.
    #[error("block {0} is not committed")]
    NotCommitted(BlockKey),
    /// The attempt has lanes that are still being written.
    #[error("attempt {attempt} cannot commit: lane {lane} is still being written")]
    Unfinished {
        /// The attempt.
        attempt: AttemptKey,
        /// The lane.
        lane: u32,
    },
}

impl StoreError {
    /// What may be done about it.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::DiskFull { .. } | Self::Budget(_) => Class::Resources,
            Self::Scratch { .. } => Class::User,
            Self::Read { .. } | Self::UnknownBlock(_) | Self::NotCommitted(_) => Class::Fetch,
            Self::UnknownAttempt(_) | Self::Unfinished { .. } => Class::Transient,
        }
    }
}

/// The blocks of one executor.
#[derive(Debug)]
pub struct BlockStore {}

impl BlockStore {
    /// An empty store with a folder of its own in every scratch folder. Folders left by dead processes are removed.
    ///
    /// # Errors
    /// When a scratch folder cannot be made or written to.
    pub fn new(config: StoreConfig) -> Result<Arc<Self>, StoreError> {
        let _ = config;
        todo!()
    }

    /// A writer for one lane of an attempt.
    pub fn writer(
        self: &Arc<Self>,
        attempt: AttemptKey,
        lane: u32,
        schema: SchemaRef,
        partitions: u32,
    ) -> LaneWriter {
        let _ = (attempt, lane, schema, partitions);
        todo!()
    }

    /// Makes all that the attempt wrote readable.
    ///
    /// # Errors
    /// When the attempt is unknown or a lane of it is not finished.
    pub fn commit(&self, attempt: &AttemptKey) -> Result<(), StoreError> {
        let _ = attempt;
        todo!()
    }

    /// Removes all that the attempt wrote, committed or not.
    pub fn discard(&self, attempt: &AttemptKey) {
        let _ = attempt;
        todo!()
    }

    /// Removes the blocks of a stage.
    pub fn free_stage(&self, stage: StageKey) {
        let _ = stage;
        todo!()
    }

    /// Removes the blocks of a job.
    pub fn free_job(&self, job: JobId) {
        let _ = job;
        todo!()
    }

    /// What it holds now.
    #[must_use]
    pub fn usage(&self) -> StoreUsage {
        todo!()
    }

    /// Writes the coldest frames to files until about `bytes` of memory are given back; returns the bytes given back.
    ///
    /// # Errors
    /// When no folder takes them.
    pub fn make_room(&self, bytes: u64) -> Result<u64, StoreError> {
        let _ = bytes;
        todo!()
    }
}
