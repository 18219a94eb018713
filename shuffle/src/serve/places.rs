//! One connection of an executor on this host: it is told where frames lie, and says when it has let go of them.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::io::{AsyncRead, AsyncReadExt, BufReader, Interest};
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout_at};

use super::Shared;
use super::connection::{Dropped, find, greet, within};
use super::leases::Leases;
use crate::format::Frame;
use crate::segment::Segment;
use crate::store::{Cell, FileRange, Loaded};
use crate::wire::{
    FramePlace, MESSAGE_HEAD_BYTES, Place, REQUEST_BYTES, Reply, RequestHead, Status, released,
};

/// Bytes that are read of what the client says, at a time.
const READ_BYTES: usize = 4 << 10;
/// Descriptors passed at one time; a reader has room for as many.
const DESCRIPTORS_MAX: usize = 16;
/// Segments of a connection of which it is remembered that they were passed.
const PASSED_MAX: usize = 4096;
/// Bytes of places gathered before they are sent.
const GATHERED_BYTES_MAX: usize = 16 << 10;

/// Serves a connection until the client closes it or is dropped.
pub(super) async fn serve(mut stream: UnixStream, shared: &Shared, busy: bool) -> Result<(), Dropped> {
    check_user(&stream, shared.config.also_user)?;
    greet(&mut stream, shared, busy, None).await?;
    let mut leases = Leases::new(&shared.leases, shared.config.leases_max);
    let mut passed = Passed::default();
    let (reading, sending) = stream.split();
    // Several short messages come with one system call.
    let (mut reading, sending) = (BufReader::with_capacity(READ_BYTES, reading), sending.as_ref());
    while let Some(message) = next_message(&mut reading, shared, &leases).await? {
        match message {
            Message::Request(head, name) => {
                let (reply, frames) = find(shared, &head, &name);
                let places = Places::new(sending, shared, &mut passed, reply);
                answer(places, frames, &mut leases).await?;
            }
            Message::Release(numbers) if numbers.is_empty() => leases.give_up_all(),
            Message::Release(numbers) => numbers.into_iter().try_for_each(|number| leases.give_up(number))?,
        }
    }
    Ok(())
}

/// A name can be found out by anybody on this host; memory is for those who could read it anyway.
fn check_user(stream: &UnixStream, also: Option<u32>) -> Result<(), Dropped> {
    let user = stream.peer_cred()?.uid();
    let own = rustix::process::geteuid().as_raw();
    if user == own || user == 0 || also == Some(user) { Ok(()) } else { Err(Dropped::Stranger(user)) }
}

/// What a client says.
enum Message {
    Request(RequestHead, Vec<u8>),
    Release(Vec<u64>),
}

/// The next message; `None` when the client has closed the connection or left it idle.
async fn next_message(
    stream: &mut (impl AsyncRead + Unpin),
    shared: &Shared,
    leases: &Leases<'_>,
) -> Result<Option<Message>, Dropped> {
    let config = &shared.config;
    let mut bytes = [0; REQUEST_BYTES];
    let (head, rest) = bytes.split_first_chunk_mut::<MESSAGE_HEAD_BYTES>().expect("a request is longer");
    let deadline = match leases.oldest() {
        Some(since) => since + config.lease_timeout,
        None => Instant::now() + config.idle_timeout,
    };
    let first = match timeout_at(deadline, stream.read(head)).await {
        Ok(first) => first?,
        Err(_) if leases.oldest().is_none() => return Ok(None),
        Err(_) => return Err(Dropped::Slow { step: "letting go of a frame", limit: config.lease_timeout }),
    };
    if first == 0 {
        return Ok(None);
    }
    let limit = config.request_timeout;
    within(limit, "a message", stream.read_exact(&mut head[first..])).await?;
    if let Some(count) = released(head)? {
        let mut numbers = vec![0; count * size_of::<u64>()];
        within(limit, "a message", stream.read_exact(&mut numbers)).await?;
        let (numbers, _) = numbers.as_chunks();
        return Ok(Some(Message::Release(
            numbers.iter().map(|number| u64::from_le_bytes(*number)).collect(),
        )));
    }
    within(limit, "a request", stream.read_exact(rest)).await?;
    let head = RequestHead::read(&bytes)?;
    let mut name = vec![0; head.name_bytes];
    within(limit, "a request", stream.read_exact(&mut name)).await?;
    Ok(Some(Message::Request(head, name)))
}

