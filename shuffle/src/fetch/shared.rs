//! Reading frames where a block server of this host has them: in its shared memory, or in its files.
//!
//! What the server says is checked before it is used: that a descriptor came, that its memory cannot shrink, that a frame
//! lies within it and is aligned. The frame's own bytes are checked by the decoder, as those of any other executor.
//!
//! Unsafe is needed to look at memory that another process owns.
#![allow(unsafe_code)]

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use rustix::mm::Advice;
use tokio::net::UnixStream;

use super::ahead::{Ahead, Blocking};
use super::greeting::greet;
use super::link::{Incoming, Lease, Link};
use super::mapped::{Kept, Mapped};
use crate::format::{ALIGNMENT, FRAME_TOTAL_MAX};
use crate::pack::Codecs;
use crate::segment::Mapping;
use crate::transport::{Form, FrameMemory, Received, SocketName, StepError, Way, within};
use crate::wire::{FramePlace, PLACE_BYTES, Place, REPLY_BYTES, Reply, Request, Status};

/// Segments that are kept mapped, and files that the frames of one reply lie in, at most.
const DESCRIPTORS_MAX: usize = 4096;

/// Pages behind frames from that size on are entered in the page table with one system call. Of smaller ones a fault does as
/// much: it enters 64 KiB around the page that was touched, and the frames next to it are found entered.
const POPULATED_BYTES_MIN: usize = 64 << 10;

/// A greeted connection to a block server of this host.
#[derive(Debug)]
pub(super) struct SharedConnection {
    link: Link,
    incoming: Incoming,
    /// The segments that frames lie in.
    segments: Kept,
    /// The files that frames of this reply lie in.
    files: HashMap<u64, Arc<File>>,
    /// Places of this reply that have not been seen yet.
    unseen: u32,
    /// Frames whose places have been seen.
    ahead: Ahead<Seen>,
}

/// A frame of which it is known where it is.
#[derive(Debug)]
enum Seen {
    InSegment(Arc<Mapping>, FramePlace, Lease),
    InFile(Blocking<Result<Received, StepError>>),
    /// It cannot be had, nor can any behind it.
    Nowhere(StepError),
}

/// A frame in another process's memory.
struct Leased {
    mapping: Arc<Mapping>,
    start: usize,
    bytes: usize,
    _lease: Lease,
}

impl AsRef<[u8]> for Leased {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the mapping cannot shrink, and the process that owns the memory, which alone can write to it, promises
        // to leave these bytes as they are until the lease is given up; it is trusted as far as with what the bytes say.
        unsafe { self.mapping.slice(self.start..self.start + self.bytes) }
    }
}

impl SharedConnection {
    /// Connects to a server on this host and greets.
    pub async fn open(name: &SocketName, mapped: &Arc<Mapped>, limit: Duration) -> Result<Self, StepError> {
        let open = async {
            let mut stream = UnixStream::connect(format!("\0{}", name.text())).await?;
            let greeted = greet(&mut stream, false, Codecs::NONE).await?;
            Ok(greeted.map(|_| Self::new(stream, Kept::new(*name, Arc::clone(mapped)))))
        };
        within(limit, "greeting in shared memory", open).await?
    }

    fn new(stream: UnixStream, segments: Kept) -> Self {
        let (link, incoming, ahead) = (Link::new(stream), Incoming::new(), Ahead::default());
        Self { link, incoming, segments, files: HashMap::new(), unseen: 0, ahead }
    }

    /// Asks for a block.
    pub async fn ask(&mut self, request: &Request, limit: Duration) -> Result<Reply, StepError> {
        self.segments.begin_reply();
        let ask = async {
            self.link.send(&request.write()).await?;
            self.incoming.next(self.link.stream()).await
        };
        let reply = answered(&within(limit, "answer", ask).await?, request)?;
        self.unseen = reply.frames;
        Ok(reply)
    }

    /// The next frame of the reply, of which there must be one.
    pub async fn frame(&mut self, memory: &FrameMemory, limit: Duration) -> Result<Received, StepError> {
        if self.ahead.is_empty() {
            let place = within(limit, "frame", self.incoming.next(self.link.stream())).await?;
            self.see(&place, memory);
        }
        self.look_ahead(memory);
        match self.ahead.pop().expect("a place was seen") {
            Seen::InSegment(mapping, place, lease) => look(mapping, &place, lease),
            Seen::InFile(read) => within(limit, "frame from its file", read.end()).await?,
            Seen::Nowhere(error) => Err(error),
        }
    }

    /// Sees the places that have come already, as far as may be read ahead.
    fn look_ahead(&mut self, memory: &FrameMemory) {
        while self.unseen > 0 && self.ahead.has_room() {
            // Nothing of a place is lost when it has not come as a whole.
            match self.incoming.next(self.link.stream()).now_or_never() {
                Some(Ok(place)) => self.see(&place, memory),
                Some(Err(error)) => self.see_none(error.into()),
                None => return,
            }
        }
    }

