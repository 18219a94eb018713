//! A connection that many fetches share.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;

use super::ReceiveConfig;
use super::receive::receive;
use super::requests::{Event, Requests};
use super::stream::Stream;
use crate::pack::Codecs;
use crate::transport::{Asked, Form, FrameMemory, Limits, Received, StepError, Transfer, within};
use crate::wire::{ClientMessage, Offer, Request, Status};

/// Bytes of messages that wait for a peer which does not read them. Requests and credits are bounded in number, so that
/// this is far more than they come to.
const UNSENT_BYTES_MAX: usize = 2 << 20;

/// A greeted connection. Its receiver thread runs it; any thread asks over it.
#[derive(Debug)]
pub struct Connection {
    offer: Option<Offer>,
    limits: Limits,
    state: Mutex<State>,
    /// There is something to send, or the connection may be over.
    wake: Notify,
}

#[derive(Debug)]
struct State {
    /// Gone once the connection has ended, so that it is closed whoever still holds the rest: a peer that goes on sending
    /// would otherwise wait for room.
    stream: Option<Arc<Stream>>,
    requests: Requests,
    /// Messages that the socket has not taken.
    unsent: Vec<u8>,
    /// The receiver thread is sending: what others have to say comes after it.
    is_sending: bool,
    /// When something came last.
    heard: Instant,
    /// It takes no more requests.
    is_retired: bool,
    ended: Option<StepError>,
}

impl Connection {
    /// Connects and greets, on the runtime that is to receive. Asks, if so told, what is offered to those who can share
    /// memory.
    pub async fn open(
        address: &str,
        asks: bool,
        config: &ReceiveConfig,
        memory: FrameMemory,
    ) -> Result<Arc<Self>, StepError> {
        let &ReceiveConfig { limits, bounds, codecs, .. } = config;
        let open = Stream::open(address, asks, config);
        let (stream, offer) = within(limits.connect, "greeting", open).await??;
        let stream = Arc::new(stream);
        let state = State {
            stream: Some(Arc::clone(&stream)),
            requests: Requests::new(bounds, codecs != Codecs::NONE),
            unsent: Vec::new(),
            is_sending: false,
            heard: Instant::now(),
            is_retired: false,
            ended: None,
        };
        let state = Mutex::new(state);
        let connection = Arc::new(Self { offer, limits, state, wake: Notify::new() });
        tokio::spawn(run(Running(Arc::clone(&connection)), stream, memory));
        Ok(connection)
    }

    /// What the peer offers to those who can share memory.
    pub fn offer(&self) -> Option<Offer> {
        self.offer
    }

    pub(super) fn limits(&self) -> Limits {
        self.limits
    }

    /// Whether more can be asked over it.
    pub fn is_usable(&self) -> bool {
        let state = self.state.lock();
        state.ended.is_none() && !state.is_retired
    }

