//! What TCP on this host can do.

#[allow(dead_code)] // of one of the benches
pub mod tls;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

/// Sends bytes from memory into memory, as they come, with nothing around them.
pub struct Plain {
    stream: TcpStream,
    bytes: u64,
}

/// Bytes that are sent and received with one call.
const PIECE_BYTES: usize = 1 << 20;
/// Memory that is sent from and received into in turn, so that neither lies in a core's cache.
pub const MEMORY_BYTES: usize = 64 << 20;

impl Plain {
    /// A sender of `bytes` bytes at a time, on a thread of its own.
    pub fn start(bytes: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let stream = TcpStream::connect(listener.local_addr().expect("it has one")).expect("it listens");
        let (mut sender, _) = listener.accept().expect("somebody connects");
        std::thread::spawn(move || {
            let memory = vec![7; MEMORY_BYTES];
            let mut pieces = memory.chunks(PIECE_BYTES).cycle();
            while sender.read_exact(&mut [0]).is_ok() {
                let mut rest = bytes as usize;
                while rest > 0 {
                    let piece = pieces.next().expect("it goes around");
                    let piece = &piece[..rest.min(piece.len())];
                    sender.write_all(piece).expect("the other end reads");
                    rest -= piece.len();
                }
            }
        });
        Self { stream, bytes }
    }

    /// Receives as many bytes as the sender sends at a time; returns how many.
    pub fn receive(&mut self, memory: &mut [u8]) -> u64 {
        self.stream.write_all(&[1]).expect("the other end reads");
        let (mut rest, mut at) = (self.bytes as usize, 0);
        while rest > 0 {
            let end = (at + PIECE_BYTES).min(memory.len()).min(at + rest);
            let count = self.stream.read(&mut memory[at..end]).expect("the other end sends");
            rest -= count;
            at = (at + count) % memory.len();
        }
        self.bytes
    }
}
