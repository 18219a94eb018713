//! What comes out.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use firesteel_base::{Epoch, ExecutorId, JobId, LeaseId, StageId, UserError, WorkerId};

use super::{Answer, Seed, SessionId, Ticket};

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Tell a worker.
    ToWorker(SessionId, ToWorker),
    /// Tell a driver.
    ToDriver(SessionId, ToDriver),
    /// Refuse a session that has just greeted.
    Refuse(SessionId, Refusal),
    /// Close a session.
    EndSession(SessionId, String),
    /// Answer a client: what it asked about, or why not.
    Answer(Ticket, Result<Answer, Refusal>),
    /// Wake whoever waits for this job's end.
    JobEnded(JobId),
    /// Keep this job as it is now, for a manager that comes after this one; before anything else is done, or soon.
    Keep {
        /// Which.
        job: JobId,
        /// Whether nobody may hear of what changed before it is kept: nobody else could tell it again.
        at_once: bool,
    },
    /// Keep this job no longer.
    Forget(JobId),
    /// Record it; nothing is to be done.
    Note(Note),
}

/// What an operator wants to read in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// A worker came, came back, fell silent, was lost or left.
    WorkerChanged {
        /// Which.
        worker: WorkerId,
        /// What it is now.
        state: &'static str,
        /// Why.
        reason: String,
    },
    /// An executor can be used.
    ExecutorUp {
        /// Which.
        executor: ExecutorId,
        /// The epoch of this life.
        epoch: Epoch,
    },
    /// An executor's life has ended.
    ExecutorGone {
        /// Which.
        executor: ExecutorId,
        /// The epoch of the life that ended.
        epoch: Epoch,
        /// Why.
        reason: String,
    },
    /// A job was opened or submitted.
    JobAdded {
        /// Which.
        job: JobId,
        /// What its user calls it.
        name: String,
    },
}

/// What a worker is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToWorker {
    /// It is one of the cluster.
    Registered,
    /// The epoch of an executor's new life.
    ExecutorEpoch {
        /// Which executor.
        index: u32,
        /// Its epoch.
        epoch: Epoch,
    },
    /// Run a driver.
    LaunchDriver {
        /// For this job.
        job: JobId,
        /// Called so.
        name: String,
        /// Which runs this.
        sql: Arc<str>,
        /// With these session settings.
        conf: BTreeMap<String, String>,
        /// The how manyth launch of the job's driver it is, from 1.
        launch: u32,
        /// What its secrets are made of.
        seed: Seed,
    },
    /// Stop the driver of this job.
    StopDriver(JobId),
    /// Nobody will ask for this job's result any more.
    FreeResult(JobId),
    /// Nobody will ask for this job's blocks any more that executors left behind.
    FreeKept(JobId),
    /// It is to be drained, or to stay after all.
    Drain {
        /// Later orders have larger numbers.
        order: u64,
        /// Which of the two.
        draining: bool,
        /// When what is left is given up, from now on.
        deadline: Option<Duration>,
    },
    /// It was drained, and nothing of it is needed any more.
    Leave,
}

/// What a driver is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToDriver {
    /// It is welcome, and these executors are there.
    Welcome(Members),
    /// Its job has this number.
    JobOpened {
        /// Of its request.
        request: u64,
        /// The job.
        job: JobId,
        /// The leases that go on, when it is the job that the driver has run before.
        resumed: Option<Vec<LeaseId>>,
    },
    /// What it said of this job's end was heard.
    JobClosed(JobId),
    /// It may run tasks.
    Grant(Grant),
    /// Slots are wanted back when what runs in them has ended.
    Revoke {
        /// The lease they are of.
        lease: LeaseId,
        /// How many tasks' slots.
        tasks: u32,
    },
    /// An executor's life has ended: its leases are void.
    ExecutorGone {
        /// The life that ended.
        executor: ExecutorRef,
        /// Why.
        reason: String,
        /// Whether its worker still serves its blocks; else they are lost.
        blocks_kept: bool,
    },
    /// Cancel a job.
    CancelJob {
        /// Which.
        job: JobId,
        /// By whom or why.
        reason: String,
    },
    /// Executors came or went, or others are drained.
    ClusterChanged(Arc<ClusterChange>),
    /// No executor can ever hold a task of this demand; it is dropped.
    DemandRefused {
        /// The job.
        job: JobId,
        /// The stage.
        stage: StageId,
        /// What is too large.
        reason: String,
    },
}

