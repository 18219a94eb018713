//! From the machine to the wire's messages.

use std::time::Duration;

use firesteel_base::{Class, Timestamp, UserError, version};
use firesteel_protocol::channel::with_hint;
use firesteel_protocol::v1::{self, manager_to_driver, manager_to_worker};
use tonic::Status;

use super::guard;
use crate::machine::Machine;
use crate::machine::drain::Drain;
use crate::machine::executor::Executor;
use crate::machine::job::{Job, Phase, shortened};
use crate::machine::message::{
    ClusterChange, Ending, ExecutorRef, ExecutorShape, ExecutorSpec, Grant, LeftThere, Members, Refusal,
    StageProgress, ToDriver, ToWorker, Usage,
};
use crate::machine::node::{Node, NodeState};
use crate::machine::show::JobState;

/// What a worker is told.
pub fn to_worker(
    message: ToWorker,
    heartbeat: Duration,
    (wire, run): (u32, u64),
    asks: bool,
) -> v1::ManagerToWorker {
    use manager_to_worker::Message;
    let message = match message {
        ToWorker::Registered => Message::Registered(v1::WorkerRegistered {
            manager_release: version::build().to_owned(),
            heartbeat_ms: millis(heartbeat),
            wire_version: wire,
            run,
        }),
        ToWorker::ExecutorEpoch { index, epoch } => {
            Message::ExecutorEpoch(v1::ExecutorEpoch { index, epoch: epoch.0 })
        }
        ToWorker::LaunchDriver { job, name, sql, conf, launch, seed } => {
            Message::LaunchDriver(v1::LaunchDriver {
                job: job.0,
                name,
                sql: sql.to_string(),
                conf: conf.into_iter().collect(),
                launch,
                secret: guard::driver_secret(seed, job, launch).expose().to_owned(),
                result_ticket: if asks { guard::result_ticket(seed, job) } else { String::new() },
            })
        }
        ToWorker::StopDriver(job) => Message::StopDriver(v1::StopDriver { job: job.0 }),
        ToWorker::FreeResult(job) => Message::FreeResult(v1::FreeResult { job: job.0 }),
        ToWorker::FreeKept(job) => Message::FreeKept(v1::FreeKept { job: job.0 }),
        ToWorker::Drain { order, draining, deadline } => {
            Message::Drain(v1::DrainWorker { order, draining, deadline_ms: deadline.map(millis) })
        }
        ToWorker::Leave => Message::Leave(v1::LeaveCluster {}),
    };
    v1::ManagerToWorker { message: Some(message) }
}

