//! A task, from waiting for a slot to its committed output.
//!
//! ```text
//!             launched               finished                 read (result stage)
//!   Pending -----------> Running ---------------> Committed ----------------------> Delivered
//!     ^ ^                  |                          |
//!     | +-- failed, lost --+                          | freed, lost
//!     |                                               v
//!     +---------------- wanted again -------------- Absent
//! ```

use firesteel_base::ExecutorId;

use super::attempt::Attempt;
use super::failure::Mishap;
use super::map_outputs::BlockSize;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TaskState {
    /// Needs a slot, as soon as the stage can run.
    Pending,
    /// An attempt of it is out.
    Running,
    /// Its output is there.
    Committed,
    /// Its output was there and is no more; nobody has asked for it again.
    Absent,
    /// Its output, a part of the result, was read to the end.
    Delivered,
}

impl TaskState {
    /// True when nothing has to be run for it.
    pub fn available(self) -> bool {
        match self {
            Self::Committed | Self::Delivered => true,
            Self::Pending | Self::Running | Self::Absent => false,
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Task {
    /// Changed by [`Stage::set`](super::stage::Stage::set) alone, which counts.
    pub state: TaskState,
    /// Attempts made so far: the number of the next one.
    pub attempts: u32,
    /// Attempts whose end was not reported yet, cancelled ones included.
    pub live: Vec<Attempt>,
    /// Attempts that failed by themselves.
    pub failures: Vec<Mishap>,
    /// Attempts that were lost with their executor.
    pub losses: Vec<Mishap>,
    /// Attempts that stopped because a block could not be read.
    pub fetch_failures: u32,
    /// Rows and bytes of the latest output.
    pub written: BlockSize,
    /// Where the last attempt failed, or its output could not be read: the next one goes elsewhere if it can.
    pub avoid: Option<ExecutorId>,
}

impl Task {
    pub fn new() -> Self {
        Self {
            state: TaskState::Pending,
            attempts: 0,
            live: Vec::new(),
            failures: Vec::new(),
            losses: Vec::new(),
            fetch_failures: 0,
            written: BlockSize::default(),
            avoid: None,
        }
    }

    /// True while an attempt is out whose outcome is wanted.
    pub fn has_counting_attempt(&self) -> bool {
        self.live.iter().any(Attempt::counts)
    }
}
