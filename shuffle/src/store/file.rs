//! Files of frames: one a lane and scratch folder, appended to, removed with the last frame that lies in it.
//!
//! A file is opened for each frame that is written or read, so that the number of open files is bounded by the number
//! of threads and not by the number of attempts; next to a frame's megabyte the cost is nothing.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use firesteel_base::AttemptKey;
use parking_lot::Mutex;

use super::StoreError;
use super::scratch::Scratch;
use crate::format::FrameBuffer;

/// A file of frames; removed when dropped.
#[derive(Debug)]
pub(crate) struct FrameFile {
    path: PathBuf,
    end: AtomicU64,
}

impl FrameFile {
    fn append(self: &Arc<Self>, frame: &[u8]) -> io::Result<FileRange> {
        let start = self.end.fetch_add(frame.len() as u64, Ordering::Relaxed);
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(&self.path)?;
        file.write_all_at(frame, start)?;
        Ok(FileRange { file: Arc::clone(self), start, bytes: frame.len() })
    }
}

impl Drop for FrameFile {
    fn drop(&mut self) {
        // It may never have been made, or its folder may be gone already: there is nothing left to do then.
        if let Err(error) = std::fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.path.display(), %error, "a shuffle file could not be removed");
        }
    }
}

/// A frame in a file.
#[derive(Debug, Clone)]
pub(crate) struct FileRange {
    file: Arc<FrameFile>,
    start: u64,
    bytes: usize,
}

impl FileRange {
    /// Opens the file, which stays readable until closed even if it is removed meanwhile. Blocks the thread.
    fn open(&self) -> Result<File, StoreError> {
        File::open(&self.file.path).map_err(|error| self.fault(&error))
    }

    /// The file, opened, to be passed to another process.
    pub async fn descriptor(&self) -> Result<File, StoreError> {
        let range = self.clone();
        blocking(self, move || range.open()).await
    }

    /// Where in its file the frame starts.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Whether both lie in one file.
    pub fn shares_file_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.file, &other.file)
    }

    /// The whole frame, in an aligned buffer, and the bytes copied to get it.
    pub async fn read(&self) -> Result<(Bytes, usize), StoreError> {
        let range = self.clone();
        blocking(self, move || range.read_now()).await
    }

    fn read_now(&self) -> Result<(Bytes, usize), StoreError> {
        let file = self.open()?;
        let mut buffer = FrameBuffer::new(self.bytes);
        let copied = buffer.read_from(&file, self.start).map_err(|error| self.fault(&error))?;
        Ok((buffer.freeze(None).bytes, copied))
    }

    /// Fills `bytes` from byte `offset` of the frame on. Blocks the thread.
    fn read_at(&self, file: &File, bytes: &mut [u8], offset: usize) -> Result<(), StoreError> {
        file.read_exact_at(bytes, self.start + offset as u64).map_err(|error| self.fault(&error))
    }

    fn fault(&self, error: &io::Error) -> StoreError {
        StoreError::Read { path: self.file.path.clone(), reason: error.to_string() }
    }
}

/// Reads a frame piece by piece, on threads that may block.
#[derive(Debug)]
pub(crate) struct FrameReader {
    range: FileRange,
    file: Option<Arc<File>>,
}

impl FrameReader {
    pub fn new(range: FileRange) -> Self {
        Self { range, file: None }
    }

    /// The `len` bytes from byte `offset` of the frame on.
    pub async fn read(&mut self, offset: usize, len: usize) -> Result<Bytes, StoreError> {
        let (range, file) = (self.range.clone(), self.file.take());
        let (file, piece) = blocking(&self.range, move || {
            let file = file.map_or_else(|| range.open().map(Arc::new), Ok)?;
            let mut piece = vec![0; len];
            range.read_at(&file, &mut piece, offset)?;
            Ok((file, piece.into()))
        })
        .await?;
        self.file = Some(file);
        Ok(piece)
    }
}

/// Reads on a thread that may block.
async fn blocking<T: Send + 'static>(
    range: &FileRange,
    read: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let done = tokio::task::spawn_blocking(read).await;
    done.unwrap_or_else(|error| Err(range.fault(&io::Error::other(error))))
}

/// The files of one lane.
#[derive(Debug)]
pub(crate) struct LaneFiles {
    stem: String,
    /// One a scratch folder that was written to; weak, so that the last frame removes its file.
    files: Mutex<Vec<(usize, std::sync::Weak<FrameFile>)>>,
}

impl LaneFiles {
    pub fn new(attempt: AttemptKey, lane: u32) -> Self {
        Self { stem: format!("{attempt}/l{lane}").replace('/', "-"), files: Mutex::default() }
    }

    /// Writes a frame to the lane's file, in the folder it has one in, else in the next one that takes it.
    pub fn append(&self, scratch: &Scratch, frame: &[u8]) -> Result<FileRange, StoreError> {
        let first = self.files.lock().last().map_or_else(|| scratch.next(), |(folder, _)| *folder);
        let mut reasons = Vec::new();
        for folder in (0..scratch.len()).map(|i| (first + i) % scratch.len()) {
            match self.file_in(scratch, folder).append(frame) {
                Ok(range) => return Ok(range),
                Err(error) => reasons.push(format!("{}: {error}", scratch.path(folder).display())),
            }
        }
        Err(StoreError::DiskFull { bytes: frame.len() as u64, reasons })
    }

    fn file_in(&self, scratch: &Scratch, folder: usize) -> Arc<FrameFile> {
        let mut files = self.files.lock();
        if let Some(at) = files.iter().position(|(known, _)| *known == folder) {
            // The folder that was tried last is tried first the next time.
            let entry = files.remove(at);
            let file = entry.1.upgrade();
            if let Some(file) = file {
                files.push(entry);
                return file;
            }
        }
        let path = scratch.path(folder).join(format!("{}-{}", self.stem, scratch.unique()));
        let file = Arc::new(FrameFile { path, end: AtomicU64::new(0) });
        files.push((folder, Arc::downgrade(&file)));
        file
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_takes_frames_beyond_two_and_four_gigabytes() {
        let folder = tempfile::tempdir().unwrap();
        let file = Arc::new(FrameFile { path: folder.path().join("lane"), end: AtomicU64::new(0) });
        for start in [0, (2 << 30) - 5, (4 << 30) - 5, 40 << 30] {
            // The bytes before are a hole.
            file.end.store(start, Ordering::Relaxed);
            let frames = [b"first".as_slice(), b"second"].map(|frame| (frame, file.append(frame).unwrap()));
            for (frame, range) in frames {
                assert_eq!(range.read_now().unwrap().0, frame, "from byte {}", range.start);
            }
            assert_eq!(file.end.load(Ordering::Relaxed), start + 11);
        }
    }
}
