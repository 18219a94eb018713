//! Faults come to those whom they hit.

use std::time::Duration;

use firesteel_base::{ExecutorId, WorkerId};
use firesteel_manager::machine::message::ClientRequest;

use super::Fault;
use crate::channel::{Host, Party, Proc};
use crate::world::worker::Setup;
use crate::world::{Due, World, manager_host};

/// How long a cut or a stop lasts, in milliseconds: some end before anybody gives up, some after all have.
pub(super) const LASTS: [(u64, u64); 3] = [(50, 3_000), (3_000, 16_000), (16_000, 45_000)];
const MANAGER_AWAY: (u64, u64) = (200, 40_000);
const WORKER_AWAY: (u64, u64) = (500, 30_000);
/// How far a clock jumps, in milliseconds.
const JUMPS: (u64, u64) = (1_000, 40_000);

impl World {
    /// Something goes wrong, or well again.
    pub fn befall(&mut self, fault: Fault) {
        match fault {
            Fault::DriverStarts => self.start_driver(),
            Fault::ExecutorKilled => {
                if let Some(id) = self.draw_executor() {
                    self.befall(Fault::Kill(id));
                }
            }
            Fault::Kill(id) => {
                self.scene.tell_world(|| format!("executor {id} is killed"));
                self.end_executor(&id);
            }
            Fault::WorkerKilled => self.kill_worker(),
            Fault::WorkerBack(setup) => self.worker_back(*setup),
            Fault::ManagerKilled => self.kill_manager(),
            Fault::ManagerBack(member) => self.start_manager(member),
            Fault::LeaderFrozen => self.freeze_leader(),
            Fault::LeaderIsolated => self.isolate_leader(),
            Fault::JournalFails => {
                self.scene.tell_world(|| "the next write of the journal fails".to_owned());
                self.scene.journal.fails = true;
            }
            Fault::DriverKilled => self.kill_driver(),
            Fault::LaunchedKilled => self.kill_launched(),
            Fault::LaunchedIsolated => self.isolate_launched(),
            Fault::ClientComes(sql) => self.start_client(sql),
            Fault::ConnectionBroken => self.break_connection(),
            Fault::Cut => self.cut(),
            Fault::Isolated => self.isolate(),
            Fault::Healed(one, other) => {
                let scene = &mut self.scene;
                scene.tell_world(|| format!("{one} and {other} may reach each other again"));
                scene.net.heal(one, other, &mut scene.agenda, &mut scene.chance);
            }
            Fault::Frozen => self.freeze(),
            Fault::Thawed(proc) => self.thaw(proc),
            Fault::Slow => self.slow_down(),
            Fault::Fast(host) => self.scene.slow.retain(|(slow, _)| *slow != host),
            Fault::BlockLost => self.spoil_block(false),
            Fault::BlockCorrupt => self.spoil_block(true),
            Fault::DiskFull => self.fill_disk(),
            Fault::DiskFreed(proc) => self.scene.full_disks.retain(|full| *full != proc),
            Fault::ClockJumped => self.jump_clock(),
            Fault::AttemptsFail => self.let_attempts_fail(),
            Fault::AttemptsWork => self.scene.attempt_faults = 0,
            Fault::KeeperForgets => self.let_keeper_forget(),
            Fault::JobCancelled => self.cancel_job(),
            Fault::Drained(how) => self.drain(how),
            Fault::DrainTakenBack(worker) => self.ask_manager(ClientRequest::Undrain { worker }),
        }
    }

    fn later(&mut self, (low, high): (u64, u64), fault: Fault) -> Duration {
        let after = self.scene.chance.millis(low, high);
        self.scene.agenda.after(after, Due::Fault(fault));
        after
    }

    fn draw_span(&mut self) -> (u64, u64) {
        self.scene.chance.pick(&LASTS).expect("there are spans")
    }

    fn draw_executor(&mut self) -> Option<ExecutorId> {
        let all: Vec<ExecutorId> = self.executors.keys().cloned().collect();
        self.scene.chance.pick(&all)
    }

    fn draw_process(&mut self) -> Option<(Proc, Party)> {
        let all: Vec<(Proc, Party)> =
            self.scene.net.processes.all().map(|(proc, party)| (proc, party.clone())).collect();
        self.scene.chance.pick(&all)
    }

