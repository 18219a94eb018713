//! What happens to a job.

use std::collections::BTreeSet;

use firesteel_base::{AttemptKey, ExecutorId, LeaseId, StageId, UserError, WorkerId};
use firesteel_shuffle::LaneSizes;

use super::{Arrival, AttemptFailure, Life};

/// Something that happened. Reports carry the life of the executor they came from; what no longer fits is stale and
/// changes nothing.
#[derive(Debug, Clone)]
pub enum Event {
    /// The job may start: nothing is launched or demanded before.
    Begin,
    /// The executors that are up are others than before. Sent before `Begin` with all of them, and whenever something of the cluster
    /// changes, be it nothing but which workers are drained.
    ClusterChanged {
        /// Those that are up and were not, or of which something else is true now: each takes the place of what was known under its name.
        came: Vec<Arrival>,
        /// Those that were up and are not.
        gone: Vec<ExecutorId>,
    },
    /// Workers that are drained now: nothing is to be begun there, and what lies there is to move. Sent when they change, before the
    /// `ClusterChanged` of the same change.
    Draining {
        /// All of them.
        workers: BTreeSet<WorkerId>,
    },
    /// A life has all blocks of an output that it was asked to take over.
    OutputTaken {
        /// The attempt that wrote it.
        producer: AttemptKey,
        /// Who holds it too.
        life: Life,
    },
    /// A life could not take an output over.
    OutputNotTaken {
        /// The attempt that wrote it.
        producer: AttemptKey,
        /// Who could not.
        life: Life,
    },
    /// The manager lends slots.
    Granted {
        /// The loan.
        lease: LeaseId,
        /// The stage it is for.
        stage: StageId,
        /// Where the slots are.
        life: Life,
        /// Attempts that may run at a time.
        tasks: u32,
    },
    /// The manager asks for slots back, as soon as their attempts end.
    Revoked {
        /// The loan.
        lease: LeaseId,
        /// How many of its slots.
        tasks: u32,
    },
    /// No executor of the cluster can ever hold a task of this stage.
    DemandRefused {
        /// The stage.
        stage: StageId,
        /// Why.
        reason: String,
    },
    /// An attempt began to run.
    AttemptStarted {
        /// The attempt.
        attempt: AttemptKey,
        /// Who says so.
        life: Life,
    },
    /// What an attempt has written so far.
    AttemptProgress {
        /// The attempt.
        attempt: AttemptKey,
        /// Who says so.
        life: Life,
        /// Rows so far.
        rows: u64,
        /// Bytes so far.
        bytes: u64,
    },
    /// An attempt has written and committed all of its output.
    AttemptFinished {
        /// The attempt.
        attempt: AttemptKey,
        /// Who says so, and holds the output.
        life: Life,
        /// What each lane wrote.
        lanes: Vec<LaneSizes>,
    },
    /// An attempt has ended without an output.
    AttemptFailed {
        /// The attempt.
        attempt: AttemptKey,
        /// Who says so.
        life: Life,
        /// What went wrong.
        failure: AttemptFailure,
    },
    /// An executor is gone for good, with its attempts.
    ExecutorGone {
        /// The executor.
        life: Life,
        /// Why.
        reason: String,
        /// Whether its blocks are served elsewhere; else they are gone too.
        blocks_kept: bool,
    },
    /// The connection to an executor broke: attempts there are gone, but it may be used again.
    LinkLost {
        /// The executor.
        life: Life,
        /// Why.
        reason: String,
        /// Whether its blocks are served elsewhere when it is gone; else they count as gone.
        blocks_kept: bool,
    },
    /// The first rows of a task's result were handed out.
    ResultBegun {
        /// The attempt that wrote them.
        producer: AttemptKey,
    },
    /// All of a task's result was handed out.
    ResultTaskRead {
        /// The attempt that wrote the last of it.
        producer: AttemptKey,
    },
    /// All of the result was handed out.
    ResultRead,
    /// A block of the result could not be read.
    ResultFetchFailed {
        /// The attempt that wrote it.
        producer: AttemptKey,
        /// What went wrong.
        error: UserError,
    },
    /// Someone wants the job to stop.
    Cancel {
        /// Who, or why.
        reason: String,
    },
    /// The manager has been away and is back: demands of before mean nothing to it any more.
    ManagerBack {
        /// The leases that go on; the others have ended.
        leases: BTreeSet<LeaseId>,
    },
    /// The manager is away for good.
    ManagerLost {
        /// What is told to the user.
        error: UserError,
    },
    /// A stage's plan could not be changed as was decided.
    PlanFailed {
        /// What is told to the user.
        error: UserError,
    },
    /// Time has passed; see [`next_deadline`](super::JobMachine::next_deadline).
    Tick,
}
