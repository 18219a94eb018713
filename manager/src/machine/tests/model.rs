//! Random histories: duplicates, stale epochs, messages of dead sessions, cuts and restarts, of the manager too, in any order.
//! After every step all invariants hold; when all is quiet and free again, all demand is met.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::Config;

use super::*;
use crate::Limits;
use crate::machine::executor::Executor;
use crate::machine::lease::Lease;

const WORKERS: [&str; 4] = ["a", "b", "c", "d"];

/// Something that happens. Numbers choose among what there is, dead sessions and ended jobs included.
#[derive(Debug, Clone)]
enum Action {
    Register {
        worker: usize,
        incarnation: u8,
    },
    Up {
        session: u64,
        index: u32,
        pid: u32,
    },
    /// Up, and in the epoch that it was told last.
    Back {
        session: u64,
        index: u32,
        pid: u32,
    },
    Down {
        session: u64,
        index: u32,
        stale: bool,
    },
    WorkerBeat {
        session: u64,
    },
    Leave {
        session: u64,
    },
    CutWorker {
        session: u64,
    },
    DriverEnded {
        session: u64,
        job: u64,
        succeeded: bool,
    },
    EverybodyBeats,
    Hello,
    Open {
        session: u64,
        weight: u32,
        submitted: Option<u64>,
    },
    /// A driver claims a job with what it holds, or some of it.
    Resume {
        session: u64,
        job: u64,
        claimed: u8,
    },
    Demand {
        session: u64,
        job: u64,
        wanted: Wanted,
    },
    Release {
        session: u64,
        lease: u64,
        tasks: u32,
    },
    Close {
        session: u64,
        job: u64,
        succeeded: bool,
    },
    DriverBeat {
        session: u64,
    },
    CutDriver {
        session: u64,
    },
    Submit,
    Cancel {
        job: u64,
    },
    Pass {
        millis: u64,
    },
    Absence {
        millis: u64,
    },
    /// The manager ends, and another one goes on with what was kept. Everybody comes back at once, or when it happens.
    Restart {
        at_once: bool,
    },
}

#[derive(Debug, Clone)]
struct Wanted {
    stage: u32,
    tasks: u32,
    cores: u32,
    gib: u64,
    gang: bool,
    early: bool,
    input: Option<usize>,
    excluded: Option<usize>,
}

fn wanted(narrow: bool) -> BoxedStrategy<Wanted> {
    let worker = || proptest::option::weighted(0.3, 0..WORKERS.len());
    if narrow {
        let early = proptest::bool::weighted(0.2);
        return (0..3u32, 0..9u32, early, worker(), worker())
            .prop_map(|(stage, tasks, early, input, excluded)| Wanted {
                stage,
                tasks,
                cores: 1,
                gib: 0,
                gang: false,
                early,
                input,
                excluded,
            })
            .boxed();
    }
    let kind = proptest::option::weighted(0.3, any::<bool>());
    (0..3u32, 0..9u32, 1..5u32, 0..4u64, kind, worker(), worker())
        .prop_map(|(stage, tasks, cores, gib, kind, input, excluded)| Wanted {
            stage,
            tasks,
            cores,
            gib,
            gang: kind == Some(true),
            early: kind == Some(false),
            input,
            excluded,
        })
        .boxed()
}

