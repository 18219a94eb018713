//! Reading blocks: by pointer from the own store, from others of this host where they lie in shared memory, over TCP from
//! all others.
//!
//! A fetch guarantees: every batch it yields is one that was committed, once and in order; a frame's checksum is checked
//! when it came from another executor or from a file; it ends, with an error if need be, within its deadlines. A transfer that
//! is cut is asked for again from the frame where it was cut, a bounded number of times.

mod connection;
mod counters;
mod error;
mod link;
mod pool;
mod routes;
mod shared;
mod stream;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use firesteel_base::{Epoch, ExecutorId, MemoryBudget};
use futures::StreamExt;
use futures::stream::BoxStream;
use parking_lot::RwLock;

pub use counters::FetchCounters;
pub use error::{FetchCause, FetchError};

use crate::key::{BlockKey, Holder};
use crate::store::BlockStore;
use crate::transport::Transport;
use pool::Pool;
use routes::Routes;

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
    /// Idle connections kept a peer and runtime.
    pub idle_per_peer_max: usize,
    /// The ways to other executors that may be taken.
    pub transport: Transport,
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
            transport: Transport::Auto,
        }
    }
}

/// Reads blocks.
pub struct Fetcher {
    config: FetchConfig,
    local: RwLock<Option<(ExecutorId, Epoch, Arc<BlockStore>)>>,
    pool: Pool,
    routes: Routes,
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
        Arc::new(Self {
            local: RwLock::new(config.local.clone()),
            pool: Pool::new(config.idle_per_peer_max),
            routes: Routes::new(config.transport),
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
        stream::stream(Arc::clone(self), holder, key, schema, counters).boxed()
    }

    /// All that was fetched through this fetcher.
    #[must_use]
    pub fn counters(&self) -> Arc<FetchCounters> {
        Arc::clone(&self.counters)
    }

    /// Idle connections now, of all runtimes.
    #[must_use]
    pub fn idle_connections(&self) -> usize {
        self.pool.len()
    }

    fn next_request(&self) -> u64 {
        self.requests.fetch_add(1, Ordering::Relaxed)
    }
}
