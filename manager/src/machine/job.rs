//! Jobs, from their opening or submission to their place in the history.
//!
//! ```text
//!   client mode                     OpenJob
//!        (nothing) ─────────────────────────────────────────────► Open ─────────────┐
//!                                                                  ▲ ▲               │ CloseJob · driver silent
//!   cluster mode                 a worker is there        OpenJob  │ │ OpenJob that   │ cancelled and not closed
//!        Submit ────► Submitted ──────────────────► Launching ─────┤ │ resumes it    ▼
//!                        ▲    └──────── cancelled ──────┼──────────┼─┼─────────►   Ended ──► history, then
//!                        │                              │          ▼ │ stream ended  ▲       forgotten
//!                        │  driver or worker lost, once │          │ │ new manager   │
//!                        └──────────────────────────────┴────── Detached ────────────┘
//!                                                                  not back in time · driver or worker lost again
//! ```
//!
//! While a job is detached its leases stand: what it runs goes on.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use firesteel_base::{Class, JobId, StageId, Timestamp, UserError, WorkerId};

use super::message::{Demand, Effect, Ending, Failure, Seed, SessionId, StageProgress};

/// Where a job stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// Cluster mode: waits for a worker to run its driver.
    Submitted,
    /// Cluster mode: a worker was asked to run its driver, which has not opened the job yet.
    Launching {
        /// Since when.
        since: Timestamp,
    },
    /// Its driver is connected and runs it.
    Open {
        /// The driver.
        driver: SessionId,
    },
    /// The driver's stream ended, or this manager is new: it may come back, and no worker has said how it ended.
    Detached {
        /// Until when it is waited for.
        until: Timestamp,
    },
    /// It has ended.
    Ended(Ending),
}

/// What cluster mode adds to a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// Session settings for its driver.
    pub conf: BTreeMap<String, String>,
    /// What the secrets of its drivers and of its result are made of.
    pub seed: Seed,
    /// The worker that runs its driver, or ran it last.
    pub worker: Option<WorkerId>,
    /// Where that worker was reached when it was told to: it may not have come back to a new manager when its driver has.
    pub worker_address: Option<String>,
    /// Which process that worker was: another one does not run the driver.
    pub worker_incarnation: Option<String>,
    /// How often its driver was launched.
    pub launches: u32,
    /// When and how its worker said the driver ended, while what the driver itself said may still be on its way.
    pub driver_ended: Option<(Timestamp, String)>,
    /// Where its result can be fetched, once it has succeeded.
    pub result_address: Option<String>,
}

/// A job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Its number, which is also its age.
    pub id: JobId,
    /// What its user calls it.
    pub name: String,
    /// What it runs.
    pub sql: Arc<str>,
    /// Who runs it.
    pub user: String,
    /// Where its driver runs.
    pub driver_host: String,
    /// The driver that runs it: no other may take it up.
    pub incarnation: String,
    /// The queue whose share it draws on.
    pub queue: String,
    /// Its share relative to other jobs of its queue; never 0.
    pub weight: u32,
    /// Set in cluster mode.
    pub launch: Option<Launch>,
    /// Where it stands.
    pub phase: Phase,
    /// When it was opened or submitted.
    pub submitted: Timestamp,
    /// When it first got slots.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// When and why it was asked to be cancelled.
    pub cancelled: Option<(Timestamp, String)>,
    /// What its stages still need.
    pub demands: BTreeMap<StageId, Demand>,
    /// How far its stages have come.
    pub stages: Vec<StageProgress>,
}

impl Job {
    /// A job that nothing was done for yet.
    #[must_use]
    pub fn new(name: String, sql: String, user: String, phase: Phase, now: Timestamp) -> Self {
        Self {
            id: JobId(0),
            name,
            sql: sql.into(),
            user,
            driver_host: String::new(),
            incarnation: String::new(),
            queue: String::new(),
            weight: 1,
            launch: None,
            phase,
            submitted: now,
            started: None,
            ended: None,
            cancelled: None,
            demands: BTreeMap::new(),
            stages: Vec::new(),
        }
    }

