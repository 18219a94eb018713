//! A job as the machine sees it: stages as data, without a plan inside.

use std::ops::Range;

use firesteel_base::{JobId, StageId};
use firesteel_engine::stage::adapt::Adapts;

/// A job to run.
#[derive(Debug, Clone)]
pub struct JobPlan {
    /// The job.
    pub job: JobId,
    /// Its stages, inputs before their consumers; the last is the result stage.
    pub stages: Vec<StagePlan>,
}

/// A stage to run.
#[derive(Debug, Clone)]
pub struct StagePlan {
    /// Its id, unique in the job.
    pub id: StageId,
    /// Partitions of its plan.
    pub partitions: u32,
    /// Partitions that one task drives at a time, each on a core thread of its own; at least 1.
    pub lanes: u32,
    /// The stages it reads.
    pub inputs: Vec<StageId>,
    /// Those of them that only tell it the keys of a join: where these lie does not matter.
    pub told_by: Vec<StageId>,
    /// How its rows are divided for whoever reads them.
    pub output: OutputKind,
    /// Whether the last block of each lane holds no rows, but tells keys or samples.
    pub tells: bool,
    /// What the sizes of its inputs may decide.
    pub adapts: Adapts,
    /// Bytes it is expected to write, 0 when unknown.
    pub estimated_bytes: u64,
    /// Memory that one task needs at least, 0: whatever the executor gives it.
    pub memory_per_task: u64,
}

/// How a stage's rows are divided for its consumers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum OutputKind {
    /// By a hash of the row.
    Hash,
    /// By split points in an ordered key space.
    Range,
    /// Batches in turn.
    RoundRobin,
    /// All rows to one partition, read by one task.
    Single,
    /// All rows to one partition, read by every task of the consumer.
    Broadcast,
    /// Each lane's rows stay apart and in order.
    Merge,
    /// Each lane's rows stay apart and in order; each reader takes the rows of a range of keys, which follows from samples of all.
    SampledRange,
    /// For the driver.
    Result,
}

impl StagePlan {
    /// How many tasks it has.
    #[must_use]
    pub fn tasks(&self) -> u32 {
        self.partitions.div_ceil(self.lanes)
    }

    /// The first partition that `task` drives.
    #[must_use]
    pub fn first_partition(&self, task: u32) -> u32 {
        task * self.lanes
    }

    /// How many partitions `task` drives: fewer than the others in the last one.
    #[must_use]
    pub fn lanes_of(&self, task: u32) -> u32 {
        self.lanes.min(self.partitions - self.first_partition(task))
    }

    /// Core threads that a task needs.
    #[must_use]
    pub fn cores_per_task(&self) -> u32 {
        self.lanes.min(self.partitions).max(1)
    }
}

impl OutputKind {
    /// True when a second run of a task divides the same rows in the same way. What divides batches as they come does
    /// not, and neither do ranges that follow from all rows, of which a sum of floating-point numbers may come out otherwise:
    /// whoever has read the first run's blocks must then not read the second's beside them.
    #[must_use]
    pub fn repeatable(self) -> bool {
        match self {
            Self::RoundRobin | Self::SampledRange => false,
            Self::Hash | Self::Range | Self::Single | Self::Broadcast | Self::Merge | Self::Result => true,
        }
    }

    /// The partitions of each lane's output that the consumer's `partitions` read.
    #[must_use]
    pub fn blocks_read_by(self, partitions: Range<u32>) -> Range<u32> {
        match self {
            Self::Hash | Self::Range | Self::RoundRobin => partitions,
            Self::Single | Self::Broadcast | Self::Merge | Self::SampledRange | Self::Result => 0..1,
        }
    }

    /// Of how many tasks of a consumer, which has that many, each reads an equal part of the blocks that it reads.
    #[must_use]
    pub fn readers_of_a_block(self, tasks: usize) -> usize {
        match self {
            Self::SampledRange => tasks.max(1),
            Self::Hash
            | Self::Range
            | Self::RoundRobin
            | Self::Single
            | Self::Broadcast
            | Self::Merge
            | Self::Result => 1,
        }
    }
}
