//! One TCP connection: greeting, then one request after the other.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Buf, Bytes};
use firesteel_base::Epoch;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Shared;
use crate::store::{Cell, FrameReader, Loaded, StoreError};
use crate::wire::{
    FrameHead, HELLO_BYTES, Hello, Offer, REQUEST_BYTES, Reply, RequestHead, Status, WireError,
};

/// A frame is sent in pieces of this many bytes, each with its own deadline.
const PIECE_BYTES: usize = 1 << 20;

/// Why a connection was dropped.
#[derive(Debug, thiserror::Error)]
pub(super) enum Dropped {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("the client took more than {limit:?} for {step}")]
    Slow { step: &'static str, limit: Duration },
    #[error("as many connections are open as may be")]
    Busy,
    #[error("a frame could not be read to its end: {0}")]
    Store(#[from] StoreError),
    #[error("memory is shared with processes of the same user only, not of user {0}")]
    Stranger(u32),
}

/// Serves a connection until the client closes it or is dropped.
pub(super) async fn serve(mut stream: TcpStream, shared: &Shared, busy: bool) -> Result<(), Dropped> {
    stream.set_nodelay(true)?;
    greet(&mut stream, shared, busy, shared.offer).await?;
    while let Some((head, name)) = next_request(&mut stream, shared).await? {
        answer(&mut stream, shared, &head, &name).await?;
    }
    Ok(())
}

/// Greets a client; one that asks for it is told the offer.
pub(super) async fn greet(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    shared: &Shared,
    busy: bool,
    offer: Option<Offer>,
) -> Result<(), Dropped> {
    let limit = shared.config.request_timeout;
    let mut hello = [0; HELLO_BYTES];
    within(limit, "its greeting", stream.read_exact(&mut hello)).await?;
    let greeting = Hello::read(&hello);
    if !matches!(greeting, Err(WireError::Magic(_))) {
        let asked = greeting.as_ref().is_ok_and(|hello| hello.shares);
        let offer = offer.filter(|_| asked && !busy);
        // One of another version is told ours.
        let mut message = Hello { busy, shares: offer.is_some() }.write().to_vec();
        message.extend(offer.map(Offer::write).iter().flatten());
        within(limit, "our greeting", stream.write_all(&message)).await?;
    }
    greeting?;
    if busy { Err(Dropped::Busy) } else { Ok(()) }
}

pub(super) async fn within<T>(
    limit: Duration,
    step: &'static str,
    work: impl Future<Output = io::Result<T>>,
) -> Result<T, Dropped> {
    match timeout(limit, work).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(Dropped::Slow { step, limit }),
    }
}

/// The next request; `None` when the client has closed the connection or left it idle.
async fn next_request(
    stream: &mut TcpStream,
    shared: &Shared,
) -> Result<Option<(RequestHead, Vec<u8>)>, Dropped> {
    let mut bytes = [0; REQUEST_BYTES];
    let first = match timeout(shared.config.idle_timeout, stream.read(&mut bytes)).await {
        Ok(first) => first?,
        Err(_) => return Ok(None),
    };
    if first == 0 {
        return Ok(None);
    }
    let limit = shared.config.request_timeout;
    within(limit, "a request", stream.read_exact(&mut bytes[first..])).await?;
    let head = RequestHead::read(&bytes)?;
    let mut name = vec![0; head.name_bytes];
    within(limit, "a request", stream.read_exact(&mut name)).await?;
    Ok(Some((head, name)))
}

async fn answer(
    stream: &mut TcpStream,
    shared: &Shared,
    request: &RequestHead,
    name: &[u8],
) -> Result<(), Dropped> {
    let (reply, frames) = find(shared, request, name);
    within(shared.config.send_timeout, "a reply", stream.write_all(&reply.write())).await?;
    for cell in &frames {
        if !send(stream, shared, cell).await? {
            break;
        }
    }
    Ok(())
}

/// The answer, and the frames that were asked for.
pub(super) fn find(shared: &Shared, request: &RequestHead, name: &[u8]) -> (Reply, Vec<Arc<Cell>>) {
    let (status, frames) = match look_up(shared, request, name) {
        Ok(frames) => (Status::Ok, frames),
        Err(status) => (status, Vec::new()),
    };
    let reply = Reply {
        id: request.id,
        status,
        frames: u32::try_from(frames.len()).expect("a block has fewer than 2^32 frames"),
        bytes: frames.iter().map(|cell| cell.bytes()).sum(),
    };
    (reply, frames)
}

fn look_up(shared: &Shared, request: &RequestHead, name: &[u8]) -> Result<Vec<Arc<Cell>>, Status> {
    if !serves_for(shared, name, request.epoch) {
        return Err(Status::Stale);
    }
    let mut frames = shared.store.frames(&request.key).map_err(|error| match error {
        StoreError::NotCommitted(_) => Status::NotCommitted,
        _ => Status::Unknown,
    })?;
    let first = request.first_frame as usize;
    if first > frames.len() { Err(Status::Unknown) } else { Ok(frames.split_off(first)) }
}

fn serves_for(shared: &Shared, name: &[u8], epoch: Epoch) -> bool {
    let identity = shared.identity.read();
    identity.as_ref().is_some_and(|(executor, own)| *own == epoch && executor.to_string().as_bytes() == name)
}

/// Sends a frame; false when it cannot be read, which the client is told.
async fn send(stream: &mut TcpStream, shared: &Shared, cell: &Cell) -> Result<bool, Dropped> {
    let mut frame = match shared.store.load(cell) {
        Loaded::Memory(frame) => Frame::Memory(frame.bytes),
        Loaded::File(range) => Frame::File { file: FrameReader::new(range), sent: 0 },
    };
    let mut head = Bytes::copy_from_slice(&FrameHead { status: Status::Ok, bytes: cell.bytes() }.write());
    let mut rest = cell.bytes() as usize;
    while rest > 0 {
        let piece = match frame.piece(rest.min(PIECE_BYTES)).await {
            Ok(piece) => piece,
            Err(error) => return unreadable(stream, shared, error, !head.is_empty()).await,
        };
        rest -= piece.len();
        if matches!(frame, Frame::File { .. }) {
            shared.read_bytes.fetch_add(piece.len() as u64, Ordering::Relaxed);
        }
        shared.sent_bytes.fetch_add(piece.len() as u64, Ordering::Relaxed);
        let mut message = std::mem::take(&mut head).chain(piece);
        within(shared.config.send_timeout, "a frame", stream.write_all_buf(&mut message)).await?;
    }
    Ok(true)
}

/// Tells the client that a frame cannot be read; once it has begun, only the connection's end can tell.
async fn unreadable(
    stream: &mut TcpStream,
    shared: &Shared,
    error: StoreError,
    before_head: bool,
) -> Result<bool, Dropped> {
    tracing::error!(%error, "a shuffle block cannot be served");
    if !before_head {
        return Err(error.into());
    }
    let head = FrameHead { status: Status::Unreadable, bytes: 0 }.write();
    within(shared.config.send_timeout, "a frame", stream.write_all(&head)).await?;
    Ok(false)
}

/// A frame as it is sent.
enum Frame {
    Memory(Bytes),
    File { file: FrameReader, sent: usize },
}

impl Frame {
    async fn piece(&mut self, len: usize) -> Result<Bytes, StoreError> {
        match self {
            Self::Memory(frame) => Ok(frame.split_to(len)),
            Self::File { file, sent } => {
                let piece = file.read(*sent, len).await?;
                *sent += len;
                Ok(piece)
            }
        }
    }
}
