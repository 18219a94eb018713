//! Stragglers: tasks that take much longer than the others of their stage get a second attempt elsewhere.
//!
//! ```text
//!   half of the stage is done, nothing of it waits for a slot
//!        a task has run several times as long as its input lets expect,
//!        and writes slower than the others did ------------------------> straggler: a slot that nobody else needs
//!        one is lent on another executor ------------------------------> a second attempt
//!        one of the two is done ---------------------------------------> the other is stopped, and what it wrote freed
//! ```
//!
//! What a task has to read is known, so one that has more of it is given more time. The driver reads the last stage itself, and
//! files that a query writes are written there: of that stage every task is run once at a time.

use std::collections::BTreeSet;
use std::time::Duration;

use firesteel_base::{ExecutorId, Timestamp};

use super::adapt::Decision;
use super::attempt::Attempt;
use super::effect::Effect;
use super::job::JobMachine;
use super::plan::OutputKind;
use super::policy::Policy;
use super::stage::{Stage, StageState};
use super::task::{Task, TaskState};

/// A stage is looked at that often at most.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// The input that a task counts with of which nobody knows what it reads.
const UNKNOWN_BYTES: u64 = 1 << 20;

/// What the tasks of a stage that are done have shown of it.
#[derive(Debug, Default)]
pub(super) struct Experience {
    /// Milliseconds for each MiB of input, of each task that is done.
    paces: Vec<u64>,
    /// Bytes that each of them wrote in a second.
    rates: Vec<u64>,
    /// Tasks that need a second attempt.
    stragglers: BTreeSet<u32>,
    /// When the stage is to be looked at next; none while there is nothing to see.
    look_at: Option<Timestamp>,
}

impl Experience {
    /// When it is to be looked at next.
    pub fn look_at(&self) -> Option<Timestamp> {
        self.look_at
    }

    /// A task took so long for so much input, and wrote so much.
    fn note(&mut self, took: Duration, read: u64, written: u64) {
        let millis = millis(took).max(1);
        self.paces.push(millis.saturating_mul(1 << 20) / read.max(1));
        self.rates.push(written.saturating_mul(1000) / millis);
    }

    /// The task is no straggler (any more).
    pub fn forget(&mut self, task: u32) {
        self.stragglers.remove(&task);
    }
}

impl JobMachine {
    /// An attempt of the task is its output.
    pub(super) fn learn_from(&mut self, now: Timestamp, position: usize, attempt: &Attempt) {
        let stage = &mut self.stages[position];
        let number = attempt.key.task.task;
        let (read, written) = (stage.input_bytes(number), stage.tasks[number as usize].written.bytes);
        stage.experience.note(now - attempt.since, read, written);
    }

    /// Finds tasks that take too long, where it is time to look for them.
    pub(super) fn find_stragglers(&mut self, now: Timestamp) {
        for position in 0..self.stages.len() {
            let stage = &self.stages[position];
            if !stage.may_speculate() {
                self.stages[position].experience.look_at = None;
            } else if stage.experience.look_at.is_none_or(|at| now >= at) {
                self.look_at(now, position);
            }
        }
    }

    fn look_at(&mut self, now: Timestamp, position: usize) {
        let stage = &self.stages[position];
        let (pace, rate) = (median(&stage.experience.paces), median(&stage.experience.rates));
        let mut found = Vec::new();
        let mut next: Option<Timestamp> = None;
        for &number in stage.running() {
            let task = &stage.tasks[number as usize];
            let Some(attempt) = task.only_attempt().filter(|_| may_try_again(task, &self.policy)) else {
                continue;
            };
            let due = attempt.since + patience(pace, stage.input_bytes(number), &self.policy);
            if now < due {
                next = Some(next.map_or(due, |next| next.min(due)));
            } else if is_slow(now, attempt, rate, &self.policy) {
                found.push(number);
            } else {
                next = Some(now);
            }
        }
        let experience = &mut self.stages[position].experience;
        experience.stragglers.extend(found);
        experience.look_at = next.map(|next| next.max(now + LOOK_EVERY));
    }

