//! Messages as they come in, with the descriptors that are passed beside them.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg};

use super::news::{Message, NEWS_BYTES_MAX};

/// Bytes of a message's length.
const LENGTH_BYTES: usize = 4;

/// The messages of one connection.
pub(super) struct Inbox {
    stream: UnixStream,
}

impl Inbox {
    pub fn new(stream: UnixStream) -> Self {
        Self { stream }
    }

    /// The next message and the descriptor that came with it; `None` when the connection has ended. What was not said to its
    /// end then was not said. Blocks the thread.
    ///
    /// # Errors
    /// When what came is no message.
    pub fn next(&mut self) -> io::Result<Option<(Message, Option<OwnedFd>)>> {
        let mut descriptor = None;
        let mut length = [0; LENGTH_BYTES];
        if !self.fill(&mut length, &mut descriptor)? {
            return Ok(None);
        }
        let length = u32::from_le_bytes(length) as usize;
        if length > NEWS_BYTES_MAX {
            return Err(nonsense(format!("a message of {length} bytes")));
        }
        let mut bytes = vec![0; length];
        if !self.fill(&mut bytes, &mut descriptor)? {
            return Ok(None);
        }
        let message = serde_json::from_slice(&bytes).map_err(|fault| nonsense(fault.to_string()))?;
        Ok(Some((message, descriptor)))
    }

    /// Fills `bytes`; false when the connection has ended before the last of them.
    fn fill(&mut self, bytes: &mut [u8], descriptor: &mut Option<OwnedFd>) -> io::Result<bool> {
        let mut filled = 0;
        while filled < bytes.len() {
            match self.receive(&mut bytes[filled..], descriptor)? {
                0 => return Ok(false),
                count => filled += count,
            }
        }
        Ok(true)
    }

    fn receive(&mut self, space: &mut [u8], descriptor: &mut Option<OwnedFd>) -> io::Result<usize> {
        let mut control = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut control);
        let mut places = [IoSliceMut::new(space)];
        let received = loop {
            match recvmsg(&self.stream, &mut places, &mut control, RecvFlags::CMSG_CLOEXEC) {
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::CONNRESET) => return Ok(0),
                received => break received?,
            }
        };
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(passed) = message {
                for passed in passed {
                    if descriptor.replace(passed).is_some() {
                        return Err(nonsense("two descriptors with one message".to_owned()));
                    }
                }
            }
        }
        if received.flags.contains(ReturnFlags::CTRUNC) {
            return Err(nonsense("more descriptors than may come".to_owned()));
        }
        Ok(received.bytes)
    }
}

fn nonsense(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
