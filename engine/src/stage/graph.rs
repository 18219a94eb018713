//! The stage graph: a job as plain data.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::physical_expr::{LexOrdering, PhysicalExpr};
use datafusion::physical_plan::{ExecutionPlan, Partitioning, displayable};
use firesteel_base::StageId;

use super::adapt::Adapts;

/// Where a job's stages run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// On the cluster's executors.
    Cluster,
    /// In the driver's process, because the plan cannot travel; says why.
    Driver(String),
}

/// A job's stages, inputs before their consumers; the last is the result stage.
#[derive(Debug, Clone)]
pub struct StageGraph {
    /// The stages; `stages[i].id` is `i`.
    pub stages: Vec<Arc<Stage>>,
    /// Where they run.
    pub place: Place,
}

/// The part of a job's plan between exchanges.
#[derive(Debug, Clone)]
pub struct Stage {
    /// Its number in the graph.
    pub id: StageId,
    /// What a task of it computes; read exchanges are its leaves.
    pub plan: Arc<dyn ExecutionPlan>,
    /// Partitions of `plan`.
    pub partitions: usize,
    /// How the rows it writes are divided.
    pub output: Output,
    /// The columns whose values each lane tells beside its rows: keys of a join, for the stages of its other side.
    pub tells: Vec<usize>,
    /// The stages it reads, ascending.
    pub inputs: Vec<StageId>,
    /// Those of them of which it reads not rows, but the keys that they tell.
    pub told_by: Vec<StageId>,
    /// What the sizes of its inputs may decide.
    pub adapts: Adapts,
    /// Bytes it is expected to write, 0 when unknown.
    pub estimated_bytes: u64,
    /// The stage as it travels; absent when the job runs in this process.
    pub encoded: Option<Bytes>,
}

/// How a stage's rows are divided for its consumers.
#[derive(Debug, Clone)]
pub enum Output {
    /// By the hash of these expressions.
    Hash {
        /// Over the stage's output columns.
        exprs: Vec<Arc<dyn PhysicalExpr>>,
        /// How many partitions.
        partitions: usize,
    },
    /// By split points in an ordered key space.
    Range(Partitioning),
    /// Batches in turn.
    RoundRobin {
        /// How many partitions.
        partitions: usize,
    },
    /// All rows to one partition, read by one task.
    Single,
    /// All rows to one partition, read by every task of the consumer.
    Broadcast,
    /// Each lane's rows stay apart and in order; the consumer merges them.
    Merge {
        /// The order of each lane's rows.
        ordering: LexOrdering,
    },
    /// Each lane's rows stay apart and in order, and samples of their keys are told beside them; the consumer's partitions each
    /// merge a range of the keys.
    SampledRange {
        /// The order of each lane's rows.
        ordering: LexOrdering,
    },
    /// For the driver: each lane's rows are one partition.
    Result,
}

impl Output {
    /// Partitions that each lane writes.
    #[must_use]
    pub fn partitions(&self) -> usize {
        match self {
            Self::Hash { partitions, .. } | Self::RoundRobin { partitions } => *partitions,
            Self::Range(partitioning) => partitioning.partition_count(),
            Self::Single
            | Self::Broadcast
            | Self::Merge { .. }
            | Self::SampledRange { .. }
            | Self::Result => 1,
        }
    }

    /// One word for it, as the protocol and EXPLAIN name it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Hash { .. } => "hash",
            Self::Range(_) => "range",
            Self::RoundRobin { .. } => "round-robin",
            Self::Single => "single",
            Self::Broadcast => "broadcast",
            Self::Merge { .. } => "merge",
            Self::SampledRange { .. } => "sampled-range",
            Self::Result => "result",
        }
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hash { exprs, partitions } => {
                let exprs: Vec<_> = exprs.iter().map(ToString::to_string).collect();
                write!(f, "hash([{}], {partitions})", exprs.join(", "))
            }
            Self::Range(partitioning) => write!(f, "range({partitioning})"),
            Self::RoundRobin { partitions } => write!(f, "round-robin({partitions})"),
            Self::Merge { ordering } | Self::SampledRange { ordering } => {
                write!(f, "{}({ordering})", self.kind())
            }
            Self::Single | Self::Broadcast | Self::Result => f.write_str(self.kind()),
        }
    }
}

impl Stage {
    /// Blocks that each lane writes: one for each partition, and one for what it tells.
    #[must_use]
    pub fn blocks(&self) -> usize {
        self.output.partitions() + usize::from(self.writes_aside())
    }

    /// Whether the last block of each lane holds no rows, but tells something of them.
    #[must_use]
    pub fn writes_aside(&self) -> bool {
        !self.tells.is_empty() || matches!(self.output, Output::SampledRange { .. })
    }

    /// Tasks of this stage when each drives `lanes` partitions.
    #[must_use]
    pub fn tasks(&self, lanes: usize) -> usize {
        self.partitions.div_ceil(lanes.max(1))
    }
}

impl fmt::Display for Stage {
    /// A line about the stage, then its plan, indented.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stage {}: {} partitions -> {}", self.id, self.partitions, self.output)?;
        if !self.tells.is_empty() {
            let schema = self.plan.schema();
            let columns =
                self.tells.iter().map(|&column| format!("{}@{column}", schema.field(column).name()));
            write!(f, ", tells {}", columns.collect::<Vec<_>>().join(" "))?;
        }
        let (told_by, reads): (Vec<_>, Vec<_>) =
            self.inputs.iter().partition(|input| self.told_by.contains(input));
        let pipelined = self.adapts.pipelined.iter().collect();
        for (what, stages) in [("reads", reads), ("told by", told_by), ("pipelined with", pipelined)] {
            if !stages.is_empty() {
                let stages: Vec<_> = stages.into_iter().map(ToString::to_string).collect();
                write!(f, ", {what} {}", stages.join(" "))?;
            }
        }
        writeln!(f)?;
        for line in displayable(self.plan.as_ref()).indent(false).to_string().lines() {
            writeln!(f, "  {line}")?;
        }
        Ok(())
    }
}

impl fmt::Display for StageGraph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Place::Driver(why) = &self.place {
            writeln!(f, "in the driver, because {why}")?;
        }
        self.stages.iter().try_for_each(|stage| write!(f, "{stage}"))
    }
}

impl StageGraph {
    /// The stage whose rows the driver reads.
    ///
    /// # Panics
    /// Never: a graph has at least one stage.
    #[must_use]
    pub fn result(&self) -> &Arc<Stage> {
        self.stages.last().expect("a stage graph has at least one stage")
    }
}
