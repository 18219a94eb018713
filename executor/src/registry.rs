//! What an executor knows of jobs: whose they are, their stages' plans, and their attempts.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use firesteel_base::{AttemptKey, Class, JobId, StageId, StageKey};
use firesteel_engine::Settings;
use firesteel_engine::run::{StageInput, StageSource, TaskInputs};
use firesteel_protocol::v1::executor_to_driver::Message;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::reports::Reports;

/// One driver's stream. A later one has a greater number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SessionId(u64);

/// A driver: random, and the how manyth that was launched for its job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Driver {
    pub(crate) incarnation: String,
    pub(crate) launch: u32,
}

/// Who says something on a stream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Speaker<'a> {
    pub(crate) session: SessionId,
    pub(crate) driver: &'a Driver,
    pub(crate) reports: &'a Reports,
}

/// xxh3-128 of a stage's plan.
pub(crate) type Digest = [u8; 16];

/// A stage's plan as it was put here.
#[derive(Debug, Clone)]
pub(crate) struct StageEntry {
    pub(crate) digest: Digest,
    pub(crate) source: StageSource,
    pub(crate) settings: Arc<Settings>,
}

/// The wish that an attempt ends early.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cancel {
    requested: CancellationToken,
    why: Arc<OnceLock<Cancelled>>,
}

/// Why an attempt ends early.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cancelled {
    pub(crate) class: Class,
    pub(crate) reason: String,
}

/// All jobs. A job belongs to the driver stream that spoke of it last: a driver whose stream was cut takes its jobs
/// along by speaking of them on its next one.
///
/// Two drivers may speak of one job: the manager launches another when it has given up the first, which may live on behind a cut
/// network; and a manager that forgot its jobs gives their numbers again. The later has the job, and nothing of the earlier's is
/// left to it, whose tasks may have divided the rows in another way.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    jobs: Mutex<BTreeMap<JobId, Job>>,
    sessions: AtomicU64,
}

#[derive(Debug, Default)]
struct Job {
    driver: Option<Driver>,
    /// Those that had the job before: they do not get it back.
    former: Vec<String>,
    owner: Option<(SessionId, Reports)>,
    stages: BTreeMap<StageId, StageEntry>,
    attempts: BTreeMap<AttemptKey, State>,
}

#[derive(Debug)]
enum State {
    Running(Cancel, Arc<TaskInputs>),
    Ended(Message),
}

/// How a launch begins.
#[derive(Debug)]
pub(crate) enum Begun {
    /// The attempt is new; its stage's plan, if it was put here.
    New(Cancel, Option<StageEntry>),
    /// It runs already.
    Running,
    /// It has ended already, with this report.
    Ended(Message),
}

impl Cancel {
    /// Waits for the wish.
    pub(crate) async fn requested(&self) {
        self.requested.cancelled().await;
    }

    fn request(&self, class: Class, reason: &str) {
        // The first reason stands.
        let _ = self.why.set(Cancelled { class, reason: reason.to_owned() });
        self.requested.cancel();
    }
}

impl Job {
    /// Whether the driver may have the job: it has, or comes after the one that has.
    fn may_have(&self, driver: &Driver) -> bool {
        self.driver.as_ref().is_none_or(|known| {
            let is_later = driver.launch >= known.launch && !self.former.contains(&driver.incarnation);
            known == driver || is_later
        })
    }

    fn cancel(&self, class: Class, reason: &str) {
        for state in self.attempts.values() {
            if let State::Running(cancel, _) = state {
                cancel.request(class, reason);
            }
        }
    }
}

impl Registry {
    /// A name for a driver stream.
    pub(crate) fn open_session(&self) -> SessionId {
        SessionId(self.sessions.fetch_add(1, Ordering::Relaxed))
    }

    /// Gives a job to whoever speaks of it, and tells whether that driver has it: not if another does that came later. What an
    /// earlier one has of it is forgotten, and `free` called before anyone can write anew.
    pub(crate) fn claim(&self, id: JobId, speaker: Speaker<'_>, free: impl FnOnce()) -> bool {
        let mut jobs = self.jobs.lock();
        let job = jobs.entry(id).or_default();
        if !job.may_have(speaker.driver) {
            return false;
        }
        if let Some(former) = job.driver.take_if(|known| known != speaker.driver) {
            job.cancel(Class::Cancelled, "another driver runs its job now");
            let mut known = std::mem::take(&mut job.former);
            known.push(former.incarnation);
            *job = Job { former: known, ..Job::default() };
            free();
        }
        job.driver = Some(speaker.driver.clone());
        // What its driver said by an earlier stream may come after what it says by the next one, when a cut has healed.
        if job.owner.as_ref().is_none_or(|(owner, _)| *owner < speaker.session) {
            job.owner = Some((speaker.session, speaker.reports.clone()));
        }
        true
    }

    /// Whether what this driver says of a job counts: nobody else has it.
    pub(crate) fn is_of(&self, job: JobId, driver: &Driver) -> bool {
        let jobs = self.jobs.lock();
        jobs.get(&job).and_then(|job| job.driver.as_ref()).is_none_or(|known| known == driver)
    }

    /// Keeps a stage's plan. The same plan again changes nothing; another plan replaces it for later attempts.
    pub(crate) fn put_stage(&self, key: StageKey, entry: StageEntry) {
        let mut jobs = self.jobs.lock();
        let job = jobs.entry(key.job).or_default();
        let same = job.stages.get(&key.stage).is_some_and(|known| known.digest == entry.digest);
        if !same {
            job.stages.insert(key.stage, entry);
        }
    }

