//! The sending end of a connection.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::{Buf, Bytes};
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use tokio::sync::Semaphore;

use super::ahead;
use super::form::{Begin, Chunk, Current, Holds, Made, Make};
use super::link::Link;
use super::queue::{Outgoing, Queue, Turn};
use super::sending::Sending;
use super::socket;
use crate::pack::Tried;
use crate::serve::Shared;
use crate::serve::connection::{Dropped, within};
use crate::store::StoreError;
use crate::wire::{CHUNK_BYTES_MAX, FrameSize};

/// Frames of a request in a row that did not shrink, after which the rest of it goes as it is.
const UNPACKABLE_MAX: u32 = 2;
/// Chunks that are read from files or packed at one time, so that one that waits for a disk does not hold up the others.
const READS_MAX: usize = 4;
/// Parts that go out with one system call, at most.
const PARTS_MAX: usize = 64;

/// A chunk, and the request that goes on after it.
struct Read {
    id: u64,
    outgoing: Outgoing,
    chunk: Result<Chunk, StoreError>,
    /// What came of packing its frame, if that was tried just now.
    tried: Option<Tried>,
    /// Bytes that were read from a file for it.
    read_bytes: u64,
}

/// A request whose frame lies in a file, or has to be made before it can be sent.
struct Waiting {
    id: u64,
    outgoing: Outgoing,
    make: Option<Make>,
}

/// Sends what the queue has until the connection fails.
pub(super) async fn send(
    stream: &impl Sending,
    link: Link,
    queue: &Queue,
    shared: &Shared,
) -> Result<Infallible, Dropped> {
    let (reads, waiting, holds) = (FuturesUnordered::new(), VecDeque::new(), Holds::default());
    let ahead = Arc::new(Semaphore::new(ahead::CHUNKS_MAX));
    let mut sender = Sender { queue, shared, link, holds, reads, waiting, ahead };
    loop {
        let mut batch = Batch::default();
        batch.push(queue.take_control().into());
        sender.gather(&mut batch).await;
        if batch.is_empty() {
            sender.wait(&mut batch).await;
        }
        if !batch.is_empty() {
            let link = &mut sender.link;
            if link.is_measured {
                link.begin(socket::has_sent_all(stream.socket().as_fd()), batch.is_packed);
            }
            within(shared.config.send_timeout, "a chunk", batch.write(stream, link)).await?;
            queue.sent();
        }
    }
}

struct Sender<'a> {
    queue: &'a Queue,
    shared: &'a Shared,
    link: Link,
    /// What the frames take that were packed or unpacked for this connection.
    holds: Holds,
    reads: FuturesUnordered<BoxFuture<'a, Read>>,
    /// What lies in files or has to be made, and waits for others.
    waiting: VecDeque<Waiting>,
    /// Permits for chunks that are read before it is their turn.
    ahead: Arc<Semaphore>,
}

impl<'a> Sender<'a> {
    /// Adds chunks, as many bytes as one chunk may have, of each request in turn.
    async fn gather(&mut self, batch: &mut Batch) {
        let size = self.chunk_bytes();
        while batch.bytes < size && batch.parts.len() + 2 < PARTS_MAX {
            if let Some(Some(read)) = self.reads.next().now_or_never() {
                self.add(batch, read);
            } else if let Some(turn) = self.queue.next() {
                self.take_turn(batch, turn).await;
            } else {
                break;
            }
            self.start_reads();
        }
    }

    /// Waits until there is something to send.
    async fn wait(&mut self, batch: &mut Batch) {
        let queue = self.queue;
        let more = pin!(queue.more.notified());
        tokio::select! {
            () = more => {}
            Some(read) = self.reads.next(), if !self.reads.is_empty() => self.add(batch, read),
        }
        self.start_reads();
    }

    async fn take_turn(&mut self, batch: &mut Batch, turn: Turn) {
        let Turn { id, mut outgoing, begins } = turn;
        let mut make = None;
        if let Some(cell) = begins {
            let is_worth_it = outgoing.unpackable < UNPACKABLE_MAX && !self.holds.are_many();
            let judge = Some(&mut self.link.judge).filter(|_| is_worth_it);
            match Begin::new(cell.load(), cell.bytes(), self.link.codecs, judge) {
                Begin::Send(current) => outgoing.current = Some(current),
                Begin::Make(needed) => make = Some(needed),
            }
        }
        if make.is_some() || outgoing.current.as_ref().is_some_and(Current::is_in_file) {
            self.waiting.push_back(Waiting { id, outgoing, make });
        } else {
            let read = read(id, outgoing, self.chunk_bytes()).await;
            self.add(batch, read);
        }
    }