    /// Sees where a frame lies, and begins to read it when that is in a file.
    fn see(&mut self, place: &[u8; PLACE_BYTES], memory: &FrameMemory) {
        self.unseen = self.unseen.saturating_sub(1);
        match self.find(place, memory) {
            Ok((bytes, seen)) => self.ahead.push(bytes, seen),
            Err(error) => self.see_none(error),
        }
    }

    /// Notes that the next frame cannot be had. That is an error when its turn has come, and not before.
    fn see_none(&mut self, error: StepError) {
        self.unseen = 0;
        self.ahead.push(0, Seen::Nowhere(error));
    }

    /// The frame at a place, and the bytes of memory that it takes here.
    fn find(&mut self, place: &[u8; PLACE_BYTES], memory: &FrameMemory) -> Result<(u64, Seen), StepError> {
        let place = FramePlace::read(place)?;
        match place.status {
            Status::Ok => {}
            Status::NotShared => return Err(StepError::FrameNotShared),
            _ => return Err(StepError::Unreadable),
        }
        if place.bytes > FRAME_TOTAL_MAX {
            return Err(StepError::Nonsense(format!("a frame of {} bytes", place.bytes)));
        }
        let descriptor = if place.with_descriptor { Some(self.take_descriptor()?) } else { None };
        match place.place {
            Place::Segment { segment, lease } => {
                let lease = self.link.lease(lease);
                Ok((0, Seen::InSegment(self.segments.segment(segment, descriptor)?, place, lease)))
            }
            Place::File { file, packed } => {
                let (file, memory) = (self.file(file, descriptor)?, memory.clone());
                let form = packed.map_or(Form::Plain, |frame_bytes| Form::Packed { frame_bytes });
                let (bytes, read) = (place.bytes, move || read_frame(&file, &place, form, &memory));
                Ok((bytes, Seen::InFile(Blocking::begin(read))))
            }
        }
    }

    /// All frames of the last reply have come: forgets the files that they lie in. Whether more may be asked.
    pub fn end_reply(&mut self) -> bool {
        self.files.clear();
        self.segments.may_stay()
    }

    fn take_descriptor(&mut self) -> Result<OwnedFd, StepError> {
        if self.segments.len() + self.files.len() >= DESCRIPTORS_MAX {
            return Err(StepError::NotShared("more descriptors than may come".to_owned()));
        }
        self.incoming.descriptor().ok_or_else(|| StepError::NotShared("no descriptor was passed".to_owned()))
    }

    fn file(&mut self, number: u64, descriptor: Option<OwnedFd>) -> Result<Arc<File>, StepError> {
        if let Some(descriptor) = descriptor {
            self.files.insert(number, Arc::new(descriptor.into()));
        }
        let known = self.files.get(&number).map(Arc::clone);
        known.ok_or_else(|| StepError::NotShared(format!("file {number} was not passed")))
    }
}

/// The reply to a request, which names it.
fn answered(reply: &[u8; REPLY_BYTES], request: &Request) -> Result<Reply, StepError> {
    let reply = Reply::read(reply)?;
    if reply.id == request.id {
        return Ok(reply);
    }
    Err(StepError::Nonsense(format!("an answer to request {} instead of {}", reply.id, request.id)))
}

/// A frame where it lies in shared memory.
fn look(mapping: Arc<Mapping>, place: &FramePlace, lease: Lease) -> Result<Received, StepError> {
    let size = mapping.len() as u64;
    let is_within = place.offset.checked_add(place.bytes).is_some_and(|end| end <= size);
    if !is_within || !place.offset.is_multiple_of(ALIGNMENT as u64) {
        let (bytes, offset) = (place.bytes, place.offset);
        return Err(StepError::NotShared(format!("{bytes} bytes at {offset} in a segment of {size}")));
    }
    let (start, bytes) = (place.offset as usize, place.bytes as usize);
    if bytes >= POPULATED_BYTES_MIN {
        mapping.populate(start..start + bytes, Advice::LinuxPopulateRead);
    }
    let frame = Bytes::from_owner(Leased { mapping, start, bytes, _lease: lease });
    // Its owner counts it.
    Ok(Received { frame, form: Form::Plain, way: Way::Shared, copied: 0, summed: None, grant: None })
}

/// Reads a frame from a file that was passed. Blocks the thread.
fn read_frame(
    file: &File,
    place: &FramePlace,
    form: Form,
    memory: &FrameMemory,
) -> Result<Received, StepError> {
    let fault = |reason: String| StepError::NotShared(format!("the file that was passed: {reason}"));
    let status = file.metadata().map_err(|error| fault(error.to_string()))?;
    let is_within = place.offset.checked_add(place.bytes).is_some_and(|end| end <= status.len());
    if !status.is_file() || !is_within {
        return Err(fault(format!("{} bytes at {} of {}", place.bytes, place.offset, status.len())));
    }
    let mut arriving = memory.take(place.bytes as usize);
    let copied = arriving.buffer.read_from(file, place.offset).map_err(|error| fault(error.to_string()))?;
    Ok(arriving.finish(form, Way::Passed, copied))
}
