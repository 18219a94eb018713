//! Reading blocks: by pointer from the own store, from others of this host where they lie in shared memory, over TCP from
//! all others.
//!
//! A fetch guarantees: every batch it yields is one that was committed, once and in order; a frame's checksum is checked
//! when it came from another executor or from a file; it ends, with an error if need be, within its deadlines. A transfer that
//! is cut is asked for again from the frame where it was cut, a bounded number of times. Of frames that lie in files a bounded
//! number is read before they are asked for (`ahead`). Of an output that has moved it is enough that either place has it (`moved`).

mod ahead;
mod counters;
mod error;
mod form;
mod gone;
mod greeting;
mod link;
mod mapped;
mod moved;
mod neighbour;
mod pool;
mod routes;
mod shared;
mod stream;
mod tcp;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use bytes::Bytes;
use firesteel_base::{AttemptKey, Epoch, ExecutorId, JobId, MemoryBudget};
use futures::StreamExt;
use futures::stream::BoxStream;
use parking_lot::{Mutex, RwLock};
use rustls::ClientConfig;

pub use counters::FetchCounters;
pub use error::{FetchCause, FetchError};

use crate::format::Decoder;
use crate::key::{BlockKey, Holder};
use crate::pack::Compression;
use crate::store::BlockStore;
use crate::tls;
use crate::transport::{FrameMemory, Limits, Transport};
use form::Whole;
use gone::Gone;
use mapped::Mapped;
use moved::Moved;
use pool::Pool;
use routes::Routes;
use tcp::{Bounds, ReceiveConfig, Receivers};

/// How to fetch.
#[derive(Debug, Clone)]
pub struct FetchConfig {
    /// This executor: blocks that it holds are read by pointer.
    pub local: Option<(ExecutorId, Epoch, Arc<BlockStore>)>,
    /// Frames in flight are counted in it; those in another executor's memory are counted there.
    pub budget: Option<MemoryBudget>,
    /// How long a connection may take to be made, greeting included.
    pub connect_timeout: Duration,
    /// How long a peer may take for an answer, and for each frame.
    pub io_timeout: Duration,
    /// How often a block is asked for, in a row and without a frame coming, before it is given up.
    pub tries_max: u32,
    /// Idle connections kept a peer and runtime to those who share memory.
    pub idle_per_peer_max: usize,
    /// How long such a connection may lie idle, and how long a peer's segment stays mapped that nobody looks at: twice that at
    /// most.
    pub mapped_idle: Duration,
    /// Threads that receive over TCP. Each has one connection to each peer, over which all requests go that it takes.
    pub receivers: usize,
    /// What a peer may send of one block before its reader takes it, in bytes, and a frame more.
    pub request_window: u64,
    /// What a peer may send over one connection before readers take it, in bytes, and a frame more for each block that is
    /// under way.
    pub connection_window: u64,
    /// How long the worker of an executor that cannot be reached is asked for its blocks until it has them.
    pub keeper_wait: Duration,
    /// The ways to other executors that may be taken.
    pub transport: Transport,
    /// How frames may come packed over TCP, when their sender finds the link slow: any way, not at all, or one way alone.
    pub compression: Compression,
    /// How connections to other executors and to workers are made private and their ends known: then blocks come over TLS alone.
    /// It checks that a server's certificate is good and, by default, that it is for the host in the server's address; it holds the
    /// certificate that is shown to servers. Without it all goes in the clear.
    pub tls: Option<Arc<ClientConfig>>,
}

impl Default for FetchConfig {
    fn default() -> Self {
        Self {
            local: None,
            budget: None,
            connect_timeout: Duration::from_secs(5),
            io_timeout: Duration::from_secs(30),
            tries_max: 3,
            idle_per_peer_max: 4,
            mapped_idle: Duration::from_secs(10),
            receivers: 1,
            request_window: 4 << 20,
            connection_window: 64 << 20,
            keeper_wait: Duration::from_secs(5),
            transport: Transport::Auto,
            compression: Compression::Auto,
            tls: None,
        }
    }
}

/// Reads blocks.
pub struct Fetcher {
    config: FetchConfig,
    local: RwLock<Option<(ExecutorId, Epoch, Arc<BlockStore>)>>,
    memory: FrameMemory,
    routes: Routes,
    moved: Moved,
    gone: Gone,
    requests: AtomicU64,
    counters: Arc<FetchCounters>,
}

