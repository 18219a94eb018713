//! A connection to a block server.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::format::{FRAME_TOTAL_MAX, FrameBuffer};
use crate::wire::{
    FRAME_HEAD_BYTES, FrameHead, HELLO_BYTES, Hello, REPLY_BYTES, Reply, Request, Status, WireError,
};

/// A greeted connection.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
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
}

impl From<io::Error> for StepError {
    fn from(error: io::Error) -> Self {
        Self::Broken(error.to_string())
    }
}

async fn within<T>(
    limit: Duration,
    step: &str,
    work: impl Future<Output = io::Result<T>>,
) -> Result<T, StepError> {
    match timeout(limit, work).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(StepError::Broken(format!("no {step} within {limit:?}"))),
    }
}

impl Connection {
    /// Connects and greets.
    pub async fn open(address: &str, limit: Duration) -> Result<Self, StepError> {
        let greet = async {
            let mut stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            stream.write_all(&Hello { busy: false }.write()).await?;
            let mut hello = [0; HELLO_BYTES];
            stream.read_exact(&mut hello).await?;
            Ok((stream, hello))
        };
        let (stream, hello) = within(limit, "greeting", greet).await?;
        if Hello::read(&hello)?.busy { Err(StepError::Busy) } else { Ok(Self { stream }) }
    }

    /// Asks for a block.
    pub async fn ask(&mut self, request: &Request, limit: Duration) -> Result<Reply, StepError> {
        let bytes = request.write();
        let ask = async {
            self.stream.write_all(&bytes).await?;
            let mut reply = [0; REPLY_BYTES];
            self.stream.read_exact(&mut reply).await?;
            Ok(reply)
        };
        let reply = Reply::read(&within(limit, "answer", ask).await?)?;
        if reply.id != request.id {
            return Err(StepError::Nonsense(format!(
                "an answer to request {} instead of {}",
                reply.id, request.id
            )));
        }
        Ok(reply)
    }

    /// The next frame; `None` when the peer cannot read it.
    pub async fn frame(&mut self, limit: Duration) -> Result<Option<Bytes>, StepError> {
        let stream = &mut self.stream;
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
            while frame.missing() > 0 {
                if stream.read_buf(&mut frame).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            Ok(())
        };
        within(limit, "whole frame", receive).await?;
        Ok(Some(frame.freeze(None)))
    }
}