/// A lease as its driver gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Its number.
    pub lease: LeaseId,
    /// For this job.
    pub job: JobId,
    /// For this stage of it.
    pub stage: StageId,
    /// On this executor, in this life of it.
    pub executor: ExecutorRef,
    /// Tasks at a time.
    pub tasks: u32,
    /// Core threads that each may take.
    pub cores_per_task: u32,
}

/// An executor in one of its lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecutorRef {
    /// Which.
    pub id: ExecutorId,
    /// Its life.
    pub epoch: Epoch,
    /// host:port of its gRPC service.
    pub control_address: String,
    /// host:port of its block server.
    pub shuffle_address: String,
    /// host:port where its worker serves its blocks once it is gone; empty when it does not.
    pub keeper_address: String,
}

/// What drivers know of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Members {
    /// The executors that are up.
    pub executors: Vec<ExecutorShape>,
    /// Workers that are drained: nothing is to be begun there, and what lies there is to move.
    pub draining: Vec<WorkerId>,
}

/// How the cluster is other than drivers were told before.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClusterChange {
    /// The executors that are up now and were not, or in another life.
    pub came: Vec<ExecutorShape>,
    /// Those that were and are not.
    pub gone: Vec<ExecutorId>,
    /// All workers that are drained.
    pub draining: Vec<WorkerId>,
}

/// An executor and its size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecutorShape {
    /// Which, and where it is reached.
    pub executor: ExecutorRef,
    /// Its core threads.
    pub slots: u32,
    /// Its memory limit.
    pub memory_bytes: u64,
    /// Its host.
    pub host: String,
    /// The NUMA node it is bound to.
    pub numa_node: Option<u32>,
    /// The newest wire version that its worker and the manager speak.
    pub wire: u32,
}

/// Why a greeting or a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// A live worker has this name already.
    IdInUse {
        /// The name.
        worker: WorkerId,
        /// Where the one that has it is reached.
        address: String,
    },
    /// There are as many as there may be.
    TooMany {
        /// Of what.
        what: &'static str,
        /// The limit.
        limit: usize,
        /// What can be done about it.
        hint: Option<&'static str>,
    },
    /// As many jobs as there may be wait or run.
    Full {
        /// Which jobs.
        what: &'static str,
        /// How much of them there may be.
        limit: String,
        /// The setting that says so.
        setting: &'static str,
    },
    /// What was sent is too long.
    TooLong {
        /// What.
        what: &'static str,
        /// The limit in bytes.
        limit: usize,
    },
    /// Workers are there, and none of them runs drivers.
    NoDrivers,
    /// There is no such job, or it ended long ago.
    UnknownJob(JobId),
    /// There is no such worker.
    UnknownWorker {
        /// Its name.
        worker: WorkerId,
        /// Those that there are.
        known: Vec<WorkerId>,
    },
    /// No other worker takes tasks.
    LastWorker(WorkerId),
    /// It is of a release that cannot be drained.
    OldWorker {
        /// Which.
        worker: WorkerId,
        /// Its release.
        release: String,
    },
    /// It has no connection at the moment.
    WorkerAway(WorkerId),
    /// It is not drained.
    NotDrained(WorkerId),
    /// It was told to leave already.
    Leaving(WorkerId),
    /// The user may have no jobs in that queue.
    OtherQueue {
        /// The queue.
        queue: String,
        /// The user.
        user: String,
        /// Where the user may have some.
        allowed: Vec<String>,
    },
    /// The job is somebody else's.
    OtherUser {
        /// Which.
        job: JobId,
        /// Whose.
        user: String,
    },
    /// A driver was launched for another job, or for none.
    OtherJob,
    /// It is an administrator's business.
    NotAdmin,
}

