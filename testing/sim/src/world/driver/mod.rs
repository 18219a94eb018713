//! A driver's process: the real job machine of each of its queries, in a model of the shell's loop.
//!
//! ```text
//!   user ── queries ──►┐                            ┌──► manager: one session, made again when it breaks
//!   readers ─ commands ┼─► loop ── job machines ────┤
//!   peers ── messages ►┘        events, effects     └──► executors: a link to each life, made once more when it breaks
//! ```
//!
//! The loop follows `driver/src/shell` closely, for much of what a machine hears is decided there: what a broken link is taken
//! for, what is said again on a new one, when a manager that is back is another one.

mod effects;
mod links;
mod manager_link;
mod query;
mod reader;
mod submitted;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use firesteel_base::{AttemptKey, ExecutorId, JobId, Timestamp, WorkerId};
use firesteel_driver::machine::{Event, Life};
use firesteel_manager::machine::message::{Ending, ExecutorRef, OpenJob};

use super::{Command, Scene, Timer};
use crate::channel::{Conn, Host, Message, Proc, Speaker};
use crate::mutation::{self, Kind};
pub use effects::Calls;
use links::Link;
use manager_link::ManagerLink;
pub use query::{Query, QueryPlan};
pub use reader::Reader;
pub use submitted::{Launched, Submitted};

/// A running driver.
#[derive(Debug)]
pub struct Driver {
    /// Its process.
    pub proc: Proc,
    /// Its number.
    pub number: u32,
    /// The job that a worker has launched it for.
    pub submitted: Option<Submitted>,
    /// Its queries that have not ended.
    pub queries: BTreeMap<u64, Query>,
    manager: ManagerLink,
    links: BTreeMap<Life, Link>,
    /// Where executors are reached.
    refs: BTreeMap<Life, ExecutorRef>,
    /// Executors that are gone and whose blocks are kept for queries that run.
    kept: BTreeSet<Life>,
    /// The executors that are up, in which life each.
    up: BTreeMap<ExecutorId, Life>,
    /// Workers that are drained.
    draining: BTreeSet<WorkerId>,
    /// Where outputs are that have moved.
    moved: BTreeMap<AttemptKey, Life>,
    /// Who is gone for good.
    gone: BTreeSet<Life>,
    events: VecDeque<(u64, Event)>,
    openings: u64,
    /// Ended jobs of which the manager has not said that it knows.
    unheard: Vec<(OpenJob, JobId, Ending)>,
    beat_at: Timestamp,
    /// What its user runs, in time.
    planned: BTreeMap<u64, QueryPlan>,
    /// Calls to executors that are to be made.
    calls: Calls,
    /// When the latest command of a reader comes.
    commanded: Timestamp,
}

impl Driver {
    /// A driver that was just started, whose user means to run these queries.
    pub fn start(proc: Proc, number: u32, planned: BTreeMap<u64, QueryPlan>, scene: &mut Scene) -> Self {
        scene.wake(proc, Duration::ZERO, Timer::DriverCall);
        scene.wake(proc, Duration::ZERO, Timer::DriverTick);
        Self {
            proc,
            number,
            submitted: None,
            queries: BTreeMap::new(),
            manager: ManagerLink::first(scene.clock(proc)),
            links: BTreeMap::new(),
            refs: BTreeMap::new(),
            kept: BTreeSet::new(),
            up: BTreeMap::new(),
            draining: BTreeSet::new(),
            moved: BTreeMap::new(),
            gone: BTreeSet::new(),
            events: VecDeque::new(),
            openings: 0,
            unheard: Vec::new(),
            beat_at: Timestamp(0),
            planned,
            calls: Calls::default(),
            commanded: Timestamp(0),
        }
    }

    /// A driver that a worker has just launched.
    pub fn launched(proc: Proc, number: u32, launched: Launched, plan: QueryPlan, scene: &mut Scene) -> Self {
        let driver = Self::start(proc, number, BTreeMap::from([(0, plan)]), scene);
        Self { submitted: Some(Submitted::new(launched)), ..driver }
    }

    /// Who it says it is to executors.
    #[must_use]
    pub fn speaker(&self) -> Speaker {
        let launch = self.submitted.as_ref().map_or(0, |submitted| submitted.launched.launch);
        Speaker { driver: self.proc, launch }
    }

