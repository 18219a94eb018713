//! Files of frames: one a stage and scratch folder, appended to, removed with the last frame that lies in it.
//!
//! One a stage, so that few are open at a time, and small frames of several lanes are written together as one piece. Who
//! frees a part of a stage has the room of whole pieces given back.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use firesteel_hw::pages::Pages;
use firesteel_hw::scratch::{ScratchError, ScratchFile, Segment};
use tokio::sync::OnceCell;

use super::StoreError;
use super::disk::Disk;

/// A file of frames; removed when dropped.
#[derive(Debug)]
pub(super) struct FrameFile {
    path: PathBuf,
    disk: Arc<Disk>,
    file: OnceCell<ScratchFile>,
    /// All that lies in it is freed: it has no name any more.
    is_doomed: AtomicBool,
}

impl FrameFile {
    /// A file that is made when it is first written to.
    pub fn new(path: PathBuf, disk: Arc<Disk>) -> Self {
        Self { path, disk, file: OnceCell::new(), is_doomed: AtomicBool::new(false) }
    }

    /// Appends a piece of `bytes`.
    pub async fn append(self: &Arc<Self>, pages: Pages, bytes: u64) -> Result<Arc<Piece>, ScratchError> {
        let file = self.file.get_or_try_init(|| self.disk.create(&self.path)).await?;
        if self.is_doomed() {
            self.unlink();
        }
        #[cfg(test)]
        self.disk.gate.pass(&self.path).await?;
        let segment = file.append_pages(pages, bytes).await?;
        Ok(Arc::new(Piece { file: Arc::clone(self), segment }))
    }

    /// Takes its name away: all that lies in it is freed. Who reads it still can.
    pub fn doom(&self) {
        self.is_doomed.store(true, Ordering::SeqCst);
        self.unlink();
    }

    fn is_doomed(&self) -> bool {
        self.is_doomed.load(Ordering::SeqCst)
    }

    fn unlink(&self) {
        if let Err(error) = fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.path.display(), %error, "a shuffle file could not be removed");
        }
    }
}

/// What was written to a file at once: one frame or several.
#[derive(Debug)]
pub(super) struct Piece {
    file: Arc<FrameFile>,
    segment: Segment,
}

impl Drop for Piece {
    fn drop(&mut self) {
        // A file without pieces goes as a whole.
        let is_last = Arc::strong_count(&self.file) == 1 || self.file.is_doomed();
        if let Some(file) = self.file.file.get().filter(|_| !is_last) {
            file.discard(self.segment);
        }
    }
}

/// A frame in a file.
#[derive(Debug, Clone)]
pub(crate) struct FileRange {
    piece: Arc<Piece>,
    start: u64,
    bytes: usize,
}

impl FileRange {
    /// The frame of `bytes` at byte `offset` of a piece.
    pub(super) fn new(piece: &Arc<Piece>, offset: usize, bytes: usize) -> Self {
        Self { piece: Arc::clone(piece), start: piece.segment.offset + offset as u64, bytes }
    }

    /// The file, opened through the page cache, to be passed to another process. It stays readable until it is closed, even
    /// if it is removed meanwhile.
    pub async fn descriptor(&self) -> Result<File, StoreError> {
        let path = self.path().to_owned();
        let opened = tokio::task::spawn_blocking(move || File::open(path)).await;
        opened.map_err(io::Error::other).flatten().map_err(|error| self.fault(error.to_string()))
    }

    /// Where in its file the frame starts.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Whether both lie in one file.
    pub fn shares_file_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.piece.file, &other.piece.file)
    }

    /// The whole frame, in an aligned buffer, and the bytes copied to get it.
    pub async fn read(&self) -> Result<(Bytes, usize), StoreError> {
        Ok((self.part(0, self.bytes).await?, self.bytes))
    }

    /// The `len` bytes from byte `offset` of the frame on. The disk writes them into the buffer that they stay in.
    async fn part(&self, offset: usize, len: usize) -> Result<Bytes, StoreError> {
        let file = self.piece.file.file.get().expect("a piece was written to it");
        let start = self.start + offset as u64;
        let limit = self.piece.file.disk.wait_max();
        let read = async {
            #[cfg(test)]
            self.piece.file.disk.gate.pass(self.path()).await?;
            file.read(start..start + len as u64).await
        };
        match tokio::time::timeout(limit, read).await {
            Ok(Ok(piece)) => Ok(Bytes::from_owner(piece)),
            Ok(Err(error)) => Err(self.fault(error.to_string())),
            Err(_) => Err(self.fault(format!("the disk took more than {limit:?}"))),
        }
    }

    fn path(&self) -> &Path {
        &self.piece.file.path
    }

    fn fault(&self, reason: String) -> StoreError {
        StoreError::Read { path: self.path().to_owned(), reason }
    }
}

/// Reads a frame piece by piece.
#[derive(Debug)]
pub(crate) struct FrameReader {
    range: FileRange,
}

impl FrameReader {
    pub fn new(range: FileRange) -> Self {
        Self { range }
    }

    /// The `len` bytes from byte `offset` of the frame on.
    pub async fn read(&self, offset: usize, len: usize) -> Result<Bytes, StoreError> {
        self.range.part(offset, len).await
    }
}
