//! Scripts: events go in, and what comes out is compared as text. Every step checks every invariant.

mod admission;
mod draining;
mod drivers;
mod launches;
mod model;
mod nodes;
mod resuming;
mod rights;
mod sharing;

use std::collections::BTreeMap;
use std::time::Duration;

use firesteel_base::{Class, Epoch, ExecutorId, JobId, LeaseId, StageId, Timestamp, UserError, version};

use super::Machine;
use super::message::*;
use super::rights::{Rights, User};
use super::show::JobState;
use crate::ManagerConfig;

const GIB: u64 = 1 << 30;

/// A machine, its clock, and a counter for sessions.
struct World {
    machine: Machine,
    now: Timestamp,
    sessions: u64,
}

impl World {
    fn new() -> Self {
        Self::with(ManagerConfig { epoch_seed: 100, ..ManagerConfig::default() })
    }

    fn with(config: ManagerConfig) -> Self {
        let config = ManagerConfig { lease_seed: 0, ..config };
        Self { machine: Machine::new(config), now: Timestamp(0), sessions: 0 }
    }

    fn step(&mut self, event: Event) -> Vec<String> {
        let mut effects = Vec::new();
        self.machine.step(self.now, event, &mut effects);
        self.machine.check();
        effects.iter().filter_map(tell).collect()
    }

    fn next_session(&mut self) -> SessionId {
        self.sessions += 1;
        SessionId(self.sessions)
    }

    /// Lets time pass without anybody saying anything.
    fn pass(&mut self, span: Duration) -> Vec<String> {
        self.now = self.now + span;
        self.step(Event::Tick)
    }

    fn worker_says(&mut self, session: SessionId, event: WorkerEvent) -> Vec<String> {
        self.step(Event::Worker(session, event))
    }

    fn driver_says(&mut self, session: SessionId, event: DriverEvent) -> Vec<String> {
        self.step(Event::Driver(session, event))
    }

    /// Registers a worker whose executors, given by their slots, are up. Each has 1 GiB a slot.
    fn worker(&mut self, name: &str, slots: &[u32]) -> SessionId {
        let session = self.next_session();
        self.worker_as(session, registration(name, "first", slots));
        session
    }

    fn worker_as(&mut self, session: SessionId, registration: Registration) {
        let (name, executors) = (registration.worker.to_string(), registration.executors.len());
        self.worker_says(session, WorkerEvent::Register(registration));
        for index in 0..executors {
            self.worker_says(session, WorkerEvent::ExecutorUp(up(&name, u32::try_from(index).unwrap(), 1)));
        }
    }

    fn driver(&mut self) -> SessionId {
        self.driver_called("the first")
    }

    fn driver_called(&mut self, incarnation: &str) -> SessionId {
        let session = self.next_session();
        self.driver_says(session, hello_of(incarnation));
        session
    }

    fn open(&mut self, driver: SessionId, weight: u32) -> JobId {
        let told = self.driver_says(driver, DriverEvent::OpenJob(OpenJob { weight, ..open_job() }));
        opened(&told)
    }

    /// A driver with one job.
    fn job(&mut self) -> (SessionId, JobId) {
        let driver = self.driver();
        (driver, self.open(driver, 1))
    }

    fn demand(&mut self, driver: SessionId, job: JobId, tasks: u32) -> Vec<String> {
        self.driver_says(driver, DriverEvent::Demand(Demand { tasks, ..demand(job) }))
    }

    fn submit(&mut self, name: &str) -> (JobId, Vec<String>) {
        let told = self.submit_it(submission(name));
        (JobId(self.machine.jobs.iter_live().map(|job| job.id.0).max().unwrap()), told)
    }

    fn submit_it(&mut self, submission: Submission) -> Vec<String> {
        self.step(Event::Client(Ticket(1), Rights::All, ClientRequest::Submit(submission)))
    }

    fn waiting_for(&self, job: JobId) -> String {
        self.machine.waiting_for(self.machine.job(job).unwrap()).unwrap_or_default()
    }

    fn cancel(&mut self, job: JobId) -> Vec<String> {
        self.step(Event::Client(Ticket(2), Rights::All, ClientRequest::Cancel { job }))
    }

    fn state(&self, job: JobId) -> JobState {
        self.machine.job(job).unwrap().state()
    }

    fn failure(&self, job: JobId) -> String {
        match &self.machine.job(job).unwrap().phase {
            super::job::Phase::Ended(Ending::Failed(failure)) => {
                failure.error.to_string().replace("\n  ", " ")
            }
            other => panic!("{job} has not failed: {other:?}"),
        }
    }

    fn held(&self, job: JobId) -> u64 {
        self.machine.leases.cores_of(job)
    }
}

fn submission(name: &str) -> Submission {
    Submission {
        name: name.to_owned(),
        sql: format!("select '{name}'"),
        user: "ana".to_owned(),
        weight: 1,
        ..Submission::default()
    }
}

fn registration(name: &str, incarnation: &str, slots: &[u32]) -> Registration {
    let spec = |(index, &slots): (usize, &u32)| ExecutorSpec {
        index: u32::try_from(index).unwrap(),
        numa_node: None,
        cpus: Vec::new(),
        slots,
        memory_bytes: u64::from(slots) * GIB,
    };
    Registration {
        worker: name.parse().unwrap(),
        incarnation: incarnation.to_owned(),
        release: "0.1.0".to_owned(),
        wire: version::WIRE,
        address: format!("{name}:7410"),
        keeper_address: String::new(),
        host: name.to_owned(),
        rack: String::new(),
        topology_json: "".into(),
        nics: Vec::new(),
        executors: slots.iter().enumerate().map(spec).collect(),
        driver_places: 32,
    }
}