    /// The straggler that an idle slot on `executor` runs once more.
    pub(super) fn pick_straggler(&self, position: usize, executor: &ExecutorId) -> Option<u32> {
        let stage = &self.stages[position];
        let is_elsewhere =
            |task: &&u32| stage.tasks[**task as usize].live.iter().all(|a| a.life.executor != *executor);
        stage.experience.stragglers.iter().find(is_elsewhere).copied()
    }

    /// For people: a second attempt is about to be launched.
    pub(super) fn note_second(
        &mut self,
        now: Timestamp,
        position: usize,
        number: u32,
        effects: &mut Vec<Effect>,
    ) {
        let stage = &mut self.stages[position];
        stage.experience.forget(number);
        let Some(first) = stage.tasks[number as usize].only_attempt() else { return };
        let decision = Decision::Speculated {
            task: number,
            after: now - first.since,
            executor: first.life.executor.clone(),
        };
        effects.push(Effect::Decided { stage: stage.plan.id, decision });
    }
}

impl Stage {
    /// Tasks that need a second attempt.
    pub fn stragglers(&self) -> &BTreeSet<u32> {
        &self.experience.stragglers
    }

    /// Executors where every straggler runs already.
    pub fn executors_of_stragglers(&self) -> BTreeSet<ExecutorId> {
        let of = |task: &u32| -> BTreeSet<ExecutorId> {
            self.tasks[*task as usize].live.iter().map(|attempt| attempt.life.executor.clone()).collect()
        };
        let all = self.experience.stragglers.iter().map(of);
        all.reduce(|one, other| one.intersection(&other).cloned().collect()).unwrap_or_default()
    }

    fn may_speculate(&self) -> bool {
        let is_half_done = self.available_tasks() > 0 && self.available_tasks() * 2 >= self.plan.tasks();
        self.plan.adapts.limits.speculate
            && self.state == StageState::Running
            && self.plan.output != OutputKind::Result
            && self.pending().is_empty()
            && self.absent().is_empty()
            && is_half_done
    }

    fn input_bytes(&self, task: u32) -> u64 {
        match self.places.bytes_of(task) {
            0 => UNKNOWN_BYTES,
            bytes => bytes,
        }
    }
}

impl Task {
    /// The attempt that it has out, when it is one and nothing of it is still to come.
    fn only_attempt(&self) -> Option<&Attempt> {
        let mut counting = self.live.iter().filter(|attempt| attempt.counts());
        let first = counting.next().filter(|attempt| !attempt.early)?;
        (counting.next().is_none() && self.state == TaskState::Running).then_some(first)
    }
}

/// A second attempt that fails must not be what ends the job.
fn may_try_again(task: &Task, policy: &Policy) -> bool {
    task.failures.len() + 1 < policy.attempts_per_task_max as usize
        && task.attempts < policy.attempts_per_task_max
}

/// How long a task with that much input may run.
fn patience(pace: u64, input: u64, policy: &Policy) -> Duration {
    let expected = (u128::from(pace) * u128::from(input)) >> 20;
    let expected = Duration::from_millis(u64::try_from(expected).unwrap_or(u64::MAX));
    policy.straggler_after.max(expected.saturating_mul(policy.straggler_times))
}

/// Whether an attempt writes several times slower than others did; one that has not written anything may be.
fn is_slow(now: Timestamp, attempt: &Attempt, rate: u64, policy: &Policy) -> bool {
    let written = attempt.bytes.saturating_mul(1000) / millis(now - attempt.since).max(1);
    written == 0 || written.saturating_mul(u64::from(policy.straggler_times)) < rate
}

fn median(values: &[u64]) -> u64 {
    let mut values = values.to_vec();
    if values.is_empty() {
        return 0;
    }
    let middle = values.len() / 2;
    *values.select_nth_unstable(middle).1
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
