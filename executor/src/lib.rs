//! The executor, which runs attempts of tasks on pinned core threads, and the worker, the daemon of a host that starts
//! executors and keeps them alive.
//!
//! ```text
//!   driver --Attach--> shell::session -> registry --+-> attempt (control runtime: steers, never computes)
//!                            ^                      |        | spawns lanes, collects their ends
//!                            +------- reports ------+        v
//!                                           core thread 0 .. n: engine::run::Task::run_lane
//!                                                            | writes, fetches
//!   other executors <--BlockServer-- BlockStore <------------+
//!
//!   manager <--WorkerSession-- worker -- child processes: `firesteel executor`, `firesteel driver`
//! ```
//!
//! It is *not* where decisions about jobs are made: which attempt runs where, and what follows from a failure, is the
//! driver's and the manager's to say.
//!
//! Invariants: no query work runs on the control runtime, and no control work waits on a core thread; a panic ends its
//! attempt and nothing else; nothing of an attempt is readable before it is committed, and what an ended attempt did
//! not commit is discarded; an attempt is reported ended only when everything it spawned has been dropped and its
//! cores are free again.

mod attempt;
pub mod config;
pub mod convert;
pub mod cores;
mod executor;
mod memory_guard;
pub mod process;
mod registry;
mod reports;
mod scope;
pub mod scratch;
pub mod shell;
mod take;
pub mod worker;

pub use config::{BlockSettings, ExecutorConfig, Limits};
pub use executor::{Executor, ExecutorStatus};
pub use process::ExecutorProcessConfig;
pub use worker::WorkerConfig;