/// Workers that are named to somebody who names one that is not there.
const NAMES_SHOWN_MAX: usize = 20;

impl Refusal {
    /// As it is told to a person.
    #[must_use]
    pub fn error(&self) -> UserError {
        let error = UserError::new(self.to_string());
        match self.hint() {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }

    /// What whoever is refused can do.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Full { setting, .. } => Some(format!(
                "wait until some have ended (`firesteel jobs` lists them), or raise {setting} on the manager"
            )),
            Self::TooMany { hint, .. } => hint.map(str::to_owned),
            Self::NoDrivers => {
                Some("run the driver here with --deploy-mode client, or raise worker.drivers".to_owned())
            }
            Self::OtherQueue { allowed, .. } if allowed.is_empty() => None,
            Self::OtherQueue { allowed, .. } => {
                Some(format!("name one of these with --queue (client.queue): {}", allowed.join(", ")))
            }
            Self::OtherUser { .. } | Self::NotAdmin => Some(
                "an administrator can: one with a token made by `firesteel tokens add --admin`".to_owned(),
            ),
            Self::OtherJob
            | Self::IdInUse { .. }
            | Self::TooLong { .. }
            | Self::UnknownJob(_)
            | Self::UnknownWorker { .. }
            | Self::LastWorker(_)
            | Self::OldWorker { .. }
            | Self::WorkerAway(_)
            | Self::NotDrained(_)
            | Self::Leaving(_) => None,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::IdInUse { worker, address } => {
                write!(f, "the worker id '{worker}' is in use by a live worker at {address}")
            }
            Self::TooMany { what, limit, .. } => write!(f, "the manager takes no more than {limit} {what}"),
            Self::Full { what, limit, .. } => write!(f, "the manager takes no more than {limit} {what}"),
            Self::TooLong { what, limit } => write!(f, "the {what} is longer than {limit} bytes"),
            Self::NoDrivers => f.write_str("no worker of this cluster runs drivers of submitted jobs"),
            Self::UnknownJob(job) => {
                write!(f, "there is no {job}, or it ended too long ago to be remembered")
            }
            Self::UnknownWorker { worker, known } if known.is_empty() => {
                write!(f, "there is no worker '{worker}', and no other either")
            }
            Self::UnknownWorker { worker, known } => {
                let names: Vec<&str> = known.iter().take(NAMES_SHOWN_MAX).map(WorkerId::as_str).collect();
                let more = if known.len() > names.len() { ", .." } else { "" };
                write!(f, "there is no worker '{worker}'; there are {}{more}", names.join(", "))
            }
            Self::LastWorker(worker) => {
                write!(f, "no other worker than '{worker}' takes tasks: without it jobs wait until one comes")
            }
            Self::OldWorker { worker, release } => write!(
                f,
                "worker '{worker}' is of release {release}, which cannot be drained: SIGTERM stops it at once"
            ),
            Self::WorkerAway(worker) => {
                write!(f, "worker '{worker}' is not connected at the moment, and cannot be told")
            }
            Self::NotDrained(worker) => write!(f, "worker '{worker}' is not being drained"),
            Self::OtherQueue { queue, user, .. } if queue.is_empty() => {
                write!(f, "{user} may have no jobs in the queue without a name")
            }
            Self::OtherQueue { queue, user, .. } => {
                write!(f, "{user} may have no jobs in the queue '{queue}'")
            }
            Self::OtherUser { job, user } => write!(f, "{job} is a job of {user}"),
            Self::OtherJob => f.write_str("this driver was not launched for that job"),
            Self::NotAdmin => f.write_str("that is for an administrator to do"),
            Self::Leaving(worker) => {
                write!(f, "worker '{worker}' was drained, and leaves: start it again to have it back")
            }
        }
    }
}