impl fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetcher").field("counters", &self.counters).finish_non_exhaustive()
    }
}

impl Fetcher {
    /// A fetcher without connections.
    #[must_use]
    pub fn new(config: FetchConfig) -> Arc<Self> {
        let memory = FrameMemory::new(config.budget.clone());
        let limits = Limits { connect: config.connect_timeout, io: config.io_timeout };
        let bounds = Bounds { connection: config.connection_window, request: config.request_window };
        let codecs = config.compression.accepted();
        let tls = config.tls.as_deref().map(tls::for_client);
        let receive = ReceiveConfig { receivers: config.receivers, limits, bounds, codecs, tls };
        let routes = Routes {
            transport: config.transport,
            limits,
            memory: memory.clone(),
            receivers: Receivers::new(receive, memory.clone()),
            pool: Arc::new(Pool::new(config.idle_per_peer_max, config.mapped_idle)),
            mapped: Mapped::new(config.mapped_idle),
            known: Mutex::default(),
        };
        Arc::new(Self {
            local: RwLock::new(config.local.clone()),
            memory,
            routes,
            moved: Moved::default(),
            gone: Gone::default(),
            requests: AtomicU64::new(0),
            counters: Arc::default(),
            config,
        })
    }

    /// Says who this executor is, once that is known: blocks that it holds are read by pointer from then on.
    pub fn set_local(&self, executor: ExecutorId, epoch: Epoch, store: Arc<BlockStore>) {
        *self.local.write() = Some((executor, epoch, store));
    }

    /// The batches of a block, in the order in which they were written. Nothing happens before the first poll, which
    /// must come from a tokio runtime; dropping the stream ends the transfer. An error is the last item.
    pub fn fetch(
        self: &Arc<Self>,
        holder: Holder,
        key: BlockKey,
        schema: SchemaRef,
    ) -> BoxStream<'static, Result<RecordBatch, FetchError>> {
        self.fetch_counted(holder, key, schema, Arc::default())
    }

    /// Like [`Fetcher::fetch`], counted in `counters` too.
    pub fn fetch_counted(
        self: &Arc<Self>,
        holder: Holder,
        key: BlockKey,
        schema: SchemaRef,
        counters: Arc<FetchCounters>,
    ) -> BoxStream<'static, Result<RecordBatch, FetchError>> {
        self.fetch_from(holder, key, 0, schema, counters)
    }

    /// Like [`Fetcher::fetch_counted`], without the first `first_frame` frames of the block, which are not read. A block that
    /// has fewer is [missing](FetchCause::Missing).
    pub fn fetch_from(
        self: &Arc<Self>,
        holder: Holder,
        key: BlockKey,
        first_frame: u32,
        schema: SchemaRef,
        counters: Arc<FetchCounters>,
    ) -> BoxStream<'static, Result<RecordBatch, FetchError>> {
        let decoder = Decoder::new(schema);
        stream::stream(Arc::clone(self), holder, key, first_frame, decoder, counters).boxed()
    }

    /// The frames of a block as they were written, in order, each found to be what was written: for who holds them from then on.
    pub fn fetch_frames(
        self: &Arc<Self>,
        holder: Holder,
        key: BlockKey,
    ) -> BoxStream<'static, Result<Bytes, FetchError>> {
        stream::stream(Arc::clone(self), holder, key, 0, Whole, Arc::default()).boxed()
    }

    /// What that attempt wrote is held there from now on, whatever readers were told, those under way too.
    pub fn note_moved(&self, producer: AttemptKey, holder: Holder) {
        self.moved.note(producer, holder);
    }

    /// That executor is gone for good, and nobody keeps what it held: whoever waits for it fails at once, as does who asks it later.
    pub fn note_gone(&self, executor: ExecutorId, epoch: Epoch) {
        self.gone.note(executor, epoch);
    }

    /// Nobody reads of that job any more.
    pub fn forget_job(&self, job: JobId) {
        self.moved.forget_job(job);
    }

    /// All that was fetched through this fetcher.
    #[must_use]
    pub fn counters(&self) -> Arc<FetchCounters> {
        Arc::clone(&self.counters)
    }

    /// Connections now over which nothing is under way.
    #[must_use]
    pub fn idle_connections(&self) -> usize {
        self.routes.pool.len() + self.routes.receivers.idle()
    }

    fn next_request(&self) -> u64 {
        self.requests.fetch_add(1, Ordering::Relaxed)
    }
}
