//! What executors report of attempts. A report of an attempt that is not out there is stale.

use firesteel_base::{AttemptKey, Class, TaskKey, Timestamp, UserError};
use firesteel_shuffle::LaneSizes;

use super::Life;
use super::attempt::{Attempt, AttemptState};
use super::effect::{Effect, Outcome};
use super::failure::{AttemptFailure, Mishap, gave_up};
use super::job::JobMachine;
use super::map_outputs::MapOutput;
use super::task::TaskState;

impl JobMachine {
    pub(super) fn started(&mut self, key: AttemptKey, life: &Life) {
        if let Some(attempt) = self.live_attempt(key, life) {
            attempt.start();
        }
    }

    pub(super) fn progressed(&mut self, key: AttemptKey, life: &Life, rows: u64, bytes: u64) {
        if let Some(attempt) = self.live_attempt(key, life) {
            attempt.rows = attempt.rows.max(rows);
            attempt.bytes = attempt.bytes.max(bytes);
        }
    }

    pub(super) fn finished(
        &mut self,
        key: AttemptKey,
        life: Life,
        lanes: Vec<LaneSizes>,
        now: Timestamp,
        effects: &mut Vec<Effect>,
    ) {
        let Some((position, attempt)) = self.take_attempt(key, &life) else {
            return self.free_stale(key, life, effects);
        };
        match attempt.state {
            AttemptState::Cancelling => effects.push(Effect::FreeAttempt { attempt: key, life }),
            AttemptState::Launched | AttemptState::Started => {
                self.commit(position, MapOutput { producer: key, life, lanes }, effects);
                self.learn_from(now, position, &attempt);
            }
        }
    }

    /// The first attempt to finish is the task's; the others are stopped, and what they write is freed.
    fn commit(&mut self, position: usize, output: MapOutput, effects: &mut Vec<Effect>) {
        let (key, number) = (output.producer, output.producer.task.task);
        self.stages[position].task_mut(number).written = output.total();
        self.outputs.commit(output);
        self.stages[position].set(number, TaskState::Committed);
        self.tell_early_readers(position, number, effects);
        self.cancel_task(position, number, &format!("{key} was first"), effects);
    }

    /// An output that nobody waits for must not stay, unless it is the one that counts and was reported twice, or was before it moved.
    fn free_stale(&mut self, key: AttemptKey, life: Life, effects: &mut Vec<Effect>) {
        let ours = self.position_of(key).is_some() && !self.gone.contains(&life);
        let committed =
            self.outputs.get(key.task).is_some_and(|output| output.producer == key && output.life == life);
        if ours && !committed && !self.drains.lies_behind(key, &life) {
            effects.push(Effect::FreeAttempt { attempt: key, life });
        }
    }

    pub(super) fn failed(
        &mut self,
        now: Timestamp,
        key: AttemptKey,
        life: &Life,
        failure: AttemptFailure,
        effects: &mut Vec<Effect>,
    ) {
        let Some((position, attempt)) = self.take_attempt(key, life) else { return };
        match attempt.state {
            AttemptState::Cancelling => {}
            AttemptState::Launched | AttemptState::Started => {
                self.try_again(position, key.task.task);
                if self.is_of_drain(life, failure.class) {
                    return;
                }
                self.stages[position].failed_attempts += 1;
                self.judge(now, position, key, life, failure, effects);
            }
        }
    }

    /// Whether an attempt may have ended because its worker leaves: it is run again elsewhere, and nobody has failed.
    fn is_of_drain(&self, life: &Life, class: Class) -> bool {
        let may_be = match class {
            Class::Transient | Class::Cancelled => true,
            Class::User | Class::Fetch | Class::Resources => false,
        };
        may_be && self.cluster.is_drained(&life.executor)
    }

    fn judge(
        &mut self,
        now: Timestamp,
        position: usize,
        key: AttemptKey,
        life: &Life,
        failure: AttemptFailure,
        effects: &mut Vec<Effect>,
    ) {
        match (failure.class, failure.lost) {
            (Class::User, _) => self.end(now, Outcome::Failed(failure.error), effects),
            (Class::Fetch, Some(lost)) => {
                self.fetch_failed(now, position, key, &lost, failure.error, effects)
            }
            (Class::Cancelled, _) => {
                // Nobody here asked for it: the executor is about to leave.
                self.shun(position, key.task, life);
                self.count_loss(now, position, key.task, mishap(key, life, failure.error), effects);
            }
            (Class::Fetch, None) | (Class::Transient | Class::Resources, _) => {
                self.shun(position, key.task, life);
                self.count_failure(now, position, key.task, mishap(key, life, failure.error), effects);
            }
        }
    }

    /// Counts a failure against the executor, and keeps the task away from it.
    pub(super) fn shun(&mut self, position: usize, task: TaskKey, life: &Life) {
        let stage = &mut self.stages[position];
        *stage.failures.entry(life.executor.clone()).or_default() += 1;
        stage.task_mut(task.task).avoid = Some(life.executor.clone());
    }

    fn count_failure(
        &mut self,
        now: Timestamp,
        position: usize,
        key: TaskKey,
        mishap: Mishap,
        effects: &mut Vec<Effect>,
    ) {
        let task = self.stages[position].task_mut(key.task);
        task.failures.push(mishap);
        if task.failures.len() >= self.policy.attempts_per_task_max as usize {
            let error = gave_up(key, "failed", &task.failures);
            self.end(now, Outcome::Failed(error), effects);
        }
    }

    pub(super) fn count_loss(
        &mut self,
        now: Timestamp,
        position: usize,
        key: TaskKey,
        mishap: Mishap,
        effects: &mut Vec<Effect>,
    ) {
        let task = self.stages[position].task_mut(key.task);
        task.losses.push(mishap);
        if task.losses.len() >= self.policy.losses_per_task_max as usize {
            let error = gave_up(key, "was lost", &task.losses);
            self.end(now, Outcome::Failed(error), effects);
        }
    }

    /// A task whose attempt has ended needs another, unless one is still out.
    pub(super) fn try_again(&mut self, position: usize, number: u32) {
        let stage = &mut self.stages[position];
        let task = stage.task_mut(number);
        if task.state == TaskState::Running && !task.has_counting_attempt() {
            stage.set(number, TaskState::Pending);
        }
    }

    fn live_attempt(&mut self, key: AttemptKey, life: &Life) -> Option<&mut Attempt> {
        let position = self.position_of(key)?;
        let task = self.stages[position].task_mut(key.task.task);
        task.live.iter_mut().find(|attempt| attempt.key == key && attempt.life == *life)
    }

    /// The attempt has ended: it is out no more, and its slot is idle.
    fn take_attempt(&mut self, key: AttemptKey, life: &Life) -> Option<(usize, Attempt)> {
        let position = self.position_of(key)?;
        let live = &mut self.stages[position].task_mut(key.task.task).live;
        let index = live.iter().position(|attempt| attempt.key == key && attempt.life == *life)?;
        let attempt = live.remove(index);
        self.leases.vacate(attempt.lease, key);
        Some((position, attempt))
    }
}

pub(super) fn mishap(key: AttemptKey, life: &Life, error: UserError) -> Mishap {
    Mishap { attempt: key.number(), executor: life.executor.clone(), error }
}