async fn answer(
    mut places: Places<'_>,
    frames: Vec<Arc<Cell>>,
    leases: &mut Leases<'_>,
) -> Result<(), Dropped> {
    for cell in frames {
        let told = match cell.load() {
            Loaded::Memory(frame) => places.tell_memory(frame, leases),
            Loaded::File(range) => places.tell_file(range, cell.bytes()).await,
        };
        if let Err(status) = told {
            places.gathered.extend(FramePlace::failed(status).write());
            break;
        }
        places.shared.placed_bytes.fetch_add(cell.bytes(), Ordering::Relaxed);
        if places.descriptors.len() == DESCRIPTORS_MAX || places.gathered.len() >= GATHERED_BYTES_MAX {
            places.flush().await?;
        }
    }
    places.flush().await
}

/// The segments that were passed over a connection.
#[derive(Default)]
struct Passed(HashSet<u64>);

impl Passed {
    /// Whether a segment has to be passed.
    fn is_new(&mut self, segment: &Segment) -> bool {
        if self.0.len() >= PASSED_MAX {
            // A client may be passed one twice.
            self.0.clear();
        }
        self.0.insert(segment.number())
    }
}

/// The places of a reply's frames. A descriptor goes with the first frame of a connection that lies in its segment, and with
/// the first of a reply that lies in its file.
struct Places<'a> {
    stream: &'a UnixStream,
    shared: &'a Shared,
    passed: &'a mut Passed,
    gathered: Vec<u8>,
    descriptors: Vec<Descriptor>,
    file: Option<FileRange>,
    files: u64,
}

enum Descriptor {
    Segment(Arc<Segment>),
    File(File),
}

impl AsFd for Descriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Segment(segment) => segment.memory().file(),
            Self::File(file) => file.as_fd(),
        }
    }
}

impl<'a> Places<'a> {
    fn new(stream: &'a UnixStream, shared: &'a Shared, passed: &'a mut Passed, reply: Reply) -> Self {
        let (gathered, descriptors) = (reply.write().to_vec(), Vec::new());
        Self { stream, shared, passed, gathered, descriptors, file: None, files: 0 }
    }

    fn tell_memory(&mut self, frame: Frame, leases: &mut Leases<'_>) -> Result<(), Status> {
        let home = frame.home.clone().ok_or(Status::NotShared)?;
        let (bytes, segment) = (frame.bytes.len() as u64, home.segment.number());
        let lease = leases.hold(frame).ok_or(Status::NotShared)?;
        let with_descriptor = self.passed.is_new(&home.segment);
        let place = Place::Segment { segment, lease };
        if with_descriptor {
            self.descriptors.push(Descriptor::Segment(home.segment));
        }
        self.tell(FramePlace { status: Status::Ok, bytes, offset: home.offset, with_descriptor, place });
        Ok(())
    }

    async fn tell_file(&mut self, range: FileRange, frame_bytes: u64) -> Result<(), Status> {
        let with_descriptor = !self.file.as_ref().is_some_and(|known| known.shares_file_with(&range));
        if with_descriptor {
            let file = range.descriptor().await.map_err(|error| {
                tracing::error!(%error, "a shuffle block cannot be served");
                Status::Unreadable
            })?;
            self.descriptors.push(Descriptor::File(file));
            self.files += 1;
        }
        // A reader unpacks it: it reads less then, and the disk is what is slow.
        let packed = range.codec().map(|_| frame_bytes);
        let (bytes, offset) = (range.bytes(), range.start());
        let place = Place::File { file: self.files, packed };
        self.tell(FramePlace { status: Status::Ok, bytes, offset, with_descriptor, place });
        self.file = Some(range);
        Ok(())
    }

    fn tell(&mut self, place: FramePlace) {
        self.gathered.extend(place.write());
    }

    async fn flush(&mut self) -> Result<(), Dropped> {
        let mut descriptors = std::mem::take(&mut self.descriptors);
        let message = std::mem::take(&mut self.gathered);
        let mut rest = message.as_slice();
        while !rest.is_empty() {
            let send = self.stream.async_io(Interest::WRITABLE, || send_now(self.stream, rest, &descriptors));
            let sent = within(self.shared.config.send_timeout, "a reply", send).await?;
            // They have gone with the first byte.
            descriptors.clear();
            rest = &rest[sent..];
        }
        Ok(())
    }
}

fn send_now(stream: &UnixStream, bytes: &[u8], descriptors: &[Descriptor]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
    if !descriptors.is_empty() {
        let fits = control.push(SendAncillaryMessage::ScmRights(&descriptors));
        assert!(fits, "no more descriptors are gathered than fit");
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    Ok(sendmsg(stream, &[IoSlice::new(bytes)], &mut control, flags)?)
}
