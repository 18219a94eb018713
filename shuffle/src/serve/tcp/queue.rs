//! What a connection has to send: short messages first, then the frames of its requests, a chunk of each in turn.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::ahead::Ahead;
use crate::store::Cell;
use crate::wire::{CREDIT_MAX, REQUESTS_MAX, Reply, ServerMessage, Status, WireError, frame_cost};

/// Bytes of short messages that wait to be sent, past which nothing more is read from the client.
const CONTROL_BYTES_MAX: usize = 64 << 10;

/// What there is to send over one connection. The reading end puts it in, the sending end takes it out.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// There is more to send.
    pub more: Notify,
    /// There is room for short messages.
    room: Notify,
}

#[derive(Debug)]
struct State {
    last_id: u64,
    requests: HashMap<u64, Answering>,
    /// Requests with frames and credit that nobody is at, each once.
    ready: VecDeque<u64>,
    control: Vec<u8>,
    sent: Instant,
}

#[derive(Debug)]
struct Answering {
    credit: i64,
    is_cancelled: bool,
    /// `None` while a chunk of it is made.
    frames: Option<Outgoing>,
}

/// The frames of a request that are still to be sent.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub cells: std::vec::IntoIter<Arc<Cell>>,
    /// The credit of the request when its turn came.
    pub credit: i64,
    /// What is read of frames before it is sent.
    pub ahead: Ahead,
    /// The frame that is being sent, in whatever form its sender has it.
    pub current: Option<super::form::Current>,
    /// Frames in a row that did not shrink when they were packed.
    pub unpackable: u32,
}

/// The next thing to do for a request.
#[derive(Debug)]
pub(super) struct Turn {
    pub id: u64,
    pub outgoing: Outgoing,
    /// The frame to begin with; `None` to go on with the current one.
    pub begins: Option<Arc<Cell>>,
}

impl Queue {
    pub fn new() -> Self {
        let state = State {
            last_id: 0,
            requests: HashMap::new(),
            ready: VecDeque::new(),
            control: Vec::new(),
            sent: Instant::now(),
        };
        Self { state: Mutex::new(state), more: Notify::new(), room: Notify::new() }
    }

    /// Waits until short messages are not too many. A client that does not read them is dropped by the sending end.
    pub async fn has_room(&self) {
        while self.state.lock().control.len() > CONTROL_BYTES_MAX {
            self.room.notified().await;
        }
    }

    /// Answers a request, which may send so many bytes for now.
    pub fn answer(&self, window: u64, reply: Reply, frames: Vec<Arc<Cell>>) -> Result<(), WireError> {
        let Reply { id, status, frames: count, .. } = reply;
        let mut state = self.state.lock();
        if id <= state.last_id {
            return Err(WireError::Unknown { what: "the id of a request", found: id });
        }
        if state.requests.len() >= REQUESTS_MAX {
            return Err(WireError::Unknown {
                what: "the number of requests",
                found: REQUESTS_MAX as u64 + 1,
            });
        }
        state.last_id = id;
        state.control.extend(ServerMessage::Reply { id, status, frames: count }.write());
        if !frames.is_empty() {
            let (cells, credit) = (frames.into_iter(), window as i64);
            let ahead = Ahead::default();
            let frames = Some(Outgoing { cells, credit, ahead, current: None, unpackable: 0 });
            state.requests.insert(id, Answering { credit, is_cancelled: false, frames });
            state.ready.push_back(id);
        }
        self.more.notify_one();
        Ok(())
    }

    /// The client takes so many bytes more.
    pub fn credit(&self, id: u64, bytes: u64) -> Result<(), WireError> {
        let mut state = self.state.lock();
        let Some(request) = state.request(id)? else { return Ok(()) };
        let had_none = request.credit <= 0;
        request.credit += bytes as i64;
        if request.credit > CREDIT_MAX as i64 {
            return Err(WireError::Unknown { what: "a credit", found: request.credit as u64 });
        }
        let waits = request.frames.as_ref().is_some_and(|frames| frames.current.is_none());
        if had_none && waits && request.credit > 0 {
            state.ready.push_back(id);
            self.more.notify_one();
        }
        Ok(())
    }

    /// The client wants no more of it.
    pub fn cancel(&self, id: u64) -> Result<(), WireError> {
        let mut state = self.state.lock();
        let Some(request) = state.request(id)? else { return Ok(()) };
        request.is_cancelled = true;
        if request.frames.is_some() {
            state.ready.retain(|ready| *ready != id);
            state.end(id, Status::Ok);
            self.more.notify_one();
        }
        Ok(())
    }

    /// The short messages that wait.
    pub fn take_control(&self) -> Vec<u8> {
        let control = std::mem::take(&mut self.state.lock().control);
        if !control.is_empty() {
            self.room.notify_one();
        }
        control
    }

    /// The request whose turn it is. It must be given back, or ended.
    pub fn next(&self) -> Option<Turn> {
        let mut state = self.state.lock();
        let id = state.ready.pop_front()?;
        let request = state.requests.get_mut(&id).expect("what is ready is under way");
        let mut outgoing = request.frames.take().expect("nobody is at what is ready");
        let begins = if outgoing.current.is_some() { None } else { outgoing.cells.next() };
        if let Some(cell) = &begins {
            request.credit -= frame_cost(cell.bytes()) as i64;
        }
        outgoing.credit = request.credit;
        Some(Turn { id, outgoing, begins })
    }

    /// A chunk of it was made.
    pub fn give_back(&self, id: u64, outgoing: Outgoing) {
        let mut state = self.state.lock();
        let request = state.requests.get_mut(&id).expect("what is given back is under way");
        let (goes_on, has_more) = (outgoing.current.is_some(), outgoing.cells.len() > 0);
        if !goes_on && !has_more {
            // The client knows by the number of frames.
            state.requests.remove(&id);
        } else if request.is_cancelled {
            state.end(id, Status::Ok);
        } else {
            let is_ready = goes_on || request.credit > 0;
            request.frames = Some(outgoing);
            if is_ready {
                state.ready.push_back(id);
            }
        }
    }

    /// Its next frame cannot be read.
    pub fn fail(&self, id: u64) {
        self.state.lock().end(id, Status::Unreadable);
    }

    /// Something was sent.
    pub fn sent(&self) {
        self.state.lock().sent = Instant::now();
    }

    /// When something was sent last.
    pub fn last_sent(&self) -> Instant {
        self.state.lock().sent
    }
}

impl State {
    /// A request that is under way; `None` when it has ended already, which its client could not know.
    fn request(&mut self, id: u64) -> Result<Option<&mut Answering>, WireError> {
        if id == 0 || id > self.last_id {
            return Err(WireError::Unknown { what: "the id of a request", found: id });
        }
        Ok(self.requests.get_mut(&id).filter(|request| !request.is_cancelled))
    }

    fn end(&mut self, id: u64, status: Status) {
        self.requests.remove(&id);
        self.control.extend(ServerMessage::End { id, status }.write());
    }
}
