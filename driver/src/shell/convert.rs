//! Between wire messages and the machine's types.

use std::ops::Range;

use firesteel_base::{AttemptKey, Class, Epoch, ExecutorId, UserError};
use firesteel_engine::Output;
use firesteel_executor::convert::{lane_sizes, wire_lane_sizes};
use firesteel_protocol::{MalformedMessage, required, v1};
use firesteel_shuffle::{Holder, LaneSizes};

use crate::machine::{
    AttemptFailure, Demand, Held, JobSnapshot, Life, LostBlock, MapOutput, Outcome, OutputKind, StageSnapshot,
};

pub(super) fn life(executor: &v1::ExecutorRef) -> Result<Life, MalformedMessage> {
    let id = required(executor.id.as_ref(), "ExecutorRef.id")?;
    Ok(Life { executor: ExecutorId::try_from(id)?, epoch: Epoch(executor.epoch) })
}

pub(super) fn attempt(key: Option<&v1::AttemptKey>) -> Result<AttemptKey, MalformedMessage> {
    Ok(AttemptKey::from(required(key, "attempt")?))
}

pub(super) fn lanes(lanes: &[v1::LaneOutput]) -> Result<Vec<LaneSizes>, MalformedMessage> {
    lanes.iter().map(lane_sizes).collect()
}

pub(super) fn failure(failure: Option<&v1::Failure>) -> Result<AttemptFailure, MalformedMessage> {
    let failure = required(failure, "AttemptFailed.failure")?;
    let lost = failure.fetch.as_ref().map(lost_block).transpose()?;
    Ok(AttemptFailure { class: failure.base_class(), error: failure.user_error(), lost })
}

fn lost_block(fetch: &v1::FetchFailure) -> Result<LostBlock, MalformedMessage> {
    Ok(LostBlock {
        producer: attempt(fetch.producer.as_ref())?,
        life: life(required(fetch.holder.as_ref(), "FetchFailure.holder")?)?,
    })
}

/// The blocks of each lane of an input that a task's lanes may read: those of its partitions when the stage is divided as the
/// input is, else any.
pub(super) fn blocks_read(read: &Range<u32>, is_divided: bool) -> Range<u32> {
    if is_divided { read.clone() } else { 0..u32::MAX }
}

/// An output, with what is known of the blocks that its reader wants.
pub fn wire_output(output: &MapOutput, read: &Range<u32>, holder: v1::ExecutorRef) -> v1::MapOutput {
    let lane = |lane: &LaneSizes| wire_lane_sizes(&lane.within(read.clone()));
    v1::MapOutput {
        producer: Some(output.producer.into()),
        holder: Some(holder),
        lanes: output.lanes.iter().map(lane).collect(),
    }
}

pub(super) fn shuffle_output(
    output: &MapOutput,
    holder: Option<&v1::ExecutorRef>,
) -> firesteel_shuffle::MapOutput {
    firesteel_shuffle::MapOutput {
        producer: output.producer,
        holder: Holder {
            executor: output.life.executor.clone(),
            epoch: output.life.epoch,
            address: holder.map(|holder| holder.shuffle_address.clone()).unwrap_or_default(),
            keeper: holder.map(|holder| holder.keeper_address.clone()).unwrap_or_default(),
        },
        lanes: output.lanes.clone(),
    }
}

pub(super) fn output_kind(output: &Output) -> OutputKind {
    match output {
        Output::Hash { .. } => OutputKind::Hash,
        Output::Range { .. } => OutputKind::Range,
        Output::RoundRobin { .. } => OutputKind::RoundRobin,
        Output::Single => OutputKind::Single,
        Output::Broadcast => OutputKind::Broadcast,
        Output::Merge { .. } => OutputKind::Merge,
        Output::SampledRange { .. } => OutputKind::SampledRange,
        Output::Result => OutputKind::Result,
    }
}

fn exchange_kind(kind: OutputKind) -> v1::ExchangeKind {
    match kind {
        OutputKind::Hash => v1::ExchangeKind::Hash,
        OutputKind::Range | OutputKind::SampledRange => v1::ExchangeKind::Range,
        OutputKind::RoundRobin => v1::ExchangeKind::RoundRobin,
        OutputKind::Single => v1::ExchangeKind::Single,
        OutputKind::Broadcast => v1::ExchangeKind::Broadcast,
        OutputKind::Merge => v1::ExchangeKind::Merge,
        OutputKind::Result => v1::ExchangeKind::Result,
    }
}

