//! The requests under way over one connection, and what their peer may say about them.

use std::collections::HashMap;

use tokio::sync::mpsc;

use super::window::{Bounds, Share, Window};
use crate::format::FRAME_TOTAL_MAX;
use crate::key::BlockKey;
use crate::pack;
use crate::transport::{Received, StepError};
use crate::wire::{ClientMessage, FrameSize, REQUESTS_MAX, Status};

/// What comes for a request. The queue is bounded by the credit that was given.
#[derive(Debug)]
pub enum Event {
    Reply {
        status: Status,
        frames: u32,
    },
    Frame(Received),
    /// The peer cannot read the next frame.
    Unreadable,
}

/// The requests of a connection.
#[derive(Debug)]
pub struct Requests {
    last: u64,
    known: HashMap<u64, Asked>,
    window: Window,
    /// Those of which more may come.
    active: usize,
    /// The peer was told how frames may come packed.
    may_be_packed: bool,
}

#[derive(Debug)]
struct Asked {
    /// `None` once nobody wants it: the peer was told, and what it sent before is thrown away.
    to: Option<mpsc::UnboundedSender<Event>>,
    key: BlockKey,
    /// The number in its block of the frame that is coming, or comes next.
    number: u32,
    share: Share,
    is_replied: bool,
    /// The answer, when it is told with the first frame.
    untold: Option<Event>,
    frames_left: u32,
    /// Of the frame that is coming: its size, and the bytes that are missing.
    frame: Option<(FrameSize, u64)>,
    has_ended: bool,
}

/// What to do with the bytes of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chunk {
    /// Receive them into the frame, which begins with them and has this seal, or goes on, and is whole with them or not.
    Into { begins: Option<u64>, is_last: bool },
    /// Throw them away.
    Nowhere,
}

impl Requests {
    pub fn new(bounds: Bounds, may_be_packed: bool) -> Self {
        Self { last: 0, known: HashMap::new(), window: Window::new(bounds), active: 0, may_be_packed }
    }

    pub fn active(&self) -> usize {
        self.active
    }

    /// Takes a request in: its number, the credit it begins with, and where its events come.
    pub fn open(
        &mut self,
        key: BlockKey,
        first_frame: u32,
    ) -> Result<(u64, u64, mpsc::UnboundedReceiver<Event>), StepError> {
        if self.active >= REQUESTS_MAX {
            return Err(StepError::Busy);
        }
        self.last += 1;
        self.active += 1;
        let ((share, credit), (to, events)) = (self.window.open(), mpsc::unbounded_channel());
        let asked = Asked {
            to: Some(to),
            key,
            number: first_frame,
            share,
            is_replied: false,
            untold: None,
            frames_left: 0,
            frame: None,
            has_ended: false,
        };
        self.known.insert(self.last, asked);
        Ok((self.last, credit, events))
    }

    /// The peer answers. When its first frame comes next, as a whole, the answer may be told with that.
    pub fn reply(
        &mut self,
        id: u64,
        status: Status,
        frames: u32,
        is_told_later: bool,
    ) -> Result<(), StepError> {
        let asked = known(&mut self.known, id, "an answer to")?;
        if std::mem::replace(&mut asked.is_replied, true) {
            return Err(StepError::Nonsense(format!("two answers to request {id}")));
        }
        let frames = if status == Status::Ok { frames } else { 0 };
        asked.frames_left = frames;
        let answer = Event::Reply { status, frames };
        if is_told_later && frames > 0 {
            asked.untold = Some(answer);
            return Ok(());
        }
        asked.tell(answer);
        if frames == 0 {
            self.end(id);
        }
        Ok(())
    }

    /// The peer announces `length` bytes of a frame.
    pub fn chunk(
        &mut self,
        id: u64,
        is_first: bool,
        length: u64,
        size: FrameSize,
    ) -> Result<Chunk, StepError> {
        let may_be_packed = self.may_be_packed;
        let asked = known(&mut self.known, id, "a frame of")?;
        if is_first {
            check_size(size, may_be_packed)?;
            if asked.frames_left == 0 || asked.frame.is_some() {
                return Err(StepError::Nonsense(format!("a frame of request {id} that was not to come")));
            }
            let flood = |_| StepError::Nonsense(format!("a frame of request {id} beyond its credit"));
            // It takes its place in the window as what it will be once it is unpacked.
            self.window.begin(&mut asked.share, size.frame_bytes).map_err(flood)?;
            asked.frame = Some((size, size.coming()));
        }
        let left = match &mut asked.frame {
            Some((begun, left)) if *begun == size && length <= *left => left,
            _ => return Err(StepError::Nonsense(format!("{length} bytes of no frame of request {id}"))),
        };
        *left -= length;
        let is_last = *left == 0;
        let begins = is_first.then(|| asked.key.seal(asked.number));
        if is_last {
            // No block has so many frames that numbers come again.
            asked.number = asked.number.wrapping_add(1);
            asked.frame = None;
            asked.frames_left -= 1;
        }
        if asked.to.is_some() {
            return Ok(Chunk::Into { begins, is_last });
        }
        if is_last {
            self.window.forget(&mut asked.share);
            if asked.frames_left == 0 {
                self.end(id);
            }
        }
        Ok(Chunk::Nowhere)
    }

