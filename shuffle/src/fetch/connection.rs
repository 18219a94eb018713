//! A connection to a block server.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::counters::Way;
use super::shared::SharedConnection;
use crate::format::{FRAME_TOTAL_MAX, FrameBuffer};
use crate::transport::SocketName;
use crate::wire::{
    FRAME_HEAD_BYTES, FrameHead, HELLO_BYTES, Hello, OFFER_BYTES, Offer, REPLY_BYTES, Reply, Request, Status,
    WireError,
};

/// A greeted connection.
#[derive(Debug)]
pub(super) enum Connection {
    Tcp(TcpStream),
    Shared(Box<SharedConnection>),
}

/// A frame that came over a connection.
#[derive(Debug)]
pub(super) struct Received {
    pub frame: Bytes,
    pub way: Way,
    /// Bytes that were copied here to get it.
    pub copied: usize,
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum StepError {
    /// The connection is of no more use; another may do.
    #[error("{0}")]
    Broken(String),
    /// The peer takes no more connections now.
    #[error("it has as many connections as it takes")]
    Busy,
    /// The peer does not speak the protocol.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The peer speaks it, but says what cannot be.
    #[error("{0}")]
    Nonsense(String),
    /// The frame cannot be had through shared memory; over TCP it may.
    #[error("{0}")]
    NotShared(String),
}

impl From<io::Error> for StepError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::InvalidData => Self::Nonsense(error.to_string()),
            _ => Self::Broken(error.to_string()),
        }
    }
}

pub(super) async fn within<T>(
    limit: Duration,
    step: &str,
    work: impl Future<Output = io::Result<T>>,
) -> Result<T, StepError> {
    match timeout(limit, work).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(StepError::Broken(format!("no {step} within {limit:?}"))),
    }
}

/// The reply to a request, which names it.
pub(super) fn answered(reply: &[u8; REPLY_BYTES], request: &Request) -> Result<Reply, StepError> {
    let reply = Reply::read(reply)?;
    if reply.id == request.id {
        return Ok(reply);
    }
    Err(StepError::Nonsense(format!("an answer to request {} instead of {}", reply.id, request.id)))
}

/// Greets a server; says what it offers to whom it can share memory with.
async fn greet(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    shares: bool,
) -> io::Result<Result<Option<Offer>, StepError>> {
    stream.write_all(&Hello { busy: false, shares }.write()).await?;
    let mut hello = [0; HELLO_BYTES];
    stream.read_exact(&mut hello).await?;
    match Hello::read(&hello) {
        Ok(Hello { busy: true, .. }) => Ok(Err(StepError::Busy)),
        Ok(Hello { shares: true, .. }) if shares => {
            let mut offer = [0; OFFER_BYTES];
            stream.read_exact(&mut offer).await?;
            Ok(Ok(Some(Offer::read(&offer))))
        }
        Ok(_) => Ok(Ok(None)),
        Err(error) => Ok(Err(error.into())),
    }
}

impl Connection {
    /// Connects over TCP and greets. Asks, if so told, what is offered to those who can share memory.
    pub async fn open_tcp(
        address: &str,
        asks: bool,
        limit: Duration,
    ) -> Result<(Self, Option<Offer>), StepError> {
        let open = async {
            let mut stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let offer = greet(&mut stream, asks).await?;
            Ok(offer.map(|offer| (Self::Tcp(stream), offer)))
        };
        within(limit, "greeting", open).await?
    }

    /// Connects to a server on this host and greets.
    pub async fn open_shared(name: &SocketName, limit: Duration) -> Result<Self, StepError> {
        let open = async {
            let mut stream = UnixStream::connect(format!("\0{}", name.text())).await?;
            let greeted = greet(&mut stream, false).await?;
            Ok(greeted.map(|_| Self::Shared(Box::new(SharedConnection::new(stream)))))
        };
        within(limit, "greeting in shared memory", open).await?
    }

    /// Whether frames come by the place where they lie.
    pub fn is_shared(&self) -> bool {
        matches!(self, Self::Shared(_))
    }

    /// Asks for a block.
    pub async fn ask(&mut self, request: &Request, limit: Duration) -> Result<Reply, StepError> {
        let stream = match self {
            Self::Tcp(stream) => stream,
            Self::Shared(shared) => return shared.ask(request, limit).await,
        };
        let ask = async {
            stream.write_all(&request.write()).await?;
            let mut reply = [0; REPLY_BYTES];
            stream.read_exact(&mut reply).await?;
            Ok(reply)
        };
        answered(&within(limit, "answer", ask).await?, request)
    }

    /// The next frame; `None` when the peer cannot read it.
    pub async fn frame(&mut self, limit: Duration) -> Result<Option<Received>, StepError> {
        match self {
            Self::Tcp(stream) => receive(stream, limit).await,
            Self::Shared(shared) => shared.frame(limit).await,
        }
    }

    /// Says that all frames of a reply have come.
    pub fn end_reply(&mut self) {
        if let Self::Shared(shared) = self {
            shared.end_reply();
        }
    }
}

async fn receive(stream: &mut TcpStream, limit: Duration) -> Result<Option<Received>, StepError> {
    let mut head = [0; FRAME_HEAD_BYTES];
    within(limit, "frame", stream.read_exact(&mut head)).await?;
    let head = FrameHead::read(&head)?;
    if head.status != Status::Ok {
        return Ok(None);
    }
    if head.bytes > FRAME_TOTAL_MAX {
        return Err(StepError::Nonsense(format!("a frame of {} bytes", head.bytes)));
    }
    let mut frame = FrameBuffer::new(head.bytes as usize);
    let receive = async {
        let mut copied = 0;
        while frame.missing() > 0 {
            match stream.read_buf(&mut frame).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => copied += count,
            }
        }
        Ok(copied)
    };
    let copied = within(limit, "whole frame", receive).await?;
    Ok(Some(Received { frame: frame.freeze(None).bytes, way: Way::Tcp, copied }))
}
