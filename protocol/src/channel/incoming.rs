//! The connections that a server takes: so many at a time, and with TLS those alone whose certificates are accepted, in time.
//!
//! ```text
//!   listener ─► room? ─► plain ───────────────────────────────┐
//!                └─────► first byte ─► handshake ─► who is it ─┴─► the server
//!                        └──────── within HANDSHAKE_MAX ──────┘
//! ```

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use firesteel_certs::{Certificate, Security, Tls};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_stream::Stream;
use tokio_util::either::Either;
use tonic::transport::server::Connected;

use super::access::Peer;
use super::traffic::{Counted, TRAFFIC, count};

/// The connections that a server has at a time; more are closed as soon as they come.
pub const CONNECTIONS_MAX: usize = 8192;
/// Of these, those that have not said yet who they are.
pub const HANDSHAKES_MAX: usize = 1024;
/// How long who connects may take to say who it is.
pub const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// How soon a listener is tried again that could take no connection, as when there are no descriptors left.
const PAUSE: Duration = Duration::from_millis(100);

/// The bounds of a server.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// [`CONNECTIONS_MAX`].
    pub connections: usize,
    /// [`HANDSHAKES_MAX`].
    pub handshakes: usize,
    /// [`HANDSHAKE_MAX`].
    pub handshake: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self { connections: CONNECTIONS_MAX, handshakes: HANDSHAKES_MAX, handshake: HANDSHAKE_MAX }
    }
}

/// The connections that come in at `listener`, until this is dropped.
///
/// Messages go out at once: a server over connections that it did not bind itself leaves their buffering on, and each small answer
/// then waits 40 ms for the peer's acknowledgement.
#[must_use]
pub fn incoming(listener: TcpListener, security: &Security) -> Incoming {
    incoming_within(listener, security, ConnectionLimits::default())
}

/// As [`incoming`], with other bounds.
#[must_use]
pub fn incoming_within(listener: TcpListener, security: &Security, limits: ConnectionLimits) -> Incoming {
    Incoming {
        listener,
        tls: security.tls().cloned(),
        limits,
        room: Arc::new(Semaphore::new(limits.connections)),
        securing: JoinSet::new(),
        pause: None,
    }
}

/// The connections of a server, as they come.
pub struct Incoming {
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    limits: ConnectionLimits,
    room: Arc<Semaphore>,
    /// Those that have not said yet who they are.
    securing: JoinSet<Option<Connection>>,
    /// Set while the listener is left alone.
    pause: Option<Pin<Box<Sleep>>>,
}

impl Incoming {
    /// Takes what has come, and looks at whoever it is beside other things.
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        match ready!(self.listener.poll_accept(cx)) {
            Ok((stream, from)) => self.take(stream, from),
            Err(fault) => {
                tracing::warn!(%fault, "cannot take a connection");
                self.pause = Some(Box::pin(sleep(PAUSE)));
            }
        }
        Poll::Ready(())
    }

    fn take(&mut self, stream: TcpStream, from: SocketAddr) {
        let ConnectionLimits { connections, handshakes, handshake } = self.limits;
        let Ok(room) = Arc::clone(&self.room).try_acquire_owned() else {
            count(&TRAFFIC.full);
            return tracing::warn!(%from, max = connections, "refused a connection: there are too many");
        };
        if self.securing.len() >= handshakes {
            count(&TRAFFIC.greeting);
            return tracing::warn!(%from, max = handshakes, "refused a connection: too many have not said yet who they are");
        }
        let (tls, counted) = (self.tls.clone(), Counted::new());
        self.securing.spawn(async move {
            let secured = timeout(handshake, secure(stream, tls.as_deref())).await;
            match secured.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok((stream, peer)) => Some(Connection { stream, peer, _room: room, _counted: counted }),
                Err(fault) => {
                    count(&TRAFFIC.handshake);
                    tracing::info!(%from, %fault, "refused a connection");
                    None
                }
            }
        });
    }
}

impl Stream for Incoming {
    type Item = io::Result<Connection>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        while this.poll_accept(cx).is_ready() {}
        loop {
            match ready!(this.securing.poll_join_next(cx)) {
                Some(Ok(Some(connection))) => return Poll::Ready(Some(Ok(connection))),
                Some(Ok(None)) => {}
                Some(Err(fault)) => tracing::error!(%fault, "a connection could not be looked at"),
                // The listener wakes this when another one comes.
                None => return Poll::Pending,
            }
        }
    }
}

async fn secure(stream: TcpStream, tls: Option<&Tls>) -> io::Result<(Way, Peer)> {
    stream.set_nodelay(true)?;
    let Some(tls) = tls else { return Ok((Either::Left(stream), Peer::Anybody)) };
    let mut first = [0];
    if stream.peek(&mut first).await? == 1 && first == *b"P" {
        return Err(say_that_it_is_secured(stream).await);
    }
    let stream = TlsAcceptor::from(tls.control_server()).accept(stream).await?;
    let peer = peer(stream.get_ref().1.peer_certificates(), tls);
    Ok((Either::Right(Box::new(stream)), peer))
}

fn peer(certificates: Option<&[tokio_rustls::rustls::pki_types::CertificateDer<'_>]>, tls: &Tls) -> Peer {
    let own = certificates.and_then(<[_]>::first);
    let identity = own.and_then(|own| Certificate::read(own).ok()?.identity);
    identity.map_or(Peer::Nobody, |identity| Peer::Known {
        identity: Arc::new(identity),
        cluster: tls.identity().cluster.as_str().into(),
    })
}

/// HTTP/2's frames for "these are my settings: all as usual", and for "go away" with the reason INADEQUATE_SECURITY.
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
const GO_AWAY: [u8; 17] = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x0c];
/// What HTTP/2 begins with.
const PREFACE_BYTES: usize = 24;
const HEADERS: u8 = 1;
/// More than comes before a first request.
const BEFORE_REQUEST_MAX: u64 = 64 << 10;

/// Tells a client that speaks HTTP/2 without TLS in its own words, so that it can tell its user.
async fn say_that_it_is_secured(mut stream: TcpStream) -> io::Error {
    let said = async {
        stream.write_all(&SETTINGS).await?;
        // Said before there is a request, it would be the connection's end and nobody's answer.
        await_request(&mut (&mut stream).take(BEFORE_REQUEST_MAX)).await?;
        stream.write_all(&GO_AWAY).await?;
        stream.shutdown().await?;
        // What it has sent is read: a socket that is closed before that takes back what was said.
        tokio::io::copy(&mut (&mut stream).take(1 << 20), &mut tokio::io::sink()).await
    };
    said.await.err().unwrap_or_else(|| io::Error::other("it speaks without TLS"))
}

/// Reads frames until one begins a request.
async fn await_request(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
    stream.read_exact(&mut [0; PREFACE_BYTES]).await?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await?;
        if head[3] == HEADERS {
            return Ok(());
        }
        let length = u64::from(u32::from_be_bytes([0, head[0], head[1], head[2]]));
        if tokio::io::copy(&mut (&mut *stream).take(length), &mut tokio::io::sink()).await? < length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

type Way = Either<TcpStream, Box<tokio_rustls::server::TlsStream<TcpStream>>>;

/// One connection, and who is at its other end.
pub struct Connection {
    stream: Way,
    peer: Peer,
    /// Given back when it ends.
    _room: OwnedSemaphorePermit,
    /// So is this.
    _counted: Counted,
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
