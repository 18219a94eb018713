//! Workers that are drained: nothing is begun there, and map outputs that lie there and are still needed move.
//!
//! ```text
//!              a taker is free                taken                              the drain is taken back
//!   held there ----------------> moving --------------> held by the taker; readers ------------------> freed there
//!       ^                          |                    are told, and find it at both
//!       +---- refused, taker gone -+
//! ```
//!
//! A move is the driver's to order, for it alone knows what is still read: the taker fetches the blocks as they are, from
//! wherever they lie, and holds them under the name of the attempt that wrote them. Where it was it stays until its executor
//! ends, so that who reads there reads on. Attempts that are lost with a worker that is drained are run again and count as
//! nobody's failures: nothing is launched there any more, so that cannot go on for ever.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use firesteel_base::{AttemptKey, ExecutorId, TaskKey, WorkerId};

use super::Life;
use super::attempt::Attempt;
use super::cluster::Arrival;
use super::effect::Effect;
use super::job::{JobMachine, JobState};
use super::map_outputs::MapOutput;
use super::stage::Stage;

/// What a job has at a worker that is drained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LeftThere {
    /// Attempts that run there.
    pub attempts: u32,
    /// Map outputs that are needed and lie there.
    pub outputs: u32,
    /// Bytes of these.
    pub bytes: u64,
}

/// What a job knows of drained workers.
#[derive(Debug, Default)]
pub(super) struct Drains {
    moves: BTreeMap<TaskKey, Move>,
    /// Lives that could not take an output.
    refused: BTreeMap<AttemptKey, BTreeSet<Life>>,
    /// Where outputs still lie that are held elsewhere.
    behind: Vec<(AttemptKey, Life)>,
    /// What the manager was told of each worker last.
    told: BTreeMap<WorkerId, LeftThere>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Move {
    producer: AttemptKey,
    from: Life,
    to: Life,
}

impl Drains {
    /// The manager knows nothing of what it was told.
    pub fn forget_told(&mut self) {
        self.told.clear();
    }

    /// A life is over, or out of reach: what it was to take goes elsewhere.
    pub fn forget_taker(&mut self, life: &Life) {
        self.moves.retain(|_, moving| moving.to != *life);
        self.behind.retain(|(_, held)| held != life);
    }

    /// Whether an output that is held elsewhere lies there too.
    pub fn lies_behind(&self, producer: AttemptKey, life: &Life) -> bool {
        self.behind.iter().any(|(attempt, at)| *attempt == producer && at == life)
    }

    /// Frees an output wherever it lies beside its holder: it is given up.
    pub fn free_copies(&mut self, producer: AttemptKey, effects: &mut Vec<Effect>) {
        let copies = self.behind.extract_if(.., |(attempt, _)| *attempt == producer);
        effects.extend(copies.map(|(attempt, life)| Effect::FreeAttempt { attempt, life }));
    }

    fn has_refused(&self, producer: &AttemptKey, life: &Life) -> bool {
        self.refused.get(producer).is_some_and(|refused| refused.contains(life))
    }
}

impl JobMachine {
    /// These workers are drained now.
    pub(super) fn draining(&mut self, workers: BTreeSet<WorkerId>, effects: &mut Vec<Effect>) {
        if self.cluster.drain(workers) {
            self.drains.refused.clear();
        }
        self.drains.told.retain(|worker, _| self.cluster.drained().contains(worker));
        self.free_behind(effects);
    }

    /// These executors are up, and those are not any more.
    pub(super) fn cluster_changed(
        &mut self,
        came: Vec<Arrival>,
        gone: &[ExecutorId],
        effects: &mut Vec<Effect>,
    ) {
        self.cluster.change(came, gone, |life| self.gone.contains(life));
        self.free_behind(effects);
    }

    /// Outputs that are held elsewhere need not stay at workers that stay. One may have been taken when the drain was taken back already.
    fn free_behind(&mut self, effects: &mut Vec<Effect>) {
        let need_not_stay = |(_, life): &mut (AttemptKey, Life)| !self.cluster.is_drained(&life.executor);
        let free = self.drains.behind.extract_if(.., need_not_stay);
        effects.extend(free.map(|(attempt, life)| Effect::FreeAttempt { attempt, life }));
    }

    /// Whether all executors that are up are drained, and some task waits for one.
    pub(super) fn waits_for_the_drained(&self) -> bool {
        let waits = |stage: &Stage| stage.state.launches() && !stage.pending().is_empty();
        self.cluster.is_all_drained() && self.stages.iter().any(waits)
    }

    /// Has outputs moved that lie where they cannot stay, and tells the manager what is left there.
    pub(super) fn clear_drained(&mut self, effects: &mut Vec<Effect>) {
        if self.cluster.drained().is_empty() && self.drains.moves.is_empty() {
            return;
        }
        self.drop_moves(effects);
        self.begin_moves(effects);
        for worker in self.cluster.drained().clone() {
            let left = self.left_at(&worker);
            if self.drains.told.get(&worker) != Some(&left) {
                self.drains.told.insert(worker.clone(), left);
                effects.push(Effect::Left { worker, left });
            }
        }
    }

