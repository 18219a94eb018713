//! Scratch files: written by appending segments, read in ranges, gone when dropped.
//!
//! A service thread does the input and output, so callers of any loop may await it and none is blocked. Which engine it
//! runs is a choice behind one interface: system calls, a ring in a tokio (tokio-uring), glommio, or a ring of our own.
//!
//! ```text
//!   ScratchFile::append/read ──> requests ──> service thread: blocking | tokio-uring | glommio | ring
//! ```
//!
//! Guarantees: a segment is written whole before `append` gives its place; segments start on page boundaries; the name of a
//! file is gone when the drop returns, and its room once what is being done with it is done. Non-guarantees: nothing is synced to the device, for nothing outlives the process.

mod blocking;
mod error;
mod file;
mod glommio;
mod ring;
mod service;
mod tokio_uring;

pub use crate::pages::{PAGE_BYTES, Pages};
pub use blocking::takes_direct;
pub use error::ScratchError;
pub use file::{Piece, ScratchFile, Segment};
pub use service::{EngineKind, ParseEngineKindError, Scratch, ScratchConfig};

use std::io;
use std::path::Path;

/// What does the input and output, on the service's own thread. Buffers go in by value and come back.
trait Engine: 'static {
    type File: 'static;

    /// Makes a new file; with `direct` past the page cache.
    async fn create(&self, path: &Path, direct: bool) -> io::Result<Self::File>;

    /// Writes all pages at `at`.
    async fn write(&self, file: &Self::File, pages: Pages, at: u64) -> io::Result<()>;

    /// Fills all pages from `at`; the file is that long.
    async fn read(&self, file: &Self::File, pages: Pages, at: u64) -> io::Result<Pages>;

    /// Waits until files that were dropped are closed. Only an engine that closes them later has something to do.
    async fn finish(&self) {}
}

#[cfg(test)]
mod tests;
