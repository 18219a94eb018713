//! Serving blocks: over TCP as bytes, and to executors of the same host by the places where they lie in shared memory.
//!
//! A server guarantees: it sends only committed blocks, and only in the name of the executor and life that it serves for;
//! whatever a client sends or fails to send costs it that client's connection and nothing else; every step has a
//! deadline. What a connection holds is bounded: a number of requests, a few chunks of frames that lie in files, and as many
//! frames as a client may look at in shared memory, which it gives up one by one, all when it ends, and at the latest at a
//! deadline. It sends over TCP what the client gave credit for, a chunk of each request in turn, and packed when the link is slow
//! and the client takes it so.

mod connection;
mod leases;
mod places;
mod served;
mod sharing;
mod tcp;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use firesteel_base::{Epoch, ExecutorId};
use rustls::ServerConfig;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};

use crate::pack::{Compression, Packing, PackingCounts};
use crate::store::BlockStore;
use crate::tls;
use crate::transport::Transport;
use crate::wire::Offer;
pub(crate) use served::Served;
use sharing::Sharing;

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
    /// How long a client may take to accept a reply, and each chunk of a frame that it gave credit for. One that reads
    /// slower is dropped; it asks again from where it was.
    pub send_timeout: Duration,
    /// How long a connection may lie idle: nothing is said or taken, and its client looks at nothing.
    pub idle_timeout: Duration,
    /// How long a client may look at a frame in shared memory. Then its connection ends; what it looks at stays as it is,
    /// but is counted no longer.
    pub lease_timeout: Duration,
    /// Frames in shared memory that one client may look at at one time; further ones it gets over TCP.
    pub leases_max: usize,
    /// Bytes of a frame that go out in one message over TCP, before it is another request's turn; at most 1 MiB.
    pub chunk_bytes: usize,
    /// Whether executors of the same host get at frames in shared memory. If so, the store puts them there from now on.
    pub transport: Transport,
    /// A user beside this process's own whose executors on this host may look at its memory: what is served is theirs.
    pub also_user: Option<u32>,
    /// Whether frames are packed for clients that take them so over TCP; by default where that makes a link faster, which is
    /// measured while it is busy. What lies packed in a file goes out packed whatever this says.
    pub compression: Compression,
    /// How connections are made private and their ends known: then blocks are served over TLS alone, and only to clients that
    /// show a certificate, which this must demand and check. Without it all goes in the clear.
    pub tls: Option<Arc<ServerConfig>>,
}

impl Default for ServeConfig {
    fn default() -> Self {
        Self {
            identity: None,
            connections_max: 4096,
            request_timeout: Duration::from_secs(10),
            send_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(300),
            lease_timeout: Duration::from_secs(600),
            leases_max: 1 << 20,
            chunk_bytes: 512 << 10,
            transport: Transport::Auto,
            also_user: None,
            compression: Compression::Auto,
            tls: None,
        }
    }
}

/// A running block server; dropped, it stops.
#[derive(Debug)]
pub struct BlockServer {
    address: SocketAddr,
    /// What it serves in the name of one executor; none, when it serves what others left behind.
    store: Option<Arc<BlockStore>>,
    shared: Arc<Shared>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// What all connections see.
#[derive(Debug)]
struct Shared {
    served: Served,
    config: ServeConfig,
    /// Where it is reached by executors of this host.
    offer: Option<Offer>,
    connections: AtomicUsize,
    sent_bytes: AtomicU64,
    read_bytes: AtomicU64,
    placed_bytes: AtomicU64,
    packing: PackingCounts,
    leases: AtomicUsize,
}

impl BlockServer {
    /// Serves the committed blocks of `store` on `listener`, on the current tokio runtime.
    ///
    /// # Errors
    /// When the listener cannot be used by the runtime, or memory must be shared and cannot be.
    pub fn start(
        listener: TcpListener,
        store: Arc<BlockStore>,
        config: ServeConfig,
    ) -> std::io::Result<Self> {
        let served = Served::default();
        if let Some((executor, epoch)) = config.identity.clone() {
            served.add(executor, epoch, Arc::clone(&store));
        }
        Self::serve(listener, Some(store), served, config)
    }

