//! Sessions: a greeting, then a pump from the inbound stream to the machine and a bounded queue back.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use firesteel_base::version::Spoken;
use firesteel_protocol::channel::check_version;
use firesteel_protocol::{MalformedMessage, v1};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::StreamExt;
use tonic::Status;

use super::mailbox::{Mailbox, Messages, mailbox};
use super::run::{Input, Link, Queue};
use super::{BoxStream, Manager, inbound, stopping};
use crate::machine::message::{Event, SessionId, WorkerEvent};
use crate::machine::rights::Rights;

/// How long a session may take for its greeting.
const GREETING_TIMEOUT: Duration = Duration::from_secs(10);

/// What a session is told, and why it ended once it has.
#[derive(Debug)]
pub(crate) struct Outgoing<M> {
    /// What it is told.
    pub(crate) messages: Messages<M>,
    /// Set before `messages` ends, unless the other side ended the session.
    pub(crate) why: Arc<OnceLock<Status>>,
}

impl Manager {
    pub(crate) async fn open_worker(
        &self,
        mut inbound: BoxStream<v1::WorkerToManager>,
    ) -> Result<Outgoing<v1::ManagerToWorker>, Status> {
        use v1::worker_to_manager::Message;
        let Message::Register(register) = greeting(&mut inbound).await?.message.ok_or_else(no_greeting)?
        else {
            return Err(no_greeting());
        };
        let spoken = Spoken::said(register.wire_version, register.wire_newest);
        let wire = check_version("worker", spoken, &register.release)?;
        let registration = inbound::registration(register, wire)?;
        let id = SessionId(self.next_session());
        let event = Event::Worker(id, WorkerEvent::Register(registration));
        let convert = move |message| Ok(Event::Worker(id, inbound::worker_event(message)?));
        self.open(id, event, |sender| Queue::Worker(sender, wire), inbound, convert).await
    }

    pub(crate) async fn open_driver(
        &self,
        rights: Rights,
        mut inbound: BoxStream<v1::DriverToManager>,
    ) -> Result<Outgoing<v1::ManagerToDriver>, Status> {
        use v1::driver_to_manager::Message;
        let first = greeting(&mut inbound).await?;
        let Some(Message::Hello(hello)) = &first.message else { return Err(no_greeting()) };
        let spoken = Spoken::said(hello.wire_version, hello.wire_newest);
        let wire = check_version("driver", spoken, &hello.release)?;
        let id = SessionId(self.next_session());
        let event = Event::Driver(id, inbound::greeting(first, rights)?);
        let convert = move |message| Ok(Event::Driver(id, inbound::driver_event(message)?));
        self.open(id, event, |sender| Queue::Driver(sender, wire), inbound, convert).await
    }

    async fn open<In: Send + 'static, Out>(
        &self,
        id: SessionId,
        greeting: Event,
        queue: impl FnOnce(Mailbox<Out>) -> Queue,
        inbound: BoxStream<In>,
        convert: impl Fn(In) -> Result<Event, MalformedMessage> + Send + 'static,
    ) -> Result<Outgoing<Out>, Status> {
        let (sender, messages) = mailbox(self.session_room);
        let (open, ended) = oneshot::channel();
        let (greeted, answer) = oneshot::channel();
        let why = Arc::new(OnceLock::new());
        let queue = queue(sender);
        let lost = queue.lost(id);
        let link = Link { queue, why: Arc::clone(&why), _open: open };
        self.send(Input::Open { id, link, greeting: Box::new(greeting), greeted }).await?;
        answer.await.map_err(|_| stopping())??;
        tokio::spawn(pump(id, inbound, convert, lost, self.inputs.downgrade(), ended));
        Ok(Outgoing { messages, why })
    }
}

async fn greeting<M>(inbound: &mut BoxStream<M>) -> Result<M, Status> {
    match tokio::time::timeout(GREETING_TIMEOUT, inbound.next()).await {
        Ok(Some(message)) => Ok(message),
        Ok(None) => Err(no_greeting()),
        Err(_) => Err(Status::deadline_exceeded("no greeting came in time")),
    }
}

fn no_greeting() -> Status {
    Status::invalid_argument("the first message of a session is its greeting")
}

/// Carries what a session says to the machine until its stream or the session ends.
async fn pump<In>(
    id: SessionId,
    mut inbound: BoxStream<In>,
    convert: impl Fn(In) -> Result<Event, MalformedMessage>,
    lost: Event,
    inputs: mpsc::WeakSender<Input>,
    mut ended: oneshot::Receiver<()>,
) {
    loop {
        let message = tokio::select! {
            message = inbound.next() => message,
            _ = &mut ended => return,
        };
        let (input, last) = match message.map(&convert) {
            Some(Ok(event)) => (Input::Event(event), false),
            Some(Err(fault)) => (Input::Fault { id, status: fault.into() }, true),
            None => (Input::Event(lost.clone()), true),
        };
        let Some(inputs) = inputs.upgrade() else { return };
        if inputs.send(input).await.is_err() || last {
            return;
        }
    }
}
