//! What must hold, looked at after every step.
//!
//! ```text
//!   manager:  events, effects ──► leases: every slot is lent once
//!   drivers:  events, effects ──► jobs: slots, inputs, frees, one end
//!   readers:  rows handed out ──► results: the right rows, each once
//!   clients:  what they are told ─► submitted: launches, one end, the result of the last launch
//!   the world, at the end      ──► leftovers: no job, lease or block that nobody needs
//! ```
//!
//! It counts on its own and believes no machine. The first violation ends the run.

mod jobs;
mod leases;
mod leftovers;
mod results;
mod submitted;

use std::collections::BTreeMap;
use std::rc::Rc;

use firesteel_base::{AttemptKey, Epoch, JobId};
use firesteel_driver::machine::{Decision, Effect, Event, Outcome};
use firesteel_manager::machine::Machine;
use firesteel_manager::machine::job::Job;
use firesteel_manager::machine::message;

use crate::channel::Proc;
use crate::world::driver::QueryPlan;
use crate::world::fetch::Wanted;
use crate::world::worker::Setup;
use jobs::JobLedger;
use leases::LeaseLedger;
use results::Results;
use submitted::SubmittedLedger;

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
    submitted: SubmittedLedger,
    /// The latest run of a manager.
    run: u64,
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
    /// Submitted jobs that succeeded.
    pub submitted: u64,
    /// Submitted jobs whose driver was launched again.
    pub launched_again: u64,
    /// Results that clients have fetched.
    pub delivered: u64,
    /// Results that were not there any more.
    pub results_lost: u64,
    /// Managers that began after another.
    pub managers: u64,
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
        self.submitted += other.submitted;
        self.launched_again += other.launched_again;
        self.delivered += other.delivered;
        self.results_lost += other.results_lost;
        self.managers += other.managers;
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
    pub fn manager_started(&mut self, run: u64) {
        self.counts.managers += u64::from(self.run > 0);
        self.run = run;
        self.leases.begin_anew();
    }

    /// Whether there was a manager.
    #[must_use]
    pub fn has_had_a_manager(&self) -> bool {
        self.run > 0
    }

    /// The manager's machine is told something.
    pub fn manager_hears(&mut self, event: &message::Event) {
        self.leases.hear(event);
    }

    /// The machine of the manager of that run says something.
    pub fn manager_says(&mut self, run: u64, effect: &message::Effect, machine: &Machine) {
        if run < self.run {
            return self.violated(format!("the manager of run {run} speaks, and run {} has begun", self.run));
        }
        let found = self.leases.say(effect, machine);
        self.note(found);
        let found = self.submitted.say(effect, machine);
        self.note(found);
    }

    /// A text that clients submit, and the rows that it must give.
    pub fn text(&mut self, sql: String, rows: Rc<Vec<u64>>) {
        self.submitted.text(sql, rows);
    }

    /// A client has heard that its job is taken.
    pub fn job_taken(&mut self, job: JobId, sql: &str) {
        self.submitted.taken(job, sql);
    }

    /// Somebody has a job cancelled.
    pub fn job_cancelled(&mut self, job: JobId) {
        self.submitted.cancelled(job);
    }

    /// A client is told how a job is that was taken.
    pub fn client_sees(&mut self, id: JobId, job: Option<&Job>) {
        let found = self.submitted.client_sees(id, job);
        self.note(found);
    }

    /// A client has a job's result.
    pub fn delivered(&mut self, job: JobId, launch: u32, rows: &[u64]) {
        self.counts.delivered += 1;
        let found = self.submitted.delivered(job, launch, rows);
        self.note(found);
    }

    /// The process of a launch begins.
    pub fn driver_begins(&mut self, job: JobId, launch: u32) {
        let found = self.submitted.begins(job, launch);
        self.note(found);
    }

    /// A driver has a job at an executor, where these outputs are.
    pub fn driver_has_job(&mut self, driver: Proc, held: impl Iterator<Item = AttemptKey>) {
        let found = self.submitted.has_job(driver, held);
        self.note(found);
    }

    /// Attempts of a submitted job are of that driver.
    pub fn submitted_launches(&mut self, driver: Proc, effects: &[Effect]) {
        for effect in effects {
            if let Effect::Launch(launch) = effect {
                let found = self.submitted.attempt(launch.attempt, driver);
                self.note(found);
            }
        }
    }

    /// Counts what has come of submitted jobs.
    pub fn count_submitted(&mut self) {
        self.counts.submitted = self.submitted.succeeded();
        self.counts.launched_again = self.submitted.launched_again();
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
        let found = self.submitted.reads(reader, wanted.producer);
        self.note(found);
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
