//! Scratch files by a ring of our own.

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{FallocateFlags, fallocate};

use super::{Engine, Pages, blocking};
use crate::pages::PagePool;
use crate::ring::{Ring, RingConfig, RingFile};

/// Where a file that grows gets its first room, and how much it gets at once at most.
const ROOM_BYTES_MIN: u64 = 4 << 20;
const ROOM_BYTES_MAX: u64 = 64 << 20;

/// A ring of our own, with the service's buffers registered.
pub(super) struct RingEngine {
    ring: Ring,
}

impl RingEngine {
    /// Call it inside the loop of the thread.
    pub(super) fn start(depth: usize, pool: &PagePool) -> io::Result<Self> {
        let depth = u32::try_from(depth).expect("a service has few requests in flight");
        let config = RingConfig { depth, pool: Some(pool.clone()), ..RingConfig::default() };
        let ring = Ring::start(&config).map_err(io::Error::other)?;
        tracing::debug!(ring = %ring.report(), "a scratch service has a ring");
        Ok(Self { ring })
    }
}

/// A file, and how much room it was given ahead.
pub(super) struct GrowingFile {
    file: RingFile,
    room: Cell<u64>,
    ahead: bool,
}

impl GrowingFile {
    /// Sees to it that the file reaches up to `end`. A direct write that extends a file, or any write into it that is
    /// buffered, is handed to a worker thread of the kernel; one into room that is there is begun at once. So a file gets
    /// its room ahead, in few large pieces.
    fn reserve(&self, end: u64) -> io::Result<()> {
        let room = self.room.get();
        if end <= room || !self.ahead {
            return Ok(());
        }
        let more = room.clamp(ROOM_BYTES_MIN, ROOM_BYTES_MAX);
        match allocate(self.file.file(), room, end.max(room + more)) {
            Ok(room) => self.room.set(room),
            // A disk that is nearly full may have room for what is needed now.
            Err(_) => self.room.set(allocate(self.file.file(), room, end)?),
        }
        Ok(())
    }
}

/// Gives a file room from `start` to `end`; `end` when that is done or the file system cannot.
fn allocate(file: &File, start: u64, end: u64) -> io::Result<u64> {
    match fallocate(file, FallocateFlags::empty(), start, end - start) {
        Ok(()) => Ok(end),
        Err(fault) if fault == rustix::io::Errno::OPNOTSUPP => Ok(end),
        Err(fault) => Err(fault.into()),
    }
}

impl Engine for RingEngine {
    type File = GrowingFile;

    /// By a system call: opening is rare, and a ring would hand it to a worker thread of the kernel.
    async fn create(&self, path: &Path, direct: bool) -> io::Result<GrowingFile> {
        let file = blocking::create_new(path, direct)?;
        Ok(GrowingFile { file: self.ring.adopt(file, path, direct), room: Cell::new(0), ahead: direct })
    }

    async fn write(&self, file: &GrowingFile, pages: Pages, at: u64) -> io::Result<()> {
        file.reserve(at + pages.len() as u64)?;
        let (result, _) = self.ring.write(&file.file, pages, at).await;
        result.map(drop).map_err(|fault| fault.source)
    }

    async fn read(&self, file: &GrowingFile, pages: Pages, at: u64) -> io::Result<Pages> {
        let len = pages.len();
        let (result, pages) = self.ring.read(&file.file, pages, at).await;
        match result {
            Ok(bytes) if bytes == len => Ok(pages),
            Ok(_) => Err(io::ErrorKind::UnexpectedEof.into()),
            Err(fault) => Err(fault.source),
        }
    }
}