    fn kill_worker(&mut self) {
        let all: Vec<Setup> = self.workers.values().map(|worker| worker.setup.clone()).collect();
        let Some(setup) = self.scene.chance.pick(&all) else { return };
        let power_lost = self.scene.chance.percent(40);
        let how = if power_lost { "its host loses power" } else { "it is killed" };
        self.scene.tell_world(|| format!("worker {} ends: {how}", setup.id));
        self.end_worker(&setup.id, power_lost);
        self.later(WORKER_AWAY, Fault::WorkerBack(Box::new(setup)));
    }

    /// A worker's process ends, and its executors' with it.
    pub(super) fn end_worker(&mut self, id: &WorkerId, power_lost: bool) {
        let Some(worker) = self.workers.remove(id) else { return };
        self.end_process(worker.proc, power_lost);
        // A driver whose standard input ends says nothing more.
        for number in worker.drivers.processes() {
            if let Some(driver) = self.drivers.remove(&number) {
                self.end_process(driver.proc, power_lost);
            }
        }
        let children: Vec<ExecutorId> =
            self.executors.keys().filter(|executor| executor.worker == *id).cloned().collect();
        for id in children {
            if let Some(executor) = self.executors.remove(&id) {
                self.end_process(executor.proc, power_lost);
            }
        }
    }

    fn worker_back(&mut self, setup: Setup) {
        if !self.workers.contains_key(&setup.id) {
            self.start_worker(setup);
        }
    }

    fn kill_manager(&mut self) {
        let runs = |member: &u32| self.scene.net.processes.of(&Party::Manager(*member)).is_some();
        let running: Vec<u32> = (0..self.members).filter(runs).collect();
        let killed =
            if self.members > 1 { self.scene.chance.pick(&running) } else { running.first().copied() };
        if let Some(member) = killed {
            self.scene.tell_world(|| format!("{} is killed", Party::Manager(member)));
            self.end_manager(member);
        }
    }

    /// A manager's process ends, and is started again later.
    pub fn end_manager(&mut self, member: u32) {
        self.managers.remove(&member);
        if let Some(proc) = self.scene.net.processes.of(&Party::Manager(member)) {
            self.end_process(proc, false);
        }
        self.manager_was_restarted = true;
        // Milliseconds of the unix clock are above all that were given out.
        self.epoch_seed += 10_000;
        self.later(MANAGER_AWAY, Fault::ManagerBack(member));
    }

    fn kill_driver(&mut self) {
        let all: Vec<u32> = self.drivers.keys().copied().collect();
        if let Some(number) = self.scene.chance.pick(&all) {
            self.kill_driver_of(number);
        }
    }

    pub(super) fn kill_driver_of(&mut self, number: u32) {
        self.scene.tell_world(|| format!("driver d{number} is killed"));
        self.end_driver(number, Err("the driver ended with signal: 9 (SIGKILL)".to_owned()));
    }

    fn break_connection(&mut self) {
        let open = self.scene.net.open();
        let Some(conn) = self.scene.chance.pick(&open) else { return };
        let scene = &mut self.scene;
        let name = |side| {
            let proc = scene.net.process_at(conn, side)?;
            scene.net.processes.party(proc).map(ToString::to_string)
        };
        let names = (name(0).unwrap_or_default(), name(1).unwrap_or_default());
        scene.tell_world(|| format!("the connection from {} to {} breaks", names.0, names.1));
        scene.net.snap(conn, &mut scene.agenda, &mut scene.chance);
    }

    pub(super) fn hosts(&self) -> Vec<Host> {
        let workers = self.setups.values().map(|setup| setup.host);
        let drivers = self.drivers.keys().filter_map(|number| self.driver_hosts.get(number).copied());
        let managers = (0..self.members).map(manager_host);
        let clients = self.client_hosts.iter().copied();
        let mut hosts: Vec<Host> = managers.chain(workers).chain(drivers).chain(clients).collect();
        hosts.sort_unstable();
        hosts.dedup();
        hosts
    }

    fn cut(&mut self) {
        let hosts = self.hosts();
        let (one, other) = (self.scene.chance.pick(&hosts), self.scene.chance.pick(&hosts));
        let span = self.draw_span();
        if let (Some(one), Some(other)) = (one, other)
            && one != other
        {
            self.cut_pair(one, other, span);
        }
    }

    fn isolate(&mut self) {
        let hosts = self.hosts();
        let Some(one) = self.scene.chance.pick(&hosts) else { return };
        let (low, high) = self.draw_span();
        let span = self.scene.chance.between(low, high);
        for other in hosts.into_iter().filter(|other| *other != one) {
            self.cut_pair(one, other, (span, span));
        }
    }

