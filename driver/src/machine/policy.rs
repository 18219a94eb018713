//! The limits of a job. Every retry, loop and wait of the machine has its bound here.

use std::time::Duration;

/// How often things are tried again, and how long they are waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// The number of each task's first attempt.
    pub first_attempt: u32,
    /// Attempts of one task that may fail by themselves before the job fails.
    pub attempts_per_task_max: u32,
    /// Attempts of one task that may be lost with their executor before the job fails: a task that takes its
    /// executor down with it must not take all of them.
    pub losses_per_task_max: u32,
    /// Failures of a stage on one executor after which the stage is not run there any more, unless there is no other.
    pub failures_per_executor_max: u32,
    /// Times a finished stage is run again, in part, because its blocks could not be read.
    pub reruns_per_stage_max: u32,
    /// Times one task may stop because a block could not be read.
    pub fetch_failures_per_task_max: u32,
    /// Blocks of one executor that may be unreadable before everything the job stored there counts as lost.
    pub fetch_failures_per_executor_max: u32,
    /// How long the end of a job waits for its cancelled attempts to report before it gives their slots back.
    pub ending_wait_max: Duration,
    /// How long a job waits on a cluster that has lost its last executor.
    pub no_executors_wait_max: Duration,
    /// Map outputs of one job that move at a time from workers that are drained.
    pub moves_at_a_time_max: usize,
    /// How many times as long as its input lets expect a task may run before it gets a second attempt.
    pub straggler_times: u32,
    /// How long any task may run.
    pub straggler_after: Duration,
}

impl Policy {
    /// For plans that can be run once only: the first failure is the job's.
    #[must_use]
    pub fn single_attempt() -> Self {
        Self {
            attempts_per_task_max: 1,
            losses_per_task_max: 1,
            reruns_per_stage_max: 0,
            fetch_failures_per_task_max: 0,
            ..Self::default()
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            first_attempt: 0,
            attempts_per_task_max: 4,
            losses_per_task_max: 8,
            failures_per_executor_max: 2,
            reruns_per_stage_max: 8,
            fetch_failures_per_task_max: 24,
            fetch_failures_per_executor_max: 3,
            ending_wait_max: Duration::from_secs(5),
            no_executors_wait_max: Duration::from_secs(60),
            moves_at_a_time_max: 8,
            straggler_times: 2,
            straggler_after: Duration::from_secs(2),
        }
    }
}
