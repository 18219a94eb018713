//! A worker's executors: started, probed, ended, their blocks kept, started again.

use std::time::Duration;

use firesteel_base::{Epoch, Timestamp};
use firesteel_driver::machine::Life;
use firesteel_executor::worker::RestartPolicy;
use firesteel_executor::worker::restart::{Restart, RestartHistory};
use firesteel_manager::machine::message::{ExecutorUp, Usage};

use super::{Worker, down, up};
use crate::channel::Proc;
use crate::world::store::Store;
use crate::world::{Scene, Timer};

const STATUS_INTERVAL: Duration = Duration::from_secs(1);
const SILENCE_MAX: Duration = Duration::from_secs(20);
/// What was committed so short a time before the end may not have been told to the keeper, in milliseconds.
const UNTOLD_MAX: u64 = 20;

/// One of a worker's executors.
#[derive(Debug)]
pub struct Child {
    /// Which of its lives it is.
    pub life: u64,
    /// Its process, while it runs.
    pub proc: Option<Proc>,
    /// Set while it is up.
    pub up: Option<ExecutorUp>,
    /// The epoch of its present life.
    pub epoch: Option<Epoch>,
    /// How its last life ended.
    pub down: Option<(Epoch, String)>,
    /// What it has answered last.
    pub usage: Usage,
    answered: Timestamp,
    history: RestartHistory,
    /// What its last life has left, until the keeper has it.
    left: Option<(Option<Epoch>, Store)>,
}

/// An executor's process that is to be started.
#[derive(Debug)]
pub struct Spawn {
    /// Its number on the worker.
    pub index: u32,
    /// Its cores.
    pub cores: u32,
}

impl Worker {
    pub(super) fn start_children(&mut self, scene: &mut Scene) {
        for index in (0..).take(self.setup.cores.len()) {
            let child = Child {
                life: 0,
                proc: None,
                up: None,
                epoch: None,
                down: None,
                usage: Usage { index, ..Usage::default() },
                answered: Timestamp(0),
                history: RestartHistory::new(RestartPolicy::default()),
                left: None,
            };
            self.children.insert(index, child);
            scene.wake(self.proc, Duration::ZERO, Timer::StartExecutor(index));
        }
    }

    /// An executor is to be started.
    pub fn spawn(&mut self, index: u32) -> Spawn {
        Spawn { index, cores: self.setup.cores[index as usize] }
    }

    /// An executor's process was started.
    pub fn spawned(&mut self, index: u32, proc: Proc, scene: &mut Scene) {
        let child = self.children.get_mut(&index).expect("a child of this worker");
        child.life += 1;
        child.proc = Some(proc);
        scene.wake_within(self.proc, (30, 300), Timer::ExecutorReady(index, child.life));
    }

    /// An executor says that it is ready.
    pub fn ready(&mut self, index: u32, life: u64, scene: &mut Scene) {
        let child = self.children.get_mut(&index).expect("a child of this worker");
        let Some(proc) = child.proc.filter(|_| child.life == life) else { return };
        child.up = Some(up(index, proc));
        (child.epoch, child.down) = (None, None);
        child.answered = scene.agenda.now();
        let event = firesteel_manager::machine::message::WorkerEvent::ExecutorUp(up(index, proc));
        scene.wake(self.proc, STATUS_INTERVAL, Timer::Probe(index, life));
        self.say(event, scene);
    }

    /// Asks an executor how it is. True when it has been silent for too long and is to be killed.
    pub fn probe(&mut self, index: u32, life: u64, scene: &mut Scene) -> bool {
        let child = self.children.get_mut(&index).expect("a child of this worker");
        let Some(proc) = child.proc.filter(|_| child.life == life) else { return false };
        let now = scene.agenda.now();
        if !scene.net.processes.is_frozen(proc) {
            child.answered = now;
        }
        scene.wake(self.proc, STATUS_INTERVAL, Timer::Probe(index, life));
        now - child.answered >= SILENCE_MAX
    }

    /// An executor's process has ended, and has left these blocks.
    pub fn executor_ended(&mut self, index: u32, epoch: Option<Epoch>, mut store: Store, scene: &mut Scene) {
        let child = self.children.get_mut(&index).expect("a child of this worker");
        child.proc = None;
        let told_until = scene.agenda.now().0.saturating_sub(scene.chance.below(UNTOLD_MAX));
        store.forget_since(Timestamp(told_until));
        child.left = Some((epoch, store));
        let life = child.life;
        let after = if scene.chance.percent(10) { (500, 4_900) } else { (5, 100) };
        scene.wake_within(self.proc, after, Timer::TakenOver(index, life));
    }

    /// The keeper has what an executor left: the manager hears of its end, and it is started again.
    pub fn taken_over(&mut self, index: u32, life: u64, scene: &mut Scene) {
        let id = self.executor(index);
        let keeps = self.setup.keeps;
        let child = self.children.get_mut(&index).expect("a child of this worker");
        if child.life != life || child.proc.is_some() {
            return;
        }
        if let Some((Some(epoch), store)) = child.left.take()
            && keeps
            && !store.is_empty()
        {
            self.kept.insert(Life { executor: id, epoch }, store);
        }
        let reason = "its process ended".to_owned();
        let was_up = child.up.take().is_some();
        let epoch = child.epoch.take().unwrap_or_default();
        child.down = Some((epoch, reason.clone()));
        let restart = child.history.ended(scene.agenda.now());
        if was_up {
            self.say(down(index, epoch, &reason), scene);
        }
        match restart {
            Restart::After(delay) => scene.wake(self.proc, delay, Timer::StartExecutor(index)),
            Restart::GiveUp { ends } => {
                scene.tell(self.proc, || format!("gives executor {index} up: it ended {ends} times"));
            }
        }
    }
}
