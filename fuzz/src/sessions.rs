//! What workers and drivers say to a manager: an input is a conversation, each message behind a byte that says who it is of and
//! two with its length, and times that pass in between.

use firesteel_protocol::v1;
use firesteel_protocol::v1::driver_to_manager::Message as Driver;
use firesteel_protocol::v1::worker_to_manager::Message as Worker;
use prost::Message;

use super::change::{Numbers, change_bytes};

/// The largest input that is changed: what is larger takes longer and finds no more.
const INPUT_BYTES_MAX: usize = 8192;
/// Workers, and as many drivers.
const SPEAKERS: u8 = 3;

/// Something that happens to a manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// So many seconds pass.
    Time(u64),
    /// A worker of that number says this; nothing: its stream ends.
    Worker(u8, Vec<u8>),
    /// The same of a driver.
    Driver(u8, Vec<u8>),
}

/// What happens in an input.
#[must_use]
pub fn parse(mut input: &[u8]) -> Vec<Said> {
    let mut all = Vec::new();
    while let Some((&[who, low, high], rest)) = input.split_first_chunk() {
        let length = usize::from(u16::from_le_bytes([low, high]));
        let number = who / 3 % SPEAKERS;
        if who % 3 == 2 {
            all.push(Said::Time(length as u64 % 300));
            input = rest;
            continue;
        }
        let (bytes, rest) = rest.split_at(length.min(rest.len()));
        all.push(if who % 3 == 0 {
            Said::Worker(number, bytes.to_vec())
        } else {
            Said::Driver(number, bytes.to_vec())
        });
        input = rest;
    }
    all
}

/// The input in which that happens.
#[must_use]
pub fn write(all: &[Said]) -> Vec<u8> {
    let mut input = Vec::new();
    for said in all {
        let (who, length, bytes): (u8, usize, &[u8]) = match said {
            Said::Time(seconds) => (2, *seconds as usize, &[]),
            Said::Worker(number, bytes) => (3 * number, bytes.len(), bytes),
            Said::Driver(number, bytes) => (3 * number + 1, bytes.len(), bytes),
        };
        let length = length.min(usize::from(u16::MAX));
        input.push(who);
        input.extend_from_slice(&(length as u16).to_le_bytes());
        input.extend_from_slice(&bytes[..length.min(bytes.len())]);
    }
    input
}

/// Changes an input, the same way for the same seed.
pub fn change(input: &mut Vec<u8>, seed: u64) {
    let n = &mut Numbers::new(seed);
    let mut all = parse(input);
    if all.is_empty() || input.len() > INPUT_BYTES_MAX || n.below(64) == 0 {
        *input = valid(n.next());
        return;
    }
    for _ in 0..=n.below(3) {
        change_once(&mut all, n);
    }
    *input = write(&all);
}

fn change_once(all: &mut Vec<Said>, n: &mut Numbers) {
    if all.is_empty() {
        return all.push(says(n));
    }
    let at = n.below(all.len());
    match n.below(8) {
        0 => all.insert(at, says(n)),
        1 => all.push(says(n)),
        2 => drop(all.remove(at)),
        3 => all.insert(at, all[at].clone()),
        4 => {
            let other = n.below(all.len());
            all.swap(at, other);
        }
        5 => all.insert(at, Said::Time(n.below(300) as u64)),
        _ => match &mut all[at] {
            Said::Time(seconds) => *seconds = n.below(300) as u64,
            Said::Worker(_, bytes) | Said::Driver(_, bytes) => change_bytes(bytes, n),
        },
    }
}