    /// The number of the first attempt of each task: no two drivers of one job number theirs alike.
    fn first_attempt(&self, scene: &Scene) -> u32 {
        let is_alike = scene.mutation.as_ref().is_some_and(|mutation| mutation.kind == Kind::SameAttempts);
        match &self.submitted {
            Some(_) if !is_alike => AttemptKey::first_of_driver(u128::from(self.proc.0)),
            // No other driver has the job of a client's.
            Some(_) | None => 0,
        }
    }

    /// Queries that were not run yet.
    #[must_use]
    pub fn planned(&self) -> usize {
        self.planned.len()
    }

    /// Calls to executors that are to be made.
    pub fn take_calls(&mut self) -> Calls {
        std::mem::take(&mut self.calls)
    }

    /// A message comes in.
    pub fn hear(&mut self, conn: Conn, message: Message, scene: &mut Scene) {
        match message {
            Message::ToDriver(run, message) => self.manager_said(conn, run, message, scene),
            other => self.executor_said(conn, other, scene),
        }
        self.drain(scene);
        self.tick(scene);
    }

    /// A connection is broken.
    pub fn lose(&mut self, conn: Conn, scene: &mut Scene) {
        if self.manager.is(conn) {
            self.manager_down(scene);
        } else {
            self.link_down(conn, "the connection broke", scene);
        }
        self.drain(scene);
        self.end_submitted(scene);
    }

    /// Something is due by time.
    pub fn wake(&mut self, timer: Timer, scene: &mut Scene) {
        match timer {
            Timer::DriverUnanswered(conn) => self.manager_unanswered(conn, scene),
            Timer::LinkUnanswered(conn) => self.link_unanswered(conn, scene),
            Timer::Query(number) => self.begin(number, scene),
            Timer::Command(number, command) => self.command(number, command),
            Timer::DriverTick => {}
            Timer::DriverStopped => self.asked_to_stop(scene),
            other => unreachable!("{other:?} is not for drivers"),
        }
        self.drain(scene);
        self.tick(scene);
    }

    fn command(&mut self, number: u64, command: Command) {
        let event = match command {
            Command::Begun(producer) => Event::ResultBegun { producer },
            Command::TaskRead(producer) => Event::ResultTaskRead { producer },
            Command::AllRead => Event::ResultRead,
            Command::Unreadable(producer, error) => Event::ResultFetchFailed { producer, error },
            Command::Cancel(reason) => return self.cancel(number, &reason),
        };
        self.events.push_back((number, event));
    }

    fn tell(&mut self, number: u64, event: Event) {
        self.events.push_back((number, event));
    }

    fn tell_all(&mut self, event: &Event) {
        for number in self.queries.keys() {
            self.events.push_back((*number, event.clone()));
        }
    }

    /// Steps machines until no event is left.
    fn drain(&mut self, scene: &mut Scene) {
        while let Some((number, event)) = self.events.pop_front() {
            let now = scene.clock(self.proc);
            let Some(machine) = self.queries.get_mut(&number).and_then(|query| query.machine.as_mut()) else {
                continue;
            };
            let Some(event) = mutation::to_driver(scene.mutation.as_mut(), event) else { continue };
            let mut effects = Vec::new();
            machine.step(now, event.clone(), &mut effects);
            mutation::of_driver(scene.mutation.as_mut(), &mut effects);
            scene.check.driver_steps(self.proc, number, &event, &effects);
            if self.submitted.is_some() {
                scene.check.submitted_launches(self.proc, &effects);
            }
            for effect in effects {
                self.apply(number, effect, scene);
            }
        }
    }

    /// What is due by time: runs after everything that happens.
    fn tick(&mut self, scene: &mut Scene) {
        let now = scene.clock(self.proc);
        let is_due = |query: &Query| {
            let deadline = query.machine.as_ref().and_then(|machine| machine.next_deadline());
            deadline.is_some_and(|deadline| deadline <= now)
        };
        let due: Vec<u64> = self.queries.iter().filter(|(_, q)| is_due(q)).map(|(n, _)| *n).collect();
        for number in due {
            self.tell(number, Event::Tick);
        }
        self.drain(scene);
        if self.beat_at <= now {
            self.beat(now, scene);
            self.drain(scene);
        }
        self.end_submitted(scene);
    }

    /// Where its host is.
    fn host(&self, scene: &Scene) -> Host {
        scene.net.processes.host(self.proc).unwrap_or(Host(0))
    }
}
