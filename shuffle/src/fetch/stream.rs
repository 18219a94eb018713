//! The stream of one block's batches, or of its frames.

use std::sync::Arc;
use std::time::Duration;

use firesteel_base::Grant;
use futures::{Stream, stream};
use tokio::time::Instant;

use super::ahead::LocalFrames;
use super::form::Form;
use super::routes::Routed;
use super::{FetchCause, FetchCounters, FetchError, Fetcher};
use crate::format::{FormatError, Trust};
use crate::key::{BlockKey, Holder};
use crate::store::StoreError;
use crate::transport::{Asked, Received, StepError, Transfer};
use crate::wire::{Request, Status};

/// The pause before a block is asked for a second time; it doubles from try to try.
const PAUSE: Duration = Duration::from_millis(20);

/// The pause before a keeper is asked again that does not know yet that the executor is gone.
const KEEPER_PAUSE: Duration = Duration::from_millis(50);

/// What is made of the frames of a block, from that frame on.
pub(super) fn stream<F: Form>(
    fetcher: Arc<Fetcher>,
    holder: Holder,
    key: BlockKey,
    first_frame: u32,
    form: F,
    counters: Arc<FetchCounters>,
) -> impl Stream<Item = Result<F::Item, FetchError>> + Send {
    let at = At::Holder;
    let fetch = Fetch { form, fetcher, holder, at, key, taken: first_frame, counters, grant: None };
    stream::try_unfold((fetch, Source::Unknown), |(mut fetch, mut source)| async move {
        match fetch.next(&mut source).await {
            Ok(Some(batch)) => Ok(Some((batch, (fetch, source)))),
            Ok(None) => Ok(None),
            Err(cause) => Err(FetchError { key: fetch.key, holder: fetch.holder, cause }),
        }
    })
}

/// A block that is being read.
struct Fetch<F> {
    fetcher: Arc<Fetcher>,
    holder: Holder,
    at: At,
    key: BlockKey,
    /// Frames yielded, or not wanted.
    taken: u32,
    form: F,
    counters: Arc<FetchCounters>,
    /// Counts the frame that was yielded last, until the next one is asked for.
    grant: Option<Grant>,
}

/// Who is asked for the block.
#[derive(Clone, Copy)]
enum At {
    /// The executor that wrote it.
    Holder,
    /// Its worker, for it is gone. The worker may hear of that later than we do.
    Keeper { until: Instant },
}

/// Where the next frame comes from.
enum Source {
    /// Not known before the first poll.
    Unknown,
    /// The own store.
    Local(LocalFrames),
    /// A peer.
    Remote(Remote),
    /// Nowhere: all have come.
    End,
}

/// How far the transfer from a peer has come.
#[derive(Default)]
struct Remote {
    /// Frames received, or not wanted.
    received: u32,
    /// What is under way, and how many of its frames are still to come.
    open: Option<Open>,
    /// Tries without a frame.
    failed: u32,
    /// The block is not in shared memory, or not all of it.
    tcp_only: bool,
    /// All frames have come.
    done: bool,
}

struct Open {
    transfer: Box<dyn Transfer>,
    missing: u32,
    is_shared: bool,
}

/// Why a try failed, and whether another makes sense.
enum Failed {
    /// After a while; it was not a try that failed.
    Later(FetchCause),
    Again(FetchCause),
    /// Over TCP; it was not a try that failed.
    OverTcp(FetchCause),
    ForGood(FetchCause),
}

impl<F: Form> Fetch<F> {
    async fn next(&mut self, source: &mut Source) -> Result<Option<F::Item>, FetchCause> {
        self.grant = None;
        loop {
            let cause = match self.next_from(source).await {
                Ok(next) => return Ok(next),
                Err(cause) => cause,
            };
            if !self.follow() {
                return Err(cause);
            }
            self.count_retry(&cause);
            *source = Source::Unknown;
        }
    }

    async fn next_from(&mut self, source: &mut Source) -> Result<Option<F::Item>, FetchCause> {
        loop {
            match source {
                Source::Unknown => {
                    self.follow();
                    *source = self.locate()?;
                }
                Source::Local(frames) => match frames.next().await? {
                    Some((received, trust)) => return self.take_local(received, trust).map(Some),
                    None => *source = Source::End,
                },
                Source::Remote(remote) => match self.receive_with_retries(remote).await? {
                    Some(item) => return Ok(Some(item)),
                    None => *source = Source::End,
                },
                Source::End => return Ok(None),
            }
        }
    }

    /// Turns to where the output has moved, when it has: the rest is read there.
    fn follow(&mut self) -> bool {
        let Some(holder) = self.fetcher.moved.from(&self.key.producer, &self.holder) else { return false };
        tracing::debug!(key = %self.key, from = %self.holder, to = %holder, "block is read where it has moved to");
        (self.holder, self.at) = (holder, At::Holder);
        true
    }

