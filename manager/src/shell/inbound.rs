//! From the wire's messages to the machine's events. What makes no sense is refused here, by the name of the field.

use std::collections::BTreeSet;
use std::time::Duration;

use firesteel_base::{Class, Epoch, ExecutorId, JobId, LeaseId, StageId, UserError, WorkerId, version};
use firesteel_hw::topology::{DeviceKind, Topology};
use firesteel_protocol::v1::{self, driver_to_manager, worker_to_manager};
use firesteel_protocol::{MalformedMessage, required};

use crate::machine::message::{
    Demand, DrainReport, DriverEvent, Ending, ExecutorSpec, ExecutorUp, Failure, HeldLease, LeftThere,
    OpenJob, Registration, Resumed, Seed, StageProgress, Submission, Usage, WorkerEvent,
};
use crate::machine::rights::Rights;

/// Drivers that a worker runs at a time which is of a release that does not say.
const DRIVER_PLACES_BEFORE: usize = 16;

type Converted<T> = Result<T, MalformedMessage>;

/// A job that a client leaves to the cluster.
pub(super) fn submission(request: v1::SubmitRequest, seed: Seed) -> Submission {
    Submission {
        name: request.name,
        sql: request.sql,
        conf: request.conf.into_iter().collect(),
        user: request.user,
        queue: request.queue,
        weight: request.weight.max(1),
        seed,
    }
}

/// How a driver greets that may do so much.
pub(super) fn greeting(message: v1::DriverToManager, allowed: Rights) -> Converted<DriverEvent> {
    let mut event = driver_event(message)?;
    if let DriverEvent::Hello { rights, .. } = &mut event {
        *rights = allowed;
    }
    Ok(event)
}

/// What a worker says after its registration.
pub fn worker_event(message: v1::WorkerToManager) -> Converted<WorkerEvent> {
    use worker_to_manager::Message;
    Ok(match required(message.message, "WorkerToManager.message")? {
        // A second one in a session, which is ended for it.
        Message::Register(register) => WorkerEvent::Register(registration(register, version::WIRE_OLDEST)?),
        Message::Heartbeat(beat) => WorkerEvent::Heartbeat(beat.executors.iter().map(usage).collect()),
        Message::ExecutorUp(up) => executor_up(up)?,
        Message::ExecutorDown(down) => {
            WorkerEvent::ExecutorDown { index: down.index, epoch: Epoch(down.epoch), reason: down.reason }
        }
        Message::DriverEnded(ended) => WorkerEvent::DriverEnded {
            job: JobId(ended.job),
            launch: Some(ended.launch).filter(|&launch| launch > 0),
            succeeded: ended.succeeded,
            reason: ended.reason,
        },
        Message::Leaving(leaving) => WorkerEvent::Leaving { reason: leaving.reason },
        Message::Drain(drain) => WorkerEvent::Drain(drain_report(drain)),
    })
}

fn executor_up(up: v1::ExecutorUp) -> Converted<WorkerEvent> {
    let epoch = Epoch(up.epoch);
    let up = ExecutorUp {
        index: up.index,
        control_address: filled(up.control_address, "ExecutorUp.control_address")?,
        shuffle_address: filled(up.shuffle_address, "ExecutorUp.shuffle_address")?,
        pid: up.pid,
    };
    let has_epoch = epoch != Epoch::default();
    Ok(if has_epoch { WorkerEvent::ExecutorBack { up, epoch } } else { WorkerEvent::ExecutorUp(up) })
}

fn drain_report(drain: v1::WorkerDrain) -> DrainReport {
    DrainReport {
        order: drain.order,
        is_first: drain.is_first,
        draining: drain.draining,
        left: drain.left_ms.map(Duration::from_millis),
        reason: drain.reason,
        drivers: drain.drivers,
        kept_bytes: drain.kept_bytes,
    }
}

