//! What must hold, looked at after every step.
//!
//! ```text
//!   manager:  events, effects ──► leases: every slot is lent once
//!   drivers:  events, effects ──► jobs: slots, inputs, frees, one end
//!   readers:  rows handed out ──► results: the right rows, each once
//!   the world, at the end      ──► leftovers: no job, lease or block that nobody needs
//! ```
//!
//! It counts on its own and believes no machine. The first violation ends the run.

mod jobs;
mod leases;
mod leftovers;
mod results;

use std::collections::BTreeMap;

use firesteel_base::{AttemptKey, Epoch};
use firesteel_driver::machine::{Decision, Effect, Event, Outcome};
use firesteel_manager::machine::Machine;
use firesteel_manager::machine::message;

use crate::channel::Proc;
use crate::world::driver::QueryPlan;
use crate::world::fetch::Wanted;
use crate::world::worker::Setup;
use jobs::JobLedger;
use leases::LeaseLedger;
use results::Results;

/// Keeps count.
#[derive(Debug, Default)]
pub struct Checker {
    /// What does not hold.
    pub violation: Option<String>,
    /// What has come of the run so far.
    pub counts: Counts,
    leases: LeaseLedger,
    jobs: BTreeMap<(Proc, u64), JobLedger>,
    results: Results,
}

/// What has come of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Queries that gave their result.
    pub succeeded: u64,
    /// Queries that ended with an error.
    pub failed: u64,
    /// Queries that were cancelled.
    pub cancelled: u64,
    /// Queries whose driver was killed.
    pub abandoned: u64,
    /// Attempts launched.
    pub launched: u64,
    /// Blocks read by attempts.
    pub read: u64,
    /// Decisions by sizes.
    pub decided: u64,
    /// Workers that were drained and let go.
    pub drained: u64,
    /// Outputs that have moved.
    pub moved: u64,
}

impl Counts {
    /// Adds those of another run.
    pub fn add(&mut self, other: &Self) {
        self.succeeded += other.succeeded;
        self.failed += other.failed;
        self.cancelled += other.cancelled;
        self.abandoned += other.abandoned;
        self.launched += other.launched;
        self.read += other.read;
        self.decided += other.decided;
        self.drained += other.drained;
        self.moved += other.moved;
    }
}

impl Checker {
    /// Notes that something does not hold.
    pub fn violated(&mut self, what: impl Into<String>) {
        self.violation.get_or_insert_with(|| what.into());
    }

    fn note(&mut self, found: Result<(), String>) {
        if let Err(what) = found {
            self.violated(what);
        }
    }

    /// A worker will run executors of that size.
    pub fn worker_is_set_up(&mut self, setup: &Setup) {
        self.leases.worker_is_set_up(setup);
    }

    /// A manager starts that knows of no lease.
    pub fn manager_started(&mut self) {
        self.leases.begin_anew();
    }

    /// The manager's machine is told something.
    pub fn manager_hears(&mut self, event: &message::Event) {
        self.leases.hear(event);
    }

    /// The manager's machine says something.
    pub fn manager_says(&mut self, effect: &message::Effect, machine: &Machine) {
        let found = self.leases.say(effect, machine);
        self.note(found);
    }

    /// A query begins.
    pub fn query_begins(&mut self, driver: Proc, number: u64, plan: &QueryPlan) {
        self.results.begin(driver, number, plan);
        self.jobs.insert((driver, number), JobLedger::new(format!("q{number}")));
    }

    /// A job's machine has made a step.
    pub fn driver_steps(&mut self, driver: Proc, number: u64, event: &Event, effects: &[Effect]) {
        let launches = effects.iter().filter(|effect| matches!(effect, Effect::Launch(_)));
        self.counts.launched += launches.count() as u64;
        let moves = effects.iter().filter(|effect| matches!(effect, Effect::OutputMoved { .. }));
        self.counts.moved += moves.count() as u64;
        let Some(job) = self.jobs.get_mut(&(driver, number)) else { return };
        let found = job.step(event, effects);
        self.note(found);
    }

    /// A query has ended, and is said to have given so many rows.
    pub fn query_ends(&mut self, driver: Proc, number: u64, outcome: &Outcome, rows: u64) {
        match outcome {
            Outcome::Succeeded => self.counts.succeeded += 1,
            Outcome::Failed(error) if error.message.is_empty() => {
                self.violated(format!("q{number} failed without a word"));
            }
            Outcome::Failed(_) => self.counts.failed += 1,
            Outcome::Cancelled(_) => self.counts.cancelled += 1,
        }
        self.jobs.remove(&(driver, number));
        let found = self.results.end(driver, number, outcome, rows);
        self.note(found);
    }

    /// Rows of a result were handed out.
    pub fn handed_out(&mut self, driver: Proc, number: u64, rows: &[u64]) {
        self.results.hand_out(driver, number, rows);
    }

    /// All rows of a result were handed out.
    pub fn all_read(&mut self, driver: Proc, number: u64) {
        let found = self.results.all_read(driver, number);
        self.note(found);
    }

    /// Sizes have decided something.
    pub fn decided(&mut self, _: &Decision) {
        self.counts.decided += 1;
    }

    /// An attempt has read a block of an executor that is in that epoch.
    pub fn attempt_reads(&mut self, reader: AttemptKey, wanted: &Wanted, epoch: Option<Epoch>) {
        self.counts.read += 1;
        if epoch.is_some_and(|epoch| epoch != wanted.life.epoch) {
            self.violated(format!(
                "{reader} has read what {} wrote under {} from an executor in {}",
                wanted.producer,
                wanted.life.epoch,
                epoch.unwrap_or_default()
            ));
        }
    }

    /// A process is gone, and what it ran with it.
    pub fn process_ended(&mut self, proc: Proc) {
        self.counts.abandoned += self.results.abandon(proc);
        self.jobs.retain(|(driver, _), _| *driver != proc);
    }
}
