//! The reading end of a connection.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use bytes::BufMut;
use tokio::time::timeout;

use super::connection::Connection;
use super::requests::Chunk;
use super::stream::Stream;
use crate::format::Summing;
use crate::transport::{Arriving, Form, FrameMemory, Received, StepError, Way, within};
use crate::wire::{FrameSize, HEAD_BYTES, ServerMessage};

/// How long a connection may lie idle. A server closes it before, unless it has gone without a word.
const IDLE: Duration = Duration::from_secs(900);
/// The largest frame that a reply may be told together with.
const SMALL_FRAME_BYTES_MAX: usize = 64 << 10;
/// Bytes thrown away at a time.
const DISCARD_BYTES: usize = 64 << 10;

/// A frame of which a part has come.
struct Filling {
    arriving: Arriving,
    copied: usize,
    /// Of a frame that is not packed.
    summing: Option<Summing>,
}

/// What has come behind the part of a frame that was received: the heads of the messages that follow. It has room for two, so that
/// a reply comes with one system call and with the head of its first frame.
struct Incoming {
    bytes: [u8; 2 * HEAD_BYTES],
    start: usize,
    end: usize,
}

impl Incoming {
    fn new() -> Self {
        Self { bytes: [0; 2 * HEAD_BYTES], start: 0, end: 0 }
    }

    /// What has come and was not taken.
    fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// The head that has come as a whole.
    fn head(&self) -> Option<&[u8; HEAD_BYTES]> {
        self.bytes().first_chunk()
    }

    /// Takes so many bytes, at most; how many.
    fn take(&mut self, into: &mut impl BufMut) -> usize {
        let count = self.bytes().len().min(into.remaining_mut());
        into.put_slice(&self.bytes()[..count]);
        self.start += count;
        count
    }

    /// The room behind what has come.
    fn room(&mut self) -> &mut [u8] {
        self.bytes.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        &mut self.bytes[self.end..]
    }

    /// Receives some more.
    async fn receive(&mut self, stream: &Stream) -> io::Result<()> {
        let (came, _) = stream.read(&mut self.room(), &mut []).await?;
        self.end += came;
        Ok(())
    }

    /// Takes or receives some bytes of a frame; how many. What follows them may come too.
    async fn receive_frame(&mut self, stream: &Stream, into: &mut impl BufMut) -> io::Result<usize> {
        let taken = self.take(into);
        if taken > 0 {
            return Ok(taken);
        }
        let (came, behind) = stream.read(into, self.room()).await?;
        self.end += behind;
        Ok(came)
    }
}

/// Receives until the connection is over; says why it is.
pub async fn receive(connection: &Connection, stream: &Stream, memory: &FrameMemory) -> StepError {
    let (mut filling, mut incoming) = (HashMap::new(), Incoming::new());
    loop {
        if let Err(error) = receive_message(connection, stream, memory, &mut filling, &mut incoming).await {
            return error;
        }
    }
}

async fn receive_message(
    connection: &Connection,
    stream: &Stream,
    memory: &FrameMemory,
    filling: &mut HashMap<u64, Filling>,
    incoming: &mut Incoming,
) -> Result<(), StepError> {
    match ServerMessage::read(&next_head(connection, stream, incoming).await?)? {
        ServerMessage::Reply { id, status, frames } => {
            let is_told_later = is_whole_frame_of(id, incoming);
            connection.heard(|requests| requests.reply(id, status, frames, is_told_later))
        }
        ServerMessage::End { id, status } => {
            filling.remove(&id);
            connection.heard(|requests| requests.ended(id, status))
        }
        ServerMessage::Chunk { id, is_first, length, size } => {
            let chunk = connection.heard(|requests| requests.chunk(id, is_first, length as u64, size))?;
            let limit = connection.limits().io;
            let Chunk::Into { begins, is_last } = chunk else {
                filling.remove(&id);
                return within(limit, "whole chunk", discard(stream, length, incoming)).await;
            };
            let frame = filling.entry(id).or_insert_with(|| Filling {
                arriving: memory.take(size.coming() as usize),
                copied: 0,
                summing: begins.filter(|_| size.packed_bytes.is_none()).map(Summing::new),
            });
            within(limit, "whole chunk", fill(stream, frame, length, incoming)).await?;
            if is_last && let Some(Filling { arriving, copied, summing }) = filling.remove(&id) {
                let FrameSize { frame_bytes, packed_bytes } = size;
                let form = packed_bytes.map_or(Form::Plain, |_| Form::Packed { frame_bytes });
                let frame = arriving.finish(form, Way::Tcp, copied);
                let frame = Received { summed: summing.map(Summing::end), ..frame };
                connection.heard(|requests| requests.arrived(id, frame))?;
            }
            Ok(())
        }
    }
}

/// Whether what comes next is a whole small frame of that request: who waits for it is woken once then, for the reply and the frame.
fn is_whole_frame_of(request: u64, incoming: &Incoming) -> bool {
    let next = incoming.head().map(ServerMessage::read);
    let Some(Ok(ServerMessage::Chunk { id, length, size, is_first: true })) = next else { return false };
    id == request && length <= SMALL_FRAME_BYTES_MAX && size.coming() == length as u64
}

/// The head of the next message. A message that has begun must come; between messages those wait who asked.
async fn next_head(
    connection: &Connection,
    stream: &Stream,
    incoming: &mut Incoming,
) -> Result<[u8; HEAD_BYTES], StepError> {
    while incoming.bytes().is_empty() {
        match timeout(IDLE, incoming.receive(stream)).await {
            Ok(first) => first?,
            Err(_) if !connection.is_idle() => {}
            Err(_) => return Err(StepError::Broken("nothing was asked for long".to_owned())),
        }
    }
    let whole = async {
        while incoming.head().is_none() {
            incoming.receive(stream).await?;
        }
        Ok(())
    };
    within(connection.limits().io, "whole message", whole).await?;
    let mut head = [0; HEAD_BYTES];
    incoming.take(&mut &mut head[..]);
    Ok(head)
}

/// Receives a part of a frame, into the frame's own memory, and sums it up while it is in this core's cache.
async fn fill(
    stream: &Stream,
    frame: &mut Filling,
    length: usize,
    incoming: &mut Incoming,
) -> io::Result<()> {
    let end = frame.arriving.buffer.len() + length;
    while frame.arriving.buffer.len() < end {
        let from = frame.arriving.buffer.len();
        let mut rest = (&mut frame.arriving.buffer).limit(end - from);
        frame.copied += incoming.receive_frame(stream, &mut rest).await?;
        if let Some(summing) = &mut frame.summing {
            summing.add(frame.arriving.buffer.written_from(from));
        }
    }
    Ok(())
}

async fn discard(stream: &Stream, mut length: usize, incoming: &mut Incoming) -> io::Result<()> {
    let mut scratch = vec![0; length.min(DISCARD_BYTES)];
    while length > 0 {
        let size = length.min(scratch.len());
        length -= incoming.receive_frame(stream, &mut &mut scratch[..size]).await?;
    }
    Ok(())
}
