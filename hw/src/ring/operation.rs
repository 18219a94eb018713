//! Operations as their callers see them.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::OwnedSemaphorePermit;

use super::slab::{Direction, Key, Transfer};
use super::state::Shared;
use super::{OperationError, Ring, RingFile};
use crate::pages::Pages;

/// The bytes that were moved, or why not, and the buffer in either case.
pub type Outcome = (Result<usize, OperationError>, Pages);

/// An operation in flight. Dropping it cancels the operation.
pub(super) struct Operation {
    shared: Rc<Shared>,
    key: Option<Key>,
}

impl Operation {
    /// Starts transfers, each of which the kernel begins when the one before it has succeeded.
    pub(super) fn start(shared: &Rc<Shared>, transfers: Vec<(Transfer, OwnedSemaphorePermit)>) -> Vec<Self> {
        let keys = shared.start(transfers);
        keys.into_iter().map(|key| Self { shared: Rc::clone(shared), key: Some(key) }).collect()
    }
}

impl Future for Operation {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let key = self.key.expect("an operation is not polled after its end");
        let polled = self.shared.poll(key, cx);
        if polled.is_ready() {
            self.key = None;
        }
        polled
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.shared.abandon(key);
        }
    }
}

/// One of several operations that are done in order.
#[derive(Debug)]
pub struct Step {
    transfer: Transfer,
}

impl Step {
    /// Writes all pages at byte `at`.
    #[must_use]
    pub fn write(file: &RingFile, pages: Pages, at: u64) -> Self {
        Self { transfer: Transfer::new(Direction::Write, file, pages, at) }
    }

    /// Reads from byte `at` until the pages are full or the file ends.
    #[must_use]
    pub fn read(file: &RingFile, pages: Pages, at: u64) -> Self {
        Self { transfer: Transfer::new(Direction::Read, file, pages, at) }
    }
}

pub(super) async fn in_order(ring: &Ring, steps: Vec<Step>) -> Vec<Outcome> {
    if steps.is_empty() {
        return Vec::new();
    }
    // All at once, or two chains that each have half of what they need would wait for each other.
    let count = u32::try_from(steps.len()).expect("a chain is no longer than the ring is deep");
    let permits = Arc::clone(&ring.shared.limit).acquire_many_owned(count).await;
    let mut permits = permits.expect("the ring never closes it");
    let again: Vec<_> = steps.iter().map(|Step { transfer }| transfer.beginning()).collect();
    let with_permit = |Step { transfer }| (transfer, permits.split(1).expect("one for each step"));
    let operations = Operation::start(&ring.shared, steps.into_iter().map(with_permit).collect());
    let mut outcomes: Vec<Outcome> = Vec::new();
    for (operation, beginning) in operations.into_iter().zip(again) {
        let (result, pages) = operation.await;
        let before_succeeded = outcomes.iter().all(|(result, _)| result.is_ok());
        // One that came back short breaks the chain behind it. It has been gone on with, and so is the chain.
        let broken = matches!(&result, Err(fault) if fault.is_cancelled());
        let first = outcomes.is_empty();
        outcomes.push(if broken && before_succeeded && !first {
            ring.transfer(beginning.with(pages)).await
        } else {
            (result, pages)
        });
    }
    outcomes
}
