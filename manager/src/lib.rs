//! The cluster manager: who is in the cluster, what hardware each node has, and who may use which slots.
//!
//! It is *not* a scheduler of tasks: drivers decide which attempt runs next. The manager lends them *slots*, a number
//! of tasks at a time of one stage on one executor, and takes those back. It knows no SQL and no Arrow.
//!
//! ```text
//!   workers ──┐                   ┌───────────────┐ effects ┌──► workers
//!   drivers ──┼─ shell ─ events ─►│    machine    ├─────────┼──► drivers
//!   clients ──┘                   │   step(now)   │         └──► clients
//!                                 └───┬───────▲───┘
//!                         demand, view│       │placements
//!                                 ┌───▼───────┴───┐
//!                                 │   placement   │  a pure function
//!                                 └───────────────┘
//! ```
//!
//! Invariants:
//! - The machine has no async, no clock, no randomness, no channel and iterates no hash map: the same events at the
//!   same times give the same effects. tonic and the wire's messages are named in [`shell`] only.
//! - Slots lent on an executor never exceed its cores, nor their memory its memory.
//! - A lease is on an executor that is up, under the epoch of its present life, for a job that has not ended.
//! - Every queue, table and history has a named limit ([`Limits`]).

pub mod config;
pub mod machine;
pub mod placement;
pub mod shell;
pub mod tokens;

pub use config::{Limits, ManagerConfig};
#[cfg(any(test, fuzzing))]
pub use shell::fuzzed;
pub use shell::{BoxStream, Counts, Guard, Journal, Manager, ManagerMetrics, Member, Messages, Peers};
