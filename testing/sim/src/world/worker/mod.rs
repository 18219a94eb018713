//! A worker's process: a model of its daemon, around the real history of restarts.
//!
//! ```text
//!   calls the manager ─► registered ─► tells all that it knows ─► beats; executors are started once
//!        ▲                  │ connection lost
//!        └── again, later ──┘           executors: starts ─► up ─► probed ─► ended ─► blocks kept ─► starts again
//! ```

mod children;
mod drain;
mod drivers;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use firesteel_base::{Epoch, ExecutorId, Timestamp, WorkerId, version};
use firesteel_driver::machine::Life;
use firesteel_manager::machine::message::{
    ExecutorSpec, ExecutorUp, Registration, ToWorker, Usage, WorkerEvent,
};

use super::store::Store;
use super::{Scene, Timer};
use crate::channel::{Asked, Conn, Host, Message, Proc, Told};
pub use children::{Child, Spawn};
use drain::DrainState;
pub use drivers::{Drivers, KeptResult, Order};

const BEAT: Duration = Duration::from_secs(2);
const REGISTER_TIMEOUT: Duration = Duration::from_secs(10);
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// What a worker is made of, in all of its lives.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Its name.
    pub id: WorkerId,
    /// Its host.
    pub host: Host,
    /// Its host's rack.
    pub rack: String,
    /// Cores of each of its executors.
    pub cores: Vec<u32>,
    /// Memory of each.
    pub memory: u64,
    /// Whether it keeps the blocks of executors that are gone.
    pub keeps: bool,
}

/// A running worker.
#[derive(Debug)]
pub struct Worker {
    /// Its process.
    pub proc: Proc,
    /// What it is made of.
    pub setup: Setup,
    /// Its executors.
    pub children: BTreeMap<u32, Child>,
    /// What executors that are gone have left.
    pub kept: BTreeMap<Life, Store>,
    /// Drivers of submitted jobs, and their results.
    pub drivers: Drivers,
    incarnation: String,
    /// The latest run of a manager that was heard.
    latest_run: u64,
    conn: Option<Conn>,
    is_registered: bool,
    /// Since when its session with the manager stands, or stood last.
    since: Timestamp,
    retry: Duration,
    is_beating: bool,
    drain: DrainState,
}

impl Worker {
    /// A worker that was just started.
    pub fn start(proc: Proc, setup: Setup, scene: &mut Scene) -> Self {
        scene.wake_within(proc, (0, 50), Timer::WorkerCall);
        Self {
            incarnation: format!("life{}", proc.0),
            proc,
            setup,
            children: BTreeMap::new(),
            kept: BTreeMap::new(),
            drivers: Drivers::default(),
            latest_run: 0,
            conn: None,
            is_registered: false,
            since: Timestamp(0),
            retry: RETRY_FIRST,
            is_beating: false,
            drain: DrainState::default(),
        }
    }

    /// The id of one of its executors.
    #[must_use]
    pub fn executor(&self, index: u32) -> ExecutorId {
        ExecutorId { worker: self.setup.id.clone(), index }
    }

    /// Calls the manager.
    pub fn call(&mut self, manager: (Proc, Host), scene: &mut Scene) {
        let greeting = Message::OfWorker(WorkerEvent::Register(self.registration()));
        let conn = scene.call(self.proc, manager, greeting);
        self.conn = Some(conn);
        scene.wake(self.proc, REGISTER_TIMEOUT, Timer::WorkerUnanswered(conn));
    }

    fn registration(&self) -> Registration {
        let spec = |(index, cores): (u32, &u32)| ExecutorSpec {
            index,
            numa_node: Some(index),
            cpus: (0..*cores).collect(),
            slots: *cores,
            memory_bytes: self.setup.memory,
        };
        let keeper = if self.setup.keeps { format!("keeper:{}", self.setup.id) } else { String::new() };
        Registration {
            worker: self.setup.id.clone(),
            incarnation: self.incarnation.clone(),
            release: "sim".to_owned(),
            wire: version::WIRE,
            address: format!("worker:{}", self.setup.id),
            keeper_address: keeper,
            host: self.setup.host.to_string(),
            rack: self.setup.rack.clone(),
            topology_json: Arc::from(""),
            nics: vec![Some(0)],
            executors: (0..).zip(&self.setup.cores).map(spec).collect(),
            driver_places: drivers::PLACES,
        }
    }

    /// The manager has not answered.
    pub fn unanswered(&mut self, conn: Conn, scene: &mut Scene) {
        if self.conn == Some(conn) && !self.is_registered {
            scene.close(conn, 0);
            self.lose(conn, scene);
        }
    }

    /// A connection is broken.
    pub fn lose(&mut self, conn: Conn, scene: &mut Scene) {
        if self.conn != Some(conn) {
            return;
        }
        if self.is_registered {
            self.retry = RETRY_FIRST;
        }
        self.conn = None;
        self.is_registered = false;
        scene.wake(self.proc, self.retry, Timer::WorkerCall);
        self.retry = (self.retry * 2).min(RETRY_MAX);
    }

