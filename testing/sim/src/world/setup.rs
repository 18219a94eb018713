//! A cluster drawn from a seed: its size, its users' queries, and what will go wrong.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use super::driver::{Driver, QueryPlan};
use super::manager::Manager;
use super::worker::{Setup, Worker};
use super::{Due, Scene, World};
use crate::Options;
use crate::agenda::Agenda;
use crate::chance::Chance;
use crate::channel::{Host, Net, Party};
use crate::check::Checker;
use crate::faults;
use crate::plan::{draw, expected};
use crate::story::Story;

/// Where the manager runs.
pub const MANAGER_HOST: Host = Host(0);
const WORKERS_MAX: u32 = 4;
const CORES_MAX: u32 = 4;
const DRIVERS_MAX: u32 = 3;
const QUERIES_MAX: u64 = 2;
/// How long after the start users begin, in milliseconds.
const USERS_COME: (u64, u64) = (0, 1_500);
const EPOCH_FIRST: u64 = 1_000;
/// A seed of its own: worlds with one manager and a quick journal are as they were.
const MANAGERS_CHANCE: u64 = 0x3a7a;
/// Of a hundred worlds so many have several managers, and so many a journal that takes time.
const SEVERAL: u64 = 25;
const SLOW_JOURNALS: u64 = 30;
/// How long the slowest journal may take to write, in milliseconds.
const JOURNAL_MAX: u64 = 2_000;

impl World {
    /// The cluster of a seed.
    #[must_use]
    pub fn new(seed: u64, options: &Options) -> Self {
        let scene = Scene {
            agenda: Agenda::default(),
            chance: Chance::new(seed),
            net: Net::default(),
            story: Story::new(options.keeps_story),
            check: Checker::default(),
            mutation: options.mutation.map(crate::mutation::Mutation::new),
            shows_known: options.shows_known,
            journal: super::Journal::default(),
            slow: Vec::new(),
            full_disks: Vec::new(),
            attempt_faults: 0,
        };
        let mut world = Self {
            scene,
            managers: BTreeMap::new(),
            members: 1,
            office: None,
            workers: BTreeMap::new(),
            executors: BTreeMap::new(),
            clients: BTreeMap::new(),
            client_hosts: Vec::new(),
            texts: BTreeMap::new(),
            drivers: BTreeMap::new(),
            keepers: BTreeMap::new(),
            setups: BTreeMap::new(),
            driver_hosts: BTreeMap::new(),
            epoch_seed: EPOCH_FIRST,
            backlog: BTreeMap::new(),
            manager_was_restarted: false,
            stale: BTreeMap::new(),
            drivers_started: 0,
        };
        world.scene.net.delay_max = world.scene.chance.between(1, 20);
        world.start_managers(seed, options);
        world.draw_workers();
        world.draw_drivers();
        world.draw_submissions(seed, options);
        for (at, fault) in faults::draw_all(seed, &mut world.scene.chance, options, world.members) {
            world.scene.agenda.after(at, Due::Fault(fault));
        }
        world
    }

    fn draw_workers(&mut self) {
        let workers = self.scene.chance.small(1, WORKERS_MAX);
        // Where there are few slots, stages wait for them while others end.
        let is_scarce = self.scene.chance.percent(35);
        for number in 1..=workers {
            let chance = &mut self.scene.chance;
            let setup = Setup {
                id: format!("w{number}").parse().expect("a worker's name"),
                host: Host(number),
                rack: format!("rack{}", number % 2),
                cores: match is_scarce {
                    true => vec![1],
                    false => (0..chance.small(1, 2)).map(|_| chance.small(1, CORES_MAX)).collect(),
                },
                memory: 64 << 20,
                keeps: chance.percent(75),
            };
            self.keepers.insert(setup.id.clone(), setup.keeps);
            self.scene.check.worker_is_set_up(&setup);
            self.setups.insert(setup.id.clone(), setup.clone());
            self.start_worker(setup);
        }
    }

    fn draw_drivers(&mut self) {
        for _ in 0..self.scene.chance.small(1, DRIVERS_MAX) {
            let after = self.scene.chance.millis(USERS_COME.0, USERS_COME.1);
            self.scene.agenda.after(after, Due::Fault(faults::Fault::DriverStarts));
        }
    }

    fn start_managers(&mut self, seed: u64, options: &Options) {
        let mut chance = Chance::new(seed ^ MANAGERS_CHANCE);
        let are_several = chance.percent(SEVERAL) && options.restarts_manager && !options.shows_known;
        if chance.percent(SLOW_JOURNALS) {
            self.scene.journal.takes = Some((0, chance.between(1, JOURNAL_MAX)));
        }
        let members = options.managers.unwrap_or(if are_several { 3 } else { 1 });
        if members > 1 {
            self.scene.journal.takes.get_or_insert((1, 30));
            self.start_members(members);
        } else {
            self.start_manager(0);
        }
    }

    /// A manager's process starts.
    pub fn start_manager(&mut self, member: u32) {
        if self.office.is_some() {
            return self.start_member(member);
        }
        let proc = self.scene.net.processes.start(Party::Manager(member), MANAGER_HOST);
        self.managers.insert(member, Manager::start(proc, self.epoch_seed, &mut self.scene));
    }

    /// A worker's process starts.
    pub fn start_worker(&mut self, setup: Setup) {
        let proc = self.scene.net.processes.start(Party::Worker(setup.id.clone()), setup.host);
        self.scene.tell(proc, || format!("starts, to run executors of {:?} cores", setup.cores));
        self.workers.insert(setup.id.clone(), Worker::start(proc, setup, &mut self.scene));
    }

    /// A user comes with queries.
    pub fn start_driver(&mut self) {
        self.drivers_started += 1;
        let number = self.drivers_started;
        // Most users sit at a host of their own, some at a worker's.
        let on_worker = self.scene.chance.percent(20);
        let workers: Vec<Host> = self.setups.values().map(|setup| setup.host).collect();
        let other = Host(100 + number);
        let host = if on_worker { self.scene.chance.pick(&workers).unwrap_or(other) } else { other };
        self.driver_hosts.insert(number, host);
        let proc = self.scene.net.processes.start(Party::Driver(number), host);
        let planned = self.draw_queries();
        self.scene.tell(proc, || format!("starts on {host}, with {} queries", planned.len()));
        self.drivers.insert(number, Driver::start(proc, number, planned, &mut self.scene));
    }

    fn draw_queries(&mut self) -> BTreeMap<u64, QueryPlan> {
        let cores = self.setups.values().flat_map(|setup| setup.cores.iter()).max().copied().unwrap_or(1);
        let chance = &mut self.scene.chance;
        let queries = chance.between(1, QUERIES_MAX);
        let mut plan = || {
            let graph = draw(chance, cores);
            let expected = Rc::new(expected(&graph));
            let queue = if chance.percent(30) { "night" } else { "" };
            QueryPlan {
                graph,
                expected,
                queue: queue.to_owned(),
                weight: chance.small(1, 3),
                reader_rests: if chance.percent(30) { 2_000 } else { 5 },
            }
        };
        (0..queries).map(|number| (number, plan())).collect()
    }

    /// How long the world goes on at most after the last fault.
    #[must_use]
    pub fn patience() -> Duration {
        Duration::from_secs(600)
    }
}
