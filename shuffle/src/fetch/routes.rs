//! Which way to which peer: what its greeting told, and what came of it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::mapped::Mapped;
use super::neighbour::SharedPath;
use super::pool::Pool;
use super::tcp::{Receivers, TcpPath};
use crate::transport::{Asked, FrameMemory, Host, Limits, Path, SocketName, StepError, Transport};
use crate::wire::{Offer, Request};

/// How long a peer with whom memory could not be shared is asked over TCP alone.
const TCP_ONLY: Duration = Duration::from_secs(60);

/// Knows the ways to peers, and takes the best that both ends have.
#[derive(Debug)]
pub(super) struct Routes {
    pub transport: Transport,
    pub limits: Limits,
    pub memory: FrameMemory,
    pub receivers: Arc<Receivers>,
    pub pool: Arc<Pool>,
    pub mapped: Arc<Mapped>,
    pub known: Mutex<HashMap<String, Route>>,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Route {
    /// It shares memory with us, and is reached by this name.
    Shared(SocketName),
    /// It does not, until then at least.
    Tcp { until: Instant },
}

/// An answer, or why there is none, and whether the peer was asked over its shared memory.
pub(super) struct Routed {
    pub asked: Result<Asked, StepError>,
    pub is_shared: bool,
}

impl Routes {
    /// Whether a peer may be asked over TCP when its shared memory fails.
    pub fn may_fall_back(&self) -> bool {
        self.transport == Transport::Auto
    }

    /// Asks that peer over TCP alone for some time.
    pub fn avoid_shared(&self, address: &str) {
        self.learn(address, Route::Tcp { until: Instant::now() + TCP_ONLY });
        self.pool.forget(address);
    }

    /// Asks a peer for a block, the best way that both ends have.
    pub async fn ask(&self, address: &str, request: &Request) -> Routed {
        let mut is_found_again = false;
        loop {
            let name = match self.shared_name(address).await {
                Ok(Some(name)) => name,
                Ok(None) => return self.ask_over_tcp(address, request).await,
                Err(error) => return Routed { asked: Err(error), is_shared: false },
            };
            let asked = self.shared_path(address, name).ask(request).await;
            let reason = match asked {
                Err(StepError::Nobody(reason)) => reason,
                asked => return Routed { asked, is_shared: true },
            };
            if !std::mem::replace(&mut is_found_again, true) {
                // It was restarted, perhaps: its greeting tells.
                self.known.lock().remove(address);
            } else if self.may_fall_back() {
                tracing::warn!(address, %reason, "memory is not shared with this peer");
                self.avoid_shared(address);
            } else {
                return Routed { asked: Err(StepError::NotShared(reason)), is_shared: true };
            }
        }
    }

    /// Asks a peer for a block over TCP.
    pub async fn ask_over_tcp(&self, address: &str, request: &Request) -> Routed {
        let path = TcpPath { receivers: Arc::clone(&self.receivers), address: address.to_owned() };
        Routed { asked: path.ask(request).await, is_shared: false }
    }

    fn shared_path(&self, address: &str, name: SocketName) -> SharedPath {
        let (pool, mapped) = (Arc::clone(&self.pool), Arc::clone(&self.mapped));
        let (address, memory) = (address.to_owned(), self.memory.clone());
        SharedPath { pool, mapped, address, name, limits: self.limits, memory }
    }

    /// Where memory is shared with a peer; `None` when it is to be asked over TCP.
    async fn shared_name(&self, address: &str) -> Result<Option<SocketName>, StepError> {
        let route = self.known.lock().get(address).copied();
        match (self.transport, route) {
            (Transport::Tcp, _) => Ok(None),
            (Transport::Auto, Some(Route::Tcp { until })) if Instant::now() < until => Ok(None),
            (_, Some(Route::Shared(name))) => Ok(Some(name)),
            _ => self.discover(address).await,
        }
    }

    /// Asks a peer over TCP what it offers.
    async fn discover(&self, address: &str) -> Result<Option<SocketName>, StepError> {
        let (connection, _) = self.receivers.connection(address, true).await?;
        let reason = match connection.offer().map(name_here) {
            Some(Ok(name)) => {
                // It counts among the peer's connections.
                connection.retire();
                self.learn(address, Route::Shared(name));
                return Ok(Some(name));
            }
            Some(Err(reason)) => reason,
            None => "it offers none".to_owned(),
        };
        if self.may_fall_back() {
            tracing::debug!(address, %reason, "memory is not shared with this peer");
            self.avoid_shared(address);
            return Ok(None);
        }
        Err(StepError::NotShared(reason))
    }

    fn learn(&self, address: &str, route: Route) {
        self.known.lock().insert(address.to_owned(), route);
    }
}

/// The name under which an offer can be taken up from here.
fn name_here(offer: Offer) -> Result<SocketName, String> {
    let here = Host::here()?;
    if offer.host == here { Ok(offer.name) } else { Err("it is on another host".to_owned()) }
}
