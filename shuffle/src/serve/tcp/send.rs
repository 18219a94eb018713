//! The sending end of a connection.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::{self, IoSlice};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{Buf, Bytes};
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::Semaphore;

use super::ahead::{self, Place};
use super::queue::{Outgoing, Queue, Turn};
use crate::serve::Shared;
use crate::serve::connection::{Dropped, within};
use crate::store::{FrameReader, Loaded, StoreError};
use crate::wire::{CHUNK_BYTES_MAX, ServerMessage};

/// Chunks that are read from files at one time, so that one that waits for a disk does not hold up the others.
const READS_MAX: usize = 4;
/// Parts that go out with one system call, at most.
const PARTS_MAX: usize = 64;

/// A frame that is being sent.
#[derive(Debug)]
pub(super) struct Current {
    source: Source,
    bytes: u64,
    sent: usize,
}

#[derive(Debug)]
enum Source {
    Memory(Bytes),
    File(FrameReader),
}

/// A chunk, and the request that goes on after it.
type Read = (u64, Outgoing, Result<Chunk, StoreError>);

struct Chunk {
    head: ServerMessage,
    bytes: Bytes,
}

/// Sends what the queue has until the connection fails.
pub(super) async fn send(
    stream: &mut (impl AsyncWrite + Unpin),
    queue: &Queue,
    shared: &Shared,
) -> Result<Infallible, Dropped> {
    let (reads, waiting) = (FuturesUnordered::new(), VecDeque::new());
    let mut sender =
        Sender { queue, shared, reads, waiting, ahead: Arc::new(Semaphore::new(ahead::CHUNKS_MAX)) };
    loop {
        let mut batch = Batch::default();
        batch.push(queue.take_control().into());
        sender.gather(&mut batch).await;
        if batch.is_empty() {
            sender.wait(&mut batch).await;
        }
        if !batch.is_empty() {
            within(shared.config.send_timeout, "a chunk", batch.write(stream)).await?;
            queue.sent();
        }
    }
}

struct Sender<'a> {
    queue: &'a Queue,
    shared: &'a Shared,
    reads: FuturesUnordered<BoxFuture<'a, Read>>,
    /// What lies in files and waits for others to be read.
    waiting: VecDeque<(u64, Outgoing)>,
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
        if let Some(cell) = begins {
            let source = match cell.load() {
                Loaded::Memory(frame) => Source::Memory(frame.bytes),
                Loaded::File(range) => Source::File(FrameReader::new(range)),
            };
            outgoing.current = Some(Current { source, bytes: cell.bytes(), sent: 0 });
        }
        if matches!(&outgoing.current, Some(Current { source: Source::File(_), .. })) {
            self.waiting.push_back((id, outgoing));
        } else {
            let read = read(id, outgoing, self.chunk_bytes()).await;
            self.add(batch, read);
        }
    }

    fn start_reads(&mut self) {
        while self.reads.len() < READS_MAX
            && let Some((id, mut outgoing)) = self.waiting.pop_front()
        {
            read_ahead(&mut outgoing, self.chunk_bytes(), &self.ahead);
            self.reads.push(read(id, outgoing, self.chunk_bytes()).boxed());
        }
    }

    fn add(&mut self, batch: &mut Batch, (id, mut outgoing, chunk): Read) {
        let Chunk { head, bytes } = match chunk {
            Ok(chunk) => chunk,
            Err(error) => {
                tracing::error!(%error, "a shuffle block cannot be served");
                self.queue.fail(id);
                return batch.push(self.queue.take_control().into());
            }
        };
        let count = bytes.len() as u64;
        self.shared.sent_bytes.fetch_add(count, Ordering::Relaxed);
        if let Some(Current { source: Source::File(_), .. }) = &outgoing.current {
            self.shared.read_bytes.fetch_add(count, Ordering::Relaxed);
        }
        outgoing.current = outgoing.current.filter(|current| (current.sent as u64) < current.bytes);
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
    let chunk = next_chunk(id, &mut outgoing, size).await;
    (id, outgoing, chunk)
}

async fn next_chunk(id: u64, outgoing: &mut Outgoing, size: usize) -> Result<Chunk, StoreError> {
    let frames_behind = outgoing.cells.len();
    let current = outgoing.current.as_mut().expect("a frame was begun");
    let (offset, length) = (current.sent, current.next_bytes(size));
    let bytes = match &mut current.source {
        Source::Memory(frame) => frame.split_to(length),
        Source::File(file) => match outgoing.ahead.take(Place { frames_behind, offset }) {
            Some(read) => read.await?,
            None => file.read(offset, length).await?,
        },
    };
    current.sent += length;
    let head = ServerMessage::Chunk { id, is_first: offset == 0, length, frame_bytes: current.bytes };
    Ok(Chunk { head, bytes })
}

/// Begins to read the next chunks, when the frame that is being sent is in a file.
fn read_ahead(outgoing: &mut Outgoing, size: usize, permits: &Arc<Semaphore>) {
    let Some(Current { source: Source::File(reader), bytes, sent }) = &outgoing.current else { return };
    let frames_behind = outgoing.cells.len();
    let rest = ahead::chunks_of(reader.clone(), *bytes, frames_behind, *sent, size);
    let behind = ahead::chunks_behind(outgoing.cells.as_slice(), outgoing.credit, size);
    outgoing.ahead.begin(rest.chain(behind), permits);
}

impl Current {
    fn next_bytes(&self, size: usize) -> usize {
        size.min(self.bytes as usize - self.sent)
    }
}

/// What goes out next, in parts that lie where they were.
#[derive(Default)]
struct Batch {
    parts: VecDeque<Bytes>,
    bytes: usize,
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

    async fn write(&mut self, stream: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        while !self.parts.is_empty() {
            let mut slices = [IoSlice::new(&[]); PARTS_MAX];
            let count = self.parts.len().min(PARTS_MAX);
            for (slice, part) in slices.iter_mut().zip(&self.parts) {
                *slice = IoSlice::new(part);
            }
            match stream.write_vectored(&slices[..count]).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                written => self.advance(written),
            }
        }
        Ok(())
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
