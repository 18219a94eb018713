//! What goes in.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use firesteel_base::{Class, Epoch, ExecutorId, JobId, LeaseId, StageId, UserError, WorkerId};

use super::{SessionId, Ticket};
use crate::machine::rights::Rights;

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A worker said something, or its stream ended.
    Worker(SessionId, WorkerEvent),
    /// A driver said something, or its stream ended.
    Driver(SessionId, DriverEvent),
    /// A client asks for something, and may do so much.
    Client(Ticket, Rights, ClientRequest),
    /// Time has passed.
    Tick,
    /// The manager itself has stood still for so long, its process stopped or its host starved: nobody was silent meanwhile, only
    /// not heard.
    Absence(Duration),
}

/// What a worker says.
#[derive(Debug, Clone, PartialEq)]
pub enum WorkerEvent {
    /// Who it is; always the first of a session.
    Register(Registration),
    /// It lives, and its executors use this much.
    Heartbeat(Vec<Usage>),
    /// An executor of it can be used.
    ExecutorUp(ExecutorUp),
    /// An executor of it can be used, and has had that epoch since an earlier session.
    ExecutorBack {
        /// The executor.
        up: ExecutorUp,
        /// Its epoch.
        epoch: Epoch,
    },
    /// An executor's life of that epoch has ended.
    ExecutorDown {
        /// Which one.
        index: u32,
        /// The life that ended.
        epoch: Epoch,
        /// Why.
        reason: String,
    },
    /// A driver that it was asked to launch has ended.
    DriverEnded {
        /// The job it was launched for.
        job: JobId,
        /// The how manyth launch of it that was, when the worker says so.
        launch: Option<u32>,
        /// Whether its process ended well.
        succeeded: bool,
        /// How it ended.
        reason: String,
    },
    /// How it stands to being drained.
    Drain(DrainReport),
    /// It goes, on purpose.
    Leaving {
        /// Why.
        reason: String,
    },
    /// Its stream ended or broke.
    StreamLost,
}

/// Who a worker is and what hardware it offers.
#[derive(Debug, Clone, PartialEq)]
pub struct Registration {
    /// Its name.
    pub worker: WorkerId,
    /// Random, new at each start of its process.
    pub incarnation: String,
    /// The release it is of.
    pub release: String,
    /// The wire version that is spoken with it.
    pub wire: u32,
    /// host:port of its own gRPC service.
    pub address: String,
    /// host:port where it serves the blocks of executors that are gone; empty when it does not.
    pub keeper_address: String,
    /// Its host's name; workers of one host share memory.
    pub host: String,
    /// The rack its host is in; empty when unknown.
    pub rack: String,
    /// The hardware as it reported it, for showing.
    pub topology_json: Arc<str>,
    /// The NUMA node of each of its host's network cards that has a link, `None` where unknown.
    pub nics: Vec<Option<u32>>,
    /// Its executors, as planned.
    pub executors: Vec<ExecutorSpec>,
    /// Drivers in cluster deploy mode that it runs at a time.
    pub driver_places: usize,
}

/// An executor as planned by its worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecutorSpec {
    /// Its number on its worker.
    pub index: u32,
    /// The NUMA node it is bound to.
    pub numa_node: Option<u32>,
    /// The CPUs of its core threads.
    pub cpus: Vec<u32>,
    /// Its core threads.
    pub slots: u32,
    /// Its memory limit.
    pub memory_bytes: u64,
}

/// A started executor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecutorUp {
    /// Its number on its worker.
    pub index: u32,
    /// host:port of its gRPC service.
    pub control_address: String,
    /// host:port of its block server.
    pub shuffle_address: String,
    /// Its process.
    pub pid: u32,
}

/// What an executor uses at the moment, for showing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Its number on its worker.
    pub index: u32,
    /// Attempts that run.
    pub running_attempts: u32,
    /// Bytes granted from its budget.
    pub memory_used: u64,
    /// Bytes of blocks it keeps.
    pub block_bytes: u64,
    /// How often it has answered this; 0 when its worker does not say.
    pub answers: u64,
}

/// How a worker stands to being drained.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DrainReport {
    /// The last order that it has heard; 0 for none.
    pub order: u64,
    /// Whether this is the first word after its registration.
    pub is_first: bool,
    /// Whether it is drained.
    pub draining: bool,
    /// How long until it gives up what is left; `None` when it waits.
    pub left: Option<Duration>,
    /// Who wants it.
    pub reason: String,
    /// Drivers of cluster mode that run on it.
    pub drivers: u32,
    /// Bytes that executors which are gone have left with it.
    pub kept_bytes: u64,
}

/// What a job has at a worker that is drained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LeftThere {
    /// Attempts that run there.
    pub attempts: u32,
    /// Map outputs that are needed and lie there.
    pub outputs: u32,
    /// Bytes of these.
    pub bytes: u64,
}

