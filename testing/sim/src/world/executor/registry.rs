//! What an executor knows of jobs: a model of `executor/src/registry.rs`.

use std::collections::BTreeMap;
use std::rc::Rc;

use firesteel_base::{AttemptKey, JobId, StageId, StageKey};

use crate::channel::{Proc, Speaker, StageWork, Stated};

/// A driver's stream, by its number.
pub type Session = u64;

/// Who says something on a stream.
#[derive(Debug, Clone, Copy)]
pub struct Voice {
    /// The stream.
    pub session: Session,
    /// The driver.
    pub speaker: Speaker,
}

/// All jobs. A job belongs to the stream that spoke of it last, and to the latest driver that did.
#[derive(Debug, Default)]
pub struct Registry {
    jobs: BTreeMap<JobId, Job>,
}

#[derive(Debug, Default)]
struct Job {
    driver: Option<Speaker>,
    /// Those that had the job before: they do not get it back.
    former: Vec<Proc>,
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

/// What comes of speaking of a job.
#[derive(Debug)]
pub enum Claim {
    /// The driver has it.
    Had,
    /// It has it from now on: the one before had these runs, and blocks.
    Taken(Vec<u64>),
    /// A later driver has it.
    Refused,
}

impl Job {
    fn may_have(&self, speaker: Speaker) -> bool {
        self.driver.is_none_or(|known| {
            let is_later = speaker.launch >= known.launch && !self.former.contains(&speaker.driver);
            known == speaker || is_later
        })
    }
}

impl Registry {
    /// Gives a job to whoever speaks of it, unless a later driver has it.
    pub fn claim(&mut self, job: JobId, voice: Voice) -> Claim {
        let job = self.jobs.entry(job).or_default();
        if !job.may_have(voice.speaker) {
            return Claim::Refused;
        }
        let former = job.driver.filter(|known| *known != voice.speaker);
        let runs = former.map(|former| {
            let Job { former: mut known, attempts, .. } = std::mem::take(job);
            known.push(former.driver);
            job.former = known;
            running(attempts.into_values())
        });
        job.driver = Some(voice.speaker);
        // What its driver said by an earlier stream may come after what it says by the next one, when a cut has healed.
        job.owner = job.owner.max(Some(voice.session));
        runs.map_or(Claim::Had, Claim::Taken)
    }

    /// Whether what this driver says of a job counts: nobody else has it.
    #[must_use]
    pub fn is_of(&self, job: JobId, speaker: Speaker) -> bool {
        self.jobs.get(&job).and_then(|job| job.driver).is_none_or(|known| known == speaker)
    }

    /// Keeps a stage's plan.
    pub fn put_stage(&mut self, key: StageKey, work: Rc<StageWork>) {
        self.jobs.entry(key.job).or_default().stages.insert(key.stage, work);
    }

    /// Notes an attempt as running under that number, unless it is known.
    pub fn begin(&mut self, key: AttemptKey, run: u64) -> Begun {
        let job = self.jobs.entry(key.job()).or_default();
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
}

fn running(states: impl Iterator<Item = State>) -> Vec<u64> {
    let run = |state| match state {
        State::Running(run) => Some(run),
        State::Ended(_) => None,
    };
    states.filter_map(run).collect()
}