/// Who a worker is, with which that wire version is spoken.
pub fn registration(message: v1::RegisterWorker, wire: u32) -> Converted<Registration> {
    let worker = worker_id(&message.worker, "RegisterWorker.worker")?;
    let executors = message.executors.into_iter().map(executor_spec).collect::<Converted<Vec<_>>>()?;
    let indexes: BTreeSet<u32> = executors.iter().map(|spec| spec.index).collect();
    if indexes.len() < executors.len() {
        return Err(MalformedMessage::new("RegisterWorker.executors", "two of them have one index"));
    }
    Ok(Registration {
        worker,
        incarnation: filled(message.incarnation, "RegisterWorker.incarnation")?,
        release: message.release,
        wire,
        address: message.address,
        keeper_address: message.keeper_address,
        host: filled(message.host, "RegisterWorker.host")?,
        rack: message.rack,
        nics: nics(&message.topology_json)?,
        topology_json: message.topology_json.into(),
        executors,
        driver_places: message.driver_places.map_or(DRIVER_PLACES_BEFORE, |places| places as usize),
    })
}

pub(super) fn worker_id(text: &str, field: &'static str) -> Converted<WorkerId> {
    text.parse().map_err(|fault| MalformedMessage::new(field, format!("{fault}")))
}

fn executor_spec(spec: v1::ExecutorSpec) -> Converted<ExecutorSpec> {
    if spec.slots == 0 {
        return Err(MalformedMessage::new("ExecutorSpec.slots", "an executor has at least one"));
    }
    Ok(ExecutorSpec {
        index: spec.index,
        numa_node: spec.numa_node,
        cpus: spec.cpus,
        slots: spec.slots,
        memory_bytes: spec.memory_bytes,
    })
}

/// The NUMA nodes of the network cards that have a link; a worker that tells no topology has none.
fn nics(topology_json: &str) -> Converted<Vec<Option<u32>>> {
    if topology_json.is_empty() {
        return Ok(Vec::new());
    }
    let topology: Topology = serde_json::from_str(topology_json)
        .map_err(|fault| MalformedMessage::new("RegisterWorker.topology_json", fault.to_string()))?;
    let linked = topology
        .devices
        .iter()
        .filter(|device| device.kind == DeviceKind::Nic && device.link_up != Some(false));
    Ok(linked.map(|device| device.numa_node).collect())
}

fn usage(usage: &v1::ExecutorUsage) -> Usage {
    Usage {
        index: usage.index,
        running_attempts: usage.running_attempts,
        memory_used: usage.memory_used,
        block_bytes: usage.block_bytes,
        answers: usage.answers,
    }
}

/// What a driver says.
pub fn driver_event(message: v1::DriverToManager) -> Converted<DriverEvent> {
    use driver_to_manager::Message;
    Ok(match required(message.message, "DriverToManager.message")? {
        Message::Hello(hello) => DriverEvent::Hello {
            release: hello.release,
            host: hello.host,
            user: hello.user,
            incarnation: filled(hello.incarnation, "DriverHello.incarnation")?,
            rights: Rights::All,
        },
        Message::OpenJob(open) => DriverEvent::OpenJob(open_job(open)?),
        Message::Demand(wanted) => DriverEvent::Demand(demand(wanted)?),
        Message::LessDemand(less) => {
            DriverEvent::LessDemand { job: JobId(less.job), stage: StageId(less.stage), tasks: less.tasks }
        }
        Message::Release(release) => {
            DriverEvent::Release { lease: LeaseId(release.lease), tasks: release.tasks }
        }
        Message::CloseJob(close) => DriverEvent::CloseJob { job: JobId(close.job), ending: ending(close)? },
        Message::Heartbeat(beat) => DriverEvent::Heartbeat(beat.jobs.into_iter().map(progress).collect()),
        Message::DrainProgress(told) => DriverEvent::Left {
            job: JobId(told.job),
            worker: worker_id(&told.worker, "DrainProgress.worker")?,
            left: LeftThere { attempts: told.attempts, outputs: told.outputs, bytes: told.bytes },
        },
    })
}

fn open_job(open: v1::OpenJob) -> Converted<OpenJob> {
    let life = |life: v1::ExecutorLife| {
        let executor = required(life.executor.as_ref(), "ExecutorLife.executor")?;
        Ok((ExecutorId::try_from(executor)?, Epoch(life.epoch)))
    };
    let resumes = match open.resumed_job {
        None => None,
        Some(job) => Some(Resumed {
            job: JobId(job),
            leases: open.leases.iter().map(held_lease).collect::<Converted<_>>()?,
            gone: open.gone.into_iter().map(life).collect::<Converted<_>>()?,
            only_to_close: open.only_to_close,
        }),
    };
    Ok(OpenJob {
        request: open.request,
        name: open.name,
        sql: open.sql,
        queue: open.queue,
        weight: open.weight.max(1),
        submitted_job: open.submitted_job.map(JobId),
        launch: Some(open.launch).filter(|&launch| launch > 0),
        resumes,
    })
}

