//! Scratch files as their users see them.

use std::fmt;
use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::service::{Request, Scratch};
use super::{PAGE_BYTES, Pages, ScratchError};

/// Where a segment lies in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Its first byte, a multiple of [`PAGE_BYTES`].
    pub offset: u64,
    /// Its bytes.
    pub len: u64,
}

/// A scratch file; removed when dropped. Several may append to it and read it at the same time.
#[derive(Debug)]
pub struct ScratchFile {
    id: u64,
    path: PathBuf,
    /// Where the next segment goes.
    end: AtomicU64,
    scratch: Scratch,
    is_removed: bool,
}

impl ScratchFile {
    pub(super) fn new(id: u64, path: PathBuf, scratch: Scratch) -> Self {
        Self { id, path, end: AtomicU64::new(0), scratch, is_removed: false }
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes written or being written, with what fills segments up to page boundaries.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.end.load(Ordering::Relaxed)
    }

    /// Appends the parts as one segment and gives its place when it is written. When this fails and nothing was appended
    /// behind it, the place is used again; else, and when it is dropped early, it is lost.
    ///
    /// # Errors
    /// When the bytes cannot be written, or the service has ended.
    pub async fn append(&self, parts: &[&[u8]]) -> Result<Segment, ScratchError> {
        let len = parts.iter().map(|part| part.len()).sum();
        let mut pages = self.scratch.pool().take(len).await;
        pages.fill(parts);
        self.append_pages(pages, len as u64).await
    }

    /// Appends pages, of which the first `len` bytes are a segment: [`append`](Self::append) for who has filled a buffer
    /// of the service, from [`Scratch::buffer`].
    ///
    /// # Errors
    /// As `append`.
    pub async fn append_pages(&self, pages: Pages, len: u64) -> Result<Segment, ScratchError> {
        let size = pages.len() as u64;
        let at = self.end.fetch_add(size, Ordering::Relaxed);
        let file = self.id;
        let write = |reply| Request::Write { file, pages, at, reply };
        let written = self.scratch.ask("write", &self.path, write).await;
        if written.is_err() {
            // A file must not grow by what a full disk does not take.
            let _ = self.end.compare_exchange(at + size, at, Ordering::Relaxed, Ordering::Relaxed);
        }
        written.map(|()| Segment { offset: at, len })
    }

    /// Reads a range, which may be a segment, a part of one, or several.
    ///
    /// # Errors
    /// When the range was never written, cannot be read, or the service has ended.
    pub async fn read(&self, range: Range<u64>) -> Result<Piece, ScratchError> {
        let Range { start, end } = range;
        let len = self.bytes();
        if start > end || end > len {
            return Err(ScratchError::OutOfRange { path: self.path.clone(), start, end, len });
        }
        let page = PAGE_BYTES as u64;
        let at = start / page * page;
        let within = usize_of(start - at)..usize_of(end - at);
        let (file, pages) = (self.id, Pages::zeroed(within.end));
        let read = |reply| Request::Read { file, pages, at, reply };
        let pages = self.scratch.ask("read", &self.path, read).await?;
        Ok(Piece { pages, within })
    }

    /// Gives the room of a segment that nobody reads any more back to the disk, soon; where the file system cannot do that
    /// it stays until the file is removed.
    pub fn discard(&self, segment: Segment) {
        let len = segment.len.next_multiple_of(PAGE_BYTES as u64);
        self.scratch.tell(Request::Discard { path: self.path.clone(), at: segment.offset, len });
    }

    /// Removes the file and says whether that went well.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub async fn remove(mut self) -> Result<(), ScratchError> {
        self.is_removed = true;
        let path = self.path.clone();
        let file = self.id;
        let removed = std::fs::remove_file(&path);
        self.scratch.ask("remove", &path, |reply| Request::Close { file, reply: Some(reply) }).await?;
        removed.map_err(|source| ScratchError::Io { operation: "remove", path, source })
    }
}

impl Drop for ScratchFile {
    /// The name goes at once; the service closes the file, which frees its room, behind what it is doing.
    fn drop(&mut self) {
        if self.is_removed {
            return;
        }
        if let Err(fault) = std::fs::remove_file(&self.path)
            && fault.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.path.display(), %fault, "cannot remove a scratch file");
        }
        self.scratch.tell(Request::Close { file: self.id, reply: None });
    }
}

/// Bytes that were read.
pub struct Piece {
    pages: Pages,
    within: Range<usize>,
}

impl Deref for Piece {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.pages.as_bytes()[self.within.clone()]
    }
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Piece({} bytes)", self.len())
    }
}

fn usize_of(bytes: u64) -> usize {
    usize::try_from(bytes).expect("what is read at once fits into memory")
}
