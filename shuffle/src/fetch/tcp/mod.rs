//! Blocks over TCP: one connection to each peer carries all requests to it, whichever thread asks.
//!
//! ```text
//!   core threads --ask, credit, cancel--> Connection --socket--> peer
//!        ^                                    |
//!        +---- frames, one queue a request ---+  receiver thread
//! ```
//!
//! A receiver thread owns the reading ends of its connections, so that a core thread that computes holds up nobody. It
//! receives into the frame's own memory and never waits for a reader: the peer sends no more than it was allowed to.

mod connection;
mod receive;
mod requests;
mod socket;
mod stream;
mod thread;
mod window;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use rustls::ClientConfig;

use crate::pack::Codecs;
use crate::transport::{Asked, FrameMemory, Limits, Path, StepError};
use crate::wire::Request;
use connection::Connection;
use thread::Thread;
pub(super) use window::Bounds;

/// How to receive.
#[derive(Debug, Clone)]
pub(super) struct ReceiveConfig {
    /// Threads, each with one connection a peer.
    pub receivers: usize,
    pub limits: Limits,
    pub bounds: Bounds,
    /// How frames may come packed.
    pub codecs: Codecs,
    /// How connections are made private; in the clear without.
    pub tls: Option<Arc<ClientConfig>>,
}

/// The connections to all peers, and the threads that receive.
#[derive(Debug)]
pub(super) struct Receivers {
    config: ReceiveConfig,
    memory: FrameMemory,
    threads: Mutex<Vec<Option<Thread>>>,
    slots: Mutex<HashMap<(String, usize), Slot>>,
    turn: AtomicUsize,
}

type Opened = Shared<BoxFuture<'static, Result<Arc<Connection>, StepError>>>;

/// A connection, or one that is being opened, for which all wait that want it.
#[derive(Debug, Clone)]
struct Slot {
    opened: Opened,
    /// Whether the peer was asked where it shares memory.
    asked: bool,
}

impl Slot {
    /// Whether it can be waited for, or used.
    fn is_good(&self, asks: bool) -> bool {
        let usable = match self.opened.peek() {
            None => true,
            Some(Ok(connection)) => connection.is_usable(),
            Some(Err(_)) => false,
        };
        usable && (self.asked || !asks)
    }
}

impl Receivers {
    pub fn new(config: ReceiveConfig, memory: FrameMemory) -> Arc<Self> {
        let receivers = config.receivers.max(1);
        Arc::new(Self {
            config: ReceiveConfig { receivers, ..config },
            memory,
            threads: Mutex::new((0..receivers).map(|_| None).collect()),
            slots: Mutex::default(),
            turn: AtomicUsize::new(0),
        })
    }

    /// Connections now over which nothing is under way.
    pub fn idle(&self) -> usize {
        let slots = self.slots.lock();
        let open = slots.values().filter_map(|slot| slot.opened.peek()?.as_ref().ok());
        open.filter(|connection| connection.is_usable() && connection.is_idle()).count()
    }

    /// A connection to that peer, which was asked what it offers if `asks`; and whether it was there before.
    pub async fn connection(&self, address: &str, asks: bool) -> Result<(Arc<Connection>, bool), StepError> {
        let index = self.turn.fetch_add(1, Ordering::Relaxed) % self.config.receivers;
        let (opened, was_there) = self.slot(address, index, asks)?;
        Ok((opened.await?, was_there))
    }

    fn slot(&self, address: &str, index: usize, asks: bool) -> Result<(Opened, bool), StepError> {
        let mut slots = self.slots.lock();
        let key = (address.to_owned(), index);
        if let Some(slot) = slots.get(&key).filter(|slot| slot.is_good(asks)) {
            return Ok((slot.opened.clone(), slot.opened.peek().is_some()));
        }
        // Peers that have gone would stay for ever.
        slots.retain(|_, slot| slot.is_good(false));
        let opened = self.open(address, index, asks)?;
        slots.insert(key, Slot { opened: opened.clone(), asked: asks });
        Ok((opened, false))
    }

    fn open(&self, address: &str, index: usize, asks: bool) -> Result<Opened, StepError> {
        let handle = self.thread(index)?;
        let (address, memory) = (address.to_owned(), self.memory.clone());
        let config = self.config.clone();
        let open = handle.spawn(async move { Connection::open(&address, asks, &config, memory).await });
        let opened = async move {
            open.await.unwrap_or_else(|_| Err(StepError::Broken("the receiver thread has ended".to_owned())))
        };
        Ok(opened.boxed().shared())
    }

    fn thread(&self, index: usize) -> Result<tokio::runtime::Handle, StepError> {
        let thread = &mut self.threads.lock()[index];
        if let Some(thread) = thread {
            return Ok(thread.handle());
        }
        let started = Thread::start(index)
            .map_err(|error| StepError::Broken(format!("no thread to receive on: {error}")))?;
        Ok(thread.insert(started).handle())
    }
}

/// The way to one peer over TCP.
#[derive(Debug)]
pub(super) struct TcpPath {
    pub receivers: Arc<Receivers>,
    pub address: String,
}

impl Path for TcpPath {
    fn ask<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Asked, StepError>> {
        let ask = async move {
            let (connection, was_there) = self.receivers.connection(&self.address, false).await?;
            match connection.ask(request).await {
                // The peer may have closed it while it lay idle.
                Err(StepError::Broken(_)) if was_there => {
                    connection.retire();
                    let (connection, _) = self.receivers.connection(&self.address, false).await?;
                    connection.ask(request).await
                }
                asked => asked,
            }
        };
        ask.boxed()
    }
}
