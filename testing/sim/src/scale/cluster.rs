//! Nodes, drivers and time around the manager.

use std::collections::BTreeMap;
use std::time::Duration;

use firesteel_base::{AttemptKey, Timestamp, WorkerId, version};
use firesteel_driver::machine::Life;
use firesteel_manager::machine::message::SessionId;
use firesteel_protocol::v1::{self, worker_to_manager};
use prost::Message;

use super::driver::{Driver, Said};
use super::job::{Shape, runs_ms};
use super::manager::{Inbound, Manager, Outbound, grown, signed};
use super::{Allocated, Progress, Report, Scale, Tally};
use crate::agenda::Agenda;

/// How long a message travels.
const TRAVELS: Duration = Duration::from_millis(1);
/// How often workers and drivers are heard.
const BEATS: Duration = Duration::from_secs(2);
/// How often the manager looks at its time-outs, and executors tell how far attempts have come.
const SECOND: Duration = Duration::from_secs(1);
/// Over how long the nodes come.
const NODES_COME_MS: u64 = 5_000;
/// When drivers begin to come.
const DRIVERS_COME_MS: u64 = 10_000;
/// When the last of the nodes come, and how far from each other: drivers are there by then.
const LATE_COME_MS: u64 = 20_000;
const LATE_EVERY_MS: u64 = 50;
/// Of so many nodes one comes late.
const NODES_FOR_A_LATE_ONE: u32 = 100;
const NODES_PER_RACK: u32 = 40;
const MEMORY_PER_SLOT: u64 = 4 << 30;

enum Due {
    Node(u32, NodeDue),
    DriverCalls(u32),
    DriverBeats(u32),
    DriverWakes(u32),
    ToManager(Inbound),
    FromManager(Outbound),
    Started(u32, AttemptKey, Life),
    /// The attempt runs since the first and until the second time.
    Progressed(u32, AttemptKey, Life, (Timestamp, Timestamp)),
    Finished(u32, AttemptKey, Life),
    Stopped(u32, AttemptKey, Life),
    Tick,
    Second,
}

enum NodeDue {
    Registers,
    IsUp,
    Beats,
}

struct World<'a> {
    scale: Scale,
    agenda: Agenda<Due>,
    manager: Manager,
    drivers: BTreeMap<u32, Driver>,
    /// When each driver wants to be woken.
    wakes: BTreeMap<u32, Timestamp>,
    tally: Tally,
    allocated: Allocated,
    drivers_bytes: i64,
    ended: u32,
    tasks_done: u64,
    running: u64,
    told: &'a mut dyn FnMut(Progress),
}

/// Runs a cluster until all of its jobs have ended. `told` hears how far that is, once in a second of virtual time.
///
/// # Panics
/// When something goes wrong, which nothing here can make.
#[must_use]
pub fn run(scale: &Scale, allocated: Allocated, told: &mut dyn FnMut(Progress)) -> Report {
    let (began, busy) = (std::time::Instant::now(), processor_time());
    let mut world = World {
        scale: *scale,
        agenda: Agenda::default(),
        manager: Manager::new(scale, allocated),
        drivers: BTreeMap::new(),
        wakes: BTreeMap::new(),
        tally: Tally::default(),
        allocated,
        drivers_bytes: 0,
        ended: 0,
        tasks_done: 0,
        running: 0,
        told,
    };
    world.plan();
    while world.ended < scale.jobs {
        world.moment();
    }
    let virtual_time = world.agenda.now();
    let busy = busy.zip(processor_time()).map(|(before, now)| now.saturating_sub(before));
    Report {
        scale: *scale,
        tally: world.tally,
        tasks: world.tasks_done,
        virtual_time,
        took: began.elapsed(),
        busy,
    }
}

