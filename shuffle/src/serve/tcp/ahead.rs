//! Chunks of frames in files that are read while those before them are sent.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::form::Current;
use super::queue::Outgoing;
use crate::pack::Codecs;
use crate::store::{Cell, FrameReader, StoreError, begin};
use crate::wire::frame_cost;

/// Chunks of a connection that are read ahead, or have been read and not been sent, at one time.
pub(super) const CHUNKS_MAX: usize = 8;
/// Frames of a request that are looked at for one that is in a file.
const FRAMES_MAX: usize = 8;

/// The chunks of one request that are read ahead, in the order in which they will be sent.
#[derive(Default)]
pub(super) struct Ahead {
    begun: VecDeque<(Place, Begun)>,
    /// The last one that was begun.
    last: Option<Place>,
}

/// Where in its request a chunk lies: how many frames come behind its own, and at which byte of its frame it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub frames_behind: usize,
    pub offset: usize,
}

/// A chunk that is being read. Counts among those of its connection until it is taken.
struct Begun {
    read: BoxFuture<'static, Result<Bytes, StoreError>>,
    _permit: OwnedSemaphorePermit,
}

impl fmt::Debug for Ahead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ahead({} chunks)", self.begun.len())
    }
}

impl Place {
    fn is_behind(self, other: Self) -> bool {
        (other.frames_behind, self.offset) > (self.frames_behind, other.offset)
    }
}

impl Ahead {
    /// The chunk at a place, if it is read ahead. What lies before it is not wanted any more.
    pub fn take(&mut self, place: Place) -> Option<BoxFuture<'static, Result<Bytes, StoreError>>> {
        while self.begun.pop_front_if(|(first, _)| place.is_behind(*first)).is_some() {}
        let (_, begun) = self.begun.pop_front_if(|(first, _)| *first == place)?;
        Some(begun.read)
    }

    /// Lets go of all that is read ahead: what comes next is read in another way.
    pub fn give_up(&mut self) {
        self.begun.clear();
    }

    /// Begins to read those of `chunks`, in their order, that are not begun yet, as long as there are permits.
    pub fn begin(&mut self, chunks: impl Iterator<Item = Chunk>, permits: &Arc<Semaphore>) {
        let last = self.last;
        for Chunk { reader, place, bytes } in
            chunks.filter(|chunk| last.is_none_or(|last| chunk.place.is_behind(last)))
        {
            let Ok(permit) = Arc::clone(permits).try_acquire_owned() else { return };
            let read = begin(async move { reader.read(place.offset, bytes).await });
            self.begun.push_back((place, Begun { read, _permit: permit }));
            self.last = Some(place);
        }
    }
}

/// A chunk of a frame that is in a file.
pub(super) struct Chunk {
    reader: FrameReader,
    place: Place,
    bytes: usize,
}

/// The chunks of `size` bytes of a frame that takes `bytes` in its file, from its byte `offset` on.
pub(super) fn chunks_of(
    reader: FrameReader,
    bytes: u64,
    frames_behind: usize,
    offset: usize,
    size: usize,
) -> impl Iterator<Item = Chunk> {
    let end = bytes as usize;
    (offset..end).step_by(size).map(move |offset| Chunk {
        reader: reader.clone(),
        place: Place { frames_behind, offset },
        bytes: size.min(end - offset),
    })
}

/// The chunks of the next of `cells` that are in files, in a form that their client takes, as far as its credit reaches.
pub(super) fn chunks_behind(
    cells: &[Arc<Cell>],
    codecs: Codecs,
    mut credit: i64,
    size: usize,
) -> impl Iterator<Item = Chunk> {
    let frames = cells.len();
    let next = cells.iter().take(FRAMES_MAX).enumerate().take_while(move |(_, cell)| {
        let may_begin = credit > 0;
        credit -= frame_cost(cell.bytes()) as i64;
        may_begin
    });
    let in_files = next.filter_map(move |(at, cell)| {
        let range = cell.left_memory().filter(|range| range.codec().is_none_or(|codec| codecs.has(codec)))?;
        let bytes = range.bytes();
        Some(chunks_of(FrameReader::new(range), bytes, frames - 1 - at, 0, size))
    });
    in_files.flatten()
}

impl Outgoing {
    /// Begins to read the next chunks, when the frame that is being sent is in a file.
    pub fn read_ahead(&mut self, codecs: Codecs, size: usize, permits: &Arc<Semaphore>) {
        let Some((reader, offset, bytes)) = self.current.as_ref().and_then(Current::unread) else { return };
        let rest = chunks_of(reader, bytes, self.cells.len(), offset, size);
        let behind = chunks_behind(self.cells.as_slice(), codecs, self.credit, size);
        self.ahead.begin(rest.chain(behind), permits);
    }
}
