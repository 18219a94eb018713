//! What a job wants done.

use std::ops::Range;
use std::sync::Arc;

use firesteel_base::{AttemptKey, ExecutorId, LeaseId, StageId, UserError, WorkerId};
use firesteel_shuffle::Slice;

use super::adapt::Decision;
use super::drain::LeftThere;
use super::{Life, MapOutput, OutputKind};

/// Something to be done by the shell, in the order in which it was said.
#[derive(Debug, Clone)]
pub enum Effect {
    /// Tell the manager what this stage needs; replaces what was said of it before.
    Demand(Demand),
    /// Start an attempt.
    Launch(Launch),
    /// Tell an attempt of inputs that were still to come when it was launched.
    MoreInputs {
        /// The attempt.
        attempt: AttemptKey,
        /// Where it runs.
        life: Life,
        /// What has come of one stage.
        input: StageInputs,
    },
    /// Stop an attempt.
    CancelAttempt {
        /// The attempt.
        attempt: AttemptKey,
        /// Where it runs.
        life: Life,
        /// Why.
        reason: String,
    },
    /// Have all blocks of an output fetched by another executor, which holds them from then on.
    TakeOutput {
        /// The output, and who holds it now.
        output: Arc<MapOutput>,
        /// Who is to hold it.
        life: Life,
    },
    /// An output is held elsewhere than was told before.
    OutputMoved {
        /// The output, and who holds it now.
        output: Arc<MapOutput>,
        /// Where attempts run that may read it.
        lives: Vec<Life>,
    },
    /// Tell the manager what the job still has at a worker that is drained.
    Left {
        /// The worker.
        worker: WorkerId,
        /// What is there.
        left: LeftThere,
    },
    /// Forget the blocks of one attempt.
    FreeAttempt {
        /// The attempt.
        attempt: AttemptKey,
        /// Where they are.
        life: Life,
    },
    /// Forget the blocks of a stage.
    FreeStage {
        /// The stage.
        stage: StageId,
        /// Where some are.
        lives: Vec<Life>,
    },
    /// Give slots back.
    ReleaseSlots {
        /// The loan.
        lease: LeaseId,
        /// How many of its slots.
        tasks: u32,
    },
    /// From now on a stage is run as a part of another, as its [`Adapts`](firesteel_engine::stage::adapt::Adapts) allow.
    Absorb {
        /// The stage, a join.
        stage: StageId,
        /// The stage that makes the rows of its probe side, which is not run any more.
        probe: StageId,
    },
    /// For people: what was decided of a stage by the sizes of its inputs.
    Decided {
        /// The stage.
        stage: StageId,
        /// What.
        decision: Decision,
    },
    /// The result can be read: for each task of the result stage, what it wrote. Sent again when a part of it had to
    /// be run again.
    ResultReady(Vec<Arc<MapOutput>>),
    /// It is decided how the job ends: whoever waits for the result is told now.
    Settled(Outcome),
    /// The job has ended and everything was given back: forget its blocks wherever it was, and tell the manager.
    Close {
        /// How it ended.
        outcome: Outcome,
        /// Rows of the result.
        rows: u64,
        /// Executors that may hold something of it.
        lives: Vec<Life>,
    },
}

/// What a stage needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Demand {
    /// The stage.
    pub stage: StageId,
    /// Tasks that still need a slot; 0 withdraws the demand.
    pub tasks: u32,
    /// Core threads a task needs.
    pub cores_per_task: u32,
    /// Memory a task needs, 0: the executor's to decide.
    pub memory_per_task: u64,
    /// Where the input lies, and how many bytes.
    pub inputs: Arc<[(ExecutorId, u64)]>,
    /// How the stage's rows are divided.
    pub output: OutputKind,
    /// Bytes it is expected to write, 0 when unknown.
    pub output_bytes: u64,
    /// Executors that it must not get.
    pub excluded: Vec<ExecutorId>,
    /// Its tasks would wait for others that run: only what nobody else has a use for.
    pub early: bool,
    /// By how many tasks it is less than what the manager knows, when nothing else of it has changed.
    pub less: Option<u32>,
}

/// An attempt to be started.
#[derive(Debug, Clone)]
pub struct Launch {
    /// Its key.
    pub attempt: AttemptKey,
    /// The loan whose slot it uses.
    pub lease: LeaseId,
    /// Where.
    pub life: Life,
    /// The first partition of the stage's plan that it drives.
    pub first_partition: u32,
    /// How many it drives.
    pub lanes: u32,
    /// What each of them reads of the exchanges that the stage is divided as; empty when that is its own partition.
    pub slices: Vec<Slice>,
    /// What it reads.
    pub inputs: Vec<StageInputs>,
    /// Its share of memory, 0: the executor's to decide.
    pub memory_bytes: u64,
}

impl Launch {
    /// The partitions that its lanes read of the exchanges that its stage is divided as.
    #[must_use]
    pub fn partitions_read(&self) -> Range<u32> {
        match &self.slices[..] {
            [] => self.first_partition..self.first_partition + self.lanes,
            [first, rest @ ..] => {
                first.partitions.start..rest.last().map_or(first.partitions.end, |last| last.partitions.end)
            }
        }
    }
}

/// Committed output of an input stage, ordered by task.
#[derive(Debug, Clone)]
pub struct StageInputs {
    /// The stage.
    pub stage: StageId,
    /// One for each task, or for some when more is coming.
    pub outputs: Arc<[Arc<MapOutput>]>,
    /// Whether these are not all: the attempt is told of the others when they come.
    pub coming: bool,
}

/// How a job ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Its result was read to the end.
    Succeeded,
    /// It could not be done.
    Failed(UserError),
    /// Someone stopped it; says who or why.
    Cancelled(String),
}