    /// Keeps it as it is now: at once when its client has left it to the cluster.
    #[must_use]
    pub fn keep(&self) -> Effect {
        Effect::Keep { job: self.id, at_once: self.launch.is_some() }
    }

    /// The worker that runs its driver, in cluster mode.
    #[must_use]
    pub fn worker(&self) -> Option<&WorkerId> {
        self.launch.as_ref().and_then(|launch| launch.worker.as_ref())
    }

    /// Whether that is the latest launch of its driver, as far as it is said which.
    #[must_use]
    pub fn is_launch(&self, launch: Option<u32>) -> bool {
        let latest = self.launch.as_ref().map(|latest| latest.launches);
        launch.is_none() || launch == latest
    }

    /// The driver that runs it, while it is connected.
    #[must_use]
    pub fn driver(&self) -> Option<SessionId> {
        match self.phase {
            Phase::Open { driver } => Some(driver),
            Phase::Submitted | Phase::Launching { .. } | Phase::Detached { .. } | Phase::Ended(_) => None,
        }
    }

    /// What it still needs, without what it could only make use of.
    pub fn needs(&self) -> impl Iterator<Item = &Demand> {
        self.demands.values().filter(|demand| !demand.early)
    }

    /// Bytes that it takes because of what its client said.
    pub(super) fn bytes(&self) -> usize {
        let conf = self.launch.iter().flat_map(|launch| &launch.conf);
        let settings: usize = conf.map(|(key, value)| key.len() + value.len()).sum();
        self.name.len() + self.sql.len() + self.user.len() + self.queue.len() + settings
    }

    /// Cores that its unmet demands come to.
    #[must_use]
    pub fn cores_wanted(&self) -> u64 {
        let cores = |demand: &Demand| u64::from(demand.tasks) * u64::from(demand.cores_per_task);
        self.needs().map(cores).fold(0, u64::saturating_add)
    }
}

/// Live jobs by age, and the most recently ended ones.
#[derive(Debug, Default)]
pub struct Jobs {
    opened: u64,
    live: BTreeMap<JobId, Job>,
    /// That the live ones take because of what their clients said.
    live_bytes: usize,
    /// Live jobs with demands, but for what has become of the next.
    wanting: BTreeSet<JobId>,
    /// Live jobs that may have other demands than when they were looked at last.
    touched: BTreeSet<JobId>,
    ended: BTreeMap<JobId, Job>,
    /// In the order in which they ended.
    history: VecDeque<JobId>,
}

impl Jobs {
    /// Adds a live job; its number is given here.
    pub fn add(&mut self, mut job: Job) -> JobId {
        self.opened += 1;
        job.id = JobId(self.opened);
        let id = job.id;
        self.insert_live(job);
        id
    }

    fn insert_live(&mut self, job: Job) {
        self.live_bytes += job.bytes();
        self.touched.insert(job.id);
        self.live.insert(job.id, job);
    }

    /// Bytes that the live jobs take because of what their clients said.
    #[must_use]
    pub fn live_bytes(&self) -> usize {
        self.live_bytes
    }

    /// The largest number that was given.
    #[must_use]
    pub fn numbered(&self) -> u64 {
        self.opened
    }

    /// Gives no number up to this one any more.
    pub fn number_past(&mut self, last: u64) {
        self.opened = self.opened.max(last);
    }

    /// Takes in a job that has its number, live or ended, from before this manager.
    pub fn restore(&mut self, job: Job) {
        self.opened = self.opened.max(job.id.0);
        match job.phase {
            Phase::Ended(_) => {
                self.history.push_back(job.id);
                self.ended.insert(job.id, job);
            }
            Phase::Submitted | Phase::Launching { .. } | Phase::Open { .. } | Phase::Detached { .. } => {
                self.insert_live(job);
            }
        }
    }