fn action(narrow: bool) -> BoxedStrategy<Action> {
    let number = || any::<u64>();
    prop_oneof![
        4 => (0..WORKERS.len(), 0..2u8).prop_map(|(worker, incarnation)| Action::Register { worker, incarnation }),
        6 => (number(), 0..3u32, 0..2u32).prop_map(|(session, index, pid)| Action::Up { session, index, pid }),
        4 => (number(), 0..3u32, 0..2u32).prop_map(|(session, index, pid)| Action::Back { session, index, pid }),
        4 => (number(), number(), any::<u8>())
            .prop_map(|(session, job, claimed)| Action::Resume { session, job, claimed }),
        1 => any::<bool>().prop_map(|at_once| Action::Restart { at_once }),
        2 => (number(), 0..2u32, any::<bool>())
            .prop_map(|(session, index, stale)| Action::Down { session, index, stale }),
        6 => number().prop_map(|session| Action::WorkerBeat { session }),
        1 => number().prop_map(|session| Action::Leave { session }),
        1 => number().prop_map(|session| Action::CutWorker { session }),
        2 => (number(), number(), any::<bool>())
            .prop_map(|(session, job, succeeded)| Action::DriverEnded { session, job, succeeded }),
        6 => Just(Action::EverybodyBeats),
        2 => Just(Action::Hello),
        3 => (number(), 0..4u32, proptest::option::weighted(0.4, any::<u64>()))
            .prop_map(|(session, weight, submitted)| Action::Open { session, weight, submitted }),
        12 => (number(), number(), wanted(narrow)).prop_map(|(session, job, wanted)| Action::Demand { session, job, wanted }),
        10 => (number(), number(), 0..4u32).prop_map(|(session, lease, tasks)| Action::Release { session, lease, tasks }),
        2 => (number(), number(), any::<bool>())
            .prop_map(|(session, job, succeeded)| Action::Close { session, job, succeeded }),
        6 => number().prop_map(|session| Action::DriverBeat { session }),
        1 => number().prop_map(|session| Action::CutDriver { session }),
        1 => Just(Action::Submit),
        1 => number().prop_map(|job| Action::Cancel { job }),
        4 => (0..4_000u64).prop_map(|millis| Action::Pass { millis }),
        1 => (0..40_000u64).prop_map(|millis| Action::Absence { millis }),
    ]
    .boxed()
}

/// A machine, and what everybody was told.
struct Model {
    machine: Machine,
    now: Timestamp,
    narrow: bool,
    sessions: Vec<SessionId>,
    epochs: BTreeMap<ExecutorId, Epoch>,
    granted: BTreeMap<LeaseId, u32>,
    revoked: BTreeMap<LeaseId, u32>,
    /// What drivers held when the manager was started anew.
    held: Vec<Lease>,
    /// How often it was.
    runs: u64,
    /// Leases that were taken up again.
    resumed: usize,
}

fn pick(number: u64, count: usize) -> Option<usize> {
    (count > 0).then(|| usize::try_from(number % u64::try_from(count).unwrap()).unwrap())
}

impl Model {
    /// Of a run of the manager: past all numbers of those before.
    fn config(run: u64) -> ManagerConfig {
        let limits = Limits { live_jobs: 12, ended_jobs: 5, gone_nodes: 2, drivers: 6, ..Limits::default() };
        let epoch_seed = 1000 + run * 1_000_000;
        ManagerConfig { epoch_seed, lease_seed: run * 1_000_000, limits, ..ManagerConfig::default() }
    }

    fn new(narrow: bool) -> Self {
        Self {
            machine: Machine::new(Self::config(0)),
            now: Timestamp(0),
            narrow,
            sessions: Vec::new(),
            epochs: BTreeMap::new(),
            granted: BTreeMap::new(),
            revoked: BTreeMap::new(),
            held: Vec::new(),
            runs: 0,
            resumed: 0,
        }
    }

    fn restart(&mut self, at_once: bool) {
        self.runs += 1;
        let jobs = self.machine.jobs(true).into_iter().cloned().collect();
        self.held = self.machine.leases.iter().cloned().collect();
        let after = Machine::restore(Self::config(self.runs), jobs, 0, self.now);
        let before = std::mem::replace(&mut self.machine, after);
        self.machine.check();
        if at_once {
            self.come_back(&before);
        }
    }

