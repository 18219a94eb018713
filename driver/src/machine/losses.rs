//! What is gone: executors, connections, blocks. What was lost is run again only when somebody still reads it; that
//! is not decided here but by [`schedule`](super::schedule), from what is wanted and what is there.

use std::collections::BTreeSet;
use std::sync::Arc;

use firesteel_base::{AttemptKey, TaskKey, Timestamp, UserError};

use super::Life;
use super::attempt::Attempt;
use super::effect::{Effect, Outcome};
use super::failure::LostBlock;
use super::job::JobMachine;
use super::map_outputs::MapOutput;
use super::reports::mishap;
use super::task::TaskState;

impl JobMachine {
    pub(super) fn executor_gone(
        &mut self,
        now: Timestamp,
        life: Life,
        reason: &str,
        blocks_kept: bool,
        effects: &mut Vec<Effect>,
    ) {
        self.gone.insert(life.clone());
        self.used.remove(&life);
        self.cluster.end_life(&life);
        self.drains.forget_taker(&life);
        // The manager, who says it, has ended these leases itself.
        self.leases.drop_life(&life);
        self.lose_life(now, &life, reason, blocks_kept, effects);
    }

    pub(super) fn link_lost(
        &mut self,
        now: Timestamp,
        life: &Life,
        reason: &str,
        blocks_kept: bool,
        effects: &mut Vec<Effect>,
    ) {
        for (lease, tasks) in self.leases.drop_life(life) {
            effects.push(Effect::ReleaseSlots { lease, tasks });
        }
        self.cluster.lose_link(life);
        self.drains.forget_taker(life);
        if !self.cluster.is_drained(&life.executor) {
            self.shun_life(life);
        }
        self.lose_life(now, life, reason, blocks_kept, effects);
    }

    /// What ran there goes elsewhere, if it can: the executor may be up and still out of reach from here.
    fn shun_life(&mut self, life: &Life) {
        for position in 0..self.stages.len() {
            let on_life = |attempt: &Attempt| attempt.life == *life && attempt.counts();
            let tasks = &self.stages[position].tasks;
            let hit: Vec<_> = (0..self.stages[position].plan.tasks())
                .filter(|&number| tasks[number as usize].live.iter().any(on_life))
                .collect();
            for number in hit {
                self.shun(position, self.stages[position].task_key(self.job, number), life);
            }
        }
    }

    /// Whatever ran there is lost; so is what it holds, unless that is kept by somebody else.
    fn lose_life(
        &mut self,
        now: Timestamp,
        life: &Life,
        reason: &str,
        blocks_kept: bool,
        effects: &mut Vec<Effect>,
    ) {
        if blocks_kept {
            self.in_doubt.insert(life.clone());
        }
        for task in self.outputs.held_by(life) {
            if !self.fall_back(task, effects) && !blocks_kept {
                self.lose_output(task);
            }
        }
        for position in 0..self.stages.len() {
            for number in 0..self.stages[position].plan.tasks() {
                self.lose_attempts(now, position, number, life, reason, effects);
            }
        }
    }

    fn lose_attempts(
        &mut self,
        now: Timestamp,
        position: usize,
        number: u32,
        life: &Life,
        reason: &str,
        effects: &mut Vec<Effect>,
    ) {
        let task = self.stages[position].task_mut(number);
        let lost: Vec<_> = task.live.extract_if(.., |attempt| attempt.life == *life).collect();
        self.try_again(position, number);
        if self.cluster.is_drained(&life.executor) {
            return;
        }
        for attempt in lost.into_iter().filter(Attempt::counts) {
            let error = UserError::new(format!("{} was lost with {life}: {reason}", attempt.key));
            self.count_loss(now, position, attempt.key.task, mishap(attempt.key, life, error), effects);
        }
    }

    /// A task of the stage at `position` could not read a block: what wrote it must be run again.
    pub(super) fn fetch_failed(
        &mut self,
        now: Timestamp,
        position: usize,
        reader: AttemptKey,
        lost: &LostBlock,
        error: UserError,
        effects: &mut Vec<Effect>,
    ) {
        let task = self.stages[position].task_mut(reader.task.task);
        task.fetch_failures += 1;
        if task.fetch_failures > self.policy.fetch_failures_per_task_max {
            let count = task.fetch_failures;
            let told = format!("task {} could not read its input {count} times", reader.task);
            return self.end(now, Outcome::Failed(beside(error, &told)), effects);
        }
        // Its reader had not heard yet where it has moved to.
        let is_elsewhere = |output: &MapOutput| output.producer == lost.producer && output.life != lost.life;
        if !self.outputs.get(lost.producer.task).is_some_and(|output| is_elsewhere(output)) {
            self.distrust(now, lost.producer, &error, effects);
        }
    }

    /// A block of the result could not be read. What was handed out cannot be taken back.
    pub(super) fn result_unreadable(
        &mut self,
        now: Timestamp,
        producer: AttemptKey,
        error: &UserError,
        effects: &mut Vec<Effect>,
    ) {
        if !self.is_active() {
            return;
        }
        if self.reading.partly && producer.task.task == self.reading.tasks_read {
            let told =
                format!("a part of what {producer} computed was handed out already, so it is not run again");
            return self.end(now, Outcome::Failed(beside(error.clone(), &told)), effects);
        }
        self.distrust(now, producer, error, effects);
    }

