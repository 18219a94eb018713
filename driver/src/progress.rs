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
    /// What the tasks that are done have measured.
    pub measured: Measured,
}

/// What attempts have measured, summed over those whose output counts. In bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Measured {
    /// Read from tables.
    pub read: u64,
    /// Blocks fetched, from the own executor and from others.
    pub fetched: u64,
    /// Operator state put on disk for lack of memory.
    pub spilled: u64,
    /// Copied from memory to memory for the blocks that were written and fetched.
    pub copied: u64,
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

impl Phase {
    /// Nothing will change any more, until another query.
    #[must_use]
    pub fn is_final(self) -> bool {
        match self {
            Self::Idle | Self::Succeeded | Self::Failed | Self::Cancelled => true,
            Self::Opening | Self::Running | Self::Delivering => false,
        }
    }
}

impl JobProgress {
    /// Tasks of all stages that are done, and all there are.
    #[must_use]
    pub fn tasks(&self) -> (u32, u32) {
        self.stages.iter().fold((0, 0), |(done, all), stage| (done + stage.done, all + stage.tasks))
    }
}
