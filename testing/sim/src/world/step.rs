//! One thing after another: what is due comes to whom it concerns.

use std::collections::BTreeMap;

use firesteel_base::ExecutorId;

use super::worker::Spawn;
use super::{Due, Timer, World};
use crate::channel::{Conn, Host, Message, NetDue, Party, Proc};
use crate::mutation::Kind;
use crate::world::executor::Executor;
use crate::world::manager::Manager;
use crate::world::store::Store;

impl World {
    /// Does the next thing. False when nothing is due any more.
    pub fn step(&mut self) -> bool {
        let Some(due) = self.scene.agenda.take_next() else { return false };
        self.take(due);
        true
    }

    fn take(&mut self, due: Due) {
        match due {
            Due::Net(due) => self.take_net(due),
            Due::Timer(proc, timer) => self.take_timer(proc, timer),
            Due::Members => self.members_look(),
            Due::Fault(fault) => self.befall(fault),
        }
    }

    /// What came for a process while it was stopped comes to it now.
    pub fn resume(&mut self, proc: Proc) {
        for due in self.backlog.remove(&proc).unwrap_or_default() {
            self.take(due);
        }
    }

    /// Keeps what comes for a process that is stopped.
    fn is_put_off(&mut self, proc: Proc, due: impl FnOnce() -> Due) -> bool {
        let is_put_off = self.scene.net.processes.is_frozen(proc) || self.is_writing(proc);
        if is_put_off {
            self.backlog.entry(proc).or_default().push(due());
        }
        is_put_off
    }

    /// Whether a manager waits for its journal, and for nothing else.
    fn is_writing(&self, proc: Proc) -> bool {
        self.managers.values().any(|manager| manager.proc == proc && manager.is_writing())
    }

    /// The manager of that number, if it may act. One that may not any more steps down.
    fn manager_in_office(&mut self, member: u32) -> Option<&mut Manager> {
        if !self.is_in_office(member) {
            self.step_down(member);
        }
        self.managers.get_mut(&member)
    }

    fn take_net(&mut self, due: NetDue) {
        let scene = &mut self.scene;
        match due {
            NetDue::Arrive(conn, side) => self.arrive(conn, side),
            NetDue::Broken(conn, side) => {
                let Some(proc) = scene.net.process_at(conn, side) else { return };
                if !self.is_put_off(proc, || Due::Net(due))
                    && let Some(proc) = self.scene.net.broken(conn, side)
                {
                    self.lose(proc, conn);
                }
            }
            NetDue::Silent(conn, side, since) => {
                let Some(proc) = scene.net.process_at(conn, side) else { return };
                if self.is_put_off(proc, || Due::Net(due)) {
                    return;
                }
                let scene = &mut self.scene;
                let told = scene.net.silent(conn, side, since, &mut scene.agenda, &mut scene.chance);
                if let Some(proc) = told {
                    self.lose(proc, conn);
                }
            }
            NetDue::Connect(conn) => {
                if let Some(proc) = scene.net.not_made(conn) {
                    self.lose(proc, conn);
                }
            }
        }
    }

    fn arrive(&mut self, conn: Conn, side: usize) {
        let Some(proc) = self.scene.net.process_at(conn, side) else { return };
        if !self.scene.net.processes.lives(proc) {
            // Nobody listens there any more: the call is refused.
            return self.scene.close(conn, side);
        }
        if self.is_put_off(proc, || Due::Net(NetDue::Arrive(conn, side))) {
            return;
        }
        let now = self.scene.now();
        if let Some((proc, message)) = self.scene.net.arrive(conn, side, now) {
            self.hear(proc, conn, message);
        }
    }

    fn hear(&mut self, proc: Proc, conn: Conn, message: Message) {
        let Some(party) = self.scene.net.processes.party(proc).cloned() else { return };
        let scene = &mut self.scene;
        match party {
            Party::Manager(member) => match self.manager_in_office(member) {
                Some(_) => {
                    let manager = self.managers.get_mut(&member).expect("it was just seen");
                    manager.hear(conn, message, &mut self.scene);
                }
                // It tells whoever comes that it does not lead.
                None => self.scene.close(conn, 1),
            },
            Party::Client(number) => {
                if let Some(client) = self.clients.get_mut(&number) {
                    client.hear(conn, message, scene);
                }
            }
            Party::Worker(id) => {
                if let Some(worker) = self.workers.get_mut(&id) {
                    worker.hear(conn, message, scene);
                }
                self.deliver_stops(&id);
                self.let_leave(&id);
            }
            Party::Executor(id) => {
                if let Some(executor) = self.executors.get_mut(&id) {
                    executor.hear(conn, message, scene);
                }
            }
            Party::Driver(number) => {
                if let Some(driver) = self.drivers.get_mut(&number) {
                    driver.hear(conn, message, scene);
                }
                self.make_calls(number);
                self.mind_launched(number);
            }
        }
    }