    /// Serves on `listener` what executors left behind, which is nothing at first.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub(crate) fn for_others(listener: TcpListener, config: ServeConfig) -> std::io::Result<Self> {
        Self::serve(listener, None, Served::default(), config)
    }

    fn serve(
        listener: TcpListener,
        store: Option<Arc<BlockStore>>,
        served: Served,
        mut config: ServeConfig,
    ) -> std::io::Result<Self> {
        config.tls = config.tls.as_deref().map(tls::for_server);
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let address = listener.local_addr()?;
        let sharing = Sharing::open(config.transport)?;
        if let Some(store) = store.as_ref().filter(|_| sharing.is_some()) {
            store.share();
        }
        let shared = Arc::new(Shared {
            served,
            config,
            offer: sharing.as_ref().map(|sharing| sharing.offer),
            connections: AtomicUsize::new(0),
            sent_bytes: AtomicU64::new(0),
            read_bytes: AtomicU64::new(0),
            placed_bytes: AtomicU64::new(0),
            packing: PackingCounts::default(),
            leases: AtomicUsize::new(0),
        });
        let (stop, stopped) = oneshot::channel();
        let listeners = Listeners { tcp: listener, sharing };
        let task = tokio::spawn(accept(listeners, Arc::clone(&shared), stopped));
        Ok(Self { address, store, shared, stop, task })
    }

    /// Says who it serves for.
    pub fn set_identity(&self, executor: ExecutorId, epoch: Epoch) {
        if let Some(store) = &self.store {
            self.shared.served.replace(executor, epoch, Arc::clone(store));
        }
    }

    /// Whose blocks it serves.
    pub(crate) fn served(&self) -> Served {
        self.shared.served.clone()
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

    /// Whether executors of this host get at frames in shared memory.
    #[must_use]
    pub fn shares_memory(&self) -> bool {
        self.shared.offer.is_some()
    }

    /// Bytes of frames sent over TCP since it started; of those that went out packed, the packed bytes.
    #[must_use]
    pub fn sent_bytes(&self) -> u64 {
        self.shared.sent_bytes.load(Ordering::Relaxed)
    }

    /// The frames that went out packed over TCP since it started.
    #[must_use]
    pub fn packing(&self) -> Packing {
        self.shared.packing.get()
    }

    /// Bytes of frames whose place was told since it started: in shared memory, or in a file.
    #[must_use]
    pub fn placed_bytes(&self) -> u64 {
        self.shared.placed_bytes.load(Ordering::Relaxed)
    }

    /// Bytes copied since it started: out of files, and into sockets.
    #[must_use]
    pub fn copied_bytes(&self) -> u64 {
        self.sent_bytes() + self.shared.read_bytes.load(Ordering::Relaxed)
    }

    /// Frames in shared memory that clients look at now.
    #[must_use]
    pub fn leases(&self) -> usize {
        self.shared.leases.load(Ordering::Relaxed)
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

/// Where clients come in.
struct Listeners {
    tcp: tokio::net::TcpListener,
    sharing: Option<Sharing>,
}

/// A client that came in.
enum Client {
    Tcp(TcpStream, SocketAddr),
    Neighbour(UnixStream),
}

impl Listeners {
    async fn accept(&self) -> std::io::Result<Client> {
        let neighbour = async {
            match &self.sharing {
                Some(sharing) => sharing.listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            tcp = self.tcp.accept() => tcp.map(|(stream, peer)| Client::Tcp(stream, peer)),
            neighbour = neighbour => neighbour.map(|(stream, _)| Client::Neighbour(stream)),
        }
    }
}

async fn accept(listeners: Listeners, shared: Arc<Shared>, mut stopped: oneshot::Receiver<()>) {
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
            accepted = listeners.accept() => match accepted {
                Ok(client) => {
                    let open = Open::new(&shared);
                    let busy = connections.len() >= shared.config.connections_max;
                    connections.spawn(serve(client, open, busy));
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

async fn serve(client: Client, open: Open, busy: bool) {
    let (peer, ended) = match client {
        Client::Tcp(stream, peer) => (peer.to_string(), tcp::serve(stream, &open.shared, busy).await),
        Client::Neighbour(stream) => {
            ("this host".to_owned(), places::serve(stream, &open.shared, busy).await)
        }
    };
    match ended {
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
