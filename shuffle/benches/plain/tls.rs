//! What TLS over TCP on this host can do, by streams of tokio-rustls.

use std::net::TcpListener;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::{MEMORY_BYTES, PIECE_BYTES};
use crate::certs;

/// Sends bytes from memory into memory, as they come, with nothing around them but TLS.
pub struct PlainTls {
    runtime: Runtime,
    stream: TlsStream<TcpStream>,
    bytes: u64,
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

impl PlainTls {
    /// A sender of `bytes` bytes at a time, on a thread of its own.
    pub fn start(bytes: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it has one");
        std::thread::spawn(move || runtime().block_on(send(listener, bytes as usize)));
        let runtime = runtime();
        let connect = async {
            let socket = TcpStream::connect(address).await?;
            TlsConnector::from(certs::client()).connect(ServerName::from(address.ip()), socket).await
        };
        let stream = runtime.block_on(connect).expect("the other end shakes hands");
        Self { runtime, stream, bytes }
    }

    /// Receives as many bytes as the sender sends at a time; returns how many.
    pub fn receive(&mut self, memory: &mut [u8]) -> u64 {
        let (stream, bytes) = (&mut self.stream, self.bytes);
        self.runtime.block_on(async {
            stream.write_all(&[1]).await.expect("the other end reads");
            let (mut rest, mut at) = (bytes as usize, 0);
            while rest > 0 {
                let end = (at + PIECE_BYTES).min(memory.len()).min(at + rest);
                let count = stream.read(&mut memory[at..end]).await.expect("the other end sends");
                rest -= count;
                at = (at + count) % memory.len();
            }
        });
        bytes
    }
}

async fn send(listener: TcpListener, bytes: usize) {
    let (socket, _) = listener.accept().expect("somebody connects");
    socket.set_nonblocking(true).expect("a socket can be");
    let socket = TcpStream::from_std(socket).expect("it belongs to no other runtime");
    let mut stream = TlsAcceptor::from(certs::server()).accept(socket).await.expect("it shakes hands");
    let memory = vec![7; MEMORY_BYTES];
    let mut pieces = memory.chunks(PIECE_BYTES).cycle();
    while stream.read_u8().await.is_ok() {
        let mut rest = bytes;
        while rest > 0 {
            let piece = pieces.next().expect("it goes around");
            let piece = &piece[..rest.min(piece.len())];
            stream.write_all(piece).await.expect("the other end reads");
            rest -= piece.len();
        }
        stream.flush().await.expect("the other end reads");
    }
}
