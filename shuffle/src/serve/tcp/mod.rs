//! A TCP connection: one end reads what the client asks, the other sends frames as far as the client takes them.

mod ahead;
mod form;
mod link;
mod queue;
mod send;
mod sending;
mod socket;

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::Shared;
use super::connection::{Dropped, find, greet, within};
use crate::tls;
use crate::wire::{ClientMessage, HEAD_BYTES, Hello, REQUEST_BYTES, RequestHead, WireError};
use link::Link;
use queue::Queue;
use sending::Sending;

/// Bytes that the kernel takes without having sent them.
const UNSENT_BYTES: u32 = 256 << 10;

/// Bytes that are read of what the client says, at a time.
const READ_BYTES: usize = 4 << 10;

/// Serves a connection until the client closes it or is dropped.
pub(super) async fn serve(stream: TcpStream, shared: &Shared, busy: bool) -> Result<(), Dropped> {
    stream.set_nodelay(true)?;
    socket::limit_unsent(stream.as_fd(), UNSENT_BYTES)?;
    match &shared.config.tls {
        Some(config) => serve_over_tls(stream, config, shared, busy).await,
        None => serve_plain(stream, shared, busy).await,
    }
}

async fn serve_plain(mut stream: TcpStream, shared: &Shared, busy: bool) -> Result<(), Dropped> {
    let codecs = greet(&mut stream, shared, busy, shared.offer).await?;
    let link = Link::of(&stream, codecs, shared.config.compression);
    let (reading, sending) = stream.split();
    answer_all(reading, &sending, link, shared).await
}

async fn serve_over_tls(
    stream: TcpStream,
    config: &Arc<ServerConfig>,
    shared: &Shared,
    busy: bool,
) -> Result<(), Dropped> {
    let to_plain = Hello { is_tls_only: true, ..Hello::default() }.write();
    let shake_hands = tls::accept(stream, config, &to_plain);
    let stream = within(shared.config.request_timeout, "its TLS handshake", shake_hands).await?;
    let codecs = greet(&mut &stream, shared, busy, shared.offer).await?;
    let link = Link::of(stream.socket(), codecs, shared.config.compression);
    answer_all(&stream, &stream, link, shared).await
}

/// Answers a greeted client by one end what it asks by the other.
async fn answer_all(
    reading: impl AsyncRead + Unpin,
    sending: &impl Sending,
    link: Link,
    shared: &Shared,
) -> Result<(), Dropped> {
    let queue = Queue::new();
    // Several short messages come with one system call.
    let mut reading = BufReader::with_capacity(READ_BYTES, reading);
    tokio::select! {
        read = receive(&mut reading, &queue, shared) => read,
        sent = send::send(sending, link, &queue, shared) => sent.map(|never| match never {}),
    }
}

/// Takes in what the client says, until it has closed the connection or left it idle.
async fn receive(
    stream: &mut (impl AsyncRead + Unpin),
    queue: &Queue,
    shared: &Shared,
) -> Result<(), Dropped> {
    let limit = shared.config.request_timeout;
    loop {
        queue.has_room().await;
        let Some(head) = next_head(stream, queue, shared).await? else { return Ok(()) };
        match ClientMessage::read(&head)? {
            ClientMessage::Request { id, window, length } => {
                let mut request = vec![0; length];
                within(limit, "a request", stream.read_exact(&mut request)).await?;
                answer(queue, shared, id, window, &request)?;
            }
            ClientMessage::Credit { id, bytes } => queue.credit(id, bytes)?,
            ClientMessage::Cancel { id } => queue.cancel(id)?,
        }
    }
}

fn answer(queue: &Queue, shared: &Shared, id: u64, window: u64, request: &[u8]) -> Result<(), Dropped> {
    let (head, name) = request.split_first_chunk::<REQUEST_BYTES>().expect("a request is not shorter");
    let head = RequestHead::read(head)?;
    if head.id != id {
        return Err(WireError::Unknown { what: "the id of a request", found: head.id }.into());
    }
    if head.name_bytes != name.len() {
        let found = head.name_bytes as u64;
        return Err(WireError::Unknown { what: "the length of the holder's name", found }.into());
    }
    let (reply, frames) = find(shared, &head, name);
    Ok(queue.answer(window, reply, frames)?)
}

/// The head of the next message; `None` when the client has closed the connection, or neither said nor took anything for
/// long.
async fn next_head(
    stream: &mut (impl AsyncRead + Unpin),
    queue: &Queue,
    shared: &Shared,
) -> Result<Option<[u8; HEAD_BYTES]>, Dropped> {
    let mut head = [0; HEAD_BYTES];
    let idle: Duration = shared.config.idle_timeout;
    let mut deadline = Instant::now() + idle;
    let first = loop {
        match timeout_at(deadline, stream.read(&mut head)).await {
            Ok(first) => break first?,
            Err(_) => {
                let until = Instant::from_std(queue.last_sent()) + idle;
                if until <= deadline {
                    return Ok(None);
                }
                deadline = until;
            }
        }
    };
    if first == 0 {
        return Ok(None);
    }
    within(shared.config.request_timeout, "a message", stream.read_exact(&mut head[first..])).await?;
    Ok(Some(head))
}
