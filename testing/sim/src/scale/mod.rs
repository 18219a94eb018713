//! What a cluster costs its manager and its drivers as it grows: how many messages, of how many bytes, how much time and memory.
//!
//! ```text
//!   nodes ── register, beat ──┐                           ┌── demands, releases, progress ── drivers, a job each
//!                             ├──► the manager's machine ◄┤                                     │  the job machine
//!                             │     one turn for all that ├──► grants, revokes ───────────────► │
//!                             │     came in a millisecond │                                     ▼
//!                             └───────────────────────────┘        attempts: a time drawn for each, none fails
//! ```
//!
//! The machines are the real ones, and what the manager hears and says are the messages of the wire, as bytes. Everything else is
//! as little as it can be: nothing goes wrong, nothing is checked, and executors are a table of when attempts end. So the time
//! that a run takes is that of the machines and of coding messages, which is what it measures. What happens follows from the
//! options alone; only the times are the machine's that it runs on.

mod cluster;
mod driver;
mod job;
mod manager;
mod report;
mod tally;

pub use cluster::run;
pub use report::Report;
pub use tally::{Allocated, Kinds, Sent, Spans, Tally};

/// How large a cluster is, and what it is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scale {
    /// Workers, each with one executor.
    pub nodes: u32,
    /// Core threads of each executor.
    pub slots: u32,
    /// Jobs, each with a driver of its own.
    pub jobs: u32,
    /// Tasks of all jobs together.
    pub tasks: u32,
    /// Over how many seconds of virtual time the jobs come.
    pub arrival_s: u64,
    /// Of which the times of attempts are drawn.
    pub seed: u64,
}

impl Default for Scale {
    fn default() -> Self {
        Self { nodes: 10_000, slots: 8, jobs: 1_000, tasks: 1_000_000, arrival_s: 30, seed: 0 }
    }
}

/// How far a run has come, for whoever waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Tasks that are done.
    pub tasks_done: u64,
    /// Seconds of virtual time.
    pub virtual_s: u64,
}