/// An input in which workers come with executors, and drivers open jobs and want slots for them.
#[must_use]
pub fn valid(seed: u64) -> Vec<u8> {
    let n = &mut Numbers::new(seed);
    let mut all = Vec::new();
    for number in 0..SPEAKERS {
        let register = v1::RegisterWorker { worker: format!("w{number}"), ..register(n) };
        all.push(worker(number, Worker::Register(register)));
        for index in 0..2 {
            let up = v1::ExecutorUp {
                index,
                control_address: "a:1".to_owned(),
                shuffle_address: "a:2".to_owned(),
                pid: 7,
                epoch: 0,
            };
            all.push(worker(number, Worker::ExecutorUp(up)));
        }
    }
    for number in 0..SPEAKERS {
        all.push(driver(number, Driver::Hello(hello(n))));
        all.push(driver(
            number,
            Driver::OpenJob(v1::OpenJob { name: "a".to_owned(), ..v1::OpenJob::default() }),
        ));
        let job = u64::from(number) + 1;
        all.push(driver(
            number,
            Driver::Demand(v1::StageDemand { job, tasks: 3, cores_per_task: 1, ..demand(n) }),
        ));
    }
    for _ in 0..n.below(12) {
        all.push(says(n));
    }
    write(&all)
}

fn says(n: &mut Numbers) -> Said {
    let number = n.below(usize::from(SPEAKERS)) as u8;
    match n.below(7) {
        0 => Said::Time(n.below(40) as u64),
        1 if n.below(4) == 0 => Said::Worker(number, Vec::new()),
        1 if n.below(4) == 0 => Said::Driver(number, Vec::new()),
        1..=3 => Said::Worker(number, worker_says(n).encode_to_vec()),
        _ => Said::Driver(number, driver_says(n).encode_to_vec()),
    }
}

fn worker(number: u8, message: Worker) -> Said {
    Said::Worker(number, v1::WorkerToManager { message: Some(message) }.encode_to_vec())
}

fn driver(number: u8, message: Driver) -> Said {
    Said::Driver(number, v1::DriverToManager { message: Some(message) }.encode_to_vec())
}

fn few<T>(n: &mut Numbers, make: impl Fn(&mut Numbers) -> T) -> Vec<T> {
    (0..n.below(4)).map(|_| make(n)).collect()
}

fn text(n: &mut Numbers) -> String {
    n.pick(&["", "a", "b", "w0", "w1", "a:7400", "\u{0}\u{fffd}"]).to_owned()
}

fn small(n: &mut Numbers) -> u32 {
    n.number() as u32
}

fn may<T>(n: &mut Numbers, make: impl Fn(&mut Numbers) -> T) -> Option<T> {
    (n.below(3) > 0).then(|| make(n))
}

pub fn executor(n: &mut Numbers) -> v1::ExecutorId {
    v1::ExecutorId { worker: n.pick(&["w0", "w1", "w2", "w9", ""]).to_owned(), index: small(n) }
}

pub fn failure(n: &mut Numbers) -> v1::Failure {
    v1::Failure {
        class: n.number() as i32,
        message: text(n),
        detail: may(n, text),
        hint: may(n, text),
        fetch: None,
    }
}

fn hello(n: &mut Numbers) -> v1::DriverHello {
    v1::DriverHello {
        wire_version: firesteel_base::version::WIRE_OLDEST,
        wire_newest: firesteel_base::version::WIRE_OLDEST,
        release: text(n),
        host: text(n),
        user: text(n),
        incarnation: n.pick(&["a", "b", "c"]).to_owned(),
    }
}

fn register(n: &mut Numbers) -> v1::RegisterWorker {
    let memory_bytes = if n.below(8) == 0 { n.number() } else { 1 << 30 };
    let spec =
        |index| v1::ExecutorSpec { index, slots: 4, memory_bytes, cpus: vec![0, 1], numa_node: Some(0) };
    v1::RegisterWorker {
        wire_version: firesteel_base::version::WIRE_OLDEST,
        worker: n.pick(&["w0", "w1", "w2"]).to_owned(),
        incarnation: n.pick(&["a", "b"]).to_owned(),
        address: text(n),
        host: "h".to_owned(),
        executors: (0..2).map(spec).collect(),
        rack: text(n),
        keeper_address: text(n),
        ..v1::RegisterWorker::default()
    }
}

