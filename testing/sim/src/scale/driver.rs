//! A driver with one job: its machine, and as much of its loop as is needed to run the job.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use firesteel_base::{AttemptKey, Class, Epoch, ExecutorId, JobId, StageId, Timestamp, UserError, version};
use firesteel_driver::machine::{
    Arrival, AttemptFailure, Effect, Event, JobMachine, Launch, Life, Outcome, Policy,
};
use firesteel_driver::wire;
use firesteel_executor::convert::wire_lane_sizes;
use firesteel_protocol::v1::{self, driver_to_manager, manager_to_driver};
use firesteel_shuffle::LaneSizes;
use prost::Message;

use super::Tally;
use super::cluster::address;
use super::job::Shape;

/// What a driver has to say, and what it has begun.
#[derive(Debug, Default)]
pub struct Said {
    pub to_manager: Vec<Vec<u8>>,
    /// Attempts that were launched, and where.
    pub launched: Vec<(AttemptKey, Life)>,
    /// Attempts that are to stop, and where.
    pub cancelled: Vec<(AttemptKey, Life)>,
}

impl Said {
    /// Bytes that it takes.
    pub fn memory_bytes(&self) -> usize {
        let messages: usize = self.to_manager.iter().map(Vec::capacity).sum();
        let attempts = self.launched.capacity() + self.cancelled.capacity();
        messages
            + self.to_manager.capacity() * size_of::<Vec<u8>>()
            + attempts * size_of::<(AttemptKey, Life)>()
    }
}

pub struct Driver {
    shape: Shape,
    up: BTreeSet<Life>,
    machine: Option<JobMachine>,
    job: JobId,
    queue: VecDeque<Event>,
    /// Where plans of stages are.
    put: BTreeSet<(StageId, Life)>,
    running: BTreeSet<AttemptKey>,
    sizes: BTreeMap<StageId, LaneSizes>,
    /// Bytes of one launch of each stage, and of one report of its end.
    launch_bytes: BTreeMap<StageId, usize>,
    finished_bytes: BTreeMap<StageId, usize>,
    pub tasks_done: u64,
    pub has_ended: bool,
}

impl Driver {
    pub fn new(shape: Shape) -> Self {
        Self {
            shape,
            up: BTreeSet::new(),
            machine: None,
            job: JobId(0),
            queue: VecDeque::new(),
            put: BTreeSet::new(),
            running: BTreeSet::new(),
            sizes: BTreeMap::new(),
            launch_bytes: BTreeMap::new(),
            finished_bytes: BTreeMap::new(),
            tasks_done: 0,
            has_ended: false,
        }
    }

    pub fn running(&self) -> usize {
        self.running.len()
    }

    pub fn deadline(&self) -> Option<Timestamp> {
        self.machine.as_ref()?.next_deadline()
    }

    pub fn hello(number: u32) -> Vec<u8> {
        say(driver_to_manager::Message::Hello(v1::DriverHello {
            wire_version: version::WIRE_OLDEST,
            wire_newest: version::WIRE,
            release: version::RELEASE.to_owned(),
            host: format!("client{number}"),
            user: "user".to_owned(),
            incarnation: format!("{number:032x}"),
        }))
    }

    /// What the manager says.
    pub fn hear(&mut self, now: Timestamp, bytes: &[u8], tally: &mut Tally, said: &mut Said) {
        use manager_to_driver::Message as From;
        let message = v1::ManagerToDriver::decode(bytes).expect("it was encoded here");
        match message.message.expect("it was encoded here") {
            From::Welcome(welcome) => {
                self.came(welcome.cluster.unwrap_or_default().executors);
                said.to_manager.push(say(driver_to_manager::Message::OpenJob(v1::OpenJob {
                    request: 1,
                    name: "a query".to_owned(),
                    sql: "select".to_owned(),
                    weight: 1,
                    ..v1::OpenJob::default()
                })));
            }
            From::JobOpened(opened) => self.open(JobId(opened.job)),
            From::Grant(grant) => {
                let life = life(&grant.executor.expect("a grant is on an executor"));
                let (lease, stage) = (firesteel_base::LeaseId(grant.lease), StageId(grant.stage));
                self.queue.push_back(Event::Granted { lease, stage, life, tasks: grant.tasks });
            }
            From::Revoke(revoke) => {
                let lease = firesteel_base::LeaseId(revoke.lease);
                self.queue.push_back(Event::Revoked { lease, tasks: revoke.tasks });
            }
            From::ClusterChange(change) => {
                assert!(change.gone.is_empty(), "nobody goes");
                let came = self.came(change.came);
                if self.machine.is_some() {
                    self.queue.push_back(Event::ClusterChanged { came, gone: Vec::new() });
                }
            }
            From::JobClosed(_) => {}
            other => panic!("nothing goes wrong, and the manager says {other:?}"),
        }
        self.drain(now, tally, said);
    }

    fn open(&mut self, job: JobId) {
        self.job = job;
        self.machine = Some(JobMachine::new(self.shape.plan(job), Policy::default()));
        let came = self.up.iter().cloned().map(arrival).collect();
        self.queue.extend([Event::ClusterChanged { came, gone: Vec::new() }, Event::Begin]);
    }

