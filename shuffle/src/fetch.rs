//! Reading blocks: by pointer from the own store, over TCP from others.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use firesteel_base::{Class, Epoch, ExecutorId, MemoryBudget};
use futures::stream::BoxStream;

use crate::format::FormatError;
use crate::key::{BlockKey, Holder};
use crate::store::BlockStore;

/// How to fetch.
#[derive(Debug, Clone)]
pub struct FetchConfig {
    /// This executor: blocks that it holds are read by pointer.
    pub local: Option<(ExecutorId, Epoch, Arc<BlockStore>)>,
    /// Frames in flight are counted in it.
    pub budget: Option<MemoryBudget>,
    /// How long a connection may take to be made, greeting included.
    pub connect_timeout: Duration,
    /// How long a peer may take for an answer, and for each frame.
    pub io_timeout: Duration,
    /// How often a block is asked for, in a row and without a frame coming, before it is given up.
    pub tries_max: u32,
    /// Idle connections kept a peer and runtime.
    pub idle_per_peer_max: usize,
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
        }
    }
}

/// Why a block could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchCause {
    /// The holder does not have the block.
    #[error("the holder does not have it")]
    Missing,
    /// The attempt that wrote it has not committed.
    #[error("it is not committed")]
    NotCommitted,
    /// The holder is not who it was when the block was written.
    #[error("the holder was restarted since")]
    StaleEpoch,
    /// The holder cannot read its own file.
    #[error("the holder cannot read it: {0}")]
    Unreadable(String),
    /// The bytes are not those that were written.
    #[error("it is corrupt: {0}")]
    Corrupt(FormatError),
    /// The holder could not be reached, or fell silent.
    #[error("the holder could not be reached in {tries} tries: {reason}")]
    Unreachable {
        /// Tries made.
        tries: u32,
        /// How the last one failed.
        reason: String,
    },
    /// The peer does not speak the protocol.
    #[error("the peer broke the protocol: {0}")]
    Protocol(String),
    /// The holder has as many connections as it takes.
    #[error("the holder is busy")]
    Busy,
}

/// A block could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("block {key} of {holder} could not be fetched: {cause}")]
pub struct FetchError {
    /// The block.
    pub key: BlockKey,
    /// Who should hold it.
    pub holder: Holder,
    /// Why.
    pub cause: FetchCause,
}

impl FetchError {
    /// What may be done about it.
    #[must_use]
    pub fn class(&self) -> Class {
        match &self.cause {
            FetchCause::Busy => Class::Transient,
            // The bytes are good, but two plans disagree about them: running it again gives the same.
            FetchCause::Corrupt(FormatError::Schema { .. }) => Class::User,
            _ => Class::Fetch,
        }
    }
}

/// What was fetched so far.
#[derive(Debug, Default)]
pub struct FetchCounters {
    local_bytes: AtomicU64,
    remote_bytes: AtomicU64,
    rows: AtomicU64,
    frames: AtomicU64,
    retries: AtomicU64,
}

impl FetchCounters {
    /// Bytes of frames read by pointer from the own store.
    #[must_use]
    pub fn local_bytes(&self) -> u64 {
        self.local_bytes.load(Ordering::Relaxed)
    }

    /// Bytes of frames that came over the network.
    #[must_use]
    pub fn remote_bytes(&self) -> u64 {
        self.remote_bytes.load(Ordering::Relaxed)
    }

    /// Rows of all frames.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    /// Frames.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.frames.load(Ordering::Relaxed)
    }

    /// Times that a block was asked for again.
    #[must_use]
    pub fn retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }
}

/// Reads blocks.
pub struct Fetcher {}

impl fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetcher").finish_non_exhaustive()
    }
}

impl Fetcher {
    /// A fetcher without connections.
    #[must_use]
    pub fn new(config: FetchConfig) -> Arc<Self> {
        let _ = config;
        todo!()
    }

    /// Says who this executor is, once that is known: blocks that it holds are read by pointer from then on.
    pub fn set_local(&self, executor: ExecutorId, epoch: Epoch, store: Arc<BlockStore>) {
        let _ = (executor, epoch, store);
        todo!()
    }

    /// The batches of a block, in the order in which they were written. Nothing happens before the first poll, which
    /// must come from a tokio runtime; dropping the stream ends the transfer.
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
        let _ = (holder, key, schema, counters);
        todo!()
    }

    /// All that was fetched through this fetcher.
    #[must_use]
    pub fn counters(&self) -> Arc<FetchCounters> {
        todo!()
    }
}
