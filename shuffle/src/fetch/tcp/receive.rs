//! The reading end of a connection.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use bytes::BufMut;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::connection::Connection;
use super::requests::Chunk;
use crate::format::Summing;
use crate::transport::{Arriving, Form, FrameMemory, Received, StepError, Way, within};
use crate::wire::{FrameSize, HEAD_BYTES, ServerMessage};

/// How long a connection may lie idle. A server closes it before, unless it has gone without a word.
const IDLE: Duration = Duration::from_secs(900);
/// Bytes thrown away at a time.
const DISCARD_BYTES: usize = 64 << 10;

/// A frame of which a part has come.
struct Filling {
    arriving: Arriving,
    copied: usize,
    /// Of a frame that is not packed.
    summing: Option<Summing>,
}

/// Receives until the connection is over; says why it is.
pub async fn receive(connection: &Connection, stream: &TcpStream, memory: &FrameMemory) -> StepError {
    let mut filling = HashMap::new();
    loop {
        if let Err(error) = receive_message(connection, stream, memory, &mut filling).await {
            return error;
        }
    }
}

async fn receive_message(
    connection: &Connection,
    stream: &TcpStream,
    memory: &FrameMemory,
    filling: &mut HashMap<u64, Filling>,
) -> Result<(), StepError> {
    match ServerMessage::read(&next_head(connection, stream).await?)? {
        ServerMessage::Reply { id, status, frames } => {
            connection.heard(|requests| requests.reply(id, status, frames))
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
                return within(limit, "whole chunk", discard(stream, length)).await;
            };
            let frame = filling.entry(id).or_insert_with(|| Filling {
                arriving: memory.take(size.coming() as usize),
                copied: 0,
                summing: begins.filter(|_| size.packed_bytes.is_none()).map(Summing::new),
            });
            within(limit, "whole chunk", fill(stream, frame, length)).await?;
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

/// The head of the next message. A message that has begun must come; between messages those wait who asked.
async fn next_head(connection: &Connection, stream: &TcpStream) -> Result<[u8; HEAD_BYTES], StepError> {
    let mut head = [0; HEAD_BYTES];
    let first = loop {
        match timeout(IDLE, read(stream, &mut &mut head[..])).await {
            Ok(first) => break first?,
            Err(_) if !connection.is_idle() => {}
            Err(_) => return Err(StepError::Broken("nothing was asked for long".to_owned())),
        }
    };
    let mut rest = &mut head[first..];
    let whole = async {
        while rest.has_remaining_mut() {
            read(stream, &mut rest).await?;
        }
        Ok(())
    };
    within(connection.limits().io, "whole message", whole).await?;
    Ok(head)
}

/// Receives a part of a frame, into the frame's own memory, and sums it up while it is in this core's cache.
async fn fill(stream: &TcpStream, frame: &mut Filling, length: usize) -> io::Result<()> {
    let end = frame.arriving.buffer.len() + length;
    while frame.arriving.buffer.len() < end {
        let from = frame.arriving.buffer.len();
        frame.copied += read(stream, &mut (&mut frame.arriving.buffer).limit(end - from)).await?;
        if let Some(summing) = &mut frame.summing {
            summing.add(frame.arriving.buffer.written_from(from));
        }
    }
    Ok(())
}

async fn discard(stream: &TcpStream, mut length: usize) -> io::Result<()> {
    let mut scratch = vec![0; length.min(DISCARD_BYTES)];
    while length > 0 {
        let size = length.min(scratch.len());
        length -= read(stream, &mut &mut scratch[..size]).await?;
    }
    Ok(())
}

/// Reads some bytes; the end of the connection is an error.
async fn read(stream: &TcpStream, into: &mut impl BufMut) -> io::Result<usize> {
    loop {
        stream.readable().await?;
        match stream.try_read_buf(into) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            read => return read,
        }
    }
}
