//! What is said over channels: the machines' own messages, and for executors, whose protocol no machine has, those of
//! `executor.proto` in domain types.

use std::collections::BTreeSet;
use std::rc::Rc;

use firesteel_base::{AttemptKey, Epoch, JobId, StageKey};
use firesteel_driver::machine::{AttemptFailure, Launch, Life, MapOutput, StageInputs};
use firesteel_manager::machine::message::{DriverEvent, ToDriver, ToWorker, WorkerEvent};
use firesteel_shuffle::LaneSizes;

pub use crate::plan::StageWork;

/// A message.
#[derive(Debug, Clone)]
pub enum Message {
    /// A worker says it to the manager.
    OfWorker(WorkerEvent),
    /// A driver says it to the manager.
    OfDriver(DriverEvent),
    /// The manager says it to a worker.
    ToWorker(ToWorker),
    /// The manager says it to a driver.
    ToDriver(ToDriver),
    /// A driver greets an executor and names the life that it means.
    Attach(Epoch),
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
