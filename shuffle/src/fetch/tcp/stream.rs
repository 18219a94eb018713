//! A greeted connection's socket, plain or under TLS.

use std::io::{self, IoSlice};

use bytes::BufMut;
use tokio::net::TcpStream;

use super::ReceiveConfig;
use super::socket;
use crate::fetch::greeting::greet;
use crate::tls::{self, TlsStream};
use crate::transport::StepError;
use crate::wire::Offer;

#[derive(Debug)]
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream>),
}

/// A stream, and what the peer offers to those who can share memory.
type Greeted = (Stream, Option<Offer>);

impl Stream {
    /// Connects and greets. Asks, if so told, what is offered to those who can share memory.
    pub async fn open(
        address: &str,
        asks: bool,
        config: &ReceiveConfig,
    ) -> io::Result<Result<Greeted, StepError>> {
        let mut socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        let Some(tls) = &config.tls else {
            let offer = greet(&mut socket, asks, config.codecs).await?;
            return Ok(offer.map(|offer| (Self::Plain(socket), offer)));
        };
        let stream = Box::new(tls::connect(socket, address, tls).await?);
        let offer = greet(&mut &*stream, asks, config.codecs).await?;
        Ok(offer.map(|offer| (Self::Tls(stream), offer)))
    }

    /// Takes as many bytes as it can right now, to be sent.
    pub fn try_write(&self, message: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.try_write(message),
            Self::Tls(stream) => stream.try_write_vectored(&[IoSlice::new(message)]),
        }
    }

    /// Whether something that was taken waits for the kernel: [`write`](Self::write) gives it that.
    pub fn has_unsent(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(stream) => stream.has_unsent(),
        }
    }

    /// Has all of a message sent, and all that was taken before.
    pub async fn write(&self, mut message: &[u8]) -> io::Result<()> {
        while !message.is_empty() {
            match self.try_write(message) {
                Ok(sent) => message = &message[sent..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.socket().writable().await?,
                Err(error) => return Err(error),
            }
        }
        match self {
            Self::Plain(_) => Ok(()),
            Self::Tls(stream) => stream.flush().await,
        }
    }

    /// Reads some bytes into the memory that is left of `first` and, when that is full, into `behind`; how many bytes came into each.
    /// The end of the connection is an error.
    pub async fn read(&self, first: &mut impl BufMut, behind: &mut [u8]) -> io::Result<(usize, usize)> {
        match self {
            Self::Plain(socket) => socket::read(socket, first, behind).await,
            Self::Tls(stream) => stream.read(first, behind).await,
        }
    }

    fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => stream.socket(),
        }
    }
}
