//! A socket under TLS, of which one end may be read and the other written at the same time, from any thread.
//!
//! ```text
//!   socket --readable--> Incoming --records--> session --deciphered--> frame's own memory
//!   socket <--what the kernel takes at once--- session <--enciphered-- messages, chunks
//! ```
//!
//! Nobody waits while it holds the session. What is written is enciphered at once, up to a bound, and what of that the kernel does not take
//! waits in the session: it goes before all that is written later.

use std::io::{self, BufRead, IoSlice, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BufMut;
use parking_lot::Mutex;
use rustls::Connection;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{PROTOCOL, TlsError};
use crate::wire;

/// Bytes enciphered that wait for the kernel, at most; what is written comes in turns of so many bytes.
const ENCIPHERED_BYTES_MAX: usize = 256 << 10;
/// How long a client that is refused may take to hear it.
const LEAVE: Duration = Duration::from_secs(1);

/// A connection that has shaken hands, or is about to.
#[derive(Debug)]
pub(crate) struct TlsStream {
    socket: TcpStream,
    session: Mutex<Connection>,
    incoming: Mutex<Incoming>,
}

/// What has come and was not deciphered.
#[derive(Debug)]
struct Incoming {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
    /// What came first is TLS.
    is_tls: bool,
}

impl TlsStream {
    pub(super) fn new(socket: TcpStream, mut session: Connection, read_bytes: usize) -> Self {
        session.set_buffer_limit(Some(ENCIPHERED_BYTES_MAX));
        let bytes = vec![0; read_bytes].into_boxed_slice();
        let incoming = Mutex::new(Incoming { bytes, start: 0, end: 0, is_tls: false });
        Self { socket, session: Mutex::new(session), incoming }
    }

    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    pub(super) async fn shake_hands(&self) -> io::Result<()> {
        loop {
            self.flush().await?;
            if !self.session.lock().is_handshaking() {
                return Ok(());
            }
            self.socket.readable().await?;
            wait_is_ok(self.go_on_shaking_hands())?;
        }
    }

    fn go_on_shaking_hands(&self) -> io::Result<()> {
        let mut incoming = self.incoming.lock();
        incoming.receive(&self.socket)?;
        if !incoming.is_tls()? {
            return Ok(());
        }
        while self.session.lock().is_handshaking() && self.feed(&mut incoming)? {}
        Ok(())
    }

    /// Whether the peer has named the block protocol.
    pub(super) fn check_protocol(&self) -> Result<(), TlsError> {
        match self.session.lock().alpn_protocol() {
            Some(PROTOCOL) => Ok(()),
            _ => Err(TlsError::OtherProtocol),
        }
    }

    pub(super) fn check_certificate(&self) -> Result<(), TlsError> {
        match self.session.lock().peer_certificates() {
            Some([_, ..]) => Ok(()),
            _ => Err(TlsError::NoCertificate),
        }
    }

    /// Tells the peer why there will be no connection, and waits until it has heard that: if something that it said lay unread when
    /// the socket is closed, the kernel would take back what it was told.
    pub(super) async fn take_leave(&mut self, in_the_clear: &[u8]) {
        let leave = async {
            if in_the_clear.is_empty() {
                self.flush().await?;
            } else {
                self.socket.write_all(in_the_clear).await?;
            }
            self.socket.shutdown().await?;
            let mut heard = [0; 1024];
            loop {
                self.socket.readable().await?;
                match self.socket.try_read(&mut heard) {
                    Ok(0) => return Ok(()),
                    Ok(_) => {}
                    Err(error) => wait_is_ok(Err(error))?,
                }
            }
        };
        let left: Result<io::Result<()>, _> = timeout(LEAVE, leave).await;
        if !matches!(left, Ok(Ok(()))) {
            tracing::debug!("a client that is refused may not have heard why");
        }
    }

    /// Reads some bytes into the memory that is left of `first` and, when that is full, into `behind`; how many bytes came into each.
    /// The end of the connection is an error.
    pub async fn read(&self, first: &mut impl BufMut, behind: &mut [u8]) -> io::Result<(usize, usize)> {
        loop {
            let came = self.decipher(first, behind)?;
            if came != (0, 0) {
                return Ok(came);
            }
            self.socket.readable().await?;
            wait_is_ok(self.incoming.lock().receive(&self.socket))?;
        }
    }

    /// Takes what was deciphered, and deciphers of what has come as much as there is room for.
    fn decipher(&self, first: &mut impl BufMut, mut behind: &mut [u8]) -> io::Result<(usize, usize)> {
        let mut incoming = self.incoming.lock();
        let of_first = self.decipher_into(first, &mut incoming)?;
        let is_full = !first.has_remaining_mut();
        let of_behind = if is_full { self.decipher_into(&mut behind, &mut incoming)? } else { 0 };
        Ok((of_first, of_behind))
    }

    fn decipher_into(&self, room: &mut impl BufMut, incoming: &mut Incoming) -> io::Result<usize> {
        let mut taken = 0;
        while room.has_remaining_mut() {
            let count = take_deciphered(&mut self.session.lock(), room)?;
            taken += count;
            if count == 0 && !self.feed(incoming)? {
                break;
            }
        }
        Ok(taken)
    }

    /// Gives the session some of what has come; false when nothing has.
    fn feed(&self, incoming: &mut Incoming) -> io::Result<bool> {
        if incoming.is_empty() {
            return Ok(false);
        }
        let mut session = self.session.lock();
        if session.read_tls(incoming)? == 0 {
            // It has said that nothing more comes.
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match session.process_new_packets() {
            Ok(state) if state.peer_has_closed() && state.plaintext_bytes_to_read() == 0 => {
                Err(io::ErrorKind::UnexpectedEof.into())
            }
            Ok(_) => Ok(true),
            Err(error) => {
                // The peer may be told why; it is gone in any case.
                let _ = hand_over(&mut session, &self.socket);
                Err(TlsError::from(error).into())
            }
        }
    }

    /// Enciphers as much as may wait of these parts, and gives the kernel what it takes; how many bytes were taken. As long as the
    /// kernel takes nothing of what was enciphered before, nothing is: `WouldBlock`.
    pub fn try_write_vectored(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut session = self.session.lock();
        hand_over(&mut session, &self.socket)?;
        let taken = session.writer().write_vectored(parts)?;
        wait_is_ok(hand_over(&mut session, &self.socket))?;
        Ok(taken)
    }

    /// Whether something enciphered waits for the kernel.
    pub fn has_unsent(&self) -> bool {
        self.session.lock().wants_write()
    }

    /// Gives the kernel all that was enciphered.
    pub async fn flush(&self) -> io::Result<()> {
        loop {
            match self.try_flush() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.socket.writable().await?,
                done => return done,
            }
        }
    }

    fn try_flush(&self) -> io::Result<()> {
        hand_over(&mut self.session.lock(), &self.socket)
    }
}

impl Incoming {
    fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Receives what has come, when there is nothing here. The end of the connection is an error.
    fn receive(&mut self, socket: &TcpStream) -> io::Result<()> {
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
        }
        let came = socket.try_read(&mut self.bytes[self.end..])?;
        if came == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.end += came;
        Ok(())
    }

    /// Whether it is known that the peer speaks TLS; an error when it speaks the block protocol without.
    fn is_tls(&mut self) -> Result<bool, TlsError> {
        if !self.is_tls {
            let begun = &self.bytes[self.start..self.end];
            let Some(first) = begun.first_chunk() else { return Ok(false) };
            if *first == wire::MAGIC {
                return Err(TlsError::Plain);
            }
            self.is_tls = true;
        }
        Ok(true)
    }
}