/// What a driver is told.
pub fn to_driver(message: ToDriver, heartbeat: Duration, run: u64, wire: u32) -> v1::ManagerToDriver {
    use manager_to_driver::Message;
    let message = match message {
        ToDriver::Welcome(members) => Message::Welcome(v1::DriverWelcome {
            release: version::build().to_owned(),
            heartbeat_ms: millis(heartbeat),
            cluster: Some(cluster(members)),
            run,
            wire_version: wire,
        }),
        ToDriver::JobOpened { request, job, resumed } => Message::JobOpened(v1::JobOpened {
            request,
            job: job.0,
            resumed: resumed.is_some(),
            leases: resumed.into_iter().flatten().map(|lease| lease.0).collect(),
        }),
        ToDriver::JobClosed(job) => Message::JobClosed(v1::JobClosed { job: job.0 }),
        ToDriver::Grant(lent) => Message::Grant(grant(lent)),
        ToDriver::Revoke { lease, tasks } => Message::Revoke(v1::Revoke { lease: lease.0, tasks }),
        ToDriver::ExecutorGone { executor, reason, blocks_kept } => {
            let executor = Some(reference(executor));
            Message::ExecutorGone(v1::ExecutorGone { executor, reason, blocks_kept })
        }
        ToDriver::CancelJob { job, reason } => Message::CancelJob(v1::CancelJob { job: job.0, reason }),
        ToDriver::ClusterChanged(change) => Message::ClusterChange(cluster_change(&change)),
        ToDriver::DemandRefused { job, stage, reason } => {
            Message::DemandRefused(v1::DemandRefused { job: job.0, stage: stage.0, reason })
        }
    };
    v1::ManagerToDriver { message: Some(message) }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn grant(grant: Grant) -> v1::Grant {
    v1::Grant {
        lease: grant.lease.0,
        job: grant.job.0,
        stage: grant.stage.0,
        executor: Some(reference(grant.executor)),
        tasks: grant.tasks,
        cores_per_task: grant.cores_per_task,
    }
}

fn reference(executor: ExecutorRef) -> v1::ExecutorRef {
    v1::ExecutorRef {
        id: Some((&executor.id).into()),
        epoch: executor.epoch.0,
        control_address: executor.control_address,
        shuffle_address: executor.shuffle_address,
        keeper_address: executor.keeper_address,
    }
}

/// The cluster as it is now, for drivers that do not understand how it has changed.
pub(super) fn whole_cluster(members: Members) -> v1::ManagerToDriver {
    v1::ManagerToDriver { message: Some(manager_to_driver::Message::ClusterChanged(cluster(members))) }
}

fn cluster(members: Members) -> v1::ClusterChanged {
    v1::ClusterChanged {
        executors: members.executors.into_iter().map(executor_shape).collect(),
        draining: members.draining.iter().map(ToString::to_string).collect(),
    }
}

fn cluster_change(change: &ClusterChange) -> v1::ClusterChange {
    v1::ClusterChange {
        came: change.came.iter().cloned().map(executor_shape).collect(),
        gone: change.gone.iter().map(Into::into).collect(),
        draining: change.draining.iter().map(ToString::to_string).collect(),
    }
}

fn executor_shape(shape: ExecutorShape) -> v1::ExecutorShape {
    v1::ExecutorShape {
        executor: Some(reference(shape.executor)),
        slots: shape.slots,
        memory_bytes: shape.memory_bytes,
        host: shape.host,
        numa_node: shape.numa_node,
        wire_version: shape.wire,
    }
}

/// Why a request is refused.
pub(super) fn status(refusal: &Refusal) -> Status {
    let text = refusal.to_string();
    let status = match refusal {
        Refusal::IdInUse { .. } => Status::already_exists(text),
        Refusal::TooMany { .. } | Refusal::Full { .. } => Status::resource_exhausted(text),
        Refusal::TooLong { .. } => Status::invalid_argument(text),
        Refusal::UnknownJob(_) | Refusal::UnknownWorker { .. } => Status::not_found(text),
        Refusal::LastWorker(_) => Status::aborted(text),
        Refusal::OtherQueue { .. } | Refusal::OtherUser { .. } | Refusal::OtherJob | Refusal::NotAdmin => {
            Status::permission_denied(text)
        }
        Refusal::NoDrivers
        | Refusal::OldWorker { .. }
        | Refusal::WorkerAway(_)
        | Refusal::NotDrained(_)
        | Refusal::Leaving(_) => Status::invalid_argument(text),
    };
    with_hint(status, refusal.hint().as_deref())
}

/// Bytes of a job's SQL text that a list of jobs tells.
const LISTED_SQL_BYTES_MAX: usize = 4 << 10;

/// A job as a list tells of it: so that the longest one is no more than a client takes.
pub(super) fn brief(job: v1::JobInfo) -> v1::JobInfo {
    v1::JobInfo { sql: shortened(job.sql, LISTED_SQL_BYTES_MAX), ..job }
}

/// A job as clients see it; `unix_ms` is the unix clock at the machine's time 0.
/// Its result has a ticket where callers are asked who they are.
pub(super) fn job_info(machine: &Machine, job: &Job, unix_ms: u64, asks: bool) -> v1::JobInfo {
    let at = |time: Option<Timestamp>| time.map_or(0, |time| unix_ms.saturating_add(time.0));
    let (failure, result_rows) = match &job.phase {
        Phase::Ended(Ending::Succeeded { rows }) => (None, *rows),
        Phase::Ended(Ending::Failed(failure)) => {
            (Some(v1::Failure::of(failure.class, failure.error.clone())), 0)
        }
        Phase::Ended(Ending::Cancelled { reason }) => {
            (Some(v1::Failure::of(Class::Cancelled, UserError::new(reason.clone()))), 0)
        }
        Phase::Submitted | Phase::Launching { .. } | Phase::Open { .. } | Phase::Detached { .. } => (None, 0),
    };
    v1::JobInfo {
        job: job.id.0,
        name: job.name.clone(),
        sql: job.sql.to_string(),
        state: job_state(job.state()).into(),
        user: job.user.clone(),
        driver_host: job.driver_host.clone(),
        cluster_mode: job.launch.is_some(),
        submitted_unix_ms: at(Some(job.submitted)),
        started_unix_ms: at(job.started),
        ended_unix_ms: at(job.ended),
        slots_held: u32::try_from(machine.leases().cores_of(job.id)).unwrap_or(u32::MAX),
        stages: job.stages.iter().map(stage_progress).collect(),
        failure,
        result_rows,
        result_address: job.launch.as_ref().and_then(|l| l.result_address.clone()).unwrap_or_default(),
        waiting_for: machine.waiting_for(job).unwrap_or_default(),
        queue: job.queue.clone(),
        result_ticket: result_ticket(job, asks),
    }
}

fn result_ticket(job: &Job, asks: bool) -> String {
    let launch = job.launch.as_ref().filter(|launch| asks && launch.result_address.is_some());
    launch.map(|launch| guard::result_ticket(launch.seed, job.id)).unwrap_or_default()
}

fn job_state(state: JobState) -> v1::JobState {
    match state {
        JobState::Queued => v1::JobState::Queued,
        JobState::Running => v1::JobState::Running,
        JobState::Succeeded => v1::JobState::Succeeded,
        JobState::Failed => v1::JobState::Failed,
        JobState::Cancelled => v1::JobState::Cancelled,
    }
}

fn stage_progress(stage: &StageProgress) -> v1::StageProgress {
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

/// A worker as clients see it.
pub(super) fn node_info(machine: &Machine, node: &Node, now: Timestamp) -> v1::NodeInfo {
    let drain = machine.drains().get(&node.id);
    let state = match node.state {
        NodeState::Alive if drain.is_some() => v1::NodeState::Draining,
        NodeState::Alive => v1::NodeState::Alive,
        NodeState::Suspect => v1::NodeState::Suspect,
        NodeState::Lost { .. } => v1::NodeState::Lost,
        NodeState::Left { .. } => v1::NodeState::Left,
    };
    v1::NodeInfo {
        worker: node.id.to_string(),
        address: node.address.clone(),
        host: node.host.clone(),
        rack: node.rack.clone(),
        release: node.release.clone(),
        state: state.into(),
        topology_json: node.topology_json.to_string(),
        last_heartbeat_age_ms: millis(now - node.heard),
        executors: node.executors.values().map(|executor| node_executor(machine, node, executor)).collect(),
        drain: drain.map(|drain| node_drain(machine, node, drain, now)),
        gone_reason: match &node.state {
            NodeState::Alive | NodeState::Suspect => String::new(),
            NodeState::Lost { reason } | NodeState::Left { reason } => reason.clone(),
        },
    }
}

fn node_drain(machine: &Machine, node: &Node, drain: &Drain, now: Timestamp) -> v1::NodeDrain {
    let left = drain.left.values().fold(LeftThere::default(), |sum, left| LeftThere {
        attempts: sum.attempts.saturating_add(left.attempts),
        outputs: sum.outputs.saturating_add(left.outputs),
        bytes: sum.bytes.saturating_add(left.bytes),
    });
    let up = node.executors.values().filter(|executor| executor.life.is_some());
    let running: u32 = up.map(|executor| executor.usage.running_attempts).fold(0, u32::saturating_add);
    v1::NodeDrain {
        reason: drain.reason.clone(),
        left_ms: drain.until.map(|until| millis(until - now)),
        confirmed: drain.confirmed,
        attempts: running.max(left.attempts),
        drivers: drain.drivers,
        outputs: left.outputs,
        bytes: left.bytes,
        block_bytes: machine.block_bytes(&node.id, drain),
    }
}

fn node_executor(machine: &Machine, node: &Node, executor: &Executor) -> v1::NodeExecutor {
    let (cores, _) = machine.leases().lent(&node.executor_id(executor.spec.index));
    let life = executor.life.as_ref();
    let nothing = Usage { index: executor.spec.index, ..Usage::default() };
    v1::NodeExecutor {
        spec: Some(executor_spec(&executor.spec)),
        up: life.is_some(),
        epoch: life.map_or(0, |life| life.epoch.0),
        slots_leased: u32::try_from(cores).unwrap_or(u32::MAX),
        // What it said last tells nothing of one that is down.
        usage: Some(usage(if life.is_some() { executor.usage } else { nothing })),
        control_address: life.map(|life| life.up.control_address.clone()).unwrap_or_default(),
        shuffle_address: life.map(|life| life.up.shuffle_address.clone()).unwrap_or_default(),
    }
}

fn executor_spec(spec: &ExecutorSpec) -> v1::ExecutorSpec {
    v1::ExecutorSpec {
        index: spec.index,
        numa_node: spec.numa_node,
        cpus: spec.cpus.clone(),
        slots: spec.slots,
        memory_bytes: spec.memory_bytes,
    }
}

fn usage(usage: Usage) -> v1::ExecutorUsage {
    v1::ExecutorUsage {
        index: usage.index,
        running_attempts: usage.running_attempts,
        memory_used: usage.memory_used,
        block_bytes: usage.block_bytes,
        answers: usage.answers,
    }
}
