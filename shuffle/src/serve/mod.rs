//! Serving blocks over TCP.
//!
//! A server guarantees: it sends only committed blocks, and only in the name of the executor and life that it serves for;
//! whatever a client sends or fails to send costs it that client's connection and nothing else; every step has a
//! deadline. What a connection holds is bounded: one request, and one piece of a frame that lies in a file.

mod connection;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use firesteel_base::{Epoch, ExecutorId};
use parking_lot::RwLock;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};

use crate::store::BlockStore;

/// Limits of a block server.
#[derive(Debug, Clone)]
pub struct ServeConfig {
    /// Who it serves for; `None` until the manager has said the epoch (see [`BlockServer::set_identity`]): until then
    /// every request is answered with "stale epoch".
    pub identity: Option<(ExecutorId, Epoch)>,
    /// Connections at one time; further ones are told that it is busy.
    pub connections_max: usize,
    /// How long a client may take for its greeting, and for a request once begun.
    pub request_timeout: Duration,
    /// How long a client may take to accept a reply, and each megabyte of a frame. One that reads slower than it asked
    /// is dropped; it asks again from where it was.
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

/// A running block server; dropped, it stops.
#[derive(Debug)]
pub struct BlockServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// What all connections see.
#[derive(Debug)]
struct Shared {
    store: Arc<BlockStore>,
    config: ServeConfig,
    identity: RwLock<Option<(ExecutorId, Epoch)>>,
    connections: AtomicUsize,
    bytes: AtomicU64,
}

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
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            store,
            identity: RwLock::new(config.identity.clone()),
            config,
            connections: AtomicUsize::new(0),
            bytes: AtomicU64::new(0),
        });
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(accept(listener, Arc::clone(&shared), stopped));
        Ok(Self { address, shared, stop, task })
    }

    /// Says who it serves for.
    pub fn set_identity(&self, executor: ExecutorId, epoch: Epoch) {
        *self.shared.identity.write() = Some((executor, epoch));
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Connections now.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Bytes of frames sent since it started.
    #[must_use]
    pub fn sent_bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::Relaxed)
    }

    /// Closes the listener and all connections.
    pub async fn shutdown(self) {
        drop(self.stop);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the block server ended badly");
        }
    }
}

/// How long to wait when no connection can be accepted, because the process has no file descriptor left, say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

async fn accept(listener: tokio::net::TcpListener, shared: Arc<Shared>, mut stopped: oneshot::Receiver<()>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            // An error means that the server was dropped.
            _ = &mut stopped => break,
            ended = connections.join_next(), if !connections.is_empty() => {
                if let Some(Err(error)) = ended {
                    tracing::error!(%error, "serving a connection failed");
                }
            }
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let open = Open::new(&shared);
                    let busy = connections.len() >= shared.config.connections_max;
                    connections.spawn(serve(stream, peer, open, busy));
                }
                Err(error) => {
                    tracing::warn!(%error, "no connection can be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    connections.shutdown().await;
}

async fn serve(stream: TcpStream, peer: SocketAddr, open: Open, busy: bool) {
    match connection::serve(stream, &open.shared, busy).await {
        Ok(()) => tracing::trace!(%peer, "connection closed"),
        Err(error) => tracing::debug!(%peer, %error, "connection dropped"),
    }
}

/// Counts a connection while it lives.
struct Open {
    shared: Arc<Shared>,
}

impl Open {
    fn new(shared: &Arc<Shared>) -> Self {
        shared.connections.fetch_add(1, Ordering::Relaxed);
        Self { shared: Arc::clone(shared) }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.shared.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
