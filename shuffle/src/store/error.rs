//! Why a block could not be kept, found or read.

use std::path::PathBuf;
use std::time::Duration;

use firesteel_base::{AttemptKey, Class, OutOfBudget};

use crate::key::BlockKey;

/// Why a block could not be kept, found or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// No folder took the frame.
    #[error("no scratch folder could take {bytes} bytes of shuffle output: {}", reasons.join("; "))]
    DiskFull {
        /// Bytes that found no place.
        bytes: u64,
        /// What each folder said.
        reasons: Vec<String>,
    },
    /// The disks are too slow, or one of them hangs.
    #[error(
        "no scratch folder took {bytes} bytes of shuffle output within {limit:?}: look for a disk that hangs, add faster \
         ones, or give the executor more memory"
    )]
    Slow {
        /// Bytes that were waited for.
        bytes: u64,
        /// For how long.
        limit: Duration,
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
    #[error("the shuffle file {} cannot be read: {reason}", path.display())]
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
            Self::DiskFull { .. } | Self::Slow { .. } | Self::Budget(_) => Class::Resources,
            Self::Scratch { .. } => Class::User,
            Self::Read { .. } | Self::UnknownBlock(_) | Self::NotCommitted(_) => Class::Fetch,
            Self::UnknownAttempt(_) | Self::Unfinished { .. } => Class::Transient,
        }
    }
}
