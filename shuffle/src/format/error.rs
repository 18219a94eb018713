//! What can be wrong with a frame, or with a batch that shall become one.

use arrow_schema::ArrowError;

use super::VERSION;

/// Bytes that are no frame, or not the frame that was expected; or a batch that no frame can hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// The bytes end before the frame does, or go on after it.
    #[error("a frame of {expected} bytes was expected, but there are {found}")]
    Length {
        /// Bytes that the frame should have.
        expected: u64,
        /// Bytes there are.
        found: u64,
    },
    /// The first bytes are not a frame's.
    #[error("this is no frame: it starts with {found:#010x}")]
    Magic {
        /// The first four bytes, little endian.
        found: u32,
    },
    /// The frame was written by another version of the format.
    #[error("the frame has format version {found}, this build reads version {}", VERSION)]
    Version {
        /// The frame's version.
        found: u16,
    },
    /// The bytes are not those that were written.
    #[error("the checksum says {expected:#018x}, the bytes give {found:#018x}")]
    Checksum {
        /// What the prefix says.
        expected: u64,
        /// What the bytes give.
        found: u64,
    },
    /// The frame holds columns of other types than expected.
    #[error("the frame's columns have fingerprint {found:#018x}, expected was {expected:#018x}")]
    Schema {
        /// Fingerprint of the expected schema.
        expected: u64,
        /// The frame's fingerprint.
        found: u64,
    },
    /// The header does not fit itself, the schema or the buffers.
    #[error("the frame is malformed: {0}")]
    Malformed(String),
    /// A packed frame cannot be unpacked.
    #[error("the packed frame is damaged: {0}")]
    Packed(String),
    /// A limit of the format is passed.
    #[error("{what}: {found}, the limit is {limit}")]
    Limit {
        /// What is too large, in which unit.
        what: &'static str,
        /// How large it is.
        found: u64,
        /// How large it may be.
        limit: u64,
    },
    /// A type that no frame can hold.
    #[error("a column of type {0} cannot be shuffled")]
    Unsupported(String),
    /// Arrow could not gather the rows.
    #[error("the rows could not be encoded: {0}")]
    Gather(String),
}

impl FormatError {
    pub(super) fn malformed(what: impl Into<String>) -> Self {
        Self::Malformed(what.into())
    }

    pub(super) fn gather(error: ArrowError) -> Self {
        Self::Gather(error.to_string())
    }
}
