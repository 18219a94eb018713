//! What can go wrong with scratch files.

use std::io;
use std::path::PathBuf;

use firesteel_base::UserError;

/// Why a scratch file could not be made, written or read.
#[derive(Debug, thiserror::Error)]
pub enum ScratchError {
    /// The service could not be started.
    #[error("cannot start scratch service {name} ({engine}): {source}")]
    Start {
        /// Its name.
        name: String,
        /// Its engine.
        engine: &'static str,
        /// What went wrong.
        source: io::Error,
    },
    /// The system refused.
    #[error("cannot {operation} scratch file {}: {source}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A range that was never written.
    #[error("scratch file {} has no bytes {start}..{end}: it ends at {len}", path.display())]
    OutOfRange {
        /// The file.
        path: PathBuf,
        /// Start of the range asked for.
        start: u64,
        /// End of the range asked for.
        end: u64,
        /// Bytes written.
        len: u64,
    },
    /// The service has ended.
    #[error("the service of scratch file {} has ended", path.display())]
    Ended {
        /// The file.
        path: PathBuf,
    },
}

impl From<ScratchError> for UserError {
    fn from(fault: ScratchError) -> Self {
        let error = Self::new(fault.to_string());
        match &fault {
            ScratchError::Start { .. } => error.hint(
                "`firesteel doctor` tells whether this machine has io_uring; the blocking engine needs none",
            ),
            ScratchError::Io { source, .. } if source.kind() == io::ErrorKind::InvalidInput => {
                error.hint("the file system may not know O_DIRECT: put scratch files on ext4 or xfs")
            }
            ScratchError::Io { .. } => error.hint("check room and permission in the scratch folder"),
            ScratchError::OutOfRange { .. } | ScratchError::Ended { .. } => error,
        }
    }
}
