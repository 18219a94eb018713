//! A simulator of whole clusters, in one thread and with virtual time.
//!
//! ```text
//!   seed ──► world (a cluster, its users, their queries) ──► step ──► step ──► ... ──► all has settled
//!                 ▲                                            │
//!        faults ──┘             story: what happened ◄─────────┼─────────► check: what must hold
//! ```
//!
//! The job machine of the driver and the machine of the manager are the real ones, and so are the pool of cores of an executor
//! and a worker's history of restarts. What joins them is modelled: the loop around a driver's machines, the manager's
//! sessions, its journal and which of several leads, the daemon of a worker, the processes of drivers that it launches, an executor's
//! registry and attempts, clients that submit jobs, and what is read of blocks. Each model says in its file what it follows. Rows are
//! numbers, so that a result can be held against the right one ([`plan`]).
//!
//! Another simulation asks what a large cluster costs: [`scale`].
//!
//! A seed gives the same run every time: all chance comes from one generator, time moves only from one due thing to the
//! next, and nothing is walked through in the order of a hash.

pub mod agenda;
pub mod chance;
pub mod channel;
pub mod check;
pub mod faults;
pub mod known;
pub mod mutation;
pub mod plan;
mod run;
pub mod scale;
pub mod story;
pub mod world;

pub use run::{Options, Report, run};
