//! What an executor knows of jobs: a model of `executor/src/registry.rs`.

use std::collections::BTreeMap;
use std::rc::Rc;

use firesteel_base::{AttemptKey, JobId, StageId, StageKey};

use crate::channel::{StageWork, Stated};

/// A driver's stream, by its number.
pub type Session = u64;

/// All jobs. A job belongs to the stream that spoke of it last.
#[derive(Debug, Default)]
pub struct Registry {
    jobs: BTreeMap<JobId, Job>,
}

#[derive(Debug, Default)]
struct Job {
    owner: Option<Session>,
    stages: BTreeMap<StageId, Rc<StageWork>>,
    attempts: BTreeMap<AttemptKey, State>,
}

#[derive(Debug)]
enum State {
    Running(u64),
    Ended(Stated),
}

/// How a launch begins.
#[derive(Debug)]
pub enum Begun {
    /// The attempt is new; its stage's plan, if it was put here.
    New(Option<Rc<StageWork>>),
    /// It runs already, as this run.
    Running(u64),
    /// It has ended already, with this report.
    Ended(Stated),
}

impl Registry {
    /// Keeps a stage's plan.
    pub fn put_stage(&mut self, owner: Session, key: StageKey, work: Rc<StageWork>) {
        self.claim(key.job, owner).stages.insert(key.stage, work);
    }

    /// Notes an attempt as running under that number, unless it is known.
    pub fn begin(&mut self, owner: Session, key: AttemptKey, run: u64) -> Begun {
        let job = self.claim(key.job(), owner);
        match job.attempts.get(&key) {
            Some(State::Running(run)) => Begun::Running(*run),
            Some(State::Ended(report)) => Begun::Ended(report.clone()),
            None => {
                job.attempts.insert(key, State::Running(run));
                Begun::New(job.stages.get(&key.stage()).cloned())
            }
        }
    }

    /// The run of an attempt that has not ended.
    #[must_use]
    pub fn run_of(&self, key: &AttemptKey) -> Option<u64> {
        match self.jobs.get(&key.job())?.attempts.get(key)? {
            State::Running(run) => Some(*run),
            State::Ended(_) => None,
        }
    }

    /// Notes how an attempt ended. False when it was forgotten.
    pub fn end(&mut self, key: AttemptKey, report: Stated) -> bool {
        let known = self.jobs.get_mut(&key.job()).and_then(|job| job.attempts.get_mut(&key));
        known.map(|state| *state = State::Ended(report)).is_some()
    }

    /// Whom reports of a job go to.
    #[must_use]
    pub fn owner(&self, job: JobId) -> Option<Session> {
        self.jobs.get(&job)?.owner
    }

    /// Forgets an attempt. The run of it that has not ended.
    pub fn free_attempt(&mut self, key: &AttemptKey) -> Option<u64> {
        match self.jobs.get_mut(&key.job())?.attempts.remove(key)? {
            State::Running(run) => Some(run),
            State::Ended(_) => None,
        }
    }

    /// Forgets a stage's attempts. The runs that have not ended.
    pub fn free_stage(&mut self, key: StageKey) -> Vec<u64> {
        let Some(job) = self.jobs.get_mut(&key.job) else { return Vec::new() };
        let freed = job.attempts.extract_if(.., |attempt, _| attempt.stage() == key.stage);
        running(freed.map(|(_, state)| state))
    }

    /// Forgets a job. The runs that have not ended.
    pub fn free_job(&mut self, job: JobId) -> Vec<u64> {
        let attempts = self.jobs.remove(&job).map(|job| job.attempts).unwrap_or_default();
        running(attempts.into_values())
    }

    /// Jobs that belong to a stream.
    #[must_use]
    pub fn owned_by(&self, session: Session) -> Vec<JobId> {
        self.jobs.iter().filter(|(_, job)| job.owner == Some(session)).map(|(id, _)| *id).collect()
    }

    /// All jobs.
    #[must_use]
    pub fn jobs(&self) -> Vec<JobId> {
        self.jobs.keys().copied().collect()
    }

    fn claim(&mut self, job: JobId, owner: Session) -> &mut Job {
        let job = self.jobs.entry(job).or_default();
        job.owner = Some(owner);
        job
    }
}

fn running(states: impl Iterator<Item = State>) -> Vec<u64> {
    let run = |state| match state {
        State::Running(run) => Some(run),
        State::Ended(_) => None,
    };
    states.filter_map(run).collect()
}