    /// Workers with their executors, and a driver with all open jobs: what they held, they hold again.
    fn come_back(&mut self, before: &Machine) {
        for node in before.nodes.present() {
            let session = self.greet();
            let register = registration(node.id.as_str(), &node.incarnation, &[4, 2]);
            self.step(Event::Worker(session, WorkerEvent::Register(register)));
            for life in node.executors.values().filter_map(|executor| executor.life.clone()) {
                let back = WorkerEvent::ExecutorBack { up: life.up, epoch: life.epoch };
                self.step(Event::Worker(session, back));
            }
        }
        let driver = self.greet();
        self.step(Event::Driver(driver, hello()));
        let open: Vec<JobId> =
            before.jobs.iter_live().filter(|job| job.driver().is_some()).map(|job| job.id).collect();
        for job in open {
            let submitted_job = before.job(job).and_then(|job| job.launch.as_ref().map(|_| job.id));
            let resumes = Some(Resumed {
                job,
                leases: self.claims(job, u8::MAX),
                gone: Vec::new(),
                only_to_close: false,
            });
            let open = OpenJob { resumes, submitted_job, ..open_job() };
            self.step(Event::Driver(driver, DriverEvent::OpenJob(open)));
            assert_eq!(
                self.machine.leases.cores_of(job),
                before.leases.cores_of(job),
                "{job} holds what it held"
            );
        }
    }

    /// What the job's driver holds, of this manager and of the one before; those that `claimed` names by its bits.
    fn claims(&self, job: JobId, claimed: u8) -> Vec<HeldLease> {
        let known = self.machine.leases.of_job(job);
        let before = self.held.iter().filter(|lease| lease.job == job);
        let all = known.chain(before).enumerate().filter(|(at, _)| claimed & (1 << (at % 8)) != 0);
        all.map(|(_, lease)| HeldLease {
            lease: lease.id,
            stage: lease.stage,
            executor: lease.executor.clone(),
            epoch: lease.epoch,
            tasks: lease.tasks,
            cores_per_task: lease.cores_per_task,
            memory_per_task: lease.memory_per_task,
        })
        .collect()
    }

    fn greet(&mut self) -> SessionId {
        let session = SessionId(u64::try_from(self.sessions.len()).unwrap());
        self.sessions.push(session);
        session
    }

    fn session(&self, number: u64) -> SessionId {
        pick(number, self.sessions.len()).map_or(SessionId(u64::MAX), |at| self.sessions[at])
    }

    /// One in four is any that ever was, or never; the others are live.
    fn job(&self, number: u64) -> JobId {
        let live: Vec<JobId> = self.machine.jobs.iter_live().map(|job| job.id).collect();
        match pick(number / 4, live.len()) {
            Some(at) if !number.is_multiple_of(4) => live[at],
            _ => JobId(number % (self.machine.jobs(true).last().map_or(0, |job| job.id.0) + 2)),
        }
    }

    fn lease(&self, number: u64) -> LeaseId {
        let held: Vec<LeaseId> = self.machine.leases.iter().map(|lease| lease.id).collect();
        match pick(number / 4, held.len()) {
            Some(at) if !number.is_multiple_of(4) => held[at],
            _ => LeaseId(number % (self.granted.keys().last().map_or(0, |lease| lease.0) + 2)),
        }
    }

    /// The driver of a job three times out of four, else any session.
    fn driver_of(&self, job: JobId, number: u64) -> SessionId {
        let own = self.machine.job(job).and_then(|job| job.driver()).filter(|_| !number.is_multiple_of(4));
        own.unwrap_or_else(|| self.session(number))
    }

    /// A connected worker three times out of four, else any session.
    fn worker_session(&self, number: u64) -> SessionId {
        let connected: Vec<SessionId> = self.machine.nodes.iter().filter_map(|node| node.session).collect();
        match pick(number / 4, connected.len()) {
            Some(at) if !number.is_multiple_of(4) => connected[at],
            _ => self.session(number),
        }
    }

    /// A connected driver three times out of four, else any session.
    fn driver_session(&self, number: u64) -> SessionId {
        let connected = self.machine.drivers.sessions();
        match pick(number / 4, connected.len()) {
            Some(at) if !number.is_multiple_of(4) => connected[at],
            _ => self.session(number),
        }
    }