    pub(super) fn cut_pair(&mut self, one: Host, other: Host, span: (u64, u64)) {
        let lasts = self.later(span, Fault::Healed(one, other));
        let scene = &mut self.scene;
        scene.tell_world(|| format!("{one} and {other} cannot reach each other for {lasts:?}"));
        scene.net.cut(one, other, &mut scene.agenda, &mut scene.chance);
    }

    fn freeze(&mut self) {
        if let Some((proc, _)) = self.draw_process() {
            self.freeze_process(proc);
        }
    }

    pub(super) fn freeze_process(&mut self, proc: Proc) {
        let Some(party) = self.scene.net.processes.party(proc).cloned() else { return };
        let span = self.draw_span();
        let lasts = self.later(span, Fault::Thawed(proc));
        let scene = &mut self.scene;
        scene.tell_world(|| format!("{party} is stopped for {lasts:?}"));
        scene.net.processes.freeze(proc);
        scene.net.frozen(proc, &mut scene.agenda, &mut scene.chance);
    }

    fn thaw(&mut self, proc: Proc) {
        let scene = &mut self.scene;
        if !scene.net.processes.lives(proc) {
            return;
        }
        scene.net.processes.thaw(proc);
        if !scene.net.processes.is_frozen(proc) {
            scene.tell(proc, || "goes on".to_owned());
            self.resume(proc);
            let scene = &mut self.scene;
            scene.net.thawed(proc, &mut scene.agenda, &mut scene.chance);
        }
    }

    fn slow_down(&mut self) {
        let hosts: Vec<Host> = self.setups.values().map(|setup| setup.host).collect();
        let Some(host) = self.scene.chance.pick(&hosts) else { return };
        let times = self.scene.chance.between(3, 30);
        self.scene.tell_world(|| format!("{host} is {times} times slower"));
        self.scene.slow.push((host, times));
        self.later((2_000, 20_000), Fault::Fast(host));
    }

    /// A committed output is lost or spoilt, without anybody being told.
    fn spoil_block(&mut self, is_corrupt: bool) {
        let held = self
            .executors
            .iter()
            .flat_map(|(id, executor)| executor.store.keys().into_iter().map(move |key| (id.clone(), key)));
        let held: Vec<_> = held.collect();
        let Some((id, key)) = self.scene.chance.pick(&held) else { return };
        let how = if is_corrupt { "corrupt" } else { "lost" };
        self.scene.tell_world(|| format!("what {key} wrote at {id} is {how}"));
        let store = &mut self.executors.get_mut(&id).expect("it was just seen").store;
        match store.get_mut(&key) {
            Some(stored) if is_corrupt => stored.is_corrupt = true,
            _ => store.free_attempt(&key),
        }
    }

    fn fill_disk(&mut self) {
        let Some(id) = self.draw_executor() else { return };
        let proc = self.executors[&id].proc;
        self.scene.tell_world(|| format!("the disk of {id} is full"));
        self.scene.full_disks.push(proc);
        self.later((500, 8_000), Fault::DiskFreed(proc));
    }

    fn jump_clock(&mut self) {
        let Some((proc, party)) = self.draw_process() else { return };
        let span = self.scene.chance.millis(JUMPS.0, JUMPS.1);
        self.scene.tell_world(|| format!("the clock of {party} jumps ahead by {span:?}"));
        self.scene.net.processes.jump(proc, span);
    }

    fn let_attempts_fail(&mut self) {
        let percent = self.scene.chance.between(5, 40);
        self.scene.tell_world(|| format!("{percent} of 100 attempts fail"));
        self.scene.attempt_faults = percent;
        self.later((500, 6_000), Fault::AttemptsWork);
    }

    fn let_keeper_forget(&mut self) {
        let keeping: Vec<_> =
            self.workers.iter().filter(|(_, w)| !w.kept.is_empty()).map(|(id, _)| id.clone()).collect();
        let Some(id) = self.scene.chance.pick(&keeping) else { return };
        self.scene.tell_world(|| format!("the keeper of {id} loses all that it keeps"));
        self.workers.get_mut(&id).expect("it was just seen").kept.clear();
    }

    fn cancel_job(&mut self) {
        let live = |manager: &crate::world::manager::Manager| {
            manager.machine().jobs(false).iter().map(|job| job.id).collect::<Vec<_>>()
        };
        let jobs = self.manager().map(live).unwrap_or_default();
        let Some(job) = self.scene.chance.pick(&jobs) else { return };
        self.scene.tell_world(|| format!("somebody cancels {job}"));
        self.scene.check.job_cancelled(job);
        self.ask_manager(ClientRequest::Cancel { job });
    }
}
