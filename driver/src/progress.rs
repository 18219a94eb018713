//! How far a session's query is, for whoever watches.

use std::time::Duration;

use firesteel_base::{JobId, StageId};

/// The session's latest query at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobProgress {
    /// Its job, once the manager has given it a number.
    pub job: Option<JobId>,
    /// Where it stands.
    pub phase: Phase,
    /// Its stages, inputs before consumers; none before it runs.
    pub stages: Vec<StageProgress>,
    /// For how long it has had nothing running and waited for slots.
    pub waiting_for_slots: Option<Duration>,
}

/// Where a query stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Phase {
    /// There was none yet.
    #[default]
    Idle,
    /// It waits for the manager.
    Opening,
    /// Its stages run.
    Running,
    /// Its result is being read.
    Delivering,
    /// It has ended with its result.
    Succeeded,
    /// It has ended with an error.
    Failed,
    /// It was stopped.
    Cancelled,
}

/// A stage at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageProgress {
    /// The stage.
    pub stage: StageId,
    /// Its tasks.
    pub tasks: u32,
    /// Tasks with an attempt out.
    pub running: u32,
    /// Tasks that are done.
    pub done: u32,
    /// Attempts that have failed.
    pub failed_attempts: u32,
    /// Rows written so far.
    pub rows: u64,
    /// Bytes written so far.
    pub bytes: u64,
}

impl JobProgress {
    /// Tasks of all stages that are done, and all there are.
    #[must_use]
    pub fn tasks(&self) -> (u32, u32) {
        self.stages.iter().fold((0, 0), |(done, all), stage| (done + stage.done, all + stage.tasks))
    }
}