    /// Takes note of executors, and returns what a job is told of them.
    fn came(&mut self, shapes: Vec<v1::ExecutorShape>) -> Vec<Arrival> {
        let refs = shapes.into_iter().filter_map(|shape| shape.executor);
        let lives: Vec<_> = refs.map(|executor| life(&executor)).collect();
        self.up.extend(lives.iter().cloned());
        lives.into_iter().map(arrival).collect()
    }

    /// Time has passed.
    pub fn wake(&mut self, now: Timestamp, tally: &mut Tally, said: &mut Said) {
        self.queue.push_back(Event::Tick);
        self.drain(now, tally, said);
    }

    pub fn beat(&self, said: &mut Said) {
        let stages = self.machine.as_ref().map(|machine| wire::wire_stages(&machine.snapshot()));
        let job = |stages| v1::JobProgress { job: self.job.0, stages };
        let jobs = stages.into_iter().map(job).collect();
        said.to_manager.push(say(driver_to_manager::Message::Heartbeat(v1::DriverHeartbeat { jobs })));
    }

    pub fn started(
        &mut self,
        now: Timestamp,
        attempt: AttemptKey,
        life: Life,
        tally: &mut Tally,
        said: &mut Said,
    ) {
        let wire = v1::AttemptStarted { attempt: Some(attempt.into()) };
        tally.from_executors.note("started", wire.encoded_len() + ONEOF_BYTES);
        self.queue.push_back(Event::AttemptStarted { attempt, life });
        self.drain(now, tally, said);
    }

    /// An attempt has come so far, in thousandths; false when it was stopped.
    pub fn progressed(
        &mut self,
        now: Timestamp,
        (attempt, life): (AttemptKey, Life),
        permille: u64,
        tally: &mut Tally,
        said: &mut Said,
    ) -> bool {
        if !self.running.contains(&attempt) {
            return false;
        }
        let sizes = &self.sizes[&attempt.stage()];
        let (rows, bytes) = (sizes.rows() * permille / 1000, sizes.bytes() * permille / 1000);
        let wire = v1::AttemptProgress { attempt: Some(attempt.into()), rows, bytes };
        tally.from_executors.note("progress", wire.encoded_len() + ONEOF_BYTES);
        self.queue.push_back(Event::AttemptProgress { attempt, life, rows, bytes });
        self.drain(now, tally, said);
        true
    }

    pub fn finished(
        &mut self,
        now: Timestamp,
        attempt: AttemptKey,
        life: Life,
        tally: &mut Tally,
        said: &mut Said,
    ) {
        if !self.running.remove(&attempt) {
            return;
        }
        let sizes = self.sizes[&attempt.stage()].clone();
        let bytes = *self.finished_bytes.entry(attempt.stage()).or_insert_with(|| {
            let (lanes, metrics) = (vec![wire_lane_sizes(&sizes)], Some(v1::AttemptMetrics::default()));
            v1::AttemptFinished { attempt: Some(attempt.into()), lanes, metrics }.encoded_len() + ONEOF_BYTES
        });
        tally.from_executors.note("finished", bytes);
        self.tasks_done += 1;
        self.queue.push_back(Event::AttemptFinished { attempt, life, lanes: vec![sizes] });
        self.drain(now, tally, said);
    }

    pub fn stopped(
        &mut self,
        now: Timestamp,
        attempt: AttemptKey,
        life: Life,
        tally: &mut Tally,
        said: &mut Said,
    ) {
        let error = UserError::new("it was cancelled");
        let failure = AttemptFailure { class: Class::Cancelled, error: error.clone(), lost: None };
        let wire = v1::Failure::of(Class::Cancelled, error);
        let wire = v1::AttemptFailed { attempt: Some(attempt.into()), failure: Some(wire) };
        tally.from_executors.note("failed", wire.encoded_len() + ONEOF_BYTES);
        self.queue.push_back(Event::AttemptFailed { attempt, life, failure });
        self.drain(now, tally, said);
    }

    fn drain(&mut self, now: Timestamp, tally: &mut Tally, said: &mut Said) {
        let mut effects = Vec::new();
        while let Some(event) = self.queue.pop_front() {
            let Some(machine) = &mut self.machine else { return };
            let began = Instant::now();
            machine.step(now, event, &mut effects);
            tally.driver_steps.note(began.elapsed());
            for effect in effects.drain(..) {
                self.apply(effect, tally, said);
            }
        }
    }