    /// A message comes in: of the manager, or of a client that wants a result.
    pub fn hear(&mut self, conn: Conn, message: Message, scene: &mut Scene) {
        match message {
            Message::ToWorker(run, message) if self.conn == Some(conn) => {
                self.obey(conn, run, message, scene);
            }
            Message::ToWorker(..) => {}
            Message::Asked(Asked::Result(job)) => {
                let kept = self.drivers.results.get(&job);
                let told = kept.map(|kept| (kept.launch, std::rc::Rc::clone(&kept.rows)));
                scene.send(conn, 1, Message::Told(Told::Result(told)));
            }
            other => unreachable!("nobody says {other:?} to workers"),
        }
    }

    fn obey(&mut self, conn: Conn, run: u64, message: ToWorker, scene: &mut Scene) {
        if run < self.latest_run {
            scene.tell(self.proc, || "does not listen to a manager that was replaced".to_owned());
            scene.close(conn, 0);
            return self.lose(conn, scene);
        }
        self.latest_run = run;
        match message {
            ToWorker::Registered => self.registered(scene),
            ToWorker::ExecutorEpoch { index, epoch } => self.epoch(index, epoch, scene),
            ToWorker::FreeKept(job) => {
                self.kept.values_mut().for_each(|store| store.free_job(job));
                self.kept.retain(|_, store| !store.is_empty());
            }
            ToWorker::Drain { order, draining, deadline } => {
                self.obey_drain(order, draining, deadline, scene)
            }
            ToWorker::Leave => self.let_go(),
            ToWorker::LaunchDriver { job, sql, launch, .. } => {
                self.launch_driver(Order { job, sql: sql.to_string(), launch }, scene);
            }
            ToWorker::StopDriver(job) => self.stop_driver(job, scene),
            ToWorker::FreeResult(job) => self.free_result(job),
        }
    }

    fn registered(&mut self, scene: &mut Scene) {
        self.is_registered = true;
        self.since = scene.now();
        self.say_drain(true, scene);
        for event in self.all() {
            self.say(event, scene);
        }
        if !self.is_beating {
            self.is_beating = true;
            scene.wake(self.proc, BEAT, Timer::WorkerBeat);
            self.start_children(scene);
        }
    }

    /// Since when its session with the manager stands, if it does.
    #[must_use]
    pub fn registered_since(&self) -> Option<Timestamp> {
        self.is_registered.then_some(self.since)
    }

    /// All that a manager must hear after a connection was made anew.
    fn all(&self) -> Vec<WorkerEvent> {
        let of = |(&index, child): (&u32, &Child)| match (&child.up, &child.down) {
            (Some(up), _) => Some(match child.epoch {
                Some(epoch) => WorkerEvent::ExecutorBack { up: up.clone(), epoch },
                None => WorkerEvent::ExecutorUp(up.clone()),
            }),
            (None, Some((epoch, reason))) => Some(down(index, *epoch, reason)),
            (None, None) => None,
        };
        self.children.iter().filter_map(of).chain(self.drivers.told()).collect()
    }

    /// It says that it lives.
    pub fn beat(&mut self, answers: BTreeMap<u32, (u32, u64)>, scene: &mut Scene) {
        scene.wake(self.proc, BEAT, Timer::WorkerBeat);
        for (index, (running_attempts, block_bytes)) in answers {
            let Some(child) = self.children.get_mut(&index) else { continue };
            let answers = child.usage.answers + 1;
            child.usage = Usage { index, running_attempts, memory_used: 0, block_bytes, answers };
        }
        let up = self.children.values().filter(|child| child.up.is_some());
        let usage = up.map(|child| child.usage).collect();
        self.say(WorkerEvent::Heartbeat(usage), scene);
        self.say_drain(false, scene);
    }

    /// The manager names the epoch of an executor's life. Of one that has ended meanwhile it must hear so.
    fn epoch(&mut self, index: u32, epoch: Epoch, scene: &mut Scene) {
        let Some(child) = self.children.get_mut(&index) else { return };
        if child.up.is_some() {
            child.epoch = Some(epoch);
            if let Some(proc) = child.proc {
                scene.wake_within(proc, (0, 5), Timer::SetEpoch(epoch));
            }
            return;
        }
        let (ended, reason) = child.down.get_or_insert((epoch, "it is not running".to_owned()));
        *ended = epoch;
        let event = down(index, epoch, &reason.clone());
        self.say(event, scene);
    }

    fn say(&mut self, event: WorkerEvent, scene: &mut Scene) {
        if let Some(conn) = self.conn.filter(|_| self.is_registered) {
            scene.send(conn, 0, Message::OfWorker(event));
        }
    }
}

fn down(index: u32, epoch: Epoch, reason: &str) -> WorkerEvent {
    WorkerEvent::ExecutorDown { index, epoch, reason: reason.to_owned() }
}

fn up(index: u32, proc: Proc) -> ExecutorUp {
    ExecutorUp {
        index,
        control_address: format!("{}", proc.0),
        shuffle_address: format!("{}", proc.0),
        pid: proc.0,
    }
}