/// What a driver says.
#[derive(Debug, Clone, PartialEq)]
pub enum DriverEvent {
    /// Who it is; always the first of a session.
    Hello {
        /// The release it is of.
        release: String,
        /// Its host's name.
        host: String,
        /// Who runs it.
        user: String,
        /// Random, new with each driver.
        incarnation: String,
        /// What it may do.
        rights: Rights,
    },
    /// It starts a job, or takes one up again.
    OpenJob(OpenJob),
    /// How many tasks of a stage still need a slot; replaces what it said of that stage before.
    Demand(Demand),
    /// A stage needs so many slots fewer than it said, beside those that were lent to it since.
    LessDemand {
        /// The job.
        job: JobId,
        /// The stage in it.
        stage: StageId,
        /// How many tasks' slots fewer.
        tasks: u32,
    },
    /// It gives slots back.
    Release {
        /// The lease they are of.
        lease: LeaseId,
        /// How many tasks' slots.
        tasks: u32,
    },
    /// A job of it has ended.
    CloseJob {
        /// Which.
        job: JobId,
        /// How.
        ending: Ending,
    },
    /// It lives, and its jobs have come this far.
    Heartbeat(Vec<(JobId, Vec<StageProgress>)>),
    /// What a job of it still has at a worker that is drained.
    Left {
        /// The job.
        job: JobId,
        /// The worker.
        worker: WorkerId,
        /// What it has there.
        left: LeftThere,
    },
    /// Its stream ended or broke.
    StreamLost,
}

/// A job that a driver starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenJob {
    /// Echoed in the answer.
    pub request: u64,
    /// What its user calls it.
    pub name: String,
    /// What it runs.
    pub sql: String,
    /// The queue whose share it draws on; empty for the default one.
    pub queue: String,
    /// Its share relative to other jobs of its queue.
    pub weight: u32,
    /// In cluster deploy mode: the job that this driver was launched for.
    pub submitted_job: Option<JobId>,
    /// The how manyth launch of it, when the driver says so.
    pub launch: Option<u32>,
    /// The job, when this driver has run it since an earlier session.
    pub resumes: Option<Resumed>,
}

/// A job that its driver takes up again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resumed {
    /// Which.
    pub job: JobId,
    /// What its driver holds.
    pub leases: Vec<HeldLease>,
    /// Lives of executors that its driver takes for ended: it runs nothing in them any more.
    pub gone: Vec<(ExecutorId, Epoch)>,
    /// It has ended, and its end follows: no other job is opened in its place.
    pub only_to_close: bool,
}

/// A lease as its driver has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldLease {
    /// Its number.
    pub lease: LeaseId,
    /// The stage it is for.
    pub stage: StageId,
    /// Where.
    pub executor: ExecutorId,
    /// In which life.
    pub epoch: Epoch,
    /// Tasks at a time; never 0.
    pub tasks: u32,
    /// Cores of each; never 0.
    pub cores_per_task: u32,
    /// Memory of each.
    pub memory_per_task: u64,
}

/// What a stage still needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Demand {
    /// The job.
    pub job: JobId,
    /// The stage in it.
    pub stage: StageId,
    /// Tasks that have no slot yet; 0 withdraws the demand.
    pub tasks: u32,
    /// Core threads that one task takes.
    pub cores_per_task: u32,
    /// Memory that one task takes.
    pub memory_per_task: u64,
    /// Where its input lies, in bytes.
    pub inputs: Vec<(ExecutorId, u64)>,
    /// Executors it must not run on.
    pub excluded: Vec<ExecutorId>,
    /// Whether it can use slots for all tasks only, or none.
    pub gang: bool,
    /// Whether its tasks would wait for others that still run: it gets only what nobody else has a use for.
    pub early: bool,
}

/// How far a stage has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StageProgress {
    /// The stage.
    pub stage: StageId,
    /// Its tasks.
    pub tasks: u32,
    /// Tasks that run.
    pub running: u32,
    /// Tasks that are done.
    pub done: u32,
    /// Attempts that failed.
    pub failed_attempts: u32,
    /// Rows written by committed attempts.
    pub rows: u64,
    /// Bytes written by committed attempts.
    pub bytes: u64,
}

/// A failure and what may be done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What may be done about it.
    pub class: Class,
    /// As it is told to a person.
    pub error: UserError,
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// It gave its result.
    Succeeded {
        /// The rows of it.
        rows: u64,
    },
    /// It gave none.
    Failed(Failure),
    /// It was cancelled.
    Cancelled {
        /// By whom or why.
        reason: String,
    },
}

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientRequest {
    /// Run a job in cluster deploy mode.
    Submit(Submission),
    /// Cancel a job.
    Cancel {
        /// Which.
        job: JobId,
    },
    /// Drain a worker.
    Drain {
        /// Which.
        worker: WorkerId,
        /// When what is left is given up, from now on.
        deadline: Option<Duration>,
        /// Even when no other worker takes tasks.
        force: bool,
    },
    /// Have a worker stay after all.
    Undrain {
        /// Which.
        worker: WorkerId,
    },
}

/// A job that a client leaves to the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Submission {
    /// What its user calls it.
    pub name: String,
    /// What it runs.
    pub sql: String,
    /// Its session settings.
    pub conf: BTreeMap<String, String>,
    /// Who submits it.
    pub user: String,
    /// The queue whose share it draws on; empty for the default one.
    pub queue: String,
    /// Its share relative to other jobs of its queue.
    pub weight: u32,
    /// What the secrets of its drivers and its result are made of.
    pub seed: Seed,
}

/// Random bytes that nobody sees.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Seed(pub [u8; 32]);

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed(..)")
    }
}

/// What a client is answered that was not refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The job that it asked about.
    Job(JobId),
    /// The worker that it asked about.
    Worker(WorkerId),
}