fn up(name: &str, index: u32, pid: u32) -> ExecutorUp {
    ExecutorUp {
        index,
        control_address: format!("{name}:{}", 8000 + pid),
        shuffle_address: format!("{name}:{}", 9000 + pid),
        pid,
    }
}

fn hello() -> DriverEvent {
    hello_of("the first")
}

fn hello_of(incarnation: &str) -> DriverEvent {
    DriverEvent::Hello {
        release: "0.1.0".to_owned(),
        host: "laptop".to_owned(),
        user: "ana".to_owned(),
        incarnation: incarnation.to_owned(),
        rights: Rights::All,
    }
}

fn open_job() -> OpenJob {
    OpenJob {
        request: 7,
        name: "q1".to_owned(),
        sql: "select 1".to_owned(),
        queue: String::new(),
        weight: 1,
        submitted_job: None,
        launch: None,
        resumes: None,
    }
}

fn demand(job: JobId) -> Demand {
    Demand {
        job,
        stage: StageId(0),
        tasks: 1,
        cores_per_task: 1,
        memory_per_task: 0,
        inputs: Vec::new(),
        excluded: Vec::new(),
        gang: false,
        early: false,
    }
}

fn executor(name: &str) -> ExecutorId {
    name.parse().unwrap()
}

fn failed(message: &str) -> Ending {
    Ending::Failed(Failure { class: Class::User, error: UserError::new(message) })
}

fn opened(told: &[String]) -> JobId {
    let line = told.iter().find_map(|line| line.split_once(" opened ")).expect("the job is opened");
    line.1.parse().unwrap()
}

/// An effect as one line; notes are left out.
fn tell(effect: &Effect) -> Option<String> {
    Some(match effect {
        Effect::ToWorker(session, message) => format!("w{} {}", session.0, tell_worker(message)),
        // It follows every word of an end.
        Effect::ToDriver(_, ToDriver::JobClosed(_)) => return None,
        Effect::ToDriver(session, message) => format!("d{} {}", session.0, tell_driver(message)),
        Effect::Refuse(session, refusal) => format!("refuse {}: {refusal}", session.0),
        Effect::EndSession(session, reason) => format!("end {}: {reason}", session.0),
        Effect::Answer(_, Ok(Answer::Job(job))) => format!("answer {job}"),
        Effect::Answer(_, Ok(Answer::Worker(worker))) => format!("answer {worker}"),
        Effect::Answer(_, Err(refusal)) => format!("answer: {refusal}"),
        Effect::JobEnded(job) => format!("{job} ended"),
        Effect::Note(_) | Effect::Keep { .. } | Effect::Forget(_) => return None,
    })
}

fn tell_worker(message: &ToWorker) -> String {
    match message {
        ToWorker::Registered => "registered".to_owned(),
        ToWorker::ExecutorEpoch { index, epoch } => format!("executor {index} is in {epoch}"),
        ToWorker::LaunchDriver { job, launch: 1, .. } => format!("launch {job}"),
        ToWorker::LaunchDriver { job, launch, .. } => format!("launch {job} for the {launch}. time"),
        ToWorker::StopDriver(job) => format!("stop {job}"),
        ToWorker::FreeResult(job) => format!("free result of {job}"),
        ToWorker::FreeKept(job) => format!("free what is kept of {job}"),
        ToWorker::Drain { order, draining: true, deadline } => {
            let until = deadline.map_or_else(String::new, |span| format!(" within {}s", span.as_secs()));
            format!("drain {order}{until}")
        }
        ToWorker::Drain { order, draining: false, .. } => format!("stay {order}"),
        ToWorker::Leave => "leave".to_owned(),
    }
}

fn tell_driver(message: &ToDriver) -> String {
    let list = |members: &Members| {
        let executors = members.executors.iter();
        let mut names: Vec<String> =
            executors.map(|shape| format!("{}x{}", shape.executor.id, shape.slots)).collect();
        names.extend(members.draining.iter().map(|worker| format!("without {worker}")));
        names.join(" ")
    };
    match message {
        ToDriver::Welcome(members) => format!("welcome [{}]", list(members)),
        ToDriver::JobOpened { job, resumed: None, .. } => format!("opened {job}"),
        ToDriver::JobOpened { job, resumed: Some(leases), .. } => {
            let leases: Vec<String> = leases.iter().map(ToString::to_string).collect();
            format!("resumed {job} [{}]", leases.join(" "))
        }
        ToDriver::Grant(g) => {
            format!("grant {} {}/{} {} x{}", g.lease, g.job, g.stage, g.executor.id, g.tasks)
        }
        ToDriver::JobClosed(job) => format!("closed {job}"),
        ToDriver::Revoke { lease, tasks } => format!("revoke {lease} x{tasks}"),
        ToDriver::ExecutorGone { executor, reason, blocks_kept } => {
            let kept =
                if *blocks_kept { format!(", blocks at {}", executor.keeper_address) } else { String::new() };
            format!("gone {} {}: {reason}{kept}", executor.id, executor.epoch)
        }
        ToDriver::CancelJob { job, reason } => format!("cancel {job}: {reason}"),
        ToDriver::ClusterChanged(change) => {
            let came = change.came.iter().map(|shape| format!("+{}x{}", shape.executor.id, shape.slots));
            let gone = change.gone.iter().map(|executor| format!("-{executor}"));
            let without = change.draining.iter().map(|worker| format!("without {worker}"));
            format!("cluster [{}]", came.chain(gone).chain(without).collect::<Vec<_>>().join(" "))
        }
        ToDriver::DemandRefused { job, stage, reason } => format!("refused {job}/{stage}: {reason}"),
    }
}