    fn everybody_beats(&mut self) {
        let workers: Vec<SessionId> = self.machine.nodes.iter().filter_map(|node| node.session).collect();
        for session in workers {
            self.step(Event::Worker(session, WorkerEvent::Heartbeat(Vec::new())));
        }
        for session in self.machine.drivers.sessions() {
            self.step(Event::Driver(session, DriverEvent::Heartbeat(Vec::new())));
        }
    }

    fn step(&mut self, event: Event) {
        let mut effects = Vec::new();
        self.machine.step(self.now, event, &mut effects);
        self.machine.check();
        for effect in effects {
            self.hear(effect);
        }
        if self.narrow {
            self.check_nothing_idles();
        }
    }

    fn hear(&mut self, effect: Effect) {
        match effect {
            Effect::Note(Note::ExecutorUp { executor, epoch }) => {
                let before = self.epochs.insert(executor, epoch);
                // A manager that is new may hear of the one that is.
                assert!(before.is_none_or(|before| before <= epoch), "epochs grow");
            }
            Effect::ToDriver(session, ToDriver::Grant(grant)) => {
                assert!(self.machine.drivers.get(session).is_some(), "only a connected driver gets slots");
                assert_eq!(
                    self.epochs[&grant.executor.id], grant.executor.epoch,
                    "the grant is of the present life"
                );
                assert!(self.granted.insert(grant.lease, grant.tasks).is_none(), "a lease is granted once");
            }
            // What was asked back is counted anew.
            Effect::ToDriver(_, ToDriver::JobOpened { resumed: Some(leases), .. }) => {
                self.resumed += leases.len();
                self.revoked.retain(|lease, _| !leases.contains(lease));
            }
            Effect::ToDriver(_, ToDriver::Revoke { lease, tasks }) => {
                let revoked = self.revoked.entry(lease).or_default();
                *revoked += tasks;
                assert!(*revoked <= self.granted[&lease], "a slot is asked back once");
            }
            _ => {}
        }
    }

    /// With tasks of one core only, nothing is free that anybody waiting may use.
    fn check_nothing_idles(&self) {
        for job in self.machine.jobs.iter_live() {
            // What comes last in the fair order leaves nothing idle either.
            for demand in job.demands.values() {
                for node in self.machine.nodes.present().filter(|node| node.is_alive()) {
                    let is_open =
                        |executor: &&Executor| executor.life.is_some() && executor.claimed_until.is_none();
                    for executor in node.executors.values().filter(is_open) {
                        let id = node.executor_id(executor.spec.index);
                        let (lent, _) = self.machine.leases.lent(&id);
                        let idle = lent < u64::from(executor.spec.slots) && !demand.excluded.contains(&id);
                        assert!(!idle, "{id} idles although {demand:?} waits");
                    }
                }
            }
        }
    }

