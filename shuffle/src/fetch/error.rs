//! Why a block could not be read.

use firesteel_base::Class;

use crate::format::FormatError;
use crate::key::{BlockKey, Holder};

/// Why a block could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchCause {
    /// The holder does not have the block.
    #[error("the holder does not have it")]
    Missing,
    /// The attempt that wrote it has not committed.
    #[error("it is not committed")]
    NotCommitted,
    /// The holder is not who it was when the block was written.
    #[error("the holder was restarted since")]
    StaleEpoch,
    /// The holder cannot read its own file.
    #[error("the holder cannot read it: {0}")]
    Unreadable(String),
    /// The bytes are not those that were written.
    #[error("it is corrupt: {0}")]
    Corrupt(FormatError),
    /// The holder could not be reached, or fell silent.
    #[error("the holder could not be reached in {tries} tries: {reason}")]
    Unreachable {
        /// Tries made.
        tries: u32,
        /// How the last one failed.
        reason: String,
    },
    /// The holder is gone for good, as was [told](crate::Fetcher::note_gone).
    #[error("the holder is gone")]
    Gone,
    /// The peer does not speak the protocol.
    #[error("the peer broke the protocol: {0}")]
    Protocol(String),
    /// There is no TLS with the holder: one end has no certificate that the other takes, or is not set up for TLS.
    #[error("no trusted connection to the holder: {0}")]
    Untrusted(String),
    /// Memory must be shared with the holder, and cannot be.
    #[error("memory is not shared with the holder: {0}")]
    NotShared(String),
    /// The holder has as many connections as it takes.
    #[error("the holder is busy")]
    Busy,
}

/// A block could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("block {key} of {holder} could not be fetched: {cause}")]
pub struct FetchError {
    /// The block.
    pub key: BlockKey,
    /// Who should hold it.
    pub holder: Holder,
    /// Why.
    pub cause: FetchCause,
}

impl FetchError {
    /// What may be done about it.
    #[must_use]
    pub fn class(&self) -> Class {
        match &self.cause {
            FetchCause::Busy => Class::Transient,
            // The bytes are good, but two plans disagree about them: running it again gives the same.
            FetchCause::Corrupt(FormatError::Schema { .. }) => Class::User,
            _ => Class::Fetch,
        }
    }
}
