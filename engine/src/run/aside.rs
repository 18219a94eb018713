//! What a lane tells beside its rows, in a block of its own.

use std::sync::Arc;

use datafusion::arrow::datatypes::Schema;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::error::Result;
use datafusion::execution::memory_pool::MemoryPool;
use firesteel_base::UserError;
use firesteel_shuffle::{LaneWriter, WriteError};

use super::TaskError;
use crate::ops::{LaneKeys, LaneSamples};
use crate::{Output, Stage};

/// What a lane has seen of its rows that it tells of.
pub(super) enum Aside {
    Nothing,
    /// Keys of a join.
    Keys(LaneKeys),
    /// Keys of some of the rows, which are sorted.
    Samples(LaneSamples),
}

impl Aside {
    /// Nothing yet of what `stage` tells of its rows, which have `schema`.
    pub(super) fn new(stage: &Stage, schema: &Schema, pool: &Arc<dyn MemoryPool>) -> Result<Self> {
        Ok(match &stage.output {
            Output::SampledRange { ordering } => Self::Samples(LaneSamples::try_new(ordering, schema, pool)?),
            _ if stage.tells.is_empty() => Self::Nothing,
            _ => Self::Keys(LaneKeys::new(&stage.tells, pool)),
        })
    }

    /// Looks at the lane's next rows.
    pub(super) fn take(&mut self, batch: &RecordBatch) -> Result<()> {
        match self {
            Self::Nothing => Ok(()),
            Self::Keys(keys) => keys.take(batch),
            Self::Samples(samples) => samples.take(batch),
        }
    }

    /// Writes what is told. All rows have been written before.
    pub(super) fn write(self, writer: &mut LaneWriter) -> Result<(), TaskError> {
        let told = match self {
            Self::Nothing => return Ok(()),
            Self::Keys(keys) => keys.tell()?,
            Self::Samples(samples) => samples.tell(writer.frames().map_err(failed)?)?,
        };
        writer.write_aside(&told).map_err(failed)
    }
}

/// The failure of a lane whose rows could not be written.
pub(super) fn failed(fault: WriteError) -> TaskError {
    TaskError::new(fault.class(), UserError::new(fault.to_string()))
}
