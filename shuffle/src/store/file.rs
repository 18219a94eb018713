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
use std::time::Duration;

use tokio::sync::OnceCell;

use super::StoreError;
use super::disk::Disk;
use crate::format::FrameBuffer;
use crate::keep::{KeptPacking, KeptPlace};
use crate::pack::{self, Codec};

/// How long the disk of a process that is gone may take for a piece of a frame.
const LEFT_WAIT_MAX: Duration = Duration::from_secs(30);

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
        #[cfg(test)]
        self.disk.gate.queue(bytes).await;
        #[cfg(test)]
        self.disk.gate.crawl(bytes);
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

/// A frame in a file, packed or not.
#[derive(Debug, Clone)]
pub(crate) struct FileRange {
    file: InFile,
    start: u64,
    stored: Stored,
}

/// How a frame lies in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stored {
    /// Bytes that lie there.
    pub bytes: usize,
    /// How they are packed, if they are.
    pub codec: Option<Codec>,
}

/// Whose file it is.
#[derive(Debug, Clone)]
enum InFile {
    /// Ours.
    Own(Arc<Piece>),
    /// That of a process that is gone.
    Left(Arc<LeftFile>),
}

/// A file that a process has left behind, open: it may have no name any more.
#[derive(Debug)]
pub(super) struct LeftFile {
    pub path: PathBuf,
    pub file: File,
}

impl LeftFile {
    async fn read(self: Arc<Self>, start: u64, len: usize) -> io::Result<Bytes> {
        let read = tokio::task::spawn_blocking(move || {
            let mut buffer = FrameBuffer::new(len);
            buffer.read_from(&self.file, start)?;
            Ok(buffer.freeze(None).bytes)
        });
        read.await.map_err(io::Error::other).flatten()
    }
}

impl FileRange {
    /// The frame at byte `offset` of a piece.
    pub(super) fn new(piece: &Arc<Piece>, offset: usize, stored: Stored) -> Self {
        Self { file: InFile::Own(Arc::clone(piece)), start: piece.segment.offset + offset as u64, stored }
    }

    /// The frame at byte `start` of a file that was left behind.
    pub(super) fn left(file: &Arc<LeftFile>, start: u64, stored: Stored) -> Self {
        Self { file: InFile::Left(Arc::clone(file)), start, stored }
    }

    /// Where somebody else would find it.
    pub(super) fn kept(&self) -> KeptPlace {
        let Stored { bytes, codec } = self.stored;
        let packing = codec.map(|codec| KeptPacking { codec, bytes: bytes as u64 });
        KeptPlace::File { path: self.path().to_owned(), offset: self.start, packing }
    }

    /// Bytes that lie in the file.
    pub fn bytes(&self) -> u64 {
        self.stored.bytes as u64
    }

    /// How the frame is packed there, if it is.
    pub fn codec(&self) -> Option<Codec> {
        self.stored.codec
    }

    /// The file, opened through the page cache, to be passed to another process. It stays readable until it is closed, even
    /// if it is removed meanwhile.
    pub async fn descriptor(&self) -> Result<File, StoreError> {
        let path = match &self.file {
            InFile::Own(piece) => piece.file.path.clone(),
            InFile::Left(left) => {
                return left.file.try_clone().map_err(|error| self.fault(error.to_string()));
            }
        };
        let opening = tokio::task::spawn_blocking(move || File::open(path));
        match tokio::time::timeout(self.wait_max(), opening).await {
            Ok(opened) => {
                opened.map_err(io::Error::other).flatten().map_err(|error| self.fault(error.to_string()))
            }
            Err(_) => Err(self.late()),
        }
    }

    /// Where in its file the frame starts.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Whether both lie in one file.
    pub fn shares_file_with(&self, other: &Self) -> bool {
        match (&self.file, &other.file) {
            (InFile::Own(one), InFile::Own(other)) => Arc::ptr_eq(&one.file, &other.file),
            (InFile::Left(one), InFile::Left(other)) => Arc::ptr_eq(one, other),
            (InFile::Own(_), InFile::Left(_)) | (InFile::Left(_), InFile::Own(_)) => false,
        }
    }

    /// All that lies there, in an aligned buffer, and the bytes copied to get it.
    pub async fn read(&self) -> Result<(Bytes, usize), StoreError> {
        Ok((self.part(0, self.stored.bytes).await?, self.stored.bytes))
    }

    /// The whole frame, unpacked, which has `frame_bytes`.
    pub async fn read_unpacked(&self, frame_bytes: u64) -> Result<Bytes, StoreError> {
        let (bytes, _) = self.read().await?;
        let unpacked = match self.codec() {
            None => Ok(bytes),
            Some(_) => {
                let unpacked = tokio::task::spawn_blocking(move || pack::unpack(&bytes)).await;
                unpacked.map_err(|error| self.fault(error.to_string()))?
            }
        };
        match unpacked {
            Ok(frame) if frame.len() as u64 == frame_bytes => Ok(frame),
            Ok(frame) => {
                Err(self.fault(format!("a frame of {} bytes instead of {frame_bytes}", frame.len())))
            }
            Err(fault) => Err(self.fault(fault.to_string())),
        }
    }

    /// The `len` bytes from byte `offset` of what lies there on. The disk writes them into the buffer that they stay in.
    async fn part(&self, offset: usize, len: usize) -> Result<Bytes, StoreError> {
        let start = self.start + offset as u64;
        let read = async {
            let piece = match &self.file {
                InFile::Own(piece) => piece,
                InFile::Left(left) => {
                    return Arc::clone(left).read(start, len).await.map_err(|error| error.to_string());
                }
            };
            #[cfg(test)]
            piece.file.disk.gate.pass(self.path()).await.map_err(|error| error.to_string())?;
            let file = piece.file.file.get().expect("a piece was written to it");
            let read = file.read(start..start + len as u64).await.map_err(|error| error.to_string())?;
            Ok(Bytes::from_owner(read))
        };
        match tokio::time::timeout(self.wait_max(), read).await {
            Ok(Ok(bytes)) => Ok(bytes),
            Ok(Err(reason)) => Err(self.fault(reason)),
            Err(_) => Err(self.late()),
        }
    }

    /// How long the disk may take for anything that is asked of it.
    fn wait_max(&self) -> Duration {
        match &self.file {
            InFile::Own(piece) => piece.file.disk.wait_max(),
            InFile::Left(_) => LEFT_WAIT_MAX,
        }
    }

    fn late(&self) -> StoreError {
        self.fault(format!("the disk took more than {:?}", self.wait_max()))
    }

    fn path(&self) -> &Path {
        match &self.file {
            InFile::Own(piece) => &piece.file.path,
            InFile::Left(left) => &left.path,
        }
    }

    fn fault(&self, reason: String) -> StoreError {
        StoreError::Read { path: self.path().to_owned(), reason }
    }
}

/// Reads a frame piece by piece, packed if it lies there packed.
#[derive(Debug, Clone)]
pub(crate) struct FrameReader {
    range: FileRange,
}

impl FrameReader {
    pub fn new(range: FileRange) -> Self {
        Self { range }
    }

    /// The `len` bytes from byte `offset` on.
    pub async fn read(&self, offset: usize, len: usize) -> Result<Bytes, StoreError> {
        self.range.part(offset, len).await
    }
}
