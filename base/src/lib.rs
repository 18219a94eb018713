//! What every other crate agrees on: ids and their printed form, epochs, time, sizes, memory grants, errors that
//! reach a person, configuration, telemetry and what a service manager is told.
//!
//! It is *not* a place for helpers: a thing lives here only when two crates must agree on its meaning.
//!
//! Invariant: this crate depends on no other crate of the project, and on neither Arrow, DataFusion nor tonic.

pub mod budget;
pub mod config;
pub mod error;
pub mod ids;
pub mod service;
mod sync;
pub mod telemetry;
pub mod time;
pub mod units;
pub mod version;

pub use budget::{Grant, MemoryBudget, OutOfBudget};
pub use error::{Class, UserError};
pub use ids::{AttemptKey, Epoch, ExecutorId, JobId, LeaseId, StageId, StageKey, TaskKey, WorkerId};
pub use time::{Clock, ManualClock, SystemClock, Timestamp};
pub use units::ByteSize;