    /// Gives up the output of `producer`, if it is the one that counts; and all that its holder has, when that was
    /// unreadable too often.
    fn distrust(
        &mut self,
        now: Timestamp,
        producer: AttemptKey,
        error: &UserError,
        effects: &mut Vec<Effect>,
    ) {
        let Some(position) = self.position_of(producer) else { return };
        let Some(life) =
            self.outputs.get(producer.task).filter(|o| o.producer == producer).map(|o| o.life.clone())
        else {
            return;
        };
        if self.stages[position].available() {
            self.stages[position].reruns += 1;
        }
        if self.stages[position].reruns > self.policy.reruns_per_stage_max {
            let told =
                format!("blocks of {} could not be read too often", self.stages[position].key(self.job));
            return self.end(now, Outcome::Failed(beside(error.clone(), &told)), effects);
        }
        let unreadable = self.outputs.count_unreadable(&life);
        let is_doomed =
            self.in_doubt.contains(&life) || unreadable >= self.policy.fetch_failures_per_executor_max;
        let doomed = if is_doomed { self.outputs.held_by(&life) } else { vec![producer.task] };
        for task in doomed {
            self.drop_output(task, effects);
        }
    }

    /// Gives up an output whose holder is still there.
    fn drop_output(&mut self, task: TaskKey, effects: &mut Vec<Effect>) {
        if let Some(output) = self.lose_output(task) {
            effects.push(Effect::FreeAttempt { attempt: output.producer, life: output.life.clone() });
            self.drains.free_copies(output.producer, effects);
            let position = self.position_of(output.producer).expect("an output of this job");
            self.stages[position].task_mut(task.task).avoid = Some(output.life.executor.clone());
        }
    }

    /// Forgets an output; what was read to the end is not missed.
    fn lose_output(&mut self, task: TaskKey) -> Option<Arc<MapOutput>> {
        let output = self.outputs.remove(task)?;
        let position = self.position_of(output.producer)?;
        let stage = &mut self.stages[position];
        match stage.tasks[task.task as usize].state {
            TaskState::Committed => stage.set(task.task, TaskState::Absent),
            TaskState::Delivered | TaskState::Absent | TaskState::Pending | TaskState::Running => {}
        }
        Some(output)
    }

    /// A stage that divides its rows anew with every run is about to run again: whatever was made from its earlier
    /// output must be made again too. True when there was something.
    pub(super) fn roll_back_consumers(
        &mut self,
        now: Timestamp,
        position: usize,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let key = self.stages[position].key(self.job);
        let mut changed = false;
        // The last first: who reads is stopped before what it reads is freed.
        for consumer in self.downstream_of(position).into_iter().rev() {
            for number in 0..self.stages[consumer].plan.tasks() {
                changed |= self.roll_back(now, consumer, number, &format!("{key} is run again"), effects);
            }
        }
        changed
    }

    fn roll_back(
        &mut self,
        now: Timestamp,
        position: usize,
        number: u32,
        reason: &str,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let key = self.stages[position].task_key(self.job, number);
        let is_partly_read =
            position == self.result_position() && self.reading.partly && self.reading.tasks_read == number;
        self.note_rolled_back(position, key);
        match self.stages[position].tasks[number as usize].state {
            TaskState::Committed if !is_partly_read => {
                self.drop_output(key, effects);
                self.stages[position].task_mut(number).avoid = None;
                self.stages[position].set(number, TaskState::Pending);
                true
            }
            TaskState::Running if !is_partly_read => {
                self.cancel_task(position, number, reason, effects);
                true
            }
            TaskState::Pending | TaskState::Absent if !is_partly_read => false,
            // What is partly read may be lost as well, and the rest of it be with the reader already.
            TaskState::Committed
            | TaskState::Delivered
            | TaskState::Running
            | TaskState::Pending
            | TaskState::Absent => {
                self.end(now, Outcome::Failed(handed_out_already(key)), effects);
                false
            }
        }
    }

    /// Whoever reads the result may be reading this, and say so later.
    fn note_rolled_back(&mut self, position: usize, key: TaskKey) {
        if position == self.result_position() {
            let attempts = self.stages[position].tasks[key.task as usize].attempts;
            let first = self.policy.first_attempt;
            let attempts = (first..first + attempts).map(|attempt| AttemptKey { task: key, attempt });
            self.rolled_back.extend(attempts);
        }
    }

    /// The stages that read this one, and those that read them, and so on.
    fn downstream_of(&self, position: usize) -> BTreeSet<usize> {
        let mut found = BTreeSet::new();
        let mut next = self.stages[position].consumers.clone();
        while let Some(consumer) = next.pop() {
            if found.insert(consumer) {
                next.extend(&self.stages[consumer].consumers);
            }
        }
        found
    }
}

/// Rows that come before a task's result must be made again, and are divided differently then.
pub(super) fn handed_out_already(task: TaskKey) -> UserError {
    UserError::new(format!("what {task} has read is run again, and divides its rows differently then"))
        .detail("what it computed from them was handed out already")
        .hint("run the query again")
}

/// `error`, with what it came to said first in its detail.
fn beside(error: UserError, told: &str) -> UserError {
    let detail = error.detail.map_or_else(|| told.to_owned(), |detail| format!("{told}; {detail}"));
    UserError { message: error.message, detail: Some(detail), hint: error.hint }
}
