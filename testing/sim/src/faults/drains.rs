//! Workers that are drained, by order or by a signal, and are started again once they have left.

use std::time::Duration;

use firesteel_base::{ExecutorId, WorkerId};
use firesteel_driver::machine::LeftThere;
use firesteel_manager::machine::message::ClientRequest;

use super::Fault;
use crate::chance::Chance;
use crate::world::executor::Executor;
use crate::world::worker::Setup;
use crate::world::{Due, World};

/// How long after the start workers are drained, in milliseconds.
const WHEN: (u64, u64) = (300, 12_000);
/// How long what is left may take, in milliseconds.
const DEADLINES: (u64, u64) = (500, 25_000);
const TAKEN_BACK_AFTER: (u64, u64) = (1, 4_000);
const SIGNAL_LIMIT: Duration = Duration::from_secs(30);
/// How long a worker that has left is away, in milliseconds.
const AWAY: (u64, u64) = (100, 5_000);
const DRAINS_MAX: u64 = 3;
/// A seed of its own: worlds without a drain are as they were.
const OWN_CHANCE: u64 = 0xd8a1;

/// How a worker is drained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// As rolling restarts do it: others go on, and nothing is given up.
    Gently,
    /// By an order with a deadline, whoever is left.
    Until(Duration),
    /// By a signal to its process.
    Signal,
}

/// Draws who is drained, and when.
pub fn draw(seed: u64, is_calm: bool) -> Vec<(Duration, Fault)> {
    let mut chance = Chance::new(seed ^ OWN_CHANCE);
    if !chance.percent(40) {
        return Vec::new();
    }
    let drains = chance.between(1, DRAINS_MAX);
    let mut one = || {
        let how = match chance.below(4) {
            _ if is_calm => How::Gently,
            0 | 1 => How::Gently,
            2 => How::Until(chance.millis(DEADLINES.0, DEADLINES.1)),
            _ => How::Signal,
        };
        (chance.millis(WHEN.0, WHEN.1), Fault::Drained(how))
    };
    (0..drains).map(|_| one()).collect()
}

impl World {
    pub(super) fn drain(&mut self, how: How) {
        let workers: Vec<WorkerId> = self.workers.keys().cloned().collect();
        let may = |worker: &WorkerId| how != How::Gently || self.is_dispensable(worker);
        let workers: Vec<WorkerId> = workers.into_iter().filter(may).collect();
        let Some(worker) = self.scene.chance.pick(&workers) else { return };
        self.scene.tell_world(|| format!("{worker} is to be drained: {how:?}"));
        let deadline = match how {
            How::Gently => None,
            How::Until(span) => Some(span),
            How::Signal => {
                let proc = self.workers[&worker].proc;
                if !self.scene.net.processes.is_frozen(proc) {
                    let worker = self.workers.get_mut(&worker).expect("it was just seen");
                    worker.asked_to_stop(SIGNAL_LIMIT, &mut self.scene);
                }
                return;
            }
        };
        let force = how != How::Gently;
        self.ask_manager(ClientRequest::Drain { worker: worker.clone(), deadline, force });
        if self.scene.chance.percent(25) {
            let after = self.scene.chance.millis(TAKEN_BACK_AFTER.0, TAKEN_BACK_AFTER.1);
            self.scene.agenda.after(after, Due::Fault(Fault::DrainTakenBack(worker)));
        }
    }

    /// Whether another worker, that stays, has as large executors as there are.
    fn is_dispensable(&self, worker: &WorkerId) -> bool {
        let Some(manager) = self.manager() else { return false };
        let largest = |setup: &Setup| setup.cores.iter().max().copied().unwrap_or(0);
        let all = self.setups.values().map(largest).max();
        let stays = |id: &&WorkerId| *id != worker && manager.machine().drains().get(id).is_none();
        self.workers.keys().filter(stays).any(|id| Some(largest(&self.setups[id])) == all)
    }

    pub(super) fn ask_manager(&mut self, request: ClientRequest) {
        if let Some((manager, scene)) = self.manager_at_hand() {
            manager.ask(request, scene);
        }
    }

    /// A worker that was drained ends, once it may.
    pub fn let_leave(&mut self, id: &WorkerId) {
        let Some(worker) = self.workers.get_mut(id) else { return };
        let Some(is_let_go) = worker.leaves(&self.scene) else { return };
        worker.say_goodbye(&mut self.scene);
        let (proc, setup) = (worker.proc, worker.setup.clone());
        self.scene.tell(proc, || format!("leaves; nothing of it is needed: {is_let_go}"));
        if is_let_go {
            self.check_let_go(id);
            self.scene.check.counts.drained += 1;
        }
        self.end_worker(id, false);
        let after = self.scene.chance.millis(AWAY.0, AWAY.1);
        self.scene.agenda.after(after, Due::Fault(Fault::WorkerBack(Box::new(setup))));
    }

    /// Of a worker that the manager lets go no job that it knows needs anything that is there. A driver that was cut off for long may
    /// still count on what its executors have freed since.
    fn check_let_go(&mut self, id: &WorkerId) {
        let Some(manager) = self.manager() else { return };
        let is_kept = self.workers.get(id).is_some_and(|worker| !worker.kept.is_empty());
        let holds =
            |(executor, has): (&ExecutorId, &Executor)| executor.worker == *id && !has.jobs().is_empty();
        if !is_kept && !self.executors.iter().any(holds) {
            return;
        }
        let is_live = |job| manager.machine().jobs(false).iter().any(|live| live.id == job);
        let mut needed = Vec::new();
        for (number, driver) in &self.drivers {
            for (query, running) in &driver.queries {
                let Some(machine) = &running.machine else { continue };
                let left = machine.left_at(id);
                if left != LeftThere::default() && running.manager_job.is_some_and(is_live) {
                    needed.push(format!("q{query} of d{number} still has {left:?}"));
                }
            }
        }
        if !needed.is_empty() {
            let needed = needed.join(", ");
            self.scene.check.violated(format!("{id} is let go, where {needed}"));
        }
    }
}
