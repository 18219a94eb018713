//! Why a lane's output could not be written.

use firesteel_base::{AttemptKey, Class};

use crate::format::FormatError;
use crate::store::StoreError;

/// Why a lane's output could not be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The batch is not of the lane's schema.
    #[error("the shuffled batch has {found} where {expected} was expected")]
    Schema {
        /// What the lane's schema has.
        expected: String,
        /// What the batch has.
        found: String,
    },
    /// The assignment does not fit the batch or the exchange.
    #[error("the assignment of rows to partitions does not fit: {0}")]
    Assignment(String),
    /// Rows of other columns were to go where rows of the lane are.
    #[error("partition {partition} has rows already, to which rows of other columns cannot be added")]
    Aside {
        /// The partition.
        partition: u32,
    },
    /// The rows cannot be encoded.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The frames cannot be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The attempt was discarded, or its stage or job freed, while it was being written.
    #[error("the output of attempt {0} was discarded while it was being written")]
    Discarded(AttemptKey),
    /// The lane has a writer already, or its attempt has committed.
    #[error("lane {lane} of attempt {attempt} is written by another writer")]
    Taken {
        /// The attempt.
        attempt: AttemptKey,
        /// The lane.
        lane: u32,
    },
}

impl WriteError {
    /// What may be done about it.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Schema { .. } | Self::Assignment(_) | Self::Aside { .. } | Self::Format(_) => Class::User,
            Self::Store(error) => error.class(),
            Self::Discarded(_) => Class::Cancelled,
            Self::Taken { .. } => Class::Transient,
        }
    }
}
