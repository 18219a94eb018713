//! The job machine: what a driver decides, and nothing of how it is done.
//!
//! One [`JobMachine`] runs one job. It is stepped with events and answers with effects; the shell turns messages and
//! timers into the first and the second into messages. Inside there is no clock, no randomness, no channel and no
//! iteration in hash order, so a run can be replayed from its events.
//!
//! ```text
//!   job.rs        the job: begins, delivers its result, ends
//!   schedule.rs   which stages are wanted, who gets a slot, what is demanded and freed
//!   early.rs      stages that begin while their inputs are still written
//!   speculate.rs  second attempts of tasks that take much longer than others
//!   reports.rs    what executors report of attempts
//!   cluster.rs    which executors are up, and which of them may be used
//!   drain.rs      workers that are to go: what lies there moves
//!   losses.rs     executors and blocks that are gone, and what must be run again because of it
//!   stage.rs task.rs attempt.rs lease.rs map_outputs.rs   one thing with a life each
//! ```
//!
//! Invariants: a slot of a lease runs one attempt at a time; a task has at most one committed output; an output is
//! freed only when every stage that reads it has all it needs; whatever was leased or stored is given back at the end.

mod adapt;
mod attempt;
mod cluster;
mod demand;
mod drain;
mod early;
mod effect;
mod event;
mod failure;
mod job;
mod lease;
mod losses;
mod map_outputs;
mod plan;
mod policy;
mod progress;
mod reports;
mod schedule;
mod speculate;
mod stage;
mod task;

#[cfg(test)]
mod tests;

use std::fmt;

use firesteel_base::{Epoch, ExecutorId};

pub use adapt::Decision;
pub use cluster::Arrival;
pub use drain::LeftThere;
pub use effect::{Demand, Effect, Launch, Outcome, StageInputs};
pub use event::Event;
pub use failure::{AttemptFailure, LostBlock};
pub use job::{Held, JobMachine};
pub use map_outputs::{BlockSize, MapOutput};
pub use plan::{JobPlan, OutputKind, StagePlan};
pub use policy::Policy;
pub use progress::{JobPhase, JobSnapshot, StageSnapshot};

/// An executor in one of its lives: a restarted one has a later epoch, and nothing of before.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Life {
    /// The executor.
    pub executor: ExecutorId,
    /// Which of its lives.
    pub epoch: Epoch,
}

impl fmt::Display for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.executor, self.epoch)
    }
}
