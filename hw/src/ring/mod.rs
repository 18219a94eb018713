//! Rings of our own, on the plain io-uring crate: input and output of files on a core's thread, without blocking it.
//!
//! ```text
//!   Ring::write/read/in_order ──> slab (owns what is in flight) ──> submission queue ──> kernel
//!            ^                                                                          │
//!            └── woken ── driver, a future on the thread's tokio <── eventfd <──────────┘
//! ```
//!
//! A ring belongs to one thread and lives in that thread's current-thread tokio. Its driver is a future beside the others:
//! queueing wakes it, so it runs once all futures that are ready have queued what they want, and submits that at once. It
//! sleeps on an eventfd that the kernel signals, through tokio's `AsyncFd`, so nothing spins and the loop's own sleep is
//! epoll's. (Being the loop's parker instead would save one system call a wake-up, and would need a runtime of our own:
//! [decision 0004](../../../docs/decisions/0004-rings.md).)
//!
//! Guarantees: a buffer goes in by value and comes back with the result, also of a failure; dropping the future cancels the
//! operation, and the buffer and the file are kept until the kernel has let go of them; the user data of an operation is a key
//! with a generation and never a pointer; short transfers go on until they are whole or the file ends; no more than
//! [`RingConfig::depth`] operations are in flight, the next one waits. When the runtime ends with operations in flight they
//! are cancelled and awaited before their memory is freed; if the kernel holds on to them for too long, the memory is left
//! to it and an error is logged.
//!
//! Non-guarantees: operations that are not chained with [`Ring::in_order`] are done in any order.

mod driver;
mod error;
mod feature;
mod file;
mod operation;
mod setup;
mod slab;
mod state;
#[cfg(test)]
mod tests;

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

pub use error::{OperationError, RingError};
pub use feature::{Feature, usable};
pub use file::RingFile;
pub use operation::{Outcome, Step};
pub use setup::{RingConfig, RingReport};

use crate::pages::Pages;
use operation::Operation;
use slab::{Direction, Transfer};
use state::Shared;

/// What a ring has done since it was started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RingCounts {
    /// Operations given to the kernel, parts of what came back short among them.
    pub submitted: u64,
    /// Calls into the kernel to submit and to collect.
    pub enters: u64,
    /// Operations that came back short and were gone on with.
    pub continued: u64,
    /// Operations whose future was dropped.
    pub abandoned: u64,
    /// Completions of operations that the slab does not know. Never any, or the kernel or this module is at fault.
    pub unknown: u64,
}

/// A ring, used on the thread that started it. Clones share it. It ends when the last clone is dropped and nothing is in
/// flight, or with the runtime.
pub struct Ring {
    shared: Rc<Shared>,
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ring({} in flight, {:?})", self.in_flight(), self.report())
    }
}

impl Clone for Ring {
    fn clone(&self) -> Self {
        self.shared.add_handle();
        Self { shared: Rc::clone(&self.shared) }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        self.shared.drop_handle();
    }
}

impl Ring {
    /// Starts a ring on this thread. What the kernel does not give is done without, and said in the [report](Ring::report).
    ///
    /// # Errors
    /// When the kernel gives no ring at all.
    ///
    /// # Panics
    /// Outside of a current-thread tokio that takes local futures.
    pub fn start(config: &RingConfig) -> Result<Self, RingError> {
        let shared = driver::start(config)?;
        shared.add_handle();
        Ok(Self { shared })
    }

    /// What was asked for and is in use, and what is not and why.
    #[must_use]
    pub fn report(&self) -> &RingReport {
        &self.shared.report
    }

    /// Operations that the kernel has, those among them whose future was dropped.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.shared.in_flight()
    }

    /// What it has done so far.
    #[must_use]
    pub fn counts(&self) -> RingCounts {
        self.shared.counts()
    }

    /// Writes all pages at byte `at`. Gives the bytes written, which is all of them, and the pages.
    pub async fn write(&self, file: &RingFile, pages: Pages, at: u64) -> Outcome {
        self.transfer(Transfer::new(Direction::Write, file, pages, at)).await
    }

    /// Reads from byte `at` until the pages are full or the file ends. Gives the bytes read and the pages.
    pub async fn read(&self, file: &RingFile, pages: Pages, at: u64) -> Outcome {
        self.transfer(Transfer::new(Direction::Read, file, pages, at)).await
    }

    async fn transfer(&self, transfer: Transfer) -> Outcome {
        if transfer.is_whole() {
            return (Ok(0), transfer.into_pages());
        }
        let permit = Arc::clone(&self.shared.limit).acquire_owned().await;
        let permit = permit.expect("the ring never closes it");
        Operation::start(&self.shared, vec![(transfer, permit)]).remove(0).await
    }

    /// Does the steps one after another, as one submission: the kernel begins each when the one before has succeeded. After
    /// one that failed the rest are not done, and say that they were cancelled. Outcomes come in the order of the steps.
    ///
    /// # Panics
    /// With more steps than the ring's depth.
    pub async fn in_order(&self, steps: Vec<Step>) -> Vec<Outcome> {
        operation::in_order(self, steps).await
    }
}
