//! Which way to which peer: what its greeting told, and what came of it.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::connection::{Connection, StepError};
use crate::transport::{Host, SocketName, Transport};
use crate::wire::Offer;

/// How long a peer with whom memory could not be shared is asked over TCP alone.
const TCP_ONLY: Duration = Duration::from_secs(60);

/// Makes connections, and keeps what was learned about peers.
#[derive(Debug)]
pub(super) struct Routes {
    transport: Transport,
    known: Mutex<HashMap<String, Route>>,
}

#[derive(Debug, Clone, Copy)]
enum Route {
    /// It shares memory with us, and is reached by this name.
    Shared(SocketName),
    /// It does not, until then at least.
    Tcp { until: Instant },
}

impl Routes {
    pub fn new(transport: Transport) -> Self {
        Self { transport, known: Mutex::default() }
    }

    /// Whether a peer may be asked over TCP when its shared memory fails.
    pub fn may_fall_back(&self) -> bool {
        self.transport == Transport::Auto
    }

    /// Asks that peer over TCP alone for some time.
    pub fn avoid_shared(&self, address: &str) {
        self.learn(address, Route::Tcp { until: Instant::now() + TCP_ONLY });
    }

    /// A new connection to a peer, the best way that both ends have.
    pub async fn open(&self, address: &str, limit: Duration) -> Result<Connection, StepError> {
        let route = self.known.lock().get(address).copied();
        match (self.transport, route) {
            (Transport::Tcp, _) => Ok(Connection::open_tcp(address, false, limit).await?.0),
            (Transport::Auto, Some(Route::Tcp { until })) if Instant::now() < until => {
                Ok(Connection::open_tcp(address, false, limit).await?.0)
            }
            (_, Some(Route::Shared(name))) => match Connection::open_shared(&name, limit).await {
                // It was restarted, perhaps: its greeting tells.
                Err(StepError::Broken(_)) => self.discover(address, limit).await,
                opened => opened,
            },
            _ => self.discover(address, limit).await,
        }
    }

    /// Asks a peer over TCP what it offers, and takes it up if that can be.
    async fn discover(&self, address: &str, limit: Duration) -> Result<Connection, StepError> {
        let (tcp, offer) = Connection::open_tcp(address, true, limit).await?;
        let reason = match offer.map(name_here) {
            Some(Ok(name)) => {
                // It counts among the peer's connections.
                drop(tcp);
                self.learn(address, Route::Shared(name));
                match Connection::open_shared(&name, limit).await {
                    Err(StepError::Broken(reason)) if self.may_fall_back() => {
                        tracing::warn!(address, %reason, "memory is not shared with this peer");
                        self.avoid_shared(address);
                        return Ok(Connection::open_tcp(address, false, limit).await?.0);
                    }
                    Err(StepError::Broken(reason)) => return Err(StepError::NotShared(reason)),
                    opened => return opened,
                }
            }
            Some(Err(reason)) => reason,
            None => "it offers none".to_owned(),
        };
        if self.may_fall_back() {
            tracing::debug!(address, %reason, "memory is not shared with this peer");
            self.avoid_shared(address);
            return Ok(tcp);
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
