//! The connection to one executor in one of its lives.
//!
//! ```text
//!   (none) --first launch there--> connecting --> attached --broken--> connecting once more --> attached
//!                                      |                                        |
//!                                      +--------------- failed -----------------+--> (none): the link is lost
//! ```
//!
//! An executor keeps what a driver has there for a moment after its stream broke. A driver that is back in time says
//! again which plans and attempts it means, and nothing is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use firesteel_base::{AttemptKey, StageKey, Timestamp, version};
use firesteel_protocol::v1;
use futures::StreamExt;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use v1::driver_to_executor::Message;

use super::messages::{Input, LinkNews};
use super::outgoing::{Messages, Outgoing, outgoing};
use super::peers::Peers;
use crate::machine::Life;

/// How long an executor may take to answer the greeting.
const ATTACH_TIMEOUT: Duration = Duration::from_secs(10);

/// The driver's end of a link.
pub(super) struct ExecutorLink {
    pub outgoing: Outgoing<v1::DriverToExecutor>,
    /// Which of the connections to this life it is.
    pub generation: u64,
    /// It has answered the greeting.
    pub attached: bool,
    /// The wire version that is spoken, once it has.
    pub wire: u32,
    /// It was connected once and broke, and this is the second try.
    pub is_retry: bool,
    pub heard: Timestamp,
    /// Plans that are there.
    pub put: BTreeSet<StageKey>,
    /// Attempts whose end was not reported.
    pub launched: BTreeMap<AttemptKey, v1::Launch>,
    /// Outputs that it was asked to take over, and has not reported.
    pub taking: BTreeMap<AttemptKey, v1::TakeOutput>,
    pub task: JoinHandle<()>,
}

impl ExecutorLink {
    /// Sends a message; one that the peer is no longer there to take is lost with the link, which is told.
    pub fn send(&self, message: Message) {
        self.outgoing.say(v1::DriverToExecutor { message: Some(message) });
    }
}

/// Connects and greets, then passes on what the executor says until the stream ends.
pub(super) fn open(
    peers: Peers,
    life: Life,
    executor: v1::ExecutorRef,
    generation: u64,
    now: Timestamp,
    inbox: mpsc::Sender<Input>,
) -> ExecutorLink {
    let (outgoing, messages) = outgoing();
    let greeting = v1::AttachDriver {
        wire_version: version::WIRE_OLDEST,
        wire_newest: version::WIRE,
        release: version::build().to_owned(),
        epoch: life.epoch.0,
        conf: std::collections::HashMap::new(),
        incarnation: peers.incarnation.to_string(),
        launch: peers.launch,
    };
    let greeting = v1::DriverToExecutor { message: Some(Message::Attach(greeting)) };
    outgoing.say(greeting);
    let task = tokio::spawn(async move {
        let reason = relay(&peers, &life, &executor, generation, messages, &inbox).await;
        // The loop is gone when it does not take it.
        let _ = inbox.send(Input::Executor(life, generation, LinkNews::Down(reason))).await;
    });
    ExecutorLink {
        outgoing,
        generation,
        attached: false,
        wire: 0,
        is_retry: false,
        heard: now,
        put: BTreeSet::new(),
        launched: BTreeMap::new(),
        taking: BTreeMap::new(),
        task,
    }
}

/// Returns why it ended.
async fn relay(
    peers: &Peers,
    life: &Life,
    executor: &v1::ExecutorRef,
    generation: u64,
    messages: Messages<v1::DriverToExecutor>,
    inbox: &mpsc::Sender<Input>,
) -> String {
    let open = peers.open_executor(executor, &life.executor, messages);
    let mut incoming = match tokio::time::timeout(ATTACH_TIMEOUT, open).await {
        Ok(Ok(incoming)) => incoming,
        Ok(Err(error)) => return error.to_string().replace("\n ", ";"),
        Err(_) => return format!("it did not answer within {} s", ATTACH_TIMEOUT.as_secs()),
    };
    while let Some(message) = incoming.next().await {
        match message {
            Ok(message) => {
                if inbox
                    .send(Input::Executor(life.clone(), generation, LinkNews::Said(message)))
                    .await
                    .is_err()
                {
                    return "the session has ended".to_owned();
                }
            }
            Err(reason) => return reason,
        }
    }
    "the connection was closed".to_owned()
}
