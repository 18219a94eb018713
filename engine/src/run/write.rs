//! Routing a lane's rows to the partitions of its stage's output.

use datafusion::arrow::record_batch::RecordBatch;
use datafusion::error::{DataFusionError, Result};
use datafusion::physical_plan::metrics::Time;
use datafusion::physical_plan::repartition::BatchPartitioner;
use firesteel_shuffle::partition::hash_assignment;
use firesteel_shuffle::{Assignment, LaneWriter};

use crate::Output;
use crate::ops::KeyHashes;

/// Decides for each row of a lane which partition it goes to.
pub(super) enum Router {
    One,
    Hash { keys: KeyHashes, partitions: u32, rows: Vec<u32> },
    RoundRobin { partitions: u32, next: u32 },
    Range(Box<BatchPartitioner>),
}

impl Router {
    /// The router for `output`; `lane` is where round-robin starts, so that lanes do not all fill the same partition.
    pub(super) fn new(output: &Output, lane: usize) -> Result<Self> {
        let count = |partitions: usize| {
            u32::try_from(partitions).map_err(|_| DataFusionError::Plan("too many partitions".to_owned()))
        };
        Ok(match output {
            Output::Single
            | Output::Broadcast
            | Output::Merge { .. }
            | Output::SampledRange { .. }
            | Output::Result => Self::One,
            Output::Hash { exprs, partitions } => Self::Hash {
                keys: KeyHashes::new(exprs.clone()),
                partitions: count(*partitions)?,
                rows: Vec::new(),
            },
            Output::RoundRobin { partitions } => {
                let partitions = count(*partitions)?;
                Self::RoundRobin { partitions, next: count(lane)? % partitions.max(1) }
            }
            Output::Range(partitioning) => {
                let partitioner =
                    BatchPartitioner::try_new(partitioning.clone(), Time::new(), lane, lane + 1)?;
                Self::Range(Box::new(partitioner))
            }
        })
    }

    /// Writes the rows of `batch`.
    pub(super) fn write(&mut self, batch: RecordBatch, writer: &mut LaneWriter) -> Result<()> {
        let external = |fault| DataFusionError::External(Box::new(fault));
        match self {
            Self::One => writer.write(&batch, &Assignment::Single).map_err(external),
            Self::RoundRobin { partitions, next } => {
                writer.write(&batch, &Assignment::Whole(*next)).map_err(external)?;
                *next = (*next + 1) % *partitions;
                Ok(())
            }
            Self::Hash { keys, partitions, rows } => {
                hash_assignment(keys.of(&batch)?, *partitions, rows);
                writer.write(&batch, &Assignment::Rows(rows)).map_err(external)
            }
            Self::Range(partitioner) => partitioner.partition(batch, |partition, part| {
                let partition = u32::try_from(partition).expect("partition counts fit in 32 bits");
                writer.write(&part, &Assignment::Whole(partition)).map_err(external)
            }),
        }
    }
}

/// How often each byte of a lane's output is copied on its way into frames.
pub(super) fn copies(output: &Output) -> u64 {
    match output {
        // The rows of a range are gathered into a batch of their own first.
        Output::Range(_) => 2,
        Output::Hash { .. }
        | Output::RoundRobin { .. }
        | Output::Single
        | Output::Broadcast
        | Output::Merge { .. }
        | Output::SampledRange { .. }
        | Output::Result => 1,
    }
}
