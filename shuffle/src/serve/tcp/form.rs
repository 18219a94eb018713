//! In which form a frame goes out: as it lies, packed or unpacked.
//!
//! ```text
//!   in memory  --> as it is, or packed for a slow link
//!   in a file  --> as it is, or read as a whole and packed for a slow link
//!   packed there --> as it is, or unpacked for a client that does not take it so
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use super::ahead::{Ahead, Place};
use crate::pack::{self, Codec, Codecs, Judge, Tried};
use crate::store::{FileRange, FrameReader, Loaded, StoreError};
use crate::wire::{FrameSize, ServerMessage};

/// Bytes of frames made for one connection that wait to be sent, past which none is packed.
const HELD_MAX: usize = 16 << 20;
/// A smaller frame is packed at once: having another thread do it takes as long.
const INLINE_BYTES_MAX: usize = 64 << 10;

/// A frame that is being sent.
#[derive(Debug)]
pub(in crate::serve) struct Current {
    source: Source,
    pub size: FrameSize,
    sent: usize,
}

#[derive(Debug)]
enum Source {
    Memory(Bytes),
    /// Packed or unpacked for this connection.
    Made {
        frame: Bytes,
        _held: Held,
    },
    File(FrameReader),
}

/// A chunk, with the head that goes before it.
pub(super) struct Chunk {
    pub head: ServerMessage,
    pub bytes: Bytes,
    pub is_first: bool,
}

impl Current {
    fn new(source: Source, size: FrameSize) -> Self {
        Self { source, size, sent: 0 }
    }

    /// A frame, packed or not, in memory of its connection's own.
    fn made(frame: Bytes, size: FrameSize, holds: &Holds) -> Self {
        let _held = holds.hold(frame.len());
        Self::new(Source::Made { frame, _held }, size)
    }

    pub fn is_in_file(&self) -> bool {
        matches!(self.source, Source::File(_))
    }

    /// What is left of it to be read, when it is in a file: the reader, from which byte on, and how many there are in all.
    pub fn unread(&self) -> Option<(FrameReader, usize, u64)> {
        match &self.source {
            Source::File(reader) => Some((reader.clone(), self.sent, self.size.coming())),
            Source::Memory(_) | Source::Made { .. } => None,
        }
    }

    pub fn is_sent(&self) -> bool {
        self.sent as u64 >= self.size.coming()
    }

    /// The next part of it, of `size` bytes at most; `frames_behind` frames come behind it.
    pub async fn chunk(
        &mut self,
        id: u64,
        size: usize,
        ahead: &mut Ahead,
        frames_behind: usize,
    ) -> Result<Chunk, StoreError> {
        let length = size.min(self.size.coming() as usize - self.sent);
        let bytes = match &mut self.source {
            Source::Memory(frame) | Source::Made { frame, .. } => frame.split_to(length),
            Source::File(file) => match ahead.take(Place { frames_behind, offset: self.sent }) {
                Some(read) => read.await?,
                None => file.read(self.sent, length).await?,
            },
        };
        let is_first = self.sent == 0;
        self.sent += length;
        let head = ServerMessage::Chunk { id, is_first, length, size: self.size };
        Ok(Chunk { head, bytes, is_first })
    }
}

/// How much memory of a connection's own its frames take, and how many are packed right now.
#[derive(Debug, Clone, Default)]
pub(super) struct Holds {
    bytes: Arc<AtomicUsize>,
    packing: Arc<AtomicUsize>,
}

impl Holds {
    pub fn are_many(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) > HELD_MAX
    }

    fn hold(&self, bytes: usize) -> Held {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Held { total: Arc::clone(&self.bytes), count: bytes }
    }

    fn pack(&self) -> Held {
        self.packing.fetch_add(1, Ordering::Relaxed);
        Held { total: Arc::clone(&self.packing), count: 1 }
    }
}

/// A part of that, until it is dropped.
#[derive(Debug)]
struct Held {
    total: Arc<AtomicUsize>,
    count: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.total.fetch_sub(self.count, Ordering::Relaxed);
    }
}