    /// A frame is whole.
    pub fn arrived(&mut self, id: u64, frame: Received) -> Result<(), StepError> {
        let asked = known(&mut self.known, id, "a frame of")?;
        asked.untold.take().into_iter().for_each(|answer| asked.tell(answer));
        asked.tell(Event::Frame(frame));
        if asked.frames_left == 0 {
            self.end(id);
        }
        Ok(())
    }

    /// The peer sends no more of it.
    pub fn ended(&mut self, id: u64, status: Status) -> Result<(), StepError> {
        let asked = known(&mut self.known, id, "the end of")?;
        match status {
            Status::Unreadable => asked.tell(Event::Unreadable),
            Status::Ok if asked.to.is_none() => {}
            other => return Err(StepError::Nonsense(format!("request {id} ended with {other:?}"))),
        }
        self.end(id);
        Ok(())
    }

    /// A frame was taken out of a request's queue; the message, if any, that lets the peer send more.
    pub fn taken(&mut self, id: u64, frame_bytes: u64) -> Option<ClientMessage> {
        let asked = self.known.get_mut(&id)?;
        let more = self.window.take(&mut asked.share, frame_bytes);
        if asked.has_ended {
            self.window.end(&mut asked.share);
            return None;
        }
        (more > 0).then_some(ClientMessage::Credit { id, bytes: more })
    }

    /// Nobody wants the rest of a request; the message, if any, that tells the peer.
    pub fn dropped(&mut self, id: u64) -> Option<ClientMessage> {
        let asked = self.known.get_mut(&id)?;
        asked.to = None;
        self.window.forget(&mut asked.share);
        if asked.has_ended {
            self.known.remove(&id);
            return None;
        }
        Some(ClientMessage::Cancel { id })
    }

    /// Ends all: nothing will come any more.
    pub fn clear(&mut self) {
        self.known.clear();
        self.active = 0;
    }

    fn end(&mut self, id: u64) {
        let Some(asked) = self.known.get_mut(&id).filter(|asked| !asked.has_ended) else { return };
        asked.has_ended = true;
        self.active -= 1;
        self.window.end(&mut asked.share);
        // What it holds is counted until it is taken, or nobody wants it.
        if asked.to.is_none() {
            self.window.forget(&mut asked.share);
            self.known.remove(&id);
        }
    }
}

impl Asked {
    fn tell(&self, event: Event) {
        // Who dropped the receiver says so with a message of its own.
        let _ = self.to.as_ref().map(|to| to.send(event));
    }
}

/// Whether a frame of that size may come.
fn check_size(size: FrameSize, may_be_packed: bool) -> Result<(), StepError> {
    let FrameSize { frame_bytes, packed_bytes } = size;
    match packed_bytes {
        None if frame_bytes <= FRAME_TOTAL_MAX => Ok(()),
        None => Err(StepError::Nonsense(format!("a frame of {frame_bytes} bytes"))),
        Some(_) if !may_be_packed => {
            Err(StepError::Nonsense("a packed frame, which was not asked for".to_owned()))
        }
        Some(packed) if packed > frame_bytes || packed == 0 || frame_bytes > pack::FRAME_BYTES_MAX as u64 => {
            Err(StepError::Nonsense(format!("a frame of {frame_bytes} bytes packed into {packed}")))
        }
        Some(_) => Ok(()),
    }
}

/// A request of which more may come.
fn known<'a>(requests: &'a mut HashMap<u64, Asked>, id: u64, what: &str) -> Result<&'a mut Asked, StepError> {
    let asked = requests.get_mut(&id).filter(|asked| !asked.has_ended);
    asked.ok_or_else(|| StepError::Nonsense(format!("{what} request {id}, which is not under way")))
}