    fn act(&mut self, action: Action) {
        let event = match action {
            Action::Register { worker, incarnation } => {
                let register = registration(WORKERS[worker], &incarnation.to_string(), &[4, 2]);
                Event::Worker(self.greet(), WorkerEvent::Register(register))
            }
            Action::Up { session, index, pid } => {
                Event::Worker(self.worker_session(session), WorkerEvent::ExecutorUp(up("x", index, pid)))
            }
            Action::Back { session, index, pid } => {
                let session = self.worker_session(session);
                let worker = self.machine.nodes.iter().find(|node| node.session == Some(session));
                let epoch = worker.and_then(|node| self.epochs.get(&node.executor_id(index)));
                let (up, epoch) = (up("x", index, pid), epoch.copied().unwrap_or_default());
                Event::Worker(session, WorkerEvent::ExecutorBack { up, epoch })
            }
            Action::Down { session, index, stale } => {
                let newest = self.epochs.values().copied().max().unwrap_or_default();
                let epoch = if stale { Epoch(newest.0.saturating_sub(1)) } else { newest };
                let reason = "it ended".to_owned();
                Event::Worker(
                    self.worker_session(session),
                    WorkerEvent::ExecutorDown { index, epoch, reason },
                )
            }
            Action::WorkerBeat { session } => {
                Event::Worker(self.worker_session(session), WorkerEvent::Heartbeat(Vec::new()))
            }
            Action::Leave { session } => {
                Event::Worker(self.worker_session(session), WorkerEvent::Leaving { reason: String::new() })
            }
            Action::CutWorker { session } => {
                Event::Worker(self.worker_session(session), WorkerEvent::StreamLost)
            }
            Action::DriverEnded { session, job, succeeded } => {
                let (job, reason) = (self.job(job), String::new());
                Event::Worker(
                    self.worker_session(session),
                    WorkerEvent::DriverEnded { job, launch: None, succeeded, reason },
                )
            }
            Action::EverybodyBeats => return self.everybody_beats(),
            Action::Hello => Event::Driver(self.greet(), hello()),
            Action::Open { session, weight, submitted } => {
                let open =
                    OpenJob { weight, submitted_job: submitted.map(|job| self.job(job)), ..open_job() };
                Event::Driver(self.driver_session(session), DriverEvent::OpenJob(open))
            }
            Action::Resume { session, job, claimed } => {
                let job = self.job(job);
                let gone = self.epochs.iter().map(|(executor, epoch)| (executor.clone(), *epoch));
                let gone = gone.filter(|_| claimed % 16 == 0).collect();
                let resumes = Some(Resumed {
                    job,
                    leases: self.claims(job, claimed),
                    gone,
                    only_to_close: claimed % 8 == 1,
                });
                let submitted_job = self.machine.job(job).and_then(|job| job.launch.as_ref().map(|_| job.id));
                let open = OpenJob { resumes, submitted_job, ..open_job() };
                Event::Driver(self.driver_session(session), DriverEvent::OpenJob(open))
            }
            Action::Restart { at_once } => return self.restart(at_once),
            Action::Demand { session, job, wanted } => {
                let demand = self.demand(job, &wanted);
                Event::Driver(self.driver_of(demand.job, session), DriverEvent::Demand(demand))
            }
            Action::Release { session, lease, tasks } => {
                let lease = self.lease(lease);
                let job = self.machine.leases.get(lease).map_or(JobId(0), |lease| lease.job);
                Event::Driver(self.driver_of(job, session), DriverEvent::Release { lease, tasks })
            }
            Action::Close { session, job, succeeded } => {
                let ending = if succeeded { Ending::Succeeded { rows: 1 } } else { failed("no") };
                let job = self.job(job);
                Event::Driver(self.driver_of(job, session), DriverEvent::CloseJob { job, ending })
            }
            Action::DriverBeat { session } => {
                Event::Driver(self.driver_session(session), DriverEvent::Heartbeat(Vec::new()))
            }
            Action::CutDriver { session } => {
                Event::Driver(self.driver_session(session), DriverEvent::StreamLost)
            }
            Action::Submit => Event::Client(Ticket(0), Rights::All, ClientRequest::Submit(submission("s"))),
            Action::Cancel { job } => {
                Event::Client(Ticket(0), Rights::All, ClientRequest::Cancel { job: self.job(job) })
            }
            Action::Absence { millis } => {
                self.now = self.now + Duration::from_millis(millis);
                Event::Absence(Duration::from_millis(millis))
            }
            Action::Pass { millis } => {
                self.now = self.now + Duration::from_millis(millis);
                Event::Tick
            }
        };
        self.step(event);
    }

    fn demand(&self, job: u64, wanted: &Wanted) -> Demand {
        let named = |at: Option<usize>| at.map(|at| executor(&format!("{}/e0", WORKERS[at])));
        Demand {
            stage: StageId(wanted.stage),
            tasks: wanted.tasks,
            cores_per_task: wanted.cores,
            memory_per_task: wanted.gib * GIB,
            inputs: named(wanted.input).map(|id| (id, 1000)).into_iter().collect(),
            excluded: named(wanted.excluded).into_iter().collect(),
            gang: wanted.gang,
            early: wanted.early,
            ..demand(self.job(job))
        }
    }