    /// Whether nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.state.lock().requests.active() == 0
    }

    /// Takes no more requests, and ends with the last one under way.
    pub fn retire(&self) {
        self.state.lock().is_retired = true;
        self.wake.notify_one();
    }

    /// Asks for a block.
    pub async fn ask(self: &Arc<Self>, request: &Request) -> Result<Asked, StepError> {
        let (id, events) = self.open_request(request)?;
        let mut transfer = TcpTransfer { connection: Arc::clone(self), id, events, frames: 0 };
        match transfer.event("answer").await? {
            Event::Reply { status: Status::Ok, frames } => {
                transfer.frames = frames;
                Ok(Asked::Coming(Box::new(transfer)))
            }
            Event::Reply { status, .. } => Ok(Asked::Refused(status)),
            Event::Frame(_) | Event::Unreadable => {
                Err(StepError::Nonsense(format!("a frame of request {id} before its answer")))
            }
        }
    }

    fn open_request(&self, request: &Request) -> Result<(u64, mpsc::UnboundedReceiver<Event>), StepError> {
        let mut state = self.state.lock();
        if let Some(error) = &state.ended {
            return Err(error.clone());
        }
        let (id, window, events) = state.requests.open(request.key, request.first_frame)?;
        let request = Request { id, ..request.clone() }.write();
        let head = ClientMessage::Request { id, window, length: request.len() }.write();
        self.send(&mut state, &[&head[..], &request].concat());
        Ok((id, events))
    }

    /// Sends a message, at once if the socket takes it: the receiver thread need not be woken for it then.
    fn send(&self, state: &mut State, mut message: &[u8]) {
        if let Some(stream) = &state.stream
            && !state.is_sending
            && state.unsent.is_empty()
        {
            // A fault is met again by the receiver thread.
            let sent = stream.try_write(message).unwrap_or(0);
            message = &message[sent..];
            if message.is_empty() && !stream.has_unsent() {
                return;
            }
        }
        state.unsent.extend_from_slice(message);
        self.wake.notify_one();
    }

    fn tell(&self, what: impl FnOnce(&mut Requests) -> Option<ClientMessage>) {
        let mut state = self.state.lock();
        if state.ended.is_some() {
            return;
        }
        if let Some(message) = what(&mut state.requests) {
            self.send(&mut state, &message.write());
        }
        let may_end = state.is_retired && state.requests.active() == 0;
        drop(state);
        if may_end {
            self.wake.notify_one();
        }
    }

    /// Changes the requests by what the peer said.
    pub(super) fn heard<T>(
        &self,
        what: impl FnOnce(&mut Requests) -> Result<T, StepError>,
    ) -> Result<T, StepError> {
        let mut state = self.state.lock();
        state.heard = Instant::now();
        let done = what(&mut state.requests);
        if state.is_retired && state.requests.active() == 0 {
            self.wake.notify_one();
        }
        done
    }

    /// Whether nothing has come for so long.
    pub(super) fn is_silent_for(&self, limit: Duration) -> bool {
        self.state.lock().heard.elapsed() >= limit
    }

    /// What came to nothing ends the connection when all of it is silent: another one may do.
    fn missed(&self, step: &str) -> StepError {
        let limit = self.limits.io;
        let error = StepError::Broken(format!("no {step} within {limit:?}"));
        if self.is_silent_for(limit) {
            self.end(error.clone());
        }
        error
    }

    fn end(&self, error: StepError) {
        let mut state = self.state.lock();
        state.ended.get_or_insert(error);
        state.stream = None;
        // Frames that have come are still taken; what follows them is the end.
        state.requests.clear();
        state.unsent.clear();
        self.wake.notify_one();
    }

    fn ended(&self) -> StepError {
        let ended = self.state.lock().ended.clone();
        ended.unwrap_or_else(|| StepError::Broken("the connection has ended".to_owned()))
    }

    /// Sends what the socket did not take at once, until the connection is over.
    async fn send_unsent(&self, stream: &Stream) -> StepError {
        loop {
            let messages = {
                let mut state = self.state.lock();
                if let Some(error) = &state.ended {
                    return error.clone();
                }
                state.is_sending = !state.unsent.is_empty();
                if !state.is_sending && state.is_retired && state.requests.active() == 0 {
                    return StepError::Broken("the connection was closed".to_owned());
                }
                std::mem::take(&mut state.unsent)
            };
            if messages.is_empty() && !stream.has_unsent() {
                self.wake.notified().await;
            } else if messages.len() > UNSENT_BYTES_MAX {
                return StepError::Broken("the peer does not read what is asked".to_owned());
            } else if let Err(error) =
                within(self.limits.io, "room for a request", stream.write(&messages)).await
            {
                return error;
            }
        }
    }
}

/// Ends the connection with its task, and be it with the task's runtime.
struct Running(Arc<Connection>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.end(StepError::Broken("the receiver thread has ended".to_owned()));
    }
}

async fn run(running: Running, stream: Arc<Stream>, memory: FrameMemory) {
    let connection = &running.0;
    let error = tokio::select! {
        error = receive(connection, &stream, &memory) => error,
        error = connection.send_unsent(&stream) => error,
    };
    tracing::debug!(%error, "a connection to a holder of blocks ended");
    connection.end(error);
}

/// One request's frames.
#[derive(Debug)]
struct TcpTransfer {
    connection: Arc<Connection>,
    id: u64,
    events: mpsc::UnboundedReceiver<Event>,
    frames: u32,
}

impl TcpTransfer {
    async fn event(&mut self, step: &str) -> Result<Event, StepError> {
        match timeout(self.connection.limits.io, self.events.recv()).await {
            Ok(Some(event)) => Ok(event),
            Ok(None) => Err(self.connection.ended()),
            Err(_) => Err(self.connection.missed(step)),
        }
    }

    async fn frame(&mut self) -> Result<Received, StepError> {
        match self.event("frame").await? {
            Event::Frame(frame) => {
                let bytes = match frame.form {
                    Form::Packed { frame_bytes } => frame_bytes,
                    Form::Plain | Form::Unpacked { .. } => frame.frame.len() as u64,
                };
                self.connection.tell(|requests| requests.taken(self.id, bytes));
                Ok(frame)
            }
            Event::Unreadable => Err(StepError::Unreadable),
            Event::Reply { .. } => Err(StepError::Nonsense("two answers to a request".to_owned())),
        }
    }
}

impl Transfer for TcpTransfer {
    fn frames(&self) -> u32 {
        self.frames
    }

    fn next(&mut self) -> BoxFuture<'_, Result<Received, StepError>> {
        self.frame().boxed()
    }

    fn distrust(&mut self) {
        self.connection.retire();
    }
}

impl Drop for TcpTransfer {
    fn drop(&mut self) {
        self.connection.tell(|requests| requests.dropped(self.id));
    }
}