    /// Has what waits read and made, a few at a time. What is made takes memory until it is sent: more is made when there is
    /// room again, which comes by itself, for what was begun is sent whole.
    fn start_reads(&mut self) {
        while self.reads.len() < READS_MAX {
            let has_to_wait = |first: &Waiting| first.make.is_some() && self.holds.are_many();
            if self.waiting.front().is_none_or(has_to_wait) {
                return;
            }
            let Some(Waiting { id, mut outgoing, make }) = self.waiting.pop_front() else { return };
            let (size, holds) = (self.chunk_bytes(), self.holds.clone());
            self.reads.push(match make {
                Some(make) => made(id, outgoing, make, holds, size).boxed(),
                None => {
                    outgoing.read_ahead(self.link.codecs, size, &self.ahead);
                    read(id, outgoing, size).boxed()
                }
            });
        }
    }

    fn add(&mut self, batch: &mut Batch, read: Read) {
        let Read { id, mut outgoing, chunk, tried, read_bytes } = read;
        if let Some(tried) = &tried {
            self.link.judge.learn(tried.sample);
        }
        self.shared.read_bytes.fetch_add(read_bytes, Ordering::Relaxed);
        let Chunk { head, bytes, is_first } = match chunk {
            Ok(chunk) => chunk,
            Err(error) => {
                tracing::error!(%error, "a shuffle block cannot be served");
                self.queue.fail(id);
                return batch.push(self.queue.take_control().into());
            }
        };
        self.shared.sent_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        let size = outgoing.current.as_ref().map(|current| current.size);
        if let Some(FrameSize { frame_bytes, packed_bytes: Some(packed_bytes) }) = size {
            batch.is_packed = true;
            if is_first {
                self.shared.packing.add(frame_bytes, packed_bytes);
            }
        }
        outgoing.current = outgoing.current.filter(|current| !current.is_sent());
        self.queue.give_back(id, outgoing);
        batch.push(Bytes::copy_from_slice(&head.write()));
        batch.push(bytes);
    }

    fn chunk_bytes(&self) -> usize {
        self.shared.config.chunk_bytes.clamp(1, CHUNK_BYTES_MAX)
    }
}

/// The next chunk of the current frame.
async fn read(id: u64, mut outgoing: Outgoing, size: usize) -> Read {
    let frames_behind = outgoing.cells.len();
    let current = outgoing.current.as_mut().expect("a frame was begun");
    let chunk = current.chunk(id, size, &mut outgoing.ahead, frames_behind).await;
    let is_read = current.is_in_file();
    let read_bytes = chunk.as_ref().map_or(0, |chunk| if is_read { chunk.bytes.len() as u64 } else { 0 });
    Read { id, outgoing, chunk, tried: None, read_bytes }
}

/// The first chunk of a frame that has to be made.
async fn made(id: u64, mut outgoing: Outgoing, make: Make, holds: Holds, size: usize) -> Read {
    // It is read as a whole.
    outgoing.ahead.give_up();
    match make.run(&holds).await {
        Ok(Made { current, tried, read_bytes }) => {
            let is_as_before = tried.as_ref().is_some_and(|tried| tried.packed.is_none());
            outgoing.unpackable = if is_as_before { outgoing.unpackable + 1 } else { 0 };
            outgoing.current = Some(current);
            Read { tried, read_bytes, ..read(id, outgoing, size).await }
        }
        Err(error) => Read { id, outgoing, chunk: Err(error), tried: None, read_bytes: 0 },
    }
}

/// What goes out next, in parts that lie where they were.
#[derive(Default)]
struct Batch {
    parts: VecDeque<Bytes>,
    bytes: usize,
    /// A part of a packed frame is in it.
    is_packed: bool,
}

impl Batch {
    fn push(&mut self, part: Bytes) {
        if !part.is_empty() {
            self.bytes += part.len();
            self.parts.push_back(part);
        }
    }

    fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    async fn write(&mut self, stream: &impl Sending, link: &mut Link) -> io::Result<()> {
        while !self.parts.is_empty() {
            let mut slices = [IoSlice::new(&[]); PARTS_MAX];
            let count = self.parts.len().min(PARTS_MAX);
            for (slice, part) in slices.iter_mut().zip(&self.parts) {
                *slice = IoSlice::new(part);
            }
            match stream.try_write_vectored(&slices[..count]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    link.took(written);
                    self.advance(written);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    link.is_full(Instant::now());
                    stream.socket().writable().await?;
                }
                Err(error) => return Err(error),
            }
        }
        stream.flush().await
    }

    fn advance(&mut self, mut written: usize) {
        while written > 0 {
            let first = self.parts.front_mut().expect("no more is written than there is");
            let part = written.min(first.len());
            first.advance(part);
            if first.is_empty() {
                self.parts.pop_front();
            }
            written -= part;
        }
    }
}
