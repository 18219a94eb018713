//! Submitted jobs: each launch is told once and begun once, what a job gave is of the last of them, and its end is told once and
//! stays what it is.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use firesteel_base::{AttemptKey, JobId};
use firesteel_manager::machine::Machine;
use firesteel_manager::machine::job::{Job, Phase};
use firesteel_manager::machine::message::{Effect, Ending, ToWorker};

use crate::channel::Proc;

/// How often a driver may be launched.
const LAUNCHES_MAX: u32 = 2;

#[derive(Debug, Default)]
struct Entry {
    /// The latest launch that a worker was told of.
    launch: u32,
    /// Launches whose process has begun.
    begun: BTreeSet<u32>,
    is_cancelled: bool,
    /// How it ended, once a manager has said so.
    ended: Option<Ending>,
}

/// All submitted jobs.
#[derive(Debug, Default)]
pub struct SubmittedLedger {
    jobs: BTreeMap<JobId, Entry>,
    /// The rows that each text must give.
    texts: BTreeMap<String, Rc<Vec<u64>>>,
    /// Which text a job runs, once its client has heard its number.
    taken: BTreeMap<JobId, String>,
    /// Which driver has launched an attempt.
    owners: BTreeMap<AttemptKey, Proc>,
}

impl SubmittedLedger {
    /// A text that clients submit, and the rows that it must give.
    pub fn text(&mut self, sql: String, rows: Rc<Vec<u64>>) {
        self.texts.insert(sql, rows);
    }

    /// A client has heard that its job is taken.
    pub fn taken(&mut self, job: JobId, sql: &str) {
        self.taken.insert(job, sql.to_owned());
    }

    /// Somebody has a job cancelled.
    pub fn cancelled(&mut self, job: JobId) {
        self.jobs.entry(job).or_default().is_cancelled = true;
    }

    /// A manager says something. What has ended is so in its machine already.
    pub fn say(&mut self, effect: &Effect, machine: &Machine) -> Result<(), String> {
        match effect {
            Effect::ToWorker(_, ToWorker::LaunchDriver { job, launch, .. }) => self.launch(*job, *launch),
            Effect::JobEnded(job) => {
                machine.job(*job).filter(|job| job.launch.is_some()).map_or(Ok(()), |job| self.ended(job))
            }
            _ => Ok(()),
        }
    }

    fn launch(&mut self, job: JobId, launch: u32) -> Result<(), String> {
        let entry = self.jobs.entry(job).or_default();
        if entry.ended.is_some() {
            return Err(format!("the driver of {job} is launched, which has ended"));
        }
        if launch < entry.launch || launch > LAUNCHES_MAX {
            return Err(format!("{job} is launched for the {launch}. time after the {}.", entry.launch));
        }
        entry.launch = launch;
        Ok(())
    }

    /// The process of a launch begins.
    pub fn begins(&mut self, job: JobId, launch: u32) -> Result<(), String> {
        let entry = self.jobs.entry(job).or_default();
        if entry.begun.insert(launch) {
            Ok(())
        } else {
            Err(format!("launch {launch} of {job} begins twice"))
        }
    }

    fn ended(&mut self, job: &Job) -> Result<(), String> {
        let id = job.id;
        let Phase::Ended(ending) = &job.phase else {
            return Err(format!("{id} is said to have ended, and runs"));
        };
        let entry = self.jobs.entry(id).or_default();
        if entry.ended.is_some() {
            return Err(format!("the end of {id} is told twice"));
        }
        entry.ended = Some(ending.clone());
        match ending {
            Ending::Cancelled { reason } if !entry.is_cancelled => {
                Err(format!("{id} is told as cancelled, and nobody wanted that: {reason}"))
            }
            Ending::Failed(failure)
                if failure.error.message.contains("did not start in time")
                    && !entry.begun.contains(&entry.launch) =>
            {
                Err(format!("launch {} of {id} is lost: no process of it has begun", entry.launch))
            }
            Ending::Succeeded { .. } | Ending::Failed(_) | Ending::Cancelled { .. } => Ok(()),
        }
    }

    /// A client is told how a job is that was taken.
    pub fn client_sees(&mut self, id: JobId, job: Option<&Job>) -> Result<(), String> {
        let Some(job) = job else { return Err(format!("{id} was taken, and the manager does not know it")) };
        let known = self.jobs.entry(id).or_default().ended.clone();
        match (known, &job.phase) {
            (Some(ending), Phase::Ended(now)) if ending != *now => {
                Err(format!("{id} had ended, {ending:?}, and is now {now:?}"))
            }
            // The manager that has written it had no time to say so.
            (None, Phase::Ended(_)) => self.ended(job),
            // It may have ended while the answer was on its way.
            (_, _) => Ok(()),
        }
    }

    /// A client has a job's result.
    pub fn delivered(&self, id: JobId, launch: u32, rows: &[u64]) -> Result<(), String> {
        let last = self.jobs.get(&id).map_or(0, |entry| entry.launch);
        if launch != last {
            return Err(format!("the result of {id} is of launch {launch}, and launch {last} has given it"));
        }
        let expected = self.taken.get(&id).and_then(|sql| self.texts.get(sql));
        let mut rows = rows.to_vec();
        rows.sort_unstable();
        match expected {
            Some(expected) if **expected != rows => Err(format!(
                "the result of {id} is wrong: {} rows, and {} are right",
                rows.len(),
                expected.len()
            )),
            Some(_) | None => Ok(()),
        }
    }

    /// A driver of a submitted job launches an attempt.
    pub fn attempt(&mut self, key: AttemptKey, driver: Proc) -> Result<(), String> {
        match self.owners.insert(key, driver) {
            Some(other) if other != driver => Err(format!("{key} is launched by two drivers")),
            Some(_) | None => Ok(()),
        }
    }

    /// An attempt reads what another wrote: both are of one driver.
    pub fn reads(&self, reader: AttemptKey, producer: AttemptKey) -> Result<(), String> {
        match (self.owners.get(&reader), self.owners.get(&producer)) {
            (one, other) if one != other => {
                Err(format!("{reader} reads what {producer} wrote, which another driver has launched"))
            }
            _ => Ok(()),
        }
    }

    /// A driver has a job at an executor, where these outputs are.
    pub fn has_job(&self, driver: Proc, held: impl Iterator<Item = AttemptKey>) -> Result<(), String> {
        for key in held {
            if self.owners.get(&key).is_some_and(|owner| *owner != driver) {
                return Err(format!("{key} is kept, and another driver has its job"));
            }
        }
        Ok(())
    }

    /// Jobs that were launched more than once.
    pub fn launched_again(&self) -> u64 {
        self.jobs.values().filter(|entry| entry.launch > 1).count() as u64
    }

    /// Jobs that have ended well.
    pub fn succeeded(&self) -> u64 {
        let has = |entry: &&Entry| matches!(entry.ended, Some(Ending::Succeeded { .. }));
        self.jobs.values().filter(has).count() as u64
    }
}
