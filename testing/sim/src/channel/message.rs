//! What is said over channels: the machines' own messages, and for executors, whose protocol no machine has, those of
//! `executor.proto` in domain types.

use std::collections::BTreeSet;
use std::rc::Rc;

use firesteel_base::{AttemptKey, Epoch, JobId, StageKey};
use firesteel_driver::machine::{AttemptFailure, Launch, Life, MapOutput, StageInputs};
use firesteel_manager::machine::job::Job;
use firesteel_manager::machine::message::{DriverEvent, ToDriver, ToWorker, WorkerEvent};
use firesteel_shuffle::LaneSizes;

use super::Proc;
pub use crate::plan::StageWork;

/// A message.
#[derive(Debug, Clone)]
pub enum Message {
    /// A worker says it to the manager.
    OfWorker(WorkerEvent),
    /// A driver says it to the manager.
    OfDriver(DriverEvent),
    /// The manager of that run says it to a worker.
    ToWorker(u64, ToWorker),
    /// The manager of that run says it to a driver.
    ToDriver(u64, ToDriver),
    /// A client asks the manager, or a worker.
    Asked(Asked),
    /// What it is answered.
    Told(Told),
    /// A driver greets an executor and names the life that it means.
    Attach(Epoch, Speaker),
    /// The executor takes the driver.
    Attached,
    /// A stage's plan.
    PutStage(StageKey, Rc<StageWork>),
    /// Start an attempt.
    Launch(Located<Launch>),
    /// More of what an attempt reads.
    MoreInputs(AttemptKey, Located<StageInputs>),
    /// Take an output over.
    TakeOutput(Located<MapOutput>),
    /// An output is held elsewhere now.
    OutputMoved(AttemptKey, Life),
    /// An executor is gone for good, with all that it held.
    HolderGone(Life),
    /// Stop an attempt.
    Cancel(AttemptKey, String),
    /// Forget an attempt and its blocks.
    FreeAttempt(AttemptKey),
    /// Forget a stage's attempts and blocks.
    FreeStage(StageKey),
    /// Forget a job.
    FreeJob(JobId),
    /// Are you there?
    Ping,
    /// Yes.
    Pong,
    /// What happened to an attempt.
    Report(AttemptKey, Stated),
}

/// Which driver speaks to an executor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Speaker {
    /// Its process, which tells it from all others.
    pub driver: Proc,
    /// The how manyth launch of a submitted job's driver it is; 0 for others.
    pub launch: u32,
}

/// What a client asks.
#[derive(Debug, Clone)]
pub enum Asked {
    /// The manager: run this.
    Submit(String),
    /// The manager: how is this job?
    State(JobId),
    /// A worker: what did this job give?
    Result(JobId),
}

/// What a client is answered.
#[derive(Debug, Clone)]
pub enum Told {
    /// The job is taken, or why not.
    Submitted(Result<JobId, String>),
    /// The job as it is; nothing when it is not known.
    State(Option<Box<Job>>),
    /// Which launch of its driver has written a job's result, and its rows; nothing when it is not kept.
    Result(Option<(u32, Rc<Vec<u64>>)>),
}

/// Something with outputs in it, and those of their holders whose address the driver does not know.
#[derive(Debug, Clone)]
pub struct Located<T> {
    /// What is said.
    pub what: T,
    /// Lives without an address.
    pub unknown: BTreeSet<Life>,
}

/// What an executor reports of an attempt.
#[derive(Debug, Clone)]
pub enum Stated {
    /// It runs.
    Started,
    /// Rows and bytes so far.
    Progress(u64, u64),
    /// It has committed its output.
    Finished(Vec<LaneSizes>),
    /// It has ended without one.
    Failed(AttemptFailure),
    /// What it has written is held here too.
    Taken,
    /// It could not be.
    NotTaken,
}
