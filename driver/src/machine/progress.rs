//! How far a job is: handed out, and shown. Nothing is decided on it.

use firesteel_base::{AttemptKey, JobId, StageId, Timestamp};

use super::attempt::Attempt;
use super::effect::{Effect, Outcome};
use super::job::{JobMachine, JobState};
use super::losses::handed_out_already;
use super::stage::{Stage, StageState};
use super::task::TaskState;

/// Where a job stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobPhase {
    /// It has not begun.
    Waiting,
    /// Its stages run.
    Running,
    /// Its result is being read.
    Delivering,
    /// It has ended.
    Ended(Outcome),
}

/// A job at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobSnapshot {
    /// The job.
    pub job: JobId,
    /// Where it stands.
    pub phase: JobPhase,
    /// Its stages, inputs before consumers.
    pub stages: Vec<StageSnapshot>,
    /// Since when it has had nothing running and waited for slots.
    pub waiting_for_slots_since: Option<Timestamp>,
}

/// A stage at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageSnapshot {
    /// The stage.
    pub stage: StageId,
    /// Its tasks.
    pub tasks: u32,
    /// Tasks with an attempt out.
    pub running: u32,
    /// Tasks whose output is there, or was and is not needed any more.
    pub done: u32,
    /// Attempts that have failed.
    pub failed_attempts: u32,
    /// Rows written by the latest attempts.
    pub rows: u64,
    /// Bytes written by the latest attempts.
    pub bytes: u64,
    /// Tasks that wait for a slot.
    pub waiting: u32,
}

impl JobMachine {
    /// The job at this moment.
    #[must_use]
    pub fn snapshot(&self) -> JobSnapshot {
        let stages: Vec<_> = self.stages.iter().map(snapshot_of).collect();
        let idle = stages.iter().all(|stage| stage.running == 0);
        let since = self.stages.iter().filter_map(|stage| stage.demand.waiting_since).min();
        JobSnapshot {
            job: self.job,
            phase: match &self.state {
                JobState::Waiting => JobPhase::Waiting,
                JobState::Running => JobPhase::Running,
                JobState::Delivering => JobPhase::Delivering,
                JobState::Ending { outcome, .. } | JobState::Ended { outcome } => {
                    JobPhase::Ended(outcome.clone())
                }
            },
            stages,
            waiting_for_slots_since: since.filter(|_| idle && self.is_active()),
        }
    }

    pub(super) fn result_rows(&self) -> u64 {
        let result = &self.stages[self.result_position()];
        result.tasks.iter().filter(|task| task.state.available()).map(|task| task.written.rows).sum()
    }

    pub(super) fn result_begun(&mut self, now: Timestamp, producer: AttemptKey, effects: &mut Vec<Effect>) {
        self.reading.partly |= producer.task.task == self.reading.tasks_read;
        self.refuse_rolled_back(now, producer, effects);
    }

    /// The reader was quicker than the word that what it read is made anew, of other rows.
    fn refuse_rolled_back(&mut self, now: Timestamp, producer: AttemptKey, effects: &mut Vec<Effect>) {
        if self.rolled_back.contains(&producer) {
            self.end(now, Outcome::Failed(handed_out_already(producer.task)), effects);
        }
    }

    /// What was read to the end is freed at once.
    pub(super) fn result_task_read(
        &mut self,
        now: Timestamp,
        producer: AttemptKey,
        effects: &mut Vec<Effect>,
    ) {
        self.refuse_rolled_back(now, producer, effects);
        let task = producer.task.task;
        let position = self.result_position();
        let known = (task as usize) < self.stages[position].tasks.len();
        if task != self.reading.tasks_read || !known || !self.is_active() {
            return;
        }
        self.reading.tasks_read += 1;
        self.reading.partly = false;
        self.cancel_task(position, task, "the result of the task has been read", effects);
        self.stages[position].set(task, TaskState::Delivered);
        let key = self.stages[position].task_key(self.job, task);
        if let Some(output) = self.outputs.remove(key) {
            effects.push(Effect::FreeAttempt { attempt: output.producer, life: output.life.clone() });
        }
    }
}

fn snapshot_of(stage: &Stage) -> StageSnapshot {
    let count = |wanted: fn(&super::task::Task) -> bool| {
        u32::try_from(stage.tasks.iter().filter(|task| wanted(task)).count())
            .expect("tasks are numbered in 32 bits")
    };
    let written = |task: &super::task::Task| {
        let running = task.live.iter().find(|attempt| attempt.counts());
        running.map_or((task.written.rows, task.written.bytes), |a: &Attempt| (a.rows, a.bytes))
    };
    StageSnapshot {
        stage: stage.plan.id,
        tasks: stage.plan.tasks(),
        running: count(|task| task.state == TaskState::Running),
        done: count(|task| task.state.available() || task.state == TaskState::Absent),
        failed_attempts: stage.failed_attempts,
        rows: stage.tasks.iter().map(|task| written(task).0).sum(),
        bytes: stage.tasks.iter().map(|task| written(task).1).sum(),
        waiting: match stage.state {
            StageState::Running => {
                u32::try_from(stage.pending().len()).expect("tasks are numbered in 32 bits")
            }
            StageState::Blocked | StageState::Early | StageState::Complete | StageState::Released => 0,
        },
    }
}
