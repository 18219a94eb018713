//! What the job machine costs: jobs of several stages, each of which reads all tasks of the one before, driven from their
//! beginning to the return of every slot. Throughput is in steps, that is in events taken in.

use std::collections::VecDeque;

use firesteel_base::{AttemptKey, Epoch, JobId, LeaseId, StageId, Timestamp};
use firesteel_driver::machine::{
    Arrival, Demand, Effect, Event, JobMachine, JobPlan, Launch, Life, Outcome, OutputKind, Policy, StagePlan,
};
use firesteel_engine::stage::adapt::Adapts;
use firesteel_micro::{Bench, Digest, Throughput, run};
use firesteel_shuffle::{BlockStat, LaneOutput, LaneSizes};

const EXECUTORS: u64 = 16;
/// Slots of each lease.
const SLOTS: u32 = 8;
/// Stages and the tasks of each: full size, and tiny.
const JOBS: [((u32, u32), (u32, u32)); 3] = [((2, 64), (1, 3)), ((8, 128), (3, 4)), ((4, 1_000), (2, 20))];

fn plan(stages: u32, tasks: u32) -> JobPlan {
    let stage = |id: u32| StagePlan {
        id: StageId(id),
        partitions: tasks,
        lanes: 1,
        inputs: id.checked_sub(1).map(StageId).into_iter().collect(),
        told_by: Vec::new(),
        output: if id + 1 == stages { OutputKind::Result } else { OutputKind::Hash },
        tells: false,
        adapts: Adapts::default(),
        estimated_bytes: 0,
        memory_per_task: 0,
    };
    JobPlan { job: JobId(7), stages: (0..stages).map(stage).collect() }
}

fn life(executor: u64) -> Life {
    let executor = format!("n{executor}/e0").parse().expect("an executor's name");
    Life { executor, epoch: Epoch(1) }
}

/// What became of a job.
#[derive(Default)]
struct Report {
    steps: u64,
    launches: Vec<(AttemptKey, LeaseId)>,
    slots_lent: u64,
    slots_released: u64,
    frees: u64,
    rows: u64,
}

/// A manager that always has slots, executors whose attempts all succeed, and a reader that takes the whole result.
struct World {
    machine: JobMachine,
    lives: Vec<Life>,
    /// Partitions that each task writes.
    partitions: u32,
    events: VecDeque<Event>,
    leases: u64,
    report: Report,
}

impl World {
    fn new(stages: u32, tasks: u32) -> Self {
        let lives: Vec<_> = (0..EXECUTORS).map(life).collect();
        let arrival = |life: &Life| Arrival { life: life.clone(), takes_outputs: true, reads_keys: true };
        let came = lives.iter().map(arrival).collect();
        Self {
            machine: JobMachine::new(plan(stages, tasks), Policy::default()),
            lives,
            partitions: tasks,
            events: VecDeque::from([Event::ClusterChanged { came, gone: Vec::new() }, Event::Begin]),
            leases: 0,
            report: Report::default(),
        }
    }

    fn run(mut self) -> Report {
        let mut effects = Vec::new();
        while let Some(event) = self.events.pop_front() {
            self.report.steps += 1;
            self.machine.step(Timestamp(self.report.steps), event, &mut effects);
            effects.drain(..).for_each(|effect| self.answer(effect));
        }
        assert!(self.machine.has_ended(), "the job waits for something");
        assert_eq!(self.report.slots_lent, self.report.slots_released, "slots are left");
        self.report
    }

    fn answer(&mut self, effect: Effect) {
        match effect {
            Effect::Demand(demand) => self.lend(&demand),
            Effect::Launch(launch) => self.attempt(launch),
            Effect::ReleaseSlots { tasks, .. } => self.report.slots_released += u64::from(tasks),
            Effect::ResultReady(outputs) => {
                for output in outputs {
                    let producer = output.producer;
                    self.events.extend([Event::ResultBegun { producer }, Event::ResultTaskRead { producer }]);
                }
                self.events.push_back(Event::ResultRead);
            }
            Effect::Close { outcome, rows, .. } => {
                assert_eq!(outcome, Outcome::Succeeded);
                self.report.rows = rows;
            }
            // Of a result that was read, and of a stage that nobody reads any more.
            Effect::FreeAttempt { .. } | Effect::FreeStage { .. } => self.report.frees += 1,
            Effect::Settled(_) => {}
            Effect::MoreInputs { .. }
            | Effect::CancelAttempt { .. }
            | Effect::Absorb { .. }
            | Effect::TakeOutput { .. }
            | Effect::OutputMoved { .. }
            | Effect::Left { .. }
            | Effect::Decided { .. } => {
                panic!("nothing is done in vain, or otherwise than planned: {effect:?}")
            }
        }
    }

    fn lend(&mut self, demand: &Demand) {
        let mut wanted = demand.tasks;
        while wanted > 0 {
            let tasks = wanted.min(SLOTS);
            wanted -= tasks;
            self.leases += 1;
            self.report.slots_lent += u64::from(tasks);
            let life = self.lives[(self.leases % EXECUTORS) as usize].clone();
            self.events.push_back(Event::Granted {
                lease: LeaseId(self.leases),
                stage: demand.stage,
                life,
                tasks,
            });
        }
    }

    fn attempt(&mut self, launch: Launch) {
        let Launch { attempt, lease, life, .. } = launch;
        self.report.launches.push((attempt, lease));
        self.events.push_back(Event::AttemptStarted { attempt, life: life.clone() });
        self.events.push_back(Event::AttemptProgress { attempt, life: life.clone(), rows: 5, bytes: 500 });
        let blocks = (0..self.partitions).map(|i| BlockStat { rows: 10, bytes: 1_000 + u64::from(i) });
        let lanes = vec![LaneSizes::of(&LaneOutput { partitions: blocks.collect() })];
        self.events.push_back(Event::AttemptFinished { attempt, life, lanes });
    }
}

fn hash(report: &Report, digest: &mut Digest) {
    for (attempt, lease) in &report.launches {
        digest.bytes(attempt.to_string().as_bytes());
        digest.number(lease.0);
    }
    for number in [report.steps, report.slots_lent, report.frees, report.rows] {
        digest.number(number);
    }
}

fn jobs(bench: &mut Bench) {
    for (full, tiny) in JOBS {
        let (stages, tasks) = bench.size(full, tiny);
        let steps = World::new(stages, tasks).run().steps;
        let mut group = bench.group("whole_job", Throughput::Elements(steps));
        group.samples(20);
        group.bench(format!("{stages}_stages_of_{tasks}_tasks"), || World::new(stages, tasks).run(), hash);
    }
}

fn main() {
    run(include_str!("job.hashes"), &[jobs]);
}