pub fn worker_says(n: &mut Numbers) -> v1::WorkerToManager {
    let message = match n.below(7) {
        0 => Worker::Register(register(n)),
        1 => Worker::Heartbeat(v1::WorkerHeartbeat { executors: few(n, usage) }),
        2 => Worker::ExecutorUp(v1::ExecutorUp {
            index: small(n),
            control_address: "a:1".to_owned(),
            shuffle_address: "a:2".to_owned(),
            pid: small(n),
            epoch: n.number(),
        }),
        3 => Worker::ExecutorDown(v1::ExecutorDown { index: small(n), epoch: n.number(), reason: text(n) }),
        4 => Worker::DriverEnded(v1::DriverEnded {
            job: n.number(),
            succeeded: n.below(2) == 0,
            reason: text(n),
            launch: small(n),
        }),
        5 => Worker::Leaving(v1::WorkerLeaving { reason: text(n) }),
        _ => Worker::Drain(v1::WorkerDrain {
            order: n.number(),
            draining: n.below(2) == 0,
            left_ms: may(n, Numbers::number),
            reason: text(n),
            drivers: small(n),
            kept_bytes: n.number(),
            is_first: n.below(2) == 0,
        }),
    };
    v1::WorkerToManager { message: Some(message) }
}

fn usage(n: &mut Numbers) -> v1::ExecutorUsage {
    v1::ExecutorUsage {
        index: small(n),
        running_attempts: small(n),
        memory_used: n.number(),
        block_bytes: n.number(),
        answers: n.number(),
    }
}

pub fn driver_says(n: &mut Numbers) -> v1::DriverToManager {
    let message = match n.below(7) {
        0 => Driver::Hello(hello(n)),
        1 => Driver::OpenJob(open_job(n)),
        2 => Driver::Demand(demand(n)),
        3 => Driver::Release(v1::ReleaseSlots { lease: n.number(), tasks: small(n) }),
        4 => Driver::CloseJob(v1::CloseJob {
            job: n.number(),
            state: n.below(7) as i32,
            failure: may(n, failure),
            result_rows: n.number(),
        }),
        5 => Driver::Heartbeat(v1::DriverHeartbeat { jobs: few(n, progress) }),
        _ => Driver::DrainProgress(v1::DrainProgress {
            job: n.number(),
            worker: text(n),
            attempts: small(n),
            outputs: small(n),
            bytes: n.number(),
        }),
    };
    v1::DriverToManager { message: Some(message) }
}

fn demand(n: &mut Numbers) -> v1::StageDemand {
    v1::StageDemand {
        job: n.number(),
        stage: small(n),
        tasks: small(n),
        cores_per_task: small(n),
        memory_per_task: n.number(),
        inputs: few(n, |n| v1::InputAt { executor: Some(executor(n)), bytes: n.number() }),
        output: n.below(9) as i32,
        output_bytes: n.number(),
        excluded: few(n, executor),
        gang: n.below(4) == 0,
        early: n.below(4) == 0,
    }
}

fn open_job(n: &mut Numbers) -> v1::OpenJob {
    v1::OpenJob {
        request: n.number(),
        name: text(n),
        sql: text(n),
        queue: text(n),
        weight: small(n),
        submitted_job: may(n, Numbers::number).filter(|_| n.below(3) == 0),
        resumed_job: may(n, Numbers::number).filter(|_| n.below(2) == 0),
        leases: few(n, held_lease),
        gone: few(n, |n| v1::ExecutorLife { executor: Some(executor(n)), epoch: n.number() }),
        only_to_close: n.below(4) == 0,
        launch: small(n),
    }
}

fn held_lease(n: &mut Numbers) -> v1::HeldLease {
    v1::HeldLease {
        lease: n.number(),
        stage: small(n),
        executor: Some(executor(n)),
        epoch: n.number(),
        tasks: small(n),
        cores_per_task: small(n),
        memory_per_task: n.number(),
    }
}

fn progress(n: &mut Numbers) -> v1::JobProgress {
    let stage = |n: &mut Numbers| v1::StageProgress {
        stage: small(n),
        tasks: small(n),
        running: small(n),
        done: small(n),
        failed_attempts: small(n),
        rows: n.number(),
        bytes: n.number(),
    };
    v1::JobProgress { job: n.number(), stages: few(n, stage) }
}