    /// What nobody needs any more need not be taken.
    fn drop_moves(&mut self, effects: &mut Vec<Effect>) {
        let outputs = &self.outputs;
        let is_over = |task: &TaskKey, moving: &mut Move| {
            let held = outputs.get(*task);
            held.is_none_or(|held| held.producer != moving.producer || held.life != moving.from)
        };
        for (_, Move { producer: attempt, to: life, .. }) in self.drains.moves.extract_if(.., is_over) {
            effects.push(Effect::FreeAttempt { attempt, life });
        }
    }

    fn begin_moves(&mut self, effects: &mut Vec<Effect>) {
        for output in self.outputs.held_where(|life| self.cluster.is_drained(&life.executor)) {
            if self.drains.moves.len() >= self.policy.moves_at_a_time_max {
                return;
            }
            let task = output.producer.task;
            if self.drains.moves.contains_key(&task) {
                continue;
            }
            let (producer, from) = (output.producer, output.life.clone());
            let may_take = |life: &Life| !self.drains.has_refused(&producer, life);
            let Some(to) = self.cluster.taker(may_take).cloned() else { continue };
            self.cluster.ask(&to, output.total().bytes);
            self.drains.moves.insert(task, Move { producer, from, to: to.clone() });
            self.used.insert(to.clone());
            effects.push(Effect::TakeOutput { output, life: to });
        }
    }

    /// A life holds an output that it was asked to take. One that was not waited for any more is freed.
    pub(super) fn output_taken(&mut self, producer: AttemptKey, life: Life, effects: &mut Vec<Effect>) {
        let is_it = |moving: &&Move| moving.producer == producer && moving.to == life;
        let Some(moving) = self.drains.moves.get(&producer.task).filter(is_it).cloned() else {
            let is_held =
                self.outputs.get(producer.task).is_some_and(|o| o.producer == producer && o.life == life);
            if !is_held && self.position_of(producer).is_some() && !self.gone.contains(&life) {
                effects.push(Effect::FreeAttempt { attempt: producer, life });
            }
            return;
        };
        self.drains.moves.remove(&producer.task);
        let is_held = |output: &&Arc<MapOutput>| output.producer == producer && output.life == moving.from;
        if self.outputs.get(producer.task).filter(is_held).is_none() {
            return effects.push(Effect::FreeAttempt { attempt: producer, life });
        }
        let output = self.outputs.relocate(producer.task, life);
        self.drains.behind.push((producer, moving.from));
        self.tell_moved(&output, effects);
    }

    /// A life could not take an output: another may.
    pub(super) fn output_not_taken(&mut self, producer: AttemptKey, life: Life) {
        let is_it = |moving: &Move| moving.producer == producer && moving.to == life;
        if self.drains.moves.get(&producer.task).is_some_and(is_it) {
            self.drains.moves.remove(&producer.task);
            self.drains.refused.entry(producer).or_default().insert(life);
        }
    }

    /// An output whose holder is lost, or may be, is read where it was before, when that is still there. False when it is not.
    pub(super) fn fall_back(&mut self, task: TaskKey, effects: &mut Vec<Effect>) -> bool {
        let Some(lost) = self.outputs.get(task).filter(|_| self.is_active()) else { return false };
        let is_copy =
            |(producer, life): &(AttemptKey, Life)| *producer == lost.producer && *life != lost.life;
        let Some(at) = self.drains.behind.iter().position(is_copy) else { return false };
        let (_, life) = self.drains.behind.swap_remove(at);
        let output = self.outputs.relocate(task, life);
        self.tell_moved(&output, effects);
        true
    }

    /// Whoever was told the place before is told the new one.
    fn tell_moved(&mut self, output: &Arc<MapOutput>, effects: &mut Vec<Effect>) {
        let position = self.position_of(output.producer).expect("an output of this job");
        let consumers = self.stages[position].consumers.clone();
        let readers = consumers.iter().flat_map(|&consumer| &self.stages[consumer].tasks);
        let lives: BTreeSet<Life> = readers.flat_map(|task| &task.live).map(|a| a.life.clone()).collect();
        effects.push(Effect::OutputMoved { output: Arc::clone(output), lives: lives.into_iter().collect() });
        for consumer in consumers {
            if self.stages[consumer].state.launches() {
                self.locate_inputs(consumer);
            }
        }
        if position == self.result_position() && self.state == JobState::Delivering {
            effects.push(Effect::ResultReady(self.outputs.list(output.producer.stage()).to_vec()));
        }
    }

    /// What the job has at a worker.
    #[must_use]
    pub fn left_at(&self, worker: &WorkerId) -> LeftThere {
        let is_there = |life: &Life| life.executor.worker == *worker;
        let live = self.stages.iter().flat_map(|stage| &stage.tasks).flat_map(|task| &task.live);
        let attempts = live.filter(|attempt: &&Attempt| is_there(&attempt.life)).count();
        let outputs = self.outputs.held_where(is_there);
        LeftThere {
            attempts: u32::try_from(attempts).unwrap_or(u32::MAX),
            outputs: u32::try_from(outputs.len()).unwrap_or(u32::MAX),
            bytes: outputs.iter().map(|output| output.total().bytes).sum(),
        }
    }
}
