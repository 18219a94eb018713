//! Telling the values of a join's key along with the rows that hold them.
//!
//! A stage that writes the build side of a join knows which keys can match before the join runs. It tells them: beside its
//! rows each of its lanes writes one block more, with a [`KeySet`] for each key column. Stages of the probe side read
//! these blocks of all lanes, and drop the rows that the join would.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, BinaryArray, Int32Array, Int64Array, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Field, Int32Type, Int64Type, Schema, SchemaRef};
use datafusion::common::exec_err;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use firesteel_base::StageId;
use firesteel_shuffle::{BlockKey, Holder, MapOutput};
use futures::{StreamExt, TryStreamExt, stream};

use super::key_set::KeySet;
use crate::ops::plan_boilerplate;
use crate::run::ShuffleInputs;

/// The most bytes of told keys that a task takes. More tell of a build side that is not worth it.
const TOLD_BYTES_MAX: u64 = 64 << 20;
/// Blocks of told keys that are fetched at the same time.
const FETCHES_MAX: usize = 4;

/// Marks the input of an exchange as one whose keys are told. It changes nothing by itself: the cut makes the stage that ends
/// there a telling one.
#[derive(Debug)]
pub struct TellKeysExec {
    input: Arc<dyn ExecutionPlan>,
    join: u64,
    columns: Vec<usize>,
    properties: Arc<PlanProperties>,
}

impl TellKeysExec {
    /// Marks `input` as the build side of the join whose runtime filter is `join`, with its keys in `columns`.
    #[must_use]
    pub fn new(input: Arc<dyn ExecutionPlan>, join: u64, columns: Vec<usize>) -> Self {
        let properties = Arc::clone(input.properties());
        Self { input, join, columns, properties }
    }

    /// What it marks.
    #[must_use]
    pub fn input(&self) -> &Arc<dyn ExecutionPlan> {
        &self.input
    }

    /// The runtime filter of the join that it is a side of.
    #[must_use]
    pub fn join(&self) -> u64 {
        self.join
    }

    /// The columns whose values are told, in the order in which they are.
    #[must_use]
    pub fn columns(&self) -> &[usize] {
        &self.columns
    }
}

impl DisplayAs for TellKeysExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TellKeysExec: columns={:?}", self.columns)
    }
}

impl ExecutionPlan for TellKeysExec {
    plan_boilerplate!(TellKeysExec, |tell, mut children| Ok(Arc::new(Self::new(
        children.swap_remove(0),
        tell.join,
        tell.columns.clone()
    ))));

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        self.input.execute(partition, context)
    }
}

/// What a lane has seen of the keys that its stage tells.
pub struct LaneKeys {
    columns: Vec<(usize, Option<KeySet>)>,
}

impl LaneKeys {
    /// Nothing yet of those columns.
    #[must_use]
    pub fn new(columns: &[usize], pool: &Arc<dyn MemoryPool>) -> Self {
        let columns = columns.iter().map(|&column| (column, Some(empty(pool))));
        Self { columns: columns.collect() }
    }

    /// Takes the keys of `batch`. What is not counted any more, because it ranges too widely, lets all rows pass.
    ///
    /// # Errors
    /// When a column is not of whole numbers.
    pub fn take(&mut self, batch: &RecordBatch) -> Result<()> {
        for (column, keys) in &mut self.columns {
            let Some(known) = keys else { continue };
            if !known.add(batch.column(*column))? {
                *keys = None;
            }
        }
        Ok(())
    }

    /// What is told: a row for each column, NULL where its keys range too widely.
    ///
    /// # Errors
    /// When memory is short.
    pub fn tell(self) -> Result<RecordBatch> {
        let told = self.columns.into_iter().map(|(_, keys)| keys.map(|keys| keys.encode()).transpose());
        let told = told.collect::<Result<Vec<_>>>()?;
        let numbers = Int32Array::from_iter_values((0..).take(told.len()));
        let first: Int64Array = told.iter().map(|keys| keys.as_ref().map(|(first, _)| *first)).collect();
        let keys: BinaryArray = told.iter().map(|keys| keys.as_ref().map(|(_, bytes)| bytes)).collect();
        let columns: Vec<ArrayRef> = vec![Arc::new(numbers), Arc::new(first), Arc::new(keys)];
        Ok(RecordBatch::try_new(told_schema(), columns)?)
    }
}

