//! Serving blocks over TCP.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use firesteel_base::{Epoch, ExecutorId};

use crate::store::BlockStore;

/// Limits of a block server.
#[derive(Debug, Clone)]
pub struct ServeConfig {
    /// Who it serves for; `None` until the manager has said the epoch (see [`BlockServer::set_identity`]): until then
    /// every request is answered with "stale epoch".
    pub identity: Option<(ExecutorId, Epoch)>,
    /// Connections at one time.
    pub connections_max: usize,
    /// How long a client may take for its greeting and for each request once begun.
    pub request_timeout: Duration,
    /// How long a client may take to accept a frame.
    pub send_timeout: Duration,
    /// How long a connection may lie idle between requests.
    pub idle_timeout: Duration,
}

impl Default for ServeConfig {
    fn default() -> Self {
        Self {
            identity: None,
            connections_max: 4096,
            request_timeout: Duration::from_secs(10),
            send_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(300),
        }
    }
}

/// A running block server.
#[derive(Debug)]
pub struct BlockServer {}

impl BlockServer {
    /// Serves the committed blocks of `store` on `listener`, on the current tokio runtime.
    ///
    /// # Errors
    /// When the listener cannot be used by the runtime.
    pub fn start(
        listener: TcpListener,
        store: Arc<BlockStore>,
        config: ServeConfig,
    ) -> std::io::Result<Self> {
        let _ = (listener, store, config);
        todo!()
    }

    /// Says who it serves for.
    pub fn set_identity(&self, executor: ExecutorId, epoch: Epoch) {
        let _ = (executor, epoch);
        todo!()
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        todo!()
    }

    /// Connections now.
    #[must_use]
    pub fn connections(&self) -> usize {
        todo!()
    }

    /// Closes the listener and all connections.
    pub async fn shutdown(self) {
        todo!()
    }
}
