//! A connection whose every step has an end: a peer that stands still, or sends byte by byte, ends in an error.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

/// How long a peer may stand still.
pub(super) const STALL_MAX: Duration = Duration::from_secs(5);

/// A connection and when it is over.
pub(super) struct Timed {
    stream: TcpStream,
    until: Instant,
}

impl Timed {
    /// Takes a connection over, for so long.
    pub fn new(stream: TcpStream, time: Duration) -> io::Result<Self> {
        // Small messages are not held back.
        stream.set_nodelay(true)?;
        Ok(Self { stream, until: Instant::now() + time })
    }

    /// Gives it so much time from now on.
    pub fn extend(&mut self, time: Duration) {
        self.until = Instant::now() + time;
    }

    /// What is left, but no more than a peer may stand still.
    fn patience(&self) -> io::Result<Duration> {
        match self.until.saturating_duration_since(Instant::now()) {
            Duration::ZERO => Err(io::Error::new(io::ErrorKind::TimedOut, "its time is over")),
            left => Ok(left.min(STALL_MAX)),
        }
    }

    /// Some bytes; 0 when the peer sends no more.
    pub fn read_some(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        loop {
            self.stream.set_read_timeout(Some(self.patience()?))?;
            match self.stream.read(bytes) {
                Err(fault) if fault.kind() == io::ErrorKind::Interrupted => {}
                done => return done.map_err(stalled),
            }
        }
    }

    pub fn read_all(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        let mut filled = 0;
        while filled < bytes.len() {
            match self.read_some(&mut bytes[filled..])? {
                0 => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it was closed")),
                some => filled += some,
            }
        }
        Ok(())
    }

    pub fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            self.stream.set_write_timeout(Some(self.patience()?))?;
            match self.stream.write(bytes) {
                Ok(0) => return Err(io::Error::new(io::ErrorKind::WriteZero, "it takes nothing")),
                Ok(some) => bytes = &bytes[some..],
                Err(fault) if fault.kind() == io::ErrorKind::Interrupted => {}
                Err(fault) => return Err(stalled(fault)),
            }
        }
        Ok(())
    }

    /// Says that no more is sent.
    pub fn end_writing(&self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }
}

/// The system calls a time that is over "would block".
fn stalled(fault: io::Error) -> io::Error {
    match fault.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            let told = format!("it stood still for {} s", STALL_MAX.as_secs());
            io::Error::new(io::ErrorKind::TimedOut, told)
        }
        _ => fault,
    }
}