/// For how long this thread has had a processor.
fn processor_time() -> Option<Duration> {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    told.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

impl World<'_> {
    fn plan(&mut self) {
        let Scale { nodes, jobs, arrival_s, .. } = self.scale;
        let late = (nodes / NODES_FOR_A_LATE_ONE).min(nodes - 1);
        let early = nodes - late;
        for node in 0..nodes {
            let at = match node.checked_sub(early) {
                None => u64::from(node) * NODES_COME_MS / u64::from(early),
                Some(late) => LATE_COME_MS + u64::from(late) * LATE_EVERY_MS,
            };
            self.agenda.at(Timestamp(at), Due::Node(node, NodeDue::Registers));
        }
        for driver in 0..jobs {
            let at = DRIVERS_COME_MS + u64::from(driver) * arrival_s * 1000 / u64::from(jobs);
            self.agenda.at(Timestamp(at), Due::DriverCalls(driver));
        }
        self.agenda.at(Timestamp(0), Due::Tick);
        self.agenda.at(Timestamp(0), Due::Second);
    }

    /// All that is due at one moment; the manager takes in at once what has come to it by then.
    fn moment(&mut self) {
        let mut inbox = Vec::new();
        let mut is_tick = false;
        let mut next = self.agenda.take_next();
        let now = self.agenda.now();
        while let Some(due) = next {
            match due {
                Due::ToManager(inbound) => inbox.push(inbound),
                Due::Tick => {
                    is_tick = true;
                    self.agenda.after(SECOND, Due::Tick);
                }
                other => self.take(now, other),
            }
            next = self.agenda.take_at(now);
        }
        if is_tick || !inbox.is_empty() {
            for outbound in self.manager.turn(now, inbox, is_tick, &mut self.tally) {
                self.agenda.after(TRAVELS, Due::FromManager(outbound));
            }
            self.tally.manager_bytes = self.tally.manager_bytes.max(self.manager.bytes());
        }
    }

    fn take(&mut self, now: Timestamp, due: Due) {
        match due {
            Due::Node(node, due) => self.take_node(node, &due),
            Due::DriverCalls(driver) => self.driver_calls(driver),
            Due::DriverBeats(driver) => {
                self.with_driver(now, driver, |driver, _, said| driver.beat(said));
                if self.drivers.contains_key(&driver) {
                    self.agenda.after(BEATS, Due::DriverBeats(driver));
                }
            }
            Due::DriverWakes(driver) => self.driver_wakes(now, driver),
            Due::FromManager(outbound) => self.hear(now, &outbound),
            Due::Started(at, attempt, life) => {
                self.with_driver(now, at, |driver, tally, said| {
                    driver.started(now, attempt, life, tally, said)
                });
            }
            Due::Progressed(at, attempt, life, runs) => self.progressed(now, at, attempt, life, runs),
            Due::Finished(at, attempt, life) => {
                self.with_driver(now, at, |driver, tally, said| {
                    driver.finished(now, attempt, life, tally, said)
                });
            }
            Due::Stopped(at, attempt, life) => {
                self.with_driver(now, at, |driver, tally, said| {
                    driver.stopped(now, attempt, life, tally, said)
                });
            }
            Due::Second => self.second(now),
            Due::ToManager(_) | Due::Tick => unreachable!("the manager takes them"),
        }
    }

    fn second(&mut self, now: Timestamp) {
        if now.0 < DRIVERS_COME_MS {
            self.tally.manager_idle_bytes = self.manager.bytes();
        }
        if self.drivers_bytes > self.tally.drivers_bytes {
            self.tally.drivers_bytes = self.drivers_bytes;
            self.tally.drivers_then = self.drivers.len() as u64;
        }
        (self.told)(Progress { tasks_done: self.tasks_done, virtual_s: now.0 / 1000 });
        self.agenda.after(SECOND, Due::Second);
    }

    fn take_node(&mut self, node: u32, due: &NodeDue) {
        let message = match due {
            NodeDue::Registers => {
                let first = Duration::from_millis(u64::from(node) * 7 % 2_000);
                self.agenda.after(2 * TRAVELS, Due::Node(node, NodeDue::IsUp));
                self.agenda.after(BEATS + first, Due::Node(node, NodeDue::Beats));
                worker_to_manager::Message::Register(registration(node, self.scale.slots))
            }
            NodeDue::IsUp => worker_to_manager::Message::ExecutorUp(v1::ExecutorUp {
                index: 0,
                control_address: address(node, 7401),
                shuffle_address: address(node, 7402),
                pid: 1000,
                epoch: 0,
            }),
            NodeDue::Beats => {
                self.agenda.after(BEATS, Due::Node(node, NodeDue::Beats));
                let usage = v1::ExecutorUsage {
                    index: 0,
                    running_attempts: self.scale.slots,
                    memory_used: MEMORY_PER_SLOT,
                    block_bytes: MEMORY_PER_SLOT,
                    answers: self.agenda.now().0,
                };
                worker_to_manager::Message::Heartbeat(v1::WorkerHeartbeat { executors: vec![usage] })
            }
        };
        let bytes = v1::WorkerToManager { message: Some(message) }.encode_to_vec();
        let session = SessionId(u64::from(node));
        self.agenda.after(TRAVELS, Due::ToManager(Inbound { session, is_worker: true, bytes: Some(bytes) }));
    }

    fn driver_calls(&mut self, number: u32) {
        let Scale { jobs, tasks, .. } = self.scale;
        let share = tasks / jobs + u32::from(number < tasks % jobs);
        self.drivers.insert(number, Driver::new(Shape::of(share)));
        self.say(number, Some(Driver::hello(number)));
        self.agenda.after(BEATS, Due::DriverBeats(number));
    }

    fn say(&mut self, driver: u32, bytes: Option<Vec<u8>>) {
        let session = self.session(driver);
        self.agenda.after(TRAVELS, Due::ToManager(Inbound { session, is_worker: false, bytes }));
    }

    fn session(&self, driver: u32) -> SessionId {
        SessionId(u64::from(self.scale.nodes) + u64::from(driver))
    }

    fn hear(&mut self, now: Timestamp, outbound: &Outbound) {
        // What workers are told they need not do anything about.
        let Some(driver) = outbound.session.0.checked_sub(u64::from(self.scale.nodes)) else { return };
        let driver = u32::try_from(driver).expect("drivers are counted in 32 bits");
        self.with_driver(now, driver, |driver, tally, said| driver.hear(now, &outbound.bytes, tally, said));
    }

    fn progressed(
        &mut self,
        now: Timestamp,
        at: u32,
        attempt: AttemptKey,
        life: Life,
        (since, until): (Timestamp, Timestamp),
    ) {
        let permille = (now.0 - since.0) * 1000 / (until.0 - since.0);
        let mut runs = false;
        let told = (attempt, life.clone());
        self.with_driver(now, at, |driver, tally, said| {
            runs = driver.progressed(now, told, permille, tally, said);
        });
        if runs && now + SECOND < until {
            self.agenda.after(SECOND, Due::Progressed(at, attempt, life, (since, until)));
        }
    }

    fn driver_wakes(&mut self, now: Timestamp, number: u32) {
        self.wakes.remove(&number);
        let deadline = self.drivers.get(&number).and_then(Driver::deadline);
        if deadline.is_some_and(|deadline| deadline <= now) {
            self.with_driver(now, number, |driver, tally, said| driver.wake(now, tally, said));
        } else {
            self.plan_wake(number);
        }
    }

    fn plan_wake(&mut self, number: u32) {
        let Some(deadline) = self.drivers.get(&number).and_then(Driver::deadline) else { return };
        if self.wakes.get(&number).is_none_or(|planned| deadline < *planned) {
            self.wakes.insert(number, deadline);
            self.agenda.at(deadline, Due::DriverWakes(number));
        }
    }

    /// Has a driver do something, if it is still there, and sends what it says.
    fn with_driver(
        &mut self,
        now: Timestamp,
        number: u32,
        does: impl FnOnce(&mut Driver, &mut Tally, &mut Said),
    ) {
        let Some(driver) = self.drivers.get_mut(&number) else { return };
        let (done, running) = (driver.tasks_done, driver.running());
        let mut said = Said::default();
        let before = (self.allocated)().saturating_sub(self.tally.memory_bytes());
        does(driver, &mut self.tally, &mut said);
        let after = (self.allocated)().saturating_sub(self.tally.memory_bytes());
        self.drivers_bytes += grown(before, after) - signed(said.memory_bytes());
        self.tasks_done += driver.tasks_done - done;
        self.running = self.running + driver.running() as u64 - running as u64;
        self.tally.running_max = self.tally.running_max.max(self.running);
        let has_ended = driver.has_ended;
        self.send(now, number, said);
        if has_ended {
            self.drivers.remove(&number);
            self.ended += 1;
            self.say(number, None);
        }
        self.plan_wake(number);
    }

    fn send(&mut self, now: Timestamp, number: u32, said: Said) {
        for bytes in said.to_manager {
            self.say(number, Some(bytes));
        }
        for (attempt, life) in said.launched {
            let runs = runs_ms(self.scale.seed, attempt.job(), attempt.stage(), attempt.task.task);
            let since = now + TRAVELS;
            let until = since + Duration::from_millis(runs);
            self.agenda.at(since + TRAVELS, Due::Started(number, attempt, life.clone()));
            self.agenda.at(since + SECOND, Due::Progressed(number, attempt, life.clone(), (since, until)));
            self.agenda.at(until + TRAVELS, Due::Finished(number, attempt, life));
        }
        for (attempt, life) in said.cancelled {
            self.agenda.after(2 * TRAVELS, Due::Stopped(number, attempt, life));
        }
    }
}

fn registration(node: u32, slots: u32) -> v1::RegisterWorker {
    v1::RegisterWorker {
        wire_version: version::WIRE_OLDEST,
        wire_newest: version::WIRE,
        release: version::RELEASE.to_owned(),
        worker: name(node).to_string(),
        incarnation: format!("{node:032x}"),
        address: address(node, 7400),
        host: format!("host{node:06}.example"),
        topology_json: String::new(),
        executors: vec![v1::ExecutorSpec {
            index: 0,
            numa_node: Some(0),
            cpus: (0..slots).collect(),
            slots,
            memory_bytes: u64::from(slots) * MEMORY_PER_SLOT,
        }],
        rack: format!("rack{:04}", node / NODES_PER_RACK),
        keeper_address: address(node, 7403),
        driver_places: Some(0),
    }
}

fn name(node: u32) -> WorkerId {
    format!("node{node:06}").parse().expect("a worker's name")
}

/// Where a node is reached.
pub fn address(node: u32, port: u16) -> String {
    let [_, b, c, d] = node.to_be_bytes();
    format!("10.{b}.{c}.{d}:{port}")
}