    fn lose(&mut self, proc: Proc, conn: Conn) {
        let Some(party) = self.scene.net.processes.party(proc).cloned() else { return };
        let scene = &mut self.scene;
        match party {
            Party::Manager(member) => {
                if self.manager_in_office(member).is_some() {
                    let manager = self.managers.get_mut(&member).expect("it was just seen");
                    manager.lose(conn, &mut self.scene);
                }
            }
            Party::Client(number) => {
                if let Some(client) = self.clients.get_mut(&number) {
                    client.lose(conn, scene);
                }
            }
            Party::Worker(id) => {
                if let Some(worker) = self.workers.get_mut(&id) {
                    worker.lose(conn, scene);
                }
            }
            Party::Executor(id) => {
                if let Some(executor) = self.executors.get_mut(&id) {
                    executor.lose(conn, scene);
                }
            }
            Party::Driver(number) => {
                if let Some(driver) = self.drivers.get_mut(&number) {
                    driver.lose(conn, scene);
                }
                self.make_calls(number);
                self.mind_launched(number);
            }
        }
    }

    /// Calls the executors that a driver wants to be called.
    fn make_calls(&mut self, number: u32) {
        let Some(driver) = self.drivers.get_mut(&number) else { return };
        for (life, address) in driver.take_calls() {
            let to = Proc(address.parse().unwrap_or(0));
            let host = self.setups.get(&life.executor.worker).map_or(Host(0), |setup| setup.host);
            let conn =
                self.scene.call(driver.proc, (to, host), Message::Attach(life.epoch, driver.speaker()));
            self.scene.wake(driver.proc, ATTACH_TIMEOUT, Timer::LinkUnanswered(conn));
            driver.called(&life, conn, &mut self.scene);
        }
    }

    fn take_timer(&mut self, proc: Proc, timer: Timer) {
        let Some(party) = self.scene.net.processes.party(proc).cloned() else { return };
        let is_of_journal =
            matches!(timer, Timer::JournalWritten(_)) && !self.scene.net.processes.is_frozen(proc);
        if !is_of_journal && self.is_put_off(proc, || Due::Timer(proc, timer.clone())) {
            return;
        }
        match party {
            Party::Manager(member) => self.wake_manager(member, timer),
            Party::Client(number) => self.wake_client(number, timer),
            Party::Worker(id) => self.wake_worker(&id, timer),
            Party::Executor(id) => self.wake_executor(&id, timer),
            Party::Driver(number) => self.wake_driver(number, timer),
        }
    }

    fn wake_manager(&mut self, member: u32, timer: Timer) {
        match timer {
            Timer::JournalWritten(run) => self.journal_written(member, run),
            Timer::ManagerTick(run) => {
                if self.manager_in_office(member).is_some_and(|manager| manager.run == run) {
                    let manager = self.managers.get_mut(&member).expect("it was just seen");
                    manager.tick(&mut self.scene);
                }
            }
            other => unreachable!("{other:?} is not for managers"),
        }
    }

    fn wake_worker(&mut self, id: &firesteel_base::WorkerId, timer: Timer) {
        match timer {
            Timer::WorkerCall => {
                let manager = self.find_manager(self.setups[id].host);
                if let Some(worker) = self.workers.get_mut(id) {
                    worker.call(manager, &mut self.scene);
                }
                return;
            }
            Timer::StartDriver(job) => return self.start_launched(id, job),
            Timer::KillDriver(number) => {
                if self.workers.get(id).is_some_and(|worker| worker.job_of(number).is_some()) {
                    self.end_driver(number, Err("it did not end in time and was killed".to_owned()));
                }
                return;
            }
            _ => {}
        }
        let usage = self.usage_of(id);
        let scene = &mut self.scene;
        let Some(worker) = self.workers.get_mut(id) else { return };
        match timer {
            Timer::WorkerUnanswered(conn) => worker.unanswered(conn, scene),
            Timer::WorkerBeat => {
                worker.beat(usage, scene);
                self.let_leave(id);
            }
            Timer::StartExecutor(index) => {
                let spawn = worker.spawn(index);
                self.spawn_executor(id, &spawn);
            }
            Timer::ExecutorReady(index, life) => worker.ready(index, life, scene),
            Timer::Probe(index, life) => {
                let executor = worker.executor(index);
                if worker.probe(index, life, scene) {
                    scene.tell_world(|| format!("{executor} is killed: it was silent for too long"));
                    self.end_executor(&executor);
                }
            }
            Timer::TakenOver(index, life) => worker.taken_over(index, life, scene),
            other => unreachable!("{other:?} is not for workers"),
        }
    }

    /// What the executors of a worker answer that do: what they run, and how much they hold.
    fn usage_of(&self, worker: &firesteel_base::WorkerId) -> BTreeMap<u32, (u32, u64)> {
        let of_worker = self.executors.iter().filter(|(id, _)| id.worker == *worker);
        let answering = of_worker.filter(|(_, e)| !self.scene.net.processes.is_frozen(e.proc));
        let usage = |(id, executor): (&ExecutorId, &Executor)| {
            let running = u32::try_from(executor.running()).unwrap_or(u32::MAX);
            (id.index, (running, executor.store.keys().len() as u64))
        };
        answering.map(usage).collect()
    }

