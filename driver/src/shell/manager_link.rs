//! The connection to the manager.
//!
//! ```text
//!               stream ended                       a new session
//!   connected --------------> away: tries again --------------------> connected
//!                               |                                       ^
//!                               | not within the time set               | a query is run
//!                               v                                       |
//!                              lost ------------------------------------+ (tries again)
//! ```

use std::time::Duration;

use firesteel_base::{UserError, version};
use firesteel_protocol::v1;
use futures::StreamExt;
use tokio::sync::mpsc;
use v1::driver_to_manager::Message as ToManager;
use v1::manager_to_driver::Message as FromManager;

use super::messages::{Input, ManagerNews};
use super::outgoing::{Outgoing, outgoing};
use super::peers::{Incoming, Peers};

/// How long the manager may take to answer the greeting.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(10);
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// An open session.
pub(super) struct Opened {
    pub outgoing: Outgoing<v1::DriverToManager>,
    pub incoming: Incoming<v1::ManagerToDriver>,
    pub welcome: v1::DriverWelcome,
}

/// Where the connection stands.
pub(super) enum ManagerLink {
    Connected(Outgoing<v1::DriverToManager>),
    Away,
    Lost,
}

impl ManagerLink {
    /// Says something, if somebody is there to hear it. Who is away is told all that matters when it is back.
    pub fn send(&self, message: ToManager) {
        match self {
            Self::Connected(outgoing) => {
                outgoing.say(v1::DriverToManager { message: Some(message) });
            }
            Self::Away | Self::Lost => {}
        }
    }

    pub fn is_connected(&self) -> bool {
        match self {
            Self::Connected(_) => true,
            Self::Away | Self::Lost => false,
        }
    }
}

/// Opens a session and waits for the welcome.
pub(super) async fn open(peers: &Peers) -> Result<Opened, UserError> {
    let (outgoing, messages) = outgoing();
    let hello = hello(&peers.incarnation.to_string());
    outgoing.say(v1::DriverToManager { message: Some(hello) });
    let greet = async {
        let mut incoming = peers.open_manager(messages).await?;
        match incoming.next().await {
            Some(Ok(v1::ManagerToDriver { message: Some(FromManager::Welcome(welcome)) }))
                if !peers.is_latest(welcome.run) =>
            {
                Err(UserError::new("the manager has been replaced by another"))
            }
            Some(Ok(v1::ManagerToDriver { message: Some(FromManager::Welcome(welcome)) })) => {
                Ok(Opened { outgoing, incoming, welcome })
            }
            Some(Ok(_)) => Err(UserError::new("the manager did not answer with a welcome")
                .hint("is every process of the cluster of the same release?")),
            Some(Err(reason)) => Err(UserError::new(reason)),
            None => Err(UserError::new("the manager closed the connection")),
        }
    };
    tokio::time::timeout(WELCOME_TIMEOUT, greet).await.unwrap_or_else(|_| {
        Err(UserError::new(format!("the manager did not answer within {} s", WELCOME_TIMEOUT.as_secs())))
    })
}

/// Passes on what the manager says until the session ends.
pub(super) fn pump(mut incoming: Incoming<v1::ManagerToDriver>, generation: u64, inbox: mpsc::Sender<Input>) {
    tokio::spawn(async move {
        let mut reason = "it closed the connection".to_owned();
        while let Some(message) = incoming.next().await {
            match message {
                Ok(message) => {
                    if inbox.send(Input::Manager(generation, ManagerNews::Said(message))).await.is_err() {
                        return;
                    }
                }
                Err(fault) => {
                    reason = fault;
                    break;
                }
            }
        }
        // The loop is gone when it does not take it.
        let _ = inbox.send(Input::Manager(generation, ManagerNews::Down(reason))).await;
    });
}

/// Tries to open a session, again and again, for as long as `patience`.
pub(super) async fn open_within(peers: &Peers, patience: Duration) -> Result<Opened, UserError> {
    let deadline = tokio::time::Instant::now() + patience;
    let mut backoff = BACKOFF_MIN;
    loop {
        match open(peers).await {
            Ok(opened) => return Ok(opened),
            Err(error) if tokio::time::Instant::now() + backoff >= deadline => return Err(error),
            Err(_) => tokio::time::sleep(backoff).await,
        }
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

/// Opens a new session within `patience`, and tells of it.
pub(super) fn reopen(peers: Peers, generation: u64, patience: Duration, inbox: mpsc::Sender<Input>) {
    tokio::spawn(async move {
        let news = match open_within(&peers, patience).await {
            Ok(opened) => ManagerNews::Up(opened.outgoing, opened.incoming, opened.welcome),
            Err(error) => ManagerNews::GaveUp(error),
        };
        // The loop is gone when it does not take it.
        let _ = inbox.send(Input::Manager(generation, news)).await;
    });
}

fn hello(incarnation: &str) -> ToManager {
    ToManager::Hello(v1::DriverHello {
        wire_version: version::WIRE_OLDEST,
        wire_newest: version::WIRE,
        release: version::build().to_owned(),
        host: host_name(),
        user: user_name(),
        incarnation: incarnation.to_owned(),
    })
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { "unknown".to_owned() } else { name.trim().to_owned() }
}

fn user_name() -> String {
    ["USER", "LOGNAME"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok())
        .unwrap_or_else(|| "unknown".to_owned())
}