/// As the session takes it.
impl Read for Incoming {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let count = room.len().min(self.end - self.start);
        room[..count].copy_from_slice(&self.bytes[self.start..self.start + count]);
        self.start += count;
        Ok(count)
    }
}

/// The kernel's end of a socket, which takes what it has room for.
struct Kernel<'a>(&'a TcpStream);

impl Write for Kernel<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(parts)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Gives the kernel what was enciphered; `WouldBlock` when it does not take all of it.
fn hand_over(session: &mut Connection, socket: &TcpStream) -> io::Result<()> {
    while session.wants_write() {
        session.write_tls(&mut Kernel(socket))?;
    }
    Ok(())
}

/// Moves what was deciphered to where there is room, straight out of the session's own memory; how many bytes.
fn take_deciphered(session: &mut Connection, room: &mut impl BufMut) -> io::Result<usize> {
    let mut reader = session.reader();
    let count = match reader.fill_buf() {
        Ok(deciphered) => {
            let count = deciphered.len().min(room.remaining_mut());
            room.put_slice(&deciphered[..count]);
            count
        }
        Err(error) => {
            wait_is_ok(Err(error))?;
            0
        }
    };
    reader.consume(count);
    Ok(count)
}

/// Nothing can be done right now: that is no error to who will wait.
fn wait_is_ok(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
            Ok(())
        }
        done => done,
    }
}

impl AsyncRead for &TlsStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            match self.decipher(room, &mut []) {
                Ok((0, _)) => {}
                Ok(_) => return Poll::Ready(Ok(())),
                Err(error) => return Poll::Ready(end_is_ok(error)),
            }
            ready!(self.socket.poll_read_ready(cx))?;
            match wait_is_ok(self.incoming.lock().receive(&self.socket)) {
                Ok(()) => {}
                Err(error) => return Poll::Ready(end_is_ok(error)),
            }
        }
    }
}

/// Who reads to the end takes nothing for the end. That it was not announced does not matter: what is missing is known by its
/// length.
fn end_is_ok(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::UnexpectedEof { Ok(()) } else { Err(error) }
}

impl AsyncWrite for &TlsStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            match self.try_write_vectored(&[IoSlice::new(bytes)]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
            ready!(self.socket.poll_write_ready(cx))?;
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            match self.try_flush() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
            ready!(self.socket.poll_write_ready(cx))?;
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.session.lock().send_close_notify();
        self.poll_flush(cx)
    }
}
