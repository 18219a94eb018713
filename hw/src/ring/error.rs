//! What can go wrong with rings.

use std::io;
use std::path::PathBuf;

/// Why there is no ring, or not such a one.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// The kernel refused to build one.
    #[error("the kernel refuses it ({0})")]
    Refused(#[from] io::Error),
    /// The kernel's rings lack an operation.
    #[error("the kernel's rings cannot {0}")]
    Lacks(&'static str),
}

/// Why an operation was not done, or not wholly.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {} at byte {at}: {source}", path.display())]
pub struct OperationError {
    /// What was tried: read or write.
    pub operation: &'static str,
    /// The file.
    pub path: PathBuf,
    /// Where in the file it began.
    pub at: u64,
    /// What the kernel says.
    pub source: io::Error,
}

impl OperationError {
    /// Whether it was not done because its future was dropped, a step before it failed, or the ring ended.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.source.raw_os_error() == Some(libc::ECANCELED)
    }
}