/// What a stage needs, as the manager is told of it.
pub fn wire_demand(job: u64, demand: &Demand) -> v1::StageDemand {
    let input = |(executor, bytes): &(ExecutorId, u64)| v1::InputAt {
        executor: Some(executor.into()),
        bytes: *bytes,
    };
    v1::StageDemand {
        job,
        stage: demand.stage.0,
        tasks: demand.tasks,
        cores_per_task: demand.cores_per_task,
        memory_per_task: demand.memory_per_task,
        inputs: demand.inputs.iter().map(input).collect(),
        output: exchange_kind(demand.output).into(),
        output_bytes: demand.output_bytes,
        excluded: demand.excluded.iter().map(Into::into).collect(),
        gang: false,
        early: demand.early,
    }
}

pub(super) fn wire_progress(stage: &StageSnapshot) -> v1::StageProgress {
    v1::StageProgress {
        stage: stage.stage.0,
        tasks: stage.tasks,
        running: stage.running,
        done: stage.done,
        failed_attempts: stage.failed_attempts,
        rows: stage.rows,
        bytes: stage.bytes,
    }
}

/// How far the stages of a job have come.
pub fn wire_stages(snapshot: &JobSnapshot) -> Vec<v1::StageProgress> {
    snapshot.stages.iter().map(wire_progress).collect()
}

/// How a job has ended, as the manager is told of it.
pub fn close_job(job: u64, outcome: &Outcome, rows: u64) -> v1::CloseJob {
    let failure = |class, error: UserError| Some(v1::Failure::of(class, error));
    let (state, failure) = match outcome {
        Outcome::Succeeded => (v1::JobState::Succeeded, None),
        Outcome::Failed(error) => (v1::JobState::Failed, failure(Class::User, error.clone())),
        Outcome::Cancelled(reason) => {
            (v1::JobState::Cancelled, failure(Class::Cancelled, UserError::new(reason.clone())))
        }
    };
    v1::CloseJob { job, state: state.into(), failure, result_rows: rows }
}

/// A lease as the manager is told of it.
pub(super) fn held_lease(held: &Held) -> v1::HeldLease {
    v1::HeldLease {
        lease: held.lease.0,
        stage: held.stage.0,
        executor: Some((&held.life.executor).into()),
        epoch: held.life.epoch.0,
        tasks: held.tasks,
        cores_per_task: held.cores_per_task,
        memory_per_task: held.memory_per_task,
    }
}

/// A life as the manager is told of it.
pub(super) fn executor_life(life: &Life) -> v1::ExecutorLife {
    v1::ExecutorLife { executor: Some((&life.executor).into()), epoch: life.epoch.0 }
}

#[cfg(test)]
mod tests {
    use firesteel_shuffle::{BlockStat, LaneOutput, Slice};

    use super::*;
    use crate::machine::Launch;

    /// A side that every task reads whole has its rows in its first block, and perhaps keys in its second, whichever
    /// partitions the task reads of other inputs.
    #[test]
    fn of_an_input_that_the_stage_is_not_divided_as_every_block_is_told() {
        let launch = Launch {
            attempt: "job7/s2/p3/a0".parse().unwrap(),
            lease: firesteel_base::LeaseId(1),
            life: Life { executor: "w/e0".parse().unwrap(), epoch: Epoch(1) },
            first_partition: 3,
            lanes: 1,
            slices: vec![Slice::whole(5..9)],
            inputs: Vec::new(),
            memory_bytes: 0,
        };
        let read = launch.partitions_read();
        assert_eq!(blocks_read(&read, true), 5..9);
        let block = |rows| BlockStat { rows, bytes: 100 * rows };
        let broadcast = LaneSizes::of(&LaneOutput { partitions: vec![block(7), block(1)] });
        let told = broadcast.within(blocks_read(&read, false));
        assert!(told.holds(0) && told.holds(1));
    }
}
