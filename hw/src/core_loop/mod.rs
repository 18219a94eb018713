//! Core threads: one named, pinned, memory-bound OS thread per core, each with a loop and a run queue of its own.
//!
//! ```text
//!   CoreHandle::spawn(future) ──> run queue ──> tokio::spawn on the core's own current-thread tokio
//!                                               (plain, or tokio-uring's, with a ring in the loop)
//! ```
//!
//! Whatever a future spawns on tokio stays on its core. A panic ends its future and nothing else. A future that never
//! yields holds its own core and no other, and [`CoreThread::stop`] says so instead of waiting for ever.

mod error;
#[cfg(test)]
mod interleavings;
mod kind;
mod queue;
mod thread;

pub use error::{CoreError, CoreStopped, ParseLoopKindError};
pub use kind::{LoopChoice, LoopKind};
pub use queue::{CoreHandle, CoreUsage};
pub use thread::{CoreThread, CoreThreadConfig, Stopped, stop_all};

#[cfg(test)]
mod tests;