    fn has_moved(&self) -> bool {
        self.fetcher.moved.from(&self.key.producer, &self.holder).is_some()
    }

    /// Finds out whether this executor holds the block itself.
    fn locate(&mut self) -> Result<Source, FetchCause> {
        let fetcher = Arc::clone(&self.fetcher);
        let local = fetcher.local.read();
        let Some((_, epoch, store)) = local.as_ref().filter(|(own, _, _)| *own == self.holder.executor)
        else {
            return Ok(self.remote());
        };
        if *epoch != self.holder.epoch {
            // An earlier life of ours wrote it.
            let is_kept = self.ask_keeper();
            return if is_kept { Ok(self.remote()) } else { Err(FetchCause::StaleEpoch) };
        }
        let mut frames = store.frames(&self.key).map_err(|error| match error {
            StoreError::NotCommitted(_) => FetchCause::NotCommitted,
            _ => FetchCause::Missing,
        })?;
        let first = self.taken as usize;
        if first > frames.len() {
            return Err(FetchCause::Missing);
        }
        Ok(Source::Local(LocalFrames::new(frames.split_off(first), fetcher.memory.clone())))
    }

    /// A peer of which nothing has been asked yet.
    fn remote(&self) -> Source {
        Source::Remote(Remote { received: self.taken, ..Remote::default() })
    }

    fn take_local(&mut self, received: Received, trust: Trust) -> Result<F::Item, FetchCause> {
        let seal = self.key.seal(self.taken);
        let item = self.form.make(&received.frame, trust, seal, None).map_err(FetchCause::Corrupt)?;
        self.take(&item, received);
        Ok(item)
    }

    async fn receive_with_retries(&mut self, remote: &mut Remote) -> Result<Option<F::Item>, FetchCause> {
        loop {
            let cause = match self.receive(remote).await {
                Ok(item) => {
                    remote.failed = 0;
                    return Ok(item);
                }
                Err(Failed::Later(cause)) if self.has_moved() => return Err(cause),
                Err(Failed::Later(cause)) => {
                    tracing::debug!(key = %self.key, %cause, "its keeper does not have the block yet");
                    tokio::time::sleep(KEEPER_PAUSE).await;
                    continue;
                }
                Err(Failed::ForGood(cause)) => return Err(cause),
                Err(Failed::OverTcp(cause)) => {
                    remote.tcp_only = true;
                    self.count_retry(&cause);
                    continue;
                }
                Err(Failed::Again(cause)) => cause,
            };
            remote.failed += 1;
            if remote.failed >= self.fetcher.config.tries_max {
                let is_elsewhere = self.has_moved();
                if !is_elsewhere && matches!(cause, FetchCause::Unreachable { .. }) && self.ask_keeper() {
                    remote.failed = 0;
                    self.count_retry(&cause);
                    continue;
                }
                return Err(match cause {
                    FetchCause::Unreachable { reason, .. } => {
                        FetchCause::Unreachable { tries: remote.failed, reason }
                    }
                    other => other,
                });
            }
            self.count_retry(&cause);
            tokio::time::sleep(PAUSE * (1 << (remote.failed - 1).min(6))).await;
        }
    }

    /// Asks its worker from now on, when there is one that keeps blocks and it was not asked before.
    fn ask_keeper(&mut self) -> bool {
        if self.holder.keeper.is_empty() || matches!(self.at, At::Keeper { .. }) {
            return false;
        }
        self.at = At::Keeper { until: Instant::now() + self.fetcher.config.keeper_wait };
        true
    }

    /// Whom to ask.
    fn address(&self) -> &str {
        match self.at {
            At::Holder => &self.holder.address,
            At::Keeper { .. } => &self.holder.keeper,
        }
    }

    fn refused(&self, status: Status) -> Failed {
        match (self.at, status) {
            (At::Keeper { until }, Status::Stale) if Instant::now() < until => {
                Failed::Later(FetchCause::StaleEpoch)
            }
            _ => refused(status),
        }
    }

    fn count_retry(&self, cause: &FetchCause) {
        self.counters.count_retry();
        self.fetcher.counters.count_retry();
        tracing::debug!(key = %self.key, holder = %self.holder, %cause, "block is asked for again");
    }

    /// Receives the next frame; `None` when all have come.
    async fn receive(&mut self, remote: &mut Remote) -> Result<Option<F::Item>, Failed> {
        if remote.done {
            return Ok(None);
        }
        let mut open = match remote.open.take() {
            Some(open) => open,
            None => self.ask(remote.received, remote.tcp_only).await?,
        };
        if open.missing == 0 {
            return Ok(None);
        }
        let next = self.unless_gone(open.transfer.next()).await?;
        let received = next.map_err(|error| self.failed(error, open.is_shared))?;
        let (received, item) = match self.decode(received) {
            Ok(decoded) => decoded,
            Err(failed) => {
                open.transfer.distrust();
                return Err(failed);
            }
        };
        remote.received += 1;
        open.missing -= 1;
        remote.done = open.missing == 0;
        if !remote.done {
            remote.open = Some(open);
        }
        self.take(&item, received);
        Ok(Some(item))
    }

