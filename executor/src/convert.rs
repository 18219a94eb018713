//! Between wire messages and the types of shuffle and engine.

use firesteel_base::{AttemptKey, Epoch, ExecutorId, StageId};
use firesteel_engine::run::{StageInput, TaskError, TaskMetrics};
use firesteel_protocol::{MalformedMessage, required, v1};
use firesteel_shuffle::{BlockKey, BlockStat, Holder, LaneOutput, MapOutput};

pub(crate) fn holder(wire: &v1::ExecutorRef) -> Result<Holder, MalformedMessage> {
    let id = required(wire.id.as_ref(), "ExecutorRef.id")?;
    Ok(Holder {
        executor: ExecutorId::try_from(id)?,
        epoch: Epoch(wire.epoch),
        address: wire.shuffle_address.clone(),
    })
}

fn wire_holder(holder: &Holder) -> v1::ExecutorRef {
    v1::ExecutorRef {
        id: Some((&holder.executor).into()),
        epoch: holder.epoch.0,
        control_address: String::new(),
        shuffle_address: holder.address.clone(),
    }
}

fn lane_output(wire: &v1::LaneOutput) -> LaneOutput {
    let stat = |block: &v1::BlockSize| BlockStat { rows: block.rows, bytes: block.bytes };
    LaneOutput { partitions: wire.partitions.iter().map(stat).collect() }
}

pub(crate) fn wire_lane_output(output: &LaneOutput) -> v1::LaneOutput {
    let size = |block: &BlockStat| v1::BlockSize { rows: block.rows, bytes: block.bytes };
    v1::LaneOutput { partitions: output.partitions.iter().map(size).collect() }
}

fn map_output(wire: &v1::MapOutput) -> Result<MapOutput, MalformedMessage> {
    Ok(MapOutput {
        producer: AttemptKey::from(required(wire.producer.as_ref(), "MapOutput.producer")?),
        holder: holder(required(wire.holder.as_ref(), "MapOutput.holder")?)?,
        lanes: wire.lanes.iter().map(lane_output).collect(),
    })
}

pub(crate) fn stage_input(wire: &v1::StageInput) -> Result<StageInput, MalformedMessage> {
    let outputs = wire.outputs.iter().map(map_output).collect::<Result<_, _>>()?;
    Ok(StageInput { stage: StageId(wire.stage), outputs })
}

pub(crate) fn wire_failure(fault: TaskError) -> v1::Failure {
    let fetch = fault.fetch.map(|(block, holder)| wire_fetch_failure(block, &holder));
    v1::Failure { fetch, ..v1::Failure::of(fault.class, fault.error) }
}

fn wire_fetch_failure(block: BlockKey, holder: &Holder) -> v1::FetchFailure {
    v1::FetchFailure {
        producer: Some(block.producer.into()),
        lane: block.lane,
        partition: block.partition,
        holder: Some(wire_holder(holder)),
    }
}

pub(crate) fn wire_metrics(metrics: &TaskMetrics, elapsed_ms: u64, peak_memory: u64) -> v1::AttemptMetrics {
    let operators = metrics.operators.as_ref();
    v1::AttemptMetrics {
        rows_out: metrics.rows_out,
        bytes_out: metrics.bytes_out,
        bytes_fetched: metrics.bytes_fetched,
        spilled_bytes: metrics.spilled_bytes,
        bytes_read: metrics.bytes_read,
        bytes_copied: metrics.bytes_copied,
        elapsed_ms,
        peak_memory,
        operators_json: operators
            .map(|operators| serde_json::to_string(operators).expect("plain data becomes JSON"))
            .unwrap_or_default(),
    }
}