    fn apply(&mut self, effect: Effect, tally: &mut Tally, said: &mut Said) {
        use driver_to_manager::Message as To;
        match effect {
            Effect::Demand(demand) => said.to_manager.push(say(match demand.less {
                Some(tasks) => {
                    To::LessDemand(v1::LessDemand { job: self.job.0, stage: demand.stage.0, tasks })
                }
                None => To::Demand(wire::wire_demand(self.job.0, &demand)),
            })),
            Effect::ReleaseSlots { lease, tasks } => {
                said.to_manager.push(say(To::Release(v1::ReleaseSlots { lease: lease.0, tasks })));
            }
            Effect::Launch(launch) => self.launch(launch, tally, said),
            Effect::CancelAttempt { attempt, life, reason } => {
                let wire = v1::CancelAttempt { attempt: Some(attempt.into()), reason };
                tally.to_executors.note("cancel", wire.encoded_len() + ONEOF_BYTES);
                if self.running.remove(&attempt) {
                    said.cancelled.push((attempt, life));
                }
            }
            Effect::FreeAttempt { attempt, .. } => {
                let wire = v1::FreeAttempt { attempt: Some(attempt.into()) };
                tally.to_executors.note("free attempt", wire.encoded_len() + ONEOF_BYTES);
            }
            Effect::FreeStage { stage, lives } => {
                let wire = v1::FreeStage { job: self.job.0, stage: stage.0 };
                lives
                    .iter()
                    .for_each(|_| tally.to_executors.note("free stage", wire.encoded_len() + ONEOF_BYTES));
            }
            Effect::ResultReady(outputs) => {
                for output in outputs {
                    let producer = output.producer;
                    self.queue.extend([Event::ResultBegun { producer }, Event::ResultTaskRead { producer }]);
                }
                self.queue.push_back(Event::ResultRead);
            }
            Effect::Close { outcome, rows, lives } => {
                assert_eq!(outcome, Outcome::Succeeded, "nothing goes wrong");
                let wire = v1::FreeJob { job: self.job.0 };
                lives
                    .iter()
                    .for_each(|_| tally.to_executors.note("free job", wire.encoded_len() + ONEOF_BYTES));
                said.to_manager.push(say(To::CloseJob(wire::close_job(self.job.0, &outcome, rows))));
                self.end();
            }
            Effect::Settled(_) | Effect::Decided { .. } => {}
            Effect::MoreInputs { .. }
            | Effect::TakeOutput { .. }
            | Effect::OutputMoved { .. }
            | Effect::Left { .. }
            | Effect::Absorb { .. } => panic!("nothing moves and nothing is pipelined: {effect:?}"),
        }
    }

    /// All that it keeps is let go but how it went.
    fn end(&mut self) {
        *self = Self { tasks_done: self.tasks_done, has_ended: true, ..Self::new(self.shape) };
    }

    fn launch(&mut self, launch: Launch, tally: &mut Tally, said: &mut Said) {
        let stage = launch.attempt.stage();
        if self.put.insert((stage, launch.life.clone())) {
            tally.to_executors.note("plan", 0);
        }
        // One stage's launches differ by a few bytes.
        let bytes = match self.launch_bytes.get(&stage) {
            Some(bytes) => *bytes,
            None => self.wire_launch(&launch).encoded_len() + ONEOF_BYTES,
        };
        self.launch_bytes.insert(stage, bytes);
        tally.to_executors.note("launch", bytes);
        self.sizes.entry(stage).or_insert_with(|| self.shape.sizes(stage));
        self.running.insert(launch.attempt);
        said.launched.push((launch.attempt, launch.life));
    }

    fn wire_launch(&self, launch: &Launch) -> v1::Launch {
        let read = launch.partitions_read();
        let input = |input: &firesteel_driver::machine::StageInputs| v1::StageInput {
            stage: input.stage.0,
            outputs: input
                .outputs
                .iter()
                .map(|output| wire::wire_output(output, &read, reference(&output.life)))
                .collect(),
            coming: input.coming,
        };
        v1::Launch {
            attempt: Some(launch.attempt.into()),
            digest: vec![0; 16].into(),
            lease: launch.lease.0,
            epoch: launch.life.epoch.0,
            first_partition: launch.first_partition,
            lanes: launch.lanes,
            inputs: launch.inputs.iter().map(input).collect(),
            memory_bytes: launch.memory_bytes,
            slices: Vec::new(),
        }
    }
}

/// What the envelope of a message takes, about.
const ONEOF_BYTES: usize = 3;

fn say(message: driver_to_manager::Message) -> Vec<u8> {
    v1::DriverToManager { message: Some(message) }.encode_to_vec()
}

/// All processes are of one release.
fn arrival(life: Life) -> Arrival {
    Arrival { life, takes_outputs: true, reads_keys: true }
}

fn life(executor: &v1::ExecutorRef) -> Life {
    let id = executor.id.as_ref().expect("an executor has a name");
    Life { executor: ExecutorId::try_from(id).expect("an executor has a name"), epoch: Epoch(executor.epoch) }
}

/// Where an executor is reached: as it says itself, so that not every driver here need keep that.
fn reference(life: &Life) -> v1::ExecutorRef {
    let node = life.executor.worker.as_str().trim_start_matches("node").parse().expect("nodes are numbered");
    v1::ExecutorRef {
        id: Some((&life.executor).into()),
        epoch: life.epoch.0,
        control_address: address(node, 7401),
        shuffle_address: address(node, 7402),
        keeper_address: address(node, 7403),
    }
}