    /// Every worker is up again, drivers give back whatever they get, and in the end nobody waits.
    fn settle(&mut self) {
        // Whoever may come back has had its time.
        for _ in 0..16 {
            self.everybody_beats();
            self.act(Action::Pass { millis: 1_000 });
        }
        for name in WORKERS {
            let session = self.greet();
            if self.machine.nodes.get(&name.parse().unwrap()).is_some_and(|node| node.is_present()) {
                let old = self.machine.nodes.get(&name.parse().unwrap()).unwrap().session;
                if let Some(old) = old {
                    self.step(Event::Worker(old, WorkerEvent::Leaving { reason: String::new() }));
                }
            }
            self.step(Event::Worker(session, WorkerEvent::Register(registration(name, "settled", &[4, 2]))));
            for index in 0..2 {
                self.step(Event::Worker(session, WorkerEvent::ExecutorUp(up(name, index, 9))));
            }
        }
        for _ in 0..1_000 {
            let Some(lease) = self.machine.leases.iter().next().cloned() else { break };
            let driver = self.machine.job(lease.job).unwrap().driver().unwrap();
            self.step(Event::Driver(driver, DriverEvent::Release { lease: lease.id, tasks: lease.tasks }));
        }
        let waiting: Vec<_> = self.machine.jobs.iter_live().filter(|job| !job.demands.is_empty()).collect();
        assert!(waiting.is_empty(), "all is free, and still they wait: {waiting:?}");
    }
}

/// It begins with two workers and two jobs, so that there is something to lend from the start.
fn history(narrow: bool) -> impl Strategy<Value = Vec<Action>> {
    let session = |at: usize| u64::try_from(at).unwrap();
    let prologue: Vec<Action> = vec![
        Action::Register { worker: 0, incarnation: 0 },
        Action::Register { worker: 1, incarnation: 0 },
        Action::Up { session: session(0), index: 0, pid: 0 },
        Action::Up { session: session(1), index: 0, pid: 0 },
        Action::Up { session: session(1), index: 1, pid: 0 },
        Action::Hello,
        Action::Hello,
        Action::Open { session: session(2), weight: 1, submitted: None },
        Action::Open { session: session(3), weight: 2, submitted: None },
    ];
    proptest::collection::vec(action(narrow), 1..150).prop_map(move |rest| {
        let mut all = prologue.clone();
        all.extend(rest);
        all
    })
}

fn run(narrow: bool, actions: Vec<Action>) -> Model {
    let mut model = Model::new(narrow);
    for action in actions {
        model.act(action);
    }
    model.settle();
    model
}

proptest! {
    #![proptest_config(Config { failure_persistence: None, ..Config::default() })]

    #[test]
    fn every_invariant_holds_after_every_step(actions in history(false)) {
        run(false, actions);
    }

    #[test]
    fn nothing_idles_that_a_narrow_task_waits_for(actions in history(true)) {
        run(true, actions);
    }

    #[test]
    fn the_same_history_has_the_same_effects(actions in history(false)) {
        let (one, two) = (run(false, actions.clone()), run(false, actions));
        prop_assert_eq!((one.granted, one.revoked), (two.granted, two.revoked));
    }
}

/// The histories must reach what they are to test.
#[test]
fn histories_lend_and_ask_back_and_outlive_managers() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let (mut granted, mut revoked, mut resumed) = (0, 0, 0);
    for _ in 0..300 {
        let model = run(false, history(false).new_tree(&mut runner).unwrap().current());
        granted += model.granted.len();
        revoked += model.revoked.len();
        resumed += model.resumed;
    }
    let told = format!("{granted} leases granted, {revoked} asked back, {resumed} resumed");
    assert!(granted > 800 && revoked > 8 && resumed > 100, "{told}");
}