    /// A live job.
    #[must_use]
    pub fn live(&self, id: JobId) -> Option<&Job> {
        self.live.get(&id)
    }

    /// A live job, to be changed.
    pub fn live_mut(&mut self, id: JobId) -> Option<&mut Job> {
        let job = self.live.get_mut(&id);
        if job.is_some() {
            self.touched.insert(id);
        }
        job
    }

    /// Finds those with demands anew, of all that may have others by now, which it returns; ended ones are among them.
    pub fn find_wanting(&mut self) -> BTreeSet<JobId> {
        let touched = std::mem::take(&mut self.touched);
        for id in &touched {
            match self.live.get(id) {
                Some(job) if !job.demands.is_empty() => self.wanting.insert(*id),
                Some(_) | None => self.wanting.remove(id),
            };
        }
        touched
    }

    /// The live jobs that had demands when these were looked for last, oldest first.
    pub fn iter_wanting(&self) -> impl Iterator<Item = &Job> {
        self.wanting.iter().filter_map(|id| self.live.get(id))
    }

    /// A live or an ended job.
    #[must_use]
    pub fn get(&self, id: JobId) -> Option<&Job> {
        self.live.get(&id).or_else(|| self.ended.get(&id))
    }

    /// The live jobs, oldest first.
    pub fn iter_live(&self) -> impl Iterator<Item = &Job> {
        self.live.values()
    }

    /// The live jobs, oldest first, to be changed, but for their demands.
    pub fn iter_live_mut(&mut self) -> impl Iterator<Item = &mut Job> {
        self.live.values_mut()
    }

    /// The ended jobs that are remembered, by age.
    pub fn iter_ended(&self) -> impl Iterator<Item = &Job> {
        self.ended.values()
    }

    /// How many jobs are live.
    #[must_use]
    pub fn live_count(&self) -> usize {
        self.live.len()
    }

    /// Moves a live job to the history. Returns the job that the history forgets for it.
    pub fn end(
        &mut self,
        id: JobId,
        ending: Ending,
        now: Timestamp,
        kept: usize,
        text_kept: usize,
    ) -> Option<Job> {
        let mut job = self.live.remove(&id).expect("only a live job ends");
        self.live_bytes -= job.bytes();
        let ending = ending.shortened(text_kept);
        self.touched.insert(id);
        job.phase = Phase::Ended(ending);
        job.ended = Some(now);
        job.demands.clear();
        job.stages.shrink_to_fit();
        if job.sql.len() > text_kept {
            job.sql = shortened(job.sql.to_string(), text_kept).into();
        }
        if let Some(launch) = &mut job.launch {
            launch.conf.clear();
        }
        self.ended.insert(id, job);
        self.history.push_back(id);
        if self.history.len() > kept {
            self.history.pop_front().and_then(|id| self.ended.remove(&id))
        } else {
            None
        }
    }
}

impl Ending {
    /// With no text in it that is much longer than that: drivers say how their jobs end.
    fn shortened(self, bytes: usize) -> Self {
        let short = |text: String| shortened(text, bytes);
        match self {
            Self::Succeeded { rows } => Self::Succeeded { rows },
            Self::Cancelled { reason } => Self::Cancelled { reason: short(reason) },
            Self::Failed(Failure { class, error: UserError { message, detail, hint } }) => {
                let error =
                    UserError { message: short(message), detail: detail.map(short), hint: hint.map(short) };
                Self::Failed(Failure { class, error })
            }
        }
    }
}

/// A text with no more than so many bytes of it.
#[must_use]
pub fn shortened(text: String, bytes: usize) -> String {
    if text.len() <= bytes {
        return text;
    }
    let end = (0..=bytes).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    format!("{}…", &text[..end])
}

/// A failure that is not the job's own fault.
#[must_use]
pub fn lost(message: impl Into<String>, detail: impl Into<String>) -> Ending {
    Ending::Failed(Failure { class: Class::Transient, error: UserError::new(message).detail(detail) })
}
