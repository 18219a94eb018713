//! The stream of one block's batches.

use std::sync::Arc;
use std::time::Duration;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use firesteel_base::Grant;
use futures::{Stream, stream};

use super::connection::{Connection, Received, StepError};
use super::counters::Way;
use super::{FetchCause, FetchCounters, FetchError, Fetcher};
use crate::format::{Decoder, FormatError, Trust};
use crate::key::{BlockKey, Holder};
use crate::store::{BlockStore, Cell, Loaded, StoreError};
use crate::wire::{Request, Status};

/// In whose name frames in flight are counted.
const IN_FLIGHT: &str = "shuffle fetch";
/// The pause before a block is asked for a second time; it doubles from try to try.
const PAUSE: Duration = Duration::from_millis(20);

/// The batches of a block.
pub(super) fn stream(
    fetcher: Arc<Fetcher>,
    holder: Holder,
    key: BlockKey,
    schema: SchemaRef,
    counters: Arc<FetchCounters>,
) -> impl Stream<Item = Result<RecordBatch, FetchError>> + Send {
    let grant = fetcher.config.budget.as_ref().map(|budget| budget.open(IN_FLIGHT));
    let fetch = Fetch { decoder: Decoder::new(schema), fetcher, holder, key, counters, grant };
    stream::try_unfold((fetch, Source::Unknown), |(mut fetch, mut source)| async move {
        match fetch.next(&mut source).await {
            Ok(Some(batch)) => Ok(Some((batch, (fetch, source)))),
            Ok(None) => Ok(None),
            Err(cause) => Err(FetchError { key: fetch.key, holder: fetch.holder, cause }),
        }
    })
}

/// A block that is being read.
struct Fetch {
    fetcher: Arc<Fetcher>,
    holder: Holder,
    key: BlockKey,
    decoder: Decoder,
    counters: Arc<FetchCounters>,
    /// Counts the frame that was yielded last, until the next one is asked for.
    grant: Option<Grant>,
}

/// Where the next frame comes from.
enum Source {
    /// Not known before the first poll.
    Unknown,
    /// The own store.
    Local { store: Arc<BlockStore>, frames: std::vec::IntoIter<Arc<Cell>> },
    /// A peer.
    Remote(Transfer),
    /// Nowhere: all have come.
    End,
}

/// How far the transfer from a peer has come.
#[derive(Default)]
struct Transfer {
    /// Frames received.
    received: u32,
    /// The connection, and how many frames are still to come over it.
    open: Option<(Connection, u32)>,
    /// Tries without a frame.
    failed: u32,
    /// All frames have come.
    done: bool,
}

/// Why a try failed, and whether another makes sense.
enum Failed {
    Again(FetchCause),
    ForGood(FetchCause),
}

impl Fetch {
    async fn next(&mut self, source: &mut Source) -> Result<Option<RecordBatch>, FetchCause> {
        if let Some(grant) = &mut self.grant {
            grant.shrink(grant.bytes());
        }
        loop {
            match source {
                Source::Unknown => *source = self.locate()?,
                Source::Local { store, frames } => match frames.next() {
                    Some(cell) => return self.read_local(store, &cell).await.map(Some),
                    None => *source = Source::End,
                },
                Source::Remote(transfer) => match self.receive_with_retries(transfer).await? {
                    Some(batch) => return Ok(Some(batch)),
                    None => *source = Source::End,
                },
                Source::End => return Ok(None),
            }
        }
    }

    /// Finds out whether this executor holds the block itself.
    fn locate(&self) -> Result<Source, FetchCause> {
        let local = self.fetcher.local.read();
        let Some((_, epoch, store)) = local.as_ref().filter(|(own, _, _)| *own == self.holder.executor)
        else {
            return Ok(Source::Remote(Transfer::default()));
        };
        if *epoch != self.holder.epoch {
            return Err(FetchCause::StaleEpoch);
        }
        let frames = store.frames(&self.key).map_err(|error| match error {
            StoreError::NotCommitted(_) => FetchCause::NotCommitted,
            _ => FetchCause::Missing,
        })?;
        Ok(Source::Local { store: Arc::clone(store), frames: frames.into_iter() })
    }

    async fn read_local(&mut self, store: &BlockStore, cell: &Cell) -> Result<RecordBatch, FetchCause> {
        let (frame, trust, copied) = match store.load(cell) {
            Loaded::Memory(frame) => (frame.bytes, Trust::Resident, 0),
            Loaded::File(range) => {
                self.count_in_flight(cell.bytes());
                let read = range.read().await;
                let (frame, copied) = read.map_err(|error| FetchCause::Unreadable(error.to_string()))?;
                (frame, Trust::Cluster, copied)
            }
        };
        let batch = self.decoder.decode(&frame, trust).map_err(FetchCause::Corrupt)?;
        self.count(&batch, &Received { frame, way: Way::Own, copied });
        Ok(batch)
    }

    async fn receive_with_retries(
        &mut self,
        transfer: &mut Transfer,
    ) -> Result<Option<RecordBatch>, FetchCause> {
        loop {
            let cause = match self.receive(transfer).await {
                Ok(batch) => {
                    transfer.failed = 0;
                    return Ok(batch);
                }
                Err(Failed::ForGood(cause)) => return Err(cause),
                Err(Failed::Again(cause)) => cause,
            };
            transfer.open = None;
            transfer.failed += 1;
            if transfer.failed >= self.fetcher.config.tries_max {
                return Err(match cause {
                    FetchCause::Unreachable { reason, .. } => {
                        FetchCause::Unreachable { tries: transfer.failed, reason }
                    }
                    other => other,
                });
            }
            self.counters.count_retry();
            self.fetcher.counters.count_retry();
            tracing::debug!(key = %self.key, holder = %self.holder, %cause, "block is asked for again");
            tokio::time::sleep(PAUSE * (1 << (transfer.failed - 1).min(6))).await;
        }
    }