/// The columns of what is told: which key column, and its keys as [`KeySet::encode`] makes them.
fn told_schema() -> SchemaRef {
    let number = Field::new("number", DataType::Int32, false);
    let first = Field::new("first", DataType::Int64, true);
    let keys = Field::new("keys", DataType::Binary, true);
    Arc::new(Schema::new(vec![number, first, keys]))
}

fn empty(pool: &Arc<dyn MemoryPool>) -> KeySet {
    KeySet::new(MemoryConsumer::new("RuntimeFilter").register(pool))
}

/// The keys that all lanes of `stage` told, `columns` columns of them; `None` for a column of which not all are known.
///
/// # Errors
/// When a block cannot be read.
pub(super) async fn told_keys(
    inputs: &ShuffleInputs,
    stage: StageId,
    columns: usize,
    pool: &Arc<dyn MemoryPool>,
) -> Result<Vec<Option<Arc<KeySet>>>> {
    let Some(arrived) = inputs.inputs.follow(stage) else {
        return exec_err!("the task was not told where the output of {stage} lies");
    };
    let blocks = {
        let arrived = arrived.borrow();
        if !arrived.is_complete {
            // Rows would be dropped whose keys are still to come.
            return exec_err!("the task was told of a part of {stage}, which tells it keys");
        }
        told_blocks(&arrived.outputs)?
    };
    let bytes: u64 = blocks.iter().map(|(_, _, bytes)| bytes).sum();
    if bytes > TOLD_BYTES_MAX {
        tracing::debug!(%stage, bytes, "too many told keys: the runtime filter is let alone");
        return Ok(vec![None; columns]);
    }
    let rows_told = blocks.len() * columns;
    let fetches = stream::iter(blocks).map(|(holder, key, _)| {
        inputs.fetcher.fetch_counted(holder, key, told_schema(), Arc::clone(&inputs.fetched))
    });
    let batches = fetches.flatten_unordered(FETCHES_MAX);
    let mut batches = batches.map_err(|fault| DataFusionError::External(Box::new(fault)));
    let mut keys: Vec<_> = (0..columns).map(|_| Some(empty(pool))).collect();
    let mut rows = 0;
    while let Some(batch) = batches.try_next().await? {
        rows += batch.num_rows();
        unite(&mut keys, &batch)?;
    }
    if rows != rows_told {
        return exec_err!("{stage} told keys in {rows} rows instead of {rows_told}");
    }
    Ok(keys.into_iter().map(|keys| keys.map(Arc::new)).collect())
}

/// The block of told keys of each lane, which is its last, and the bytes of it.
fn told_blocks(outputs: &[MapOutput]) -> Result<Vec<(Holder, BlockKey, u64)>> {
    let mut blocks = Vec::new();
    for output in outputs {
        for (lane, written) in (0..).zip(&output.lanes) {
            let told = written.partitions().checked_sub(1).filter(|&last| written.holds(last));
            let Some(partition) = told else {
                return exec_err!("{} did not tell its keys", output.producer);
            };
            let key = BlockKey { producer: output.producer, lane, partition };
            blocks.push((output.holder.clone(), key, written.bytes_of(partition)));
        }
    }
    Ok(blocks)
}

/// Adds what one lane told of some columns.
fn unite(keys: &mut [Option<KeySet>], told: &RecordBatch) -> Result<()> {
    let numbers = told.column(0).as_primitive::<Int32Type>();
    let first = told.column(1).as_primitive::<Int64Type>();
    let bytes = told.column(2).as_binary::<i32>();
    for (number, (first, bytes)) in numbers.values().iter().zip(first.iter().zip(bytes)) {
        let keys = usize::try_from(*number).ok().and_then(|number| keys.get_mut(number));
        let Some(keys) = keys else { return exec_err!("keys of a column {number} were told") };
        let Some(known) = keys else { continue };
        let fits = match (first, bytes) {
            (Some(first), Some(bytes)) => known.add_encoded(first, bytes)?,
            _ => false,
        };
        if !fits {
            *keys = None;
        }
    }
    Ok(())
}