    fn spawn_executor(&mut self, worker: &firesteel_base::WorkerId, spawn: &Spawn) {
        let setup = &self.setups[worker];
        let id = ExecutorId { worker: worker.clone(), index: spawn.index };
        let proc = self.scene.net.processes.start(Party::Executor(id.clone()), setup.host);
        self.scene.tell(proc, || format!("starts with {} cores", spawn.cores));
        let executor = Executor::start(proc, id.clone(), setup.host, spawn.cores, setup.memory);
        self.executors.insert(id, executor);
        if let Some(worker) = self.workers.get_mut(worker) {
            worker.spawned(spawn.index, proc, &mut self.scene);
        }
    }

    /// An executor's process ends. What it has committed its worker keeps, if that lives.
    pub fn end_executor(&mut self, id: &ExecutorId) {
        let Some(mut executor) = self.executors.remove(id) else { return };
        let store: Store = std::mem::take(&mut executor.store);
        if self.scene.mutation.as_ref().is_some_and(|mutation| mutation.kind == Kind::ServeStale) {
            self.stale.insert(id.clone(), store.clone());
        }
        self.end_process(executor.proc, false);
        if let Some(worker) = self.workers.get_mut(&id.worker) {
            worker.executor_ended(id.index, executor.epoch, store, &mut self.scene);
        }
    }

    /// A process ends, with all that was put off for it.
    pub fn end_process(&mut self, proc: Proc, power_lost: bool) {
        self.backlog.remove(&proc);
        let scene = &mut self.scene;
        scene.full_disks.retain(|full| *full != proc);
        scene.check.process_ended(proc);
        scene.net.process_ended(proc, power_lost, &mut scene.agenda, &mut scene.chance);
    }

    fn wake_executor(&mut self, id: &ExecutorId, timer: Timer) {
        let Some(executor) = self.executors.get_mut(id) else { return };
        match timer {
            Timer::SetEpoch(epoch) => {
                executor.set_epoch(epoch, &mut self.scene);
                self.epoch_seed = self.epoch_seed.max(epoch.0);
            }
            Timer::GraceOver(session) => executor.grace_over(session, &mut self.scene),
            Timer::EpochWaited(conn) => executor.epoch_waited(conn, &mut self.scene),
            Timer::Attempt(key, step) => self.attempt_goes_on(id, key, step),
            Timer::Take(number) => {
                let Some((wanted, fetch)) = executor.taken_by(number) else { return };
                let came = self.fetch(self.executors[id].proc, &wanted, fetch);
                let executor = self.executors.get_mut(id).expect("it was just seen");
                executor.take_fetched(number, came, &mut self.scene);
            }
            other => unreachable!("{other:?} is not for executors"),
        }
    }

    fn attempt_goes_on(&mut self, id: &ExecutorId, key: firesteel_base::AttemptKey, step: u64) {
        let executor = &self.executors[id];
        let Some(run) = executor.run_at(&key, step) else { return };
        let wanted = executor.wanted_by(run);
        let came = wanted.map(|(input, wanted, fetch)| {
            let came = self.fetch(executor.proc, &wanted, fetch);
            (input, wanted, came)
        });
        let executor = self.executors.get_mut(id).expect("it was just seen");
        match came {
            Some((input, wanted, came)) => executor.fetched(run, input, &wanted, came, &mut self.scene),
            None => executor.step(run, &mut self.scene),
        }
    }

    fn wake_driver(&mut self, number: u32, timer: Timer) {
        let is_call = matches!(timer, Timer::DriverCall) && self.drivers.contains_key(&number);
        let host = self.driver_hosts.get(&number).copied().unwrap_or(Host(0));
        let manager = if is_call { self.find_manager(host) } else { (Proc(0), Host(0)) };
        let scene = &mut self.scene;
        let Some(driver) = self.drivers.get_mut(&number) else { return };
        match timer {
            Timer::DriverCall => driver.call(manager, scene),
            Timer::DriverTick => {
                scene.wake(driver.proc, DRIVER_TICK, Timer::DriverTick);
                driver.wake(Timer::DriverTick, scene);
            }
            Timer::Read(query, step) => {
                if let Some((wanted, fetch)) = driver.read_next(query, step, scene) {
                    let came = self.fetch(self.drivers[&number].proc, &wanted, fetch);
                    let driver = self.drivers.get_mut(&number).expect("it was just seen");
                    driver.block_read(query, &wanted, came, &mut self.scene);
                }
            }
            timer => driver.wake(timer, scene),
        }
        self.make_calls(number);
        self.mind_launched(number);
    }
}

/// How long an executor may take to answer a driver's greeting.
const ATTACH_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);
/// How often a driver looks at what is due by time. Its shell wakes exactly when something is.
const DRIVER_TICK: std::time::Duration = std::time::Duration::from_millis(500);
