//! What is read of a block before its reader asks for it: the frames that come next, in order, a bounded number of them.
//!
//! Only frames in files are read ahead. A frame in memory is looked at when its turn comes, so that nothing is kept in memory
//! that would otherwise leave it.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::future::BoxFuture;
use tokio::task::JoinHandle;

use super::FetchCause;
use crate::format::Trust;
use crate::store::{Cell, FileRange, Loaded, begin};
use crate::transport::{Form, FrameMemory, Received, Way};

/// Frames of one block that are read, or have been read and not been asked for, at one time: at most so many, and
/// so many bytes and a frame.
const FRAMES_MAX: usize = 8;
const BYTES_MAX: u64 = 4 << 20;

/// The frames that come next, in whatever form they are now.
#[derive(Debug)]
pub(super) struct Ahead<T> {
    next: VecDeque<(u64, T)>,
    bytes: u64,
}

impl<T> Default for Ahead<T> {
    fn default() -> Self {
        Self { next: VecDeque::new(), bytes: 0 }
    }
}

impl<T> Ahead<T> {
    /// Whether another frame may be begun.
    pub fn has_room(&self) -> bool {
        self.next.len() < FRAMES_MAX && self.bytes < BYTES_MAX
    }

    /// Adds the frame that comes after all that are here; `bytes` of memory are taken for it.
    pub fn push(&mut self, bytes: u64, frame: T) {
        self.bytes += bytes;
        self.next.push_back((bytes, frame));
    }

    /// The frame whose turn it is.
    pub fn pop(&mut self) -> Option<T> {
        let (bytes, frame) = self.next.pop_front()?;
        self.bytes -= bytes;
        Some(frame)
    }

    pub fn is_empty(&self) -> bool {
        self.next.is_empty()
    }
}

/// Work that blocks a thread; it is not begun when nobody waits for it any more.
#[derive(Debug)]
pub(super) struct Blocking<T>(JoinHandle<T>);

impl<T: Send + 'static> Blocking<T> {
    pub fn begin(work: impl FnOnce() -> T + Send + 'static) -> Self {
        Self(tokio::task::spawn_blocking(work))
    }

    /// What comes of it.
    ///
    /// # Errors
    /// When it panicked, or the runtime ended before it.
    pub async fn end(mut self) -> std::io::Result<T> {
        Ok((&mut self.0).await?)
    }
}

impl<T> Drop for Blocking<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The frames of a block of the own store.
pub(super) struct LocalFrames {
    cells: std::vec::IntoIter<Arc<Cell>>,
    ahead: Ahead<LocalFrame>,
    memory: FrameMemory,
}

enum LocalFrame {
    /// It was in memory when it was come to.
    Resident(Arc<Cell>),
    /// It was in a file.
    Reading(BoxFuture<'static, Result<Received, FetchCause>>),
}

impl LocalFrames {
    /// All of `cells`, in their order; what is read of them is counted in `memory`.
    pub fn new(cells: Vec<Arc<Cell>>, memory: FrameMemory) -> Self {
        Self { cells: cells.into_iter(), ahead: Ahead::default(), memory }
    }

    /// The next frame, and how far its bytes can be trusted; `None` after the last.
    ///
    /// # Errors
    /// When it is in a file that cannot be read, or is packed there and was damaged.
    pub async fn next(&mut self) -> Result<Option<(Received, Trust)>, FetchCause> {
        self.look_ahead();
        let Some(frame) = self.ahead.pop() else { return Ok(None) };
        let received = match frame {
            LocalFrame::Reading(read) => read.await?,
            LocalFrame::Resident(cell) => match cell.load() {
                Loaded::Memory(frame) => {
                    let (frame, form, way) = (frame.bytes, Form::Plain, Way::Own);
                    let received = Received { frame, form, way, copied: 0, summed: None, grant: None };
                    return Ok(Some((received, Trust::Resident)));
                }
                // Its memory was given up meanwhile.
                Loaded::File(range) => read(range, cell.bytes(), self.memory.clone()).await?,
            },
        };
        // On the core that wants the rows, as all decoding.
        let received = self.memory.unpack(received).map_err(FetchCause::Corrupt)?;
        Ok(Some((received, Trust::Cluster)))
    }

    fn look_ahead(&mut self) {
        while self.ahead.has_room()
            && let Some(cell) = self.cells.next()
        {
            match cell.left_memory() {
                Some(range) => {
                    let bytes = range.bytes();
                    let reading = begin(read(range, cell.bytes(), self.memory.clone()));
                    self.ahead.push(bytes, LocalFrame::Reading(reading));
                }
                None => self.ahead.push(0, LocalFrame::Resident(cell)),
            }
        }
    }
}

/// Reads a frame of the own store, which has `frame_bytes`, from its file, packed if it lies there packed.
async fn read(range: FileRange, frame_bytes: u64, memory: FrameMemory) -> Result<Received, FetchCause> {
    let grant = memory.count(range.bytes());
    let form = range.codec().map_or(Form::Plain, |_| Form::Packed { frame_bytes });
    let (frame, copied) = range.read().await.map_err(|error| FetchCause::Unreadable(error.to_string()))?;
    Ok(Received { frame, form, way: Way::Own, copied, summed: None, grant })
}
