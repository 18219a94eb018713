//! A connection to a block server on this host, shared by the fetch that asks over it and the frames that came over it:
//! these say through it when they have been let go of.

use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, Shutdown, recvmsg, shutdown,
};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::Notify;

use crate::wire::{RELEASED_MAX, write_release};

/// How long leases that are given up are gathered, so that one message gives up many.
const GATHER: Duration = Duration::from_millis(1);
/// Room for descriptors that come at one time. A server passes no more with one message.
const DESCRIPTORS_MAX: usize = 16;

/// A user of a connection; it ends when there is none left and all that was given up was told.
#[derive(Debug)]
pub(super) struct Link {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    stream: UnixStream,
    users: AtomicUsize,
    given_up: Mutex<Vec<u64>>,
    wake: Notify,
    /// Held while a message is written, so that it goes out whole.
    writing: tokio::sync::Mutex<()>,
}

impl Link {
    /// Takes a greeted connection, on the runtime that made it.
    pub fn new(stream: UnixStream) -> Self {
        let shared = Arc::new(Shared {
            stream,
            users: AtomicUsize::new(1),
            given_up: Mutex::default(),
            wake: Notify::new(),
            writing: tokio::sync::Mutex::default(),
        });
        tokio::spawn(tell_what_is_given_up(Closing(Arc::clone(&shared))));
        Self { shared }
    }

    /// The socket.
    pub fn stream(&self) -> &UnixStream {
        &self.shared.stream
    }

    /// Sends a message.
    pub async fn send(&self, message: &[u8]) -> io::Result<()> {
        self.shared.send(message).await
    }

    /// The right to look at a frame until it is dropped.
    pub fn lease(&self, number: u64) -> Lease {
        Lease { number, link: self.clone() }
    }
}

impl Clone for Link {
    fn clone(&self) -> Self {
        self.shared.users.fetch_add(1, Ordering::Relaxed);
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if self.shared.users.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.shared.wake.notify_one();
        }
    }
}

/// The right to look at a frame in shared memory; given up when dropped, on whatever thread.
#[derive(Debug)]
pub(super) struct Lease {
    number: u64,
    link: Link,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.link.shared.given_up.lock().push(self.number);
        self.link.shared.wake.notify_one();
    }
}

impl Shared {
    async fn send(&self, mut message: &[u8]) -> io::Result<()> {
        let _whole = self.writing.lock().await;
        while !message.is_empty() {
            self.stream.writable().await?;
            match self.stream.try_write(message) {
                Ok(sent) => message = &message[sent..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn flush(&self) -> io::Result<()> {
        let given_up = std::mem::take(&mut *self.given_up.lock());
        for leases in given_up.chunks(RELEASED_MAX) {
            self.send(&write_release(leases)).await?;
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.users.load(Ordering::Acquire) == 0 && self.given_up.lock().is_empty()
    }
}

/// Closes the connection when what tells the server is gone, and be it with its runtime: the server must not wait for
/// word of what is let go of later.
struct Closing(Arc<Shared>);

impl Drop for Closing {
    fn drop(&mut self) {
        // A connection that the server has closed before is closed.
        let _ = shutdown(&self.0.stream, Shutdown::Both);
    }
}

async fn tell_what_is_given_up(link: Closing) {
    let tell = async {
        while !link.0.is_done() {
            link.0.wake.notified().await;
            tokio::time::sleep(GATHER).await;
            link.0.flush().await?;
        }
        // Of a reply that was not read to its end some places may not have been seen: nobody looks at those either.
        link.0.send(&write_release(&[])).await
    };
    if let Err(error) = tell.await {
        tracing::debug!(%error, "a holder of shared blocks ended the connection");
    }
}

/// What has come over a connection: bytes, and the descriptors that were passed with them.
#[derive(Debug)]
pub(super) struct Incoming {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
    descriptors: VecDeque<OwnedFd>,
}

impl Incoming {
    pub fn new() -> Self {
        let bytes = vec![0; INCOMING_BYTES].into_boxed_slice();
        Self { bytes, start: 0, end: 0, descriptors: VecDeque::new() }
    }

    /// The next `N` bytes, of which there are few.
    pub async fn next<const N: usize>(&mut self, stream: &UnixStream) -> io::Result<[u8; N]> {
        while self.end - self.start < N {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            stream.readable().await?;
            let (space, descriptors) = (&mut self.bytes[self.end..], &mut self.descriptors);
            let mut came = None;
            let ready = stream.try_io(Interest::READABLE, || {
                let received = receive_now(stream, space, descriptors)?;
                came = Some(received.bytes);
                // No more has come. To say so saves the call that would find that out.
                if received.is_all { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
            });
            match (came, ready) {
                (Some(0), _) => return Err(io::ErrorKind::UnexpectedEof.into()),
                (Some(count), _) => self.end += count,
                (None, Err(error)) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                (None, _) => {}
            }
        }
        let next = self.bytes[self.start..].first_chunk().expect("so many have come");
        self.start += N;
        Ok(*next)
    }

    /// The descriptor that was passed first of those that are not taken yet.
    pub fn descriptor(&mut self) -> Option<OwnedFd> {
        self.descriptors.pop_front()
    }
}

/// Bytes taken from the socket at a time.
const INCOMING_BYTES: usize = 8 << 10;
/// Descriptors that have come and that no place has asked for yet: more are a peer's mistake. One read takes those of one
/// message, and a place takes its own before the next read.
const DESCRIPTORS_WAITING_MAX: usize = 256;

/// What was received at one time.
struct ReceivedNow {
    bytes: usize,
    /// It is all that had come.
    is_all: bool,
}

fn receive_now(
    stream: &UnixStream,
    space: &mut [u8],
    descriptors: &mut VecDeque<OwnedFd>,
) -> io::Result<ReceivedNow> {
    let known = descriptors.len();
    let mut control = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut control);
    let received = recvmsg(stream, &mut [IoSliceMut::new(space)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(passed) = message {
            descriptors.extend(passed);
        }
    }
    let is_cut = received.flags.contains(ReturnFlags::CTRUNC);
    if is_cut || descriptors.len() > DESCRIPTORS_WAITING_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "more descriptors than may come"));
    }
    // The kernel stops behind the bytes that a descriptor came with, whether or not more have come.
    let is_all = (1..space.len()).contains(&received.bytes) && descriptors.len() == known;
    Ok(ReceivedNow { bytes: received.bytes, is_all })
}