/// What comes before a frame can be sent.
#[derive(Debug)]
pub(super) enum Begin {
    /// Nothing.
    Send(Current),
    /// It has to be made.
    Make(Make),
}

impl Begin {
    /// Begins a frame of so many bytes, for a client that takes it packed so. There is no judge
    /// when packing it is not worth a try.
    pub fn new(loaded: Loaded, frame_bytes: u64, codecs: Codecs, judge: Option<&mut Judge>) -> Self {
        let packed = match &loaded {
            Loaded::File(range) => range.codec().map(|codec| (range.clone(), codec)),
            Loaded::Memory(_) => None,
        };
        if let Some((range, codec)) = packed {
            if !codecs.has(codec) {
                return Self::Make(Make { frame_bytes, what: What::Unpack(range) });
            }
            let size = FrameSize { frame_bytes, packed_bytes: Some(range.bytes()) };
            return Self::Send(Current::new(Source::File(FrameReader::new(range)), size));
        }
        match judge.filter(|_| pack::is_packable(frame_bytes)).and_then(Judge::choose) {
            Some(codec) => Self::Make(Make { frame_bytes, what: What::Pack(codec, loaded) }),
            None => Self::Send(as_it_lies(loaded, frame_bytes)),
        }
    }
}

fn as_it_lies(loaded: Loaded, frame_bytes: u64) -> Current {
    let source = match loaded {
        Loaded::Memory(frame) => Source::Memory(frame.bytes),
        Loaded::File(range) => Source::File(FrameReader::new(range)),
    };
    Current::new(source, FrameSize::plain(frame_bytes))
}

/// A frame that is to be made.
#[derive(Debug)]
pub(super) struct Make {
    frame_bytes: u64,
    what: What,
}

#[derive(Debug)]
enum What {
    Pack(Codec, Loaded),
    Unpack(FileRange),
}

/// A frame that was made.
pub(super) struct Made {
    pub current: Current,
    /// What came of packing it, if that was tried.
    pub tried: Option<Tried>,
    /// Bytes that were read from its file.
    pub read_bytes: u64,
}

impl Make {
    pub async fn run(self, holds: &Holds) -> Result<Made, StoreError> {
        match self.what {
            What::Pack(codec, Loaded::Memory(frame)) => Ok(pack_frame(codec, frame.bytes, 0, holds).await),
            What::Pack(codec, Loaded::File(range)) => {
                let (frame, copied) = range.read().await?;
                Ok(pack_frame(codec, frame, copied as u64, holds).await)
            }
            What::Unpack(range) => {
                let frame = range.read_unpacked(self.frame_bytes).await?;
                let current = Current::made(frame, FrameSize::plain(self.frame_bytes), holds);
                Ok(Made { current, tried: None, read_bytes: range.bytes() })
            }
        }
    }
}

async fn pack_frame(codec: Codec, frame: Bytes, read_bytes: u64, holds: &Holds) -> Made {
    let packing = holds.pack();
    let mut tried = if frame.len() <= INLINE_BYTES_MAX {
        Some(Tried::pack(codec, &frame))
    } else {
        let frame = frame.clone();
        // It fails when the runtime ends: the frame goes as it is then, if it goes at all.
        tokio::task::spawn_blocking(move || Tried::pack(codec, &frame)).await.ok()
    };
    if let Some(tried) = &mut tried {
        // What the link waits for is the time of all that are packed at once.
        tried.sample.spent /= holds.packing.load(Ordering::Relaxed).max(1) as u32;
    }
    drop(packing);
    let frame_bytes = frame.len() as u64;
    let packed = tried.as_ref().and_then(|tried| tried.packed.clone());
    let current = match packed {
        Some(packed) => {
            let size = FrameSize { frame_bytes, packed_bytes: Some(packed.len() as u64) };
            Current::made(packed, size, holds)
        }
        // It is in nobody else's memory.
        None if read_bytes > 0 => Current::made(frame, FrameSize::plain(frame_bytes), holds),
        None => Current::new(Source::Memory(frame), FrameSize::plain(frame_bytes)),
    };
    Made { current, tried, read_bytes }
}