    /// Receives the next frame; `None` when all have come.
    async fn receive(&mut self, transfer: &mut Transfer) -> Result<Option<RecordBatch>, Failed> {
        if transfer.done {
            return Ok(None);
        }
        let (mut connection, missing) = match transfer.open.take() {
            Some(open) => open,
            None => self.ask(transfer.received).await?,
        };
        if missing == 0 {
            connection.end_reply();
            self.fetcher.pool.put(&self.holder.address, connection);
            return Ok(None);
        }
        let received = match connection.frame(self.fetcher.config.io_timeout).await {
            Ok(received) => received,
            Err(error) => return Err(self.failed(error, connection.is_shared())),
        };
        let Some(received) = received else {
            let reason = "its file cannot be read".to_owned();
            return Err(Failed::ForGood(FetchCause::Unreadable(reason)));
        };
        if received.way != Way::Shared {
            self.count_in_flight(received.frame.len() as u64);
        }
        let batch = self.decoder.decode(&received.frame, Trust::Cluster).map_err(corrupt)?;
        transfer.received += 1;
        if missing == 1 {
            // Others may use it while the last batch is looked at.
            connection.end_reply();
            self.fetcher.pool.put(&self.holder.address, connection);
            transfer.done = true;
        } else {
            transfer.open = Some((connection, missing - 1));
        }
        self.count(&batch, &received);
        Ok(Some(batch))
    }

    /// Asks for the block, from frame `first` on; says how many frames follow.
    async fn ask(&self, first: u32) -> Result<(Connection, u32), Failed> {
        let request = Request {
            id: self.fetcher.next_request(),
            key: self.key,
            first_frame: first,
            holder: self.holder.executor.clone(),
            epoch: self.holder.epoch,
        };
        let config = &self.fetcher.config;
        let address = self.holder.address.as_str();
        if let Some(mut idle) = self.fetcher.pool.take(address) {
            match idle.ask(&request, config.io_timeout).await {
                Ok(reply) => return self.accept(idle, reply),
                // The peer may have closed it while it lay idle, and the others with it.
                Err(StepError::Broken(_)) => self.fetcher.pool.forget(address),
                Err(error) => return Err(self.failed(error, idle.is_shared())),
            }
        }
        let opened = self.fetcher.routes.open(address, config.connect_timeout).await;
        let mut connection = opened.map_err(step_failed)?;
        match connection.ask(&request, config.io_timeout).await {
            Ok(reply) => self.accept(connection, reply),
            Err(error) => Err(self.failed(error, connection.is_shared())),
        }
    }

    /// What a failed step comes to. Whatever fails with a peer that shares memory, it is asked over TCP next, if it may be.
    fn failed(&self, error: StepError, is_shared: bool) -> Failed {
        let is_busy = matches!(error, StepError::Busy);
        if !is_shared || is_busy || !self.fetcher.routes.may_fall_back() {
            return step_failed(error);
        }
        tracing::warn!(key = %self.key, holder = %self.holder, %error, "a block is asked for over TCP");
        let address = self.holder.address.as_str();
        self.fetcher.routes.avoid_shared(address);
        self.fetcher.pool.forget(address);
        Failed::Again(FetchCause::NotShared(error.to_string()))
    }

    fn accept(&self, connection: Connection, reply: crate::wire::Reply) -> Result<(Connection, u32), Failed> {
        let cause = match reply.status {
            Status::Ok => return Ok((connection, reply.frames)),
            Status::Unknown => FetchCause::Missing,
            Status::NotCommitted => FetchCause::NotCommitted,
            Status::Stale => FetchCause::StaleEpoch,
            Status::Unreadable => FetchCause::Unreadable("its file cannot be read".to_owned()),
            Status::NotShared => FetchCause::Protocol("a status of frames for a block".to_owned()),
        };
        self.fetcher.pool.put(&self.holder.address, connection);
        Err(Failed::ForGood(cause))
    }

    /// Counts a frame that is about to be yielded. It is there whatever the budget says; what the budget can still do is
    /// to let others see it.
    fn count_in_flight(&mut self, bytes: u64) {
        if let Some(grant) = &mut self.grant {
            grant.grow_unchecked(bytes);
        }
    }

    fn count(&self, batch: &RecordBatch, Received { frame, way, copied }: &Received) {
        for counters in [&self.counters, &self.fetcher.counters] {
            counters.count(batch.num_rows(), frame.len(), *way, *copied);
        }
    }
}

fn step_failed(error: StepError) -> Failed {
    match error {
        StepError::Broken(reason) => Failed::Again(FetchCause::Unreachable { tries: 1, reason }),
        StepError::Busy => Failed::Again(FetchCause::Busy),
        StepError::Wire(error) => Failed::ForGood(FetchCause::Protocol(error.to_string())),
        StepError::Nonsense(reason) => Failed::ForGood(FetchCause::Protocol(reason)),
        StepError::NotShared(reason) => Failed::ForGood(FetchCause::NotShared(reason)),
    }
}

/// A frame that was damaged on its way may come whole the next time; one of another schema or version will not.
fn corrupt(error: FormatError) -> Failed {
    match error {
        FormatError::Checksum { .. } => Failed::Again(FetchCause::Corrupt(error)),
        other => Failed::ForGood(FetchCause::Corrupt(other)),
    }
}
