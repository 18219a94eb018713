//! What goes into the machine and what comes out: closed enums of its own types. The shell converts at the edge.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use firesteel_base::{Class, Epoch, ExecutorId, JobId, LeaseId, StageId, UserError, WorkerId};

/// A connected worker or driver, numbered by the shell; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// A client's request, numbered by the shell; its answer carries the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A worker said something, or its stream ended.
    Worker(SessionId, WorkerEvent),
    /// A driver said something, or its stream ended.
    Driver(SessionId, DriverEvent),
    /// A client asks for something.
    Client(Ticket, ClientRequest),
    /// Time has passed.
    Tick,
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
        /// Whether its process ended well.
        succeeded: bool,
        /// How it ended.
        reason: String,
    },
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
    /// host:port of its own gRPC service.
    pub address: String,
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
    },
    /// It starts a job.
    OpenJob(OpenJob),
    /// How many tasks of a stage still need a slot; replaces what it said of that stage before.
    Demand(Demand),
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
    Submit {
        /// What its user calls it.
        name: String,
        /// What it runs.
        sql: String,
        /// Its session settings.
        conf: BTreeMap<String, String>,
        /// Who submits it.
        user: String,
    },
    /// Cancel a job.
    Cancel {
        /// Which.
        job: JobId,
    },
}

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
    /// Answer a client: the job it asked about, or why not.
    Answer(Ticket, Result<JobId, Refusal>),
    /// Wake whoever waits for this job's end.
    JobEnded(JobId),
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
    },
    /// Stop the driver of this job.
    StopDriver(JobId),
    /// Nobody will ask for this job's result any more.
    FreeResult(JobId),
}

/// What a driver is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToDriver {
    /// It is welcome, and these executors are there.
    Welcome(Vec<ExecutorShape>),
    /// Its job has this number.
    JobOpened {
        /// Of its request.
        request: u64,
        /// The job.
        job: JobId,
    },
    /// It may run tasks.
    Grant(Grant),
    /// Slots are wanted back when what runs in them has ended.
    Revoke {
        /// The lease they are of.
        lease: LeaseId,
        /// How many tasks' slots.
        tasks: u32,
    },
    /// An executor's life has ended: its leases are void and its blocks are lost.
    ExecutorGone {
        /// The life that ended.
        executor: ExecutorRef,
        /// Why.
        reason: String,
    },
    /// Cancel a job.
    CancelJob {
        /// Which.
        job: JobId,
        /// By whom or why.
        reason: String,
    },
    /// These executors are there now.
    ClusterChanged(Vec<ExecutorShape>),
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
    },
    /// What was sent is too long.
    TooLong {
        /// What.
        what: &'static str,
        /// The limit in bytes.
        limit: usize,
    },
    /// There is no such job, or it ended long ago.
    UnknownJob(JobId),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::IdInUse { worker, address } => write!(
                f,
                "the worker id '{worker}' is in use by a live worker at {address}: \
                 give this worker another id, or stop that one"
            ),
            Self::TooMany { what, limit } => write!(f, "the manager takes no more than {limit} {what}"),
            Self::TooLong { what, limit } => write!(f, "the {what} is longer than {limit} bytes"),
            Self::UnknownJob(job) => {
                write!(f, "there is no {job}, or it ended too long ago to be remembered")
            }
        }
    }
}
