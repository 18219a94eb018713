//! Taking a map output over from an executor whose worker is drained.
//!
//! In the registry it is like an attempt, under the key of the one that wrote it: told again it is not begun again, and what
//! frees the attempt, its stage or its job ends it.

use std::sync::Arc;

use firesteel_base::{Class, UserError};
use firesteel_protocol::v1;
use firesteel_protocol::v1::executor_to_driver::Message;
use firesteel_shuffle::{MapOutput, TakeError, take_over};

use crate::executor::Executor;
use crate::registry::{Cancel, Cancelled};

/// An output that is to be taken over.
#[derive(Debug)]
pub(crate) struct Take {
    pub(crate) executor: Arc<Executor>,
    pub(crate) output: MapOutput,
    pub(crate) cancel: Cancel,
}

impl Take {
    /// Fetches the output and reports it.
    pub(crate) async fn run(self) {
        let (executor, producer) = (Arc::clone(&self.executor), self.output.producer);
        let taken = self.take().await;
        executor.registry.end(&producer, |cancelled| {
            let store = executor.env().store();
            let taken = match cancelled {
                Some(Cancelled { class, reason }) => Err(v1::Failure::of(class, UserError::new(reason))),
                None => taken,
            };
            let committed =
                taken.and_then(|()| store.commit(&producer).map_err(|fault| failure(&fault.into())));
            if let Err(failure) = &committed {
                tracing::info!(%producer, reason = failure.message, "a map output was not taken over");
                store.discard(&producer);
            }
            Message::OutputTaken(v1::OutputTaken {
                producer: Some(producer.into()),
                failure: committed.err(),
            })
        });
    }

    /// On a thread that may be blocked: neither cores nor the control runtime wait for memory that is made, or for a disk.
    async fn take(self) -> Result<(), v1::Failure> {
        let Self { executor, output, cancel } = self;
        let permit = tokio::select! {
            biased;
            () = cancel.requested() => return Err(stopped()),
            permit = executor.takes.acquire() => permit.expect("it is never closed"),
        };
        let runtime = executor.control().clone();
        let (fetcher, store) = (Arc::clone(executor.fetcher()), Arc::clone(executor.env().store()));
        let work = async move {
            tokio::select! {
                biased;
                () = cancel.requested() => Err(stopped()),
                taken = take_over(&fetcher, &store, &output) => taken.map_err(|fault| failure(&fault)),
            }
        };
        let taken = tokio::task::spawn_blocking(move || runtime.block_on(work)).await;
        drop(permit);
        taken
            .unwrap_or_else(|panic| Err(v1::Failure::of(Class::Transient, UserError::new(panic.to_string()))))
    }
}

fn failure(fault: &TakeError) -> v1::Failure {
    v1::Failure::of(fault.class(), UserError::new(fault.to_string()))
}

fn stopped() -> v1::Failure {
    v1::Failure::of(Class::Cancelled, UserError::new("it was stopped"))
}