fn held_lease(held: &v1::HeldLease) -> Converted<HeldLease> {
    if held.tasks == 0 || held.cores_per_task == 0 {
        return Err(MalformedMessage::new(
            "HeldLease",
            "a lease is of at least one task of at least one core",
        ));
    }
    let executor = required(held.executor.as_ref(), "HeldLease.executor")?;
    Ok(HeldLease {
        lease: LeaseId(held.lease),
        stage: StageId(held.stage),
        executor: ExecutorId::try_from(executor)?,
        epoch: Epoch(held.epoch),
        tasks: held.tasks,
        cores_per_task: held.cores_per_task,
        memory_per_task: held.memory_per_task,
    })
}

/// The kind of its output and the estimate of its bytes are not looked at: consumers follow their input when it exists.
fn demand(message: v1::StageDemand) -> Converted<Demand> {
    if message.cores_per_task == 0 {
        return Err(MalformedMessage::new("StageDemand.cores_per_task", "a task takes at least one"));
    }
    let input = |at: &v1::InputAt| {
        let executor = required(at.executor.as_ref(), "InputAt.executor")?;
        Ok((ExecutorId::try_from(executor)?, at.bytes))
    };
    Ok(Demand {
        job: JobId(message.job),
        stage: StageId(message.stage),
        tasks: message.tasks,
        cores_per_task: message.cores_per_task,
        memory_per_task: message.memory_per_task,
        inputs: message.inputs.iter().map(input).collect::<Converted<_>>()?,
        excluded: message.excluded.iter().map(ExecutorId::try_from).collect::<Converted<_>>()?,
        gang: message.gang,
        early: message.early,
    })
}

fn ending(close: v1::CloseJob) -> Converted<Ending> {
    match close.state() {
        v1::JobState::Succeeded => Ok(Ending::Succeeded { rows: close.result_rows }),
        v1::JobState::Failed => Ok(Ending::Failed(failure(close.failure))),
        v1::JobState::Cancelled => {
            let reason = close.failure.map_or_else(|| "cancelled by its driver".to_owned(), |f| f.message);
            Ok(Ending::Cancelled { reason })
        }
        v1::JobState::Unspecified | v1::JobState::Queued | v1::JobState::Running => {
            Err(MalformedMessage::new("CloseJob.state", "a job ends succeeded, failed or cancelled"))
        }
    }
}

fn failure(failure: Option<v1::Failure>) -> Failure {
    failure.map_or_else(
        || Failure { class: Class::Transient, error: UserError::new("the driver gave no reason") },
        |failure| Failure { class: failure.base_class(), error: failure.user_error() },
    )
}

fn progress(progress: v1::JobProgress) -> (JobId, Vec<StageProgress>) {
    let stage = |stage: v1::StageProgress| StageProgress {
        stage: StageId(stage.stage),
        tasks: stage.tasks,
        running: stage.running,
        done: stage.done,
        failed_attempts: stage.failed_attempts,
        rows: stage.rows,
        bytes: stage.bytes,
    };
    (JobId(progress.job), progress.stages.into_iter().map(stage).collect())
}

fn filled(text: String, field: &'static str) -> Converted<String> {
    if text.is_empty() { Err(MalformedMessage::new(field, "empty")) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use firesteel_hw::topology::Device;

    use super::*;

    #[test]
    fn network_cards_with_a_link_are_found_in_the_topology() {
        let mut topology = Topology::from_synthetic("pack:2 [numa(memory=1073741824)] core:2 pu:1").unwrap();
        let device = |kind, numa_node, link_up| Device {
            kind,
            name: "eth".to_owned(),
            numa_node,
            speed_mbit: None,
            size_bytes: None,
            link_up,
        };
        topology.devices = vec![
            device(DeviceKind::Nic, Some(0), Some(true)),
            device(DeviceKind::Nic, Some(1), Some(false)),
            device(DeviceKind::Nic, Some(1), None),
            device(DeviceKind::Nvme, Some(1), Some(true)),
        ];
        let json = serde_json::to_string(&topology).unwrap();
        assert_eq!(nics(&json), Ok(vec![Some(0), Some(1)]));
        assert_eq!(nics(""), Ok(Vec::new()));
        assert!(nics("{").is_err());
    }
}