    /// The next frame and what is made of it, out of what a peer has sent.
    fn decode(&self, received: Received) -> Result<(Received, F::Item), Failed> {
        // What was packed and cannot be unpacked was damaged on its way, as with a wrong checksum.
        let damaged = |error| Failed::Again(FetchCause::Corrupt(error));
        let received = self.fetcher.memory.unpack(received).map_err(damaged)?;
        let seal = self.key.seal(self.taken);
        let item = self.form.make(&received.frame, Trust::Cluster, seal, received.summed);
        Ok((received, item.map_err(corrupt)?))
    }

    /// Asks for the block from a frame on.
    async fn ask(&self, first_frame: u32, tcp_only: bool) -> Result<Open, Failed> {
        let request = Request {
            id: self.fetcher.next_request(),
            key: self.key,
            first_frame,
            holder: self.holder.executor.clone(),
            epoch: self.holder.epoch,
        };
        let (routes, address) = (&self.fetcher.routes, self.address());
        let asking = async {
            if tcp_only {
                routes.ask_over_tcp(address, &request).await
            } else {
                routes.ask(address, &request).await
            }
        };
        let Routed { asked, is_shared } = self.unless_gone(asking).await?;
        match asked.map_err(|error| self.failed(error, is_shared))? {
            Asked::Coming(transfer) => Ok(Open { missing: transfer.frames(), transfer, is_shared }),
            Asked::Refused(status) => Err(self.refused(status)),
        }
    }

    /// What comes of a step, unless its holder goes away meanwhile.
    async fn unless_gone<T>(&self, step: impl Future<Output = T>) -> Result<T, Failed> {
        tokio::select! {
            biased;
            came = step => Ok(came),
            () = self.fetcher.gone.wait(&self.holder) => Err(Failed::ForGood(FetchCause::Gone)),
        }
    }

    /// What a failed step comes to. Whatever fails with a peer that shares memory, it is asked over TCP next, if it may be.
    fn failed(&self, error: StepError, is_shared: bool) -> Failed {
        let is_busy = matches!(error, StepError::Busy | StepError::Unreadable);
        if !is_shared || is_busy || !self.fetcher.routes.may_fall_back() {
            return step_failed(error);
        }
        if matches!(error, StepError::FrameNotShared) {
            return Failed::OverTcp(FetchCause::NotShared(error.to_string()));
        }
        tracing::warn!(key = %self.key, holder = %self.holder, %error, "a block is asked for over TCP");
        self.fetcher.routes.avoid_shared(self.address());
        Failed::Again(FetchCause::NotShared(error.to_string()))
    }

    /// Counts a frame that is about to be yielded; its memory, until the next one is asked for.
    fn take(&mut self, item: &F::Item, received: Received) {
        for counters in [&self.counters, &self.fetcher.counters] {
            counters.count(F::rows(item), &received);
        }
        self.grant = received.grant;
        self.taken += 1;
    }
}

fn refused(status: Status) -> Failed {
    Failed::ForGood(match status {
        Status::Unknown => FetchCause::Missing,
        Status::NotCommitted => FetchCause::NotCommitted,
        Status::Stale => FetchCause::StaleEpoch,
        Status::Unreadable => FetchCause::Unreadable("its file cannot be read".to_owned()),
        Status::Ok | Status::NotShared => FetchCause::Protocol("a status of frames for a block".to_owned()),
    })
}

fn step_failed(error: StepError) -> Failed {
    match error {
        StepError::Broken(reason) | StepError::Nobody(reason) => {
            Failed::Again(FetchCause::Unreachable { tries: 1, reason })
        }
        StepError::Busy => Failed::Again(FetchCause::Busy),
        StepError::Wire(error) => Failed::ForGood(FetchCause::Protocol(error.to_string())),
        StepError::Untrusted(reason) => Failed::ForGood(FetchCause::Untrusted(reason)),
        StepError::Nonsense(reason) => Failed::ForGood(FetchCause::Protocol(reason)),
        StepError::NotShared(reason) => Failed::ForGood(FetchCause::NotShared(reason)),
        StepError::FrameNotShared => Failed::ForGood(FetchCause::NotShared(error.to_string())),
        StepError::Unreadable => Failed::ForGood(FetchCause::Unreadable(error.to_string())),
    }
}

/// A frame that was damaged on its way may come whole the next time; one of another schema or version will not.
fn corrupt(error: FormatError) -> Failed {
    match error {
        FormatError::Checksum { .. } => Failed::Again(FetchCause::Corrupt(error)),
        other => Failed::ForGood(FetchCause::Corrupt(other)),
    }
}