    /// Notes an attempt as running, unless it is known.
    pub(crate) fn begin(&self, key: AttemptKey) -> Begun {
        let mut jobs = self.jobs.lock();
        let job = jobs.entry(key.job()).or_default();
        match job.attempts.get(&key) {
            Some(State::Running(..)) => Begun::Running,
            Some(State::Ended(report)) => Begun::Ended(report.clone()),
            None => {
                let cancel = Cancel::default();
                job.attempts.insert(key, State::Running(cancel.clone(), Arc::default()));
                Begun::New(cancel, job.stages.get(&key.stage()).cloned())
            }
        }
    }

    /// Notes where the inputs of a running attempt are told of.
    pub(crate) fn read(&self, key: &AttemptKey, inputs: &Arc<TaskInputs>) {
        if let Some(State::Running(_, known)) =
            self.jobs.lock().get_mut(&key.job()).and_then(|job| job.attempts.get_mut(key))
        {
            *known = Arc::clone(inputs);
        }
    }

    /// Tells a running attempt of inputs that have come since it was launched.
    pub(crate) fn add_inputs(&self, key: &AttemptKey, inputs: Vec<StageInput>) {
        let jobs = self.jobs.lock();
        let Some(State::Running(_, known)) = jobs.get(&key.job()).and_then(|job| job.attempts.get(key))
        else {
            return;
        };
        let known = Arc::clone(known);
        drop(jobs);
        inputs.into_iter().for_each(|input| known.add(input));
    }

    /// Reports about an attempt to whoever owns its job now.
    pub(crate) fn report(&self, key: &AttemptKey, message: Message) {
        if let Some(reports) = self.reports(key) {
            reports.send(message);
        }
    }

    /// Reports something that may be lost.
    pub(crate) fn report_progress(&self, key: &AttemptKey, message: Message) {
        if let Some(reports) = self.reports(key) {
            reports.send_if_idle(message);
        }
    }

    fn reports(&self, key: &AttemptKey) -> Option<Reports> {
        let jobs = self.jobs.lock();
        jobs.get(&key.job())?.owner.as_ref().map(|(_, reports)| reports.clone())
    }

    /// Ends an attempt with the report that `settle` makes of it. `settle` runs under the registry's lock and is told
    /// whether the attempt was cancelled or freed, so that neither can come between a commit and its report.
    pub(crate) fn end(&self, key: &AttemptKey, settle: impl FnOnce(Option<Cancelled>) -> Message) {
        let mut jobs = self.jobs.lock();
        let job = jobs.get_mut(&key.job());
        let Some(job) = job.filter(|job| job.attempts.contains_key(key)) else {
            settle(Some(Cancelled { class: Class::Cancelled, reason: "it was freed".to_owned() }));
            return;
        };
        let cancelled = match &job.attempts[key] {
            State::Running(cancel, _) => cancel.why.get().cloned(),
            State::Ended(_) => return,
        };
        let report = settle(cancelled);
        job.attempts.insert(*key, State::Ended(report.clone()));
        if let Some((_, reports)) = &job.owner {
            reports.send(report);
        }
    }

    /// Asks an attempt to end early.
    pub(crate) fn cancel(&self, key: &AttemptKey, class: Class, reason: &str) {
        let jobs = self.jobs.lock();
        if let Some(State::Running(cancel, _)) = jobs.get(&key.job()).and_then(|job| job.attempts.get(key)) {
            cancel.request(class, reason);
        }
    }

    /// Asks all attempts to end early.
    pub(crate) fn cancel_all(&self, class: Class, reason: &str) {
        self.jobs.lock().values().for_each(|job| job.cancel(class, reason));
    }

    /// Forgets an attempt and tells whether it had ended. One that had not is cancelled, and discards what it wrote
    /// when it ends.
    pub(crate) fn free_attempt(&self, key: &AttemptKey) -> bool {
        let mut jobs = self.jobs.lock();
        match jobs.get_mut(&key.job()).and_then(|job| job.attempts.remove(key)) {
            Some(State::Running(cancel, _)) => {
                cancel.request(Class::Cancelled, "it was freed");
                false
            }
            Some(State::Ended(_)) | None => true,
        }
    }

    /// Forgets the attempts of a stage. Its plan stays until the job is freed: the stage may have to be run again.
    pub(crate) fn free_stage(&self, key: StageKey) {
        let mut jobs = self.jobs.lock();
        let Some(job) = jobs.get_mut(&key.job) else { return };
        job.attempts.retain(|attempt, state| {
            let freed = attempt.stage() == key.stage;
            if let (true, State::Running(cancel, _)) = (freed, &*state) {
                cancel.request(Class::Cancelled, "its stage was freed");
            }
            !freed
        });
    }

    /// Forgets a job.
    pub(crate) fn free_job(&self, job: JobId) {
        if let Some(job) = self.jobs.lock().remove(&job) {
            job.cancel(Class::Cancelled, "its job was freed");
        }
    }

    /// Jobs that belong to a driver stream.
    pub(crate) fn owned_by(&self, session: SessionId) -> Vec<JobId> {
        let jobs = self.jobs.lock();
        let owned =
            jobs.iter().filter(|(_, job)| job.owner.as_ref().is_some_and(|(owner, _)| *owner == session));
        owned.map(|(&id, _)| id).collect()
    }

    /// All jobs.
    pub(crate) fn jobs(&self) -> Vec<JobId> {
        self.jobs.lock().keys().copied().collect()
    }

    /// Attempts that wait for cores or run.
    pub(crate) fn running(&self) -> usize {
        let jobs = self.jobs.lock();
        jobs.values()
            .flat_map(|job| job.attempts.values())
            .filter(|state| matches!(state, State::Running(..)))
            .count()
    }
}
