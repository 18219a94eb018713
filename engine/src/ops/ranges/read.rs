//! The rows of one range, of all lanes, merged.

use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::exec_err;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::LexOrdering;
use datafusion::physical_plan::EmptyRecordBatchStream;
use datafusion::physical_plan::metrics::BaselineMetrics;
use datafusion::physical_plan::sorts::streaming_merge::StreamingMergeBuilder;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use firesteel_base::StageId;
use firesteel_shuffle::{BlockKey, FetchError, Holder, MapOutput};
use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::OnceCell;

use super::SortKeys;
use super::cut::Cutter;
use super::samples::{Told, told_schema};
use super::splits::{Lane, Splits};
use crate::run::ShuffleInputs;
use crate::session::SessionSettings;

/// The samples of so many lanes are fetched at the same time.
const FETCHES_MAX: usize = 16;

/// How many times the bytes of its block samples take while ranges are made of them, about.
const TOLD_FACTOR: usize = 3;

/// The ranges of an exchange, which all lanes of a task that read it share.
pub(in crate::ops) type SharedSplits = Arc<OnceCell<(Splits, MemoryReservation)>>;

/// What one partition wants of an exchange of sorted rows.
pub(in crate::ops) struct RangeRead {
    pub stage: StageId,
    /// Its number, and how many there are.
    pub partition: usize,
    pub partitions: usize,
    pub ordering: LexOrdering,
    pub schema: SchemaRef,
    pub splits: SharedSplits,
    pub inputs: Arc<ShuffleInputs>,
    pub context: Arc<TaskContext>,
    pub metrics: BaselineMetrics,
}

impl RangeRead {
    /// The rows of the partition's range, in order.
    pub fn stream(self) -> SendableRecordBatchStream {
        let schema = Arc::clone(&self.schema);
        let merged = async move {
            let splits = Arc::clone(&self.splits);
            let (splits, _) = splits.get_or_try_init(|| self.divide()).await?;
            self.merge(splits)
        };
        Box::pin(RecordBatchStreamAdapter::new(schema, stream::once(merged).try_flatten()))
    }

    /// Finds the ranges from the samples of all lanes. They are not looked at when there is little to divide.
    async fn divide(&self) -> Result<(Splits, MemoryReservation)> {
        let outputs = self.outputs()?;
        let lanes = lanes(&outputs)?;
        let settings = SessionSettings::of(self.context.session_config().options());
        let rows_bytes: u64 = lanes.iter().map(|lane| lane.bytes).sum();
        let memory = MemoryConsumer::new("RangeSplits").register(self.context.memory_pool());
        if rows_bytes < settings.range_sorts_above.0 {
            let lanes =
                lanes.into_iter().map(|WrittenLane { holder, block, .. }| Lane { holder, block, told: None });
            return Ok((Splits::new(lanes.collect(), self.partitions), memory));
        }
        let told_bytes = lanes.iter().map(|lane| lane.told_bytes).sum::<u64>();
        memory.try_grow(usize::try_from(told_bytes).unwrap_or(usize::MAX).saturating_mul(TOLD_FACTOR))?;
        let told = stream::iter(lanes).map(|lane| self.told(lane)).buffered(FETCHES_MAX);
        let splits = Splits::new(told.try_collect().await?, self.partitions);
        memory.resize(splits.bytes());
        Ok((splits, memory))
    }

    /// All that the stage wrote, in the order of its tasks.
    fn outputs(&self) -> Result<Vec<MapOutput>> {
        let Some(arrived) = self.inputs.inputs.follow(self.stage) else {
            return exec_err!("the task was not told where the output of {} lies", self.stage);
        };
        let arrived = arrived.borrow();
        if !arrived.is_complete {
            // Ranges follow from all rows.
            return exec_err!("the task was told of a part of {}, whose rows it divides", self.stage);
        }
        let mut outputs = arrived.outputs.clone();
        outputs.sort_by_key(|output| output.producer.task.task);
        Ok(outputs)
    }

    /// What a lane told.
    async fn told(&self, lane: WrittenLane) -> Result<Lane> {
        let key = BlockKey { partition: 1, ..lane.block };
        let (fetcher, fetched) = (&self.inputs.fetcher, Arc::clone(&self.inputs.fetched));
        let mut batches = fetcher.fetch_counted(lane.holder.clone(), key, told_schema(), fetched);
        let mut told = Told::default();
        while let Some(batch) = batches.try_next().await.map_err(external)? {
            told.add(&batch)?;
        }
        if told.samples().is_empty() {
            return exec_err!("{} wrote rows and told no samples", lane.block.producer);
        }
        Ok(Lane { holder: lane.holder, block: lane.block, told: Some(told) })
    }

    fn merge(self, splits: &Splits) -> Result<SendableRecordBatchStream> {
        let none = || Box::pin(EmptyRecordBatchStream::new(Arc::clone(&self.schema)));
        let Some(range) = splits.range(self.partition) else { return Ok(none()) };
        let streams = splits.blocks(self.partition).map(|(holder, key, first_frame)| {
            let (schema, fetched) = (Arc::clone(&self.schema), Arc::clone(&self.inputs.fetched));
            let batches = self.inputs.fetcher.fetch_from(holder, key, first_frame, schema, fetched);
            let keys = SortKeys::try_new(&self.ordering, &self.schema)?;
            let cutter = Cutter::new(keys, range.clone());
            Ok(cutter.stream(batches.map_err(external).boxed(), Arc::clone(&self.schema)))
        });
        let mut streams = streams.collect::<Result<Vec<_>>>()?;
        if streams.len() <= 1 {
            let Some(only) = streams.pop() else { return Ok(none()) };
            let metrics = self.metrics;
            let counted = only.inspect_ok(move |batch| metrics.record_output(batch.num_rows()));
            return Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema, counted)));
        }
        let memory = MemoryConsumer::new(format!("RangeMerge[{}]", self.partition));
        StreamingMergeBuilder::new()
            .with_streams(streams)
            .with_schema(self.schema)
            .with_expressions(&self.ordering)
            .with_metrics(self.metrics)
            .with_batch_size(self.context.session_config().batch_size())
            .with_reservation(memory.register(self.context.memory_pool()))
            .build()
    }
}

/// A lane that wrote rows.
struct WrittenLane {
    holder: Holder,
    block: BlockKey,
    bytes: u64,
    told_bytes: u64,
}

/// The lanes that wrote rows.
fn lanes(outputs: &[MapOutput]) -> Result<Vec<WrittenLane>> {
    let mut lanes = Vec::new();
    for output in outputs {
        for (lane, written) in (0..).zip(&output.lanes) {
            if !written.holds(0) {
                continue;
            }
            if written.partitions() != 2 || !written.holds(1) {
                return exec_err!("{} wrote rows and told no samples", output.producer);
            }
            lanes.push(WrittenLane {
                holder: output.holder.clone(),
                block: BlockKey { producer: output.producer, lane, partition: 0 },
                bytes: written.bytes_of(0),
                told_bytes: written.bytes_of(1),
            });
        }
    }
    Ok(lanes)
}

fn external(fault: FetchError) -> DataFusionError {
    DataFusionError::External(Box::new(fault))
}
