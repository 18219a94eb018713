//! A stage, from waiting for its inputs to the freeing of its output.
//!
//! ```text
//!             inputs complete           all tasks available           every consumer complete
//!   Blocked -----------------> Running ---------------------> Complete ----------------------> Released
//!     ^  ^                     |  ^                              |                                |
//!     |  +---- input lost -----+  +-------- output lost ---------+                                |
//!     +------------------------------ a consumer has lost its output ----------------------------+
//! ```
//!
//! The state follows from what is wanted and what is there, whatever happened before: see [`StageState::of`].

use std::collections::{BTreeMap, BTreeSet};

use firesteel_base::{ExecutorId, JobId, StageKey, TaskKey};

use super::demand::DemandState;
use super::map_outputs::Places;
use super::plan::StagePlan;
use super::task::{Task, TaskState};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StageState {
    /// Wanted, but an input is incomplete.
    Blocked,
    /// Its tasks can run.
    Running,
    /// All its output is there.
    Complete,
    /// Nobody needs its output any more.
    Released,
}

impl StageState {
    pub fn of(wanted: bool, available: bool, inputs_available: bool) -> Self {
        match (wanted, available, inputs_available) {
            (false, true | false, true | false) => Self::Released,
            (true, true, true | false) => Self::Complete,
            (true, false, true) => Self::Running,
            (true, false, false) => Self::Blocked,
        }
    }
}

#[derive(Debug)]
pub(super) struct Stage {
    pub plan: StagePlan,
    pub state: StageState,
    pub tasks: Vec<Task>,
    /// Positions in the job's list of the stages that it reads, and of those that read it.
    pub inputs: Vec<usize>,
    pub consumers: Vec<usize>,
    /// Failures of its attempts by executor.
    pub failures: BTreeMap<ExecutorId, u32>,
    pub failed_attempts: u32,
    /// Times it was complete and a block of it could not be read.
    pub reruns: u32,
    /// Where its input lies; made when it begins to run.
    pub places: Places,
    pub demand: DemandState,
    pending: BTreeSet<u32>,
    absent: BTreeSet<u32>,
    available: u32,
}

impl Stage {
    pub fn new(plan: StagePlan) -> Self {
        let tasks = plan.tasks();
        Self {
            state: StageState::Blocked,
            tasks: (0..tasks).map(|_| Task::new()).collect(),
            inputs: Vec::new(),
            consumers: Vec::new(),
            failures: BTreeMap::new(),
            failed_attempts: 0,
            reruns: 0,
            places: Places::default(),
            demand: DemandState::default(),
            pending: (0..tasks).collect(),
            absent: BTreeSet::new(),
            available: 0,
            plan,
        }
    }

    pub fn key(&self, job: JobId) -> StageKey {
        StageKey { job, stage: self.plan.id }
    }

    pub fn task_key(&self, job: JobId, task: u32) -> TaskKey {
        TaskKey { stage: self.key(job), task }
    }

    pub fn task_mut(&mut self, task: u32) -> &mut Task {
        &mut self.tasks[task as usize]
    }

    /// Puts a task into a state, and counts.
    pub fn set(&mut self, number: u32, state: TaskState) {
        let task = &mut self.tasks[number as usize];
        self.available -= u32::from(task.state.available());
        self.available += u32::from(state.available());
        task.state = state;
        match state {
            TaskState::Pending => {
                self.pending.insert(number);
                self.absent.remove(&number);
            }
            TaskState::Absent => {
                self.pending.remove(&number);
                self.absent.insert(number);
            }
            TaskState::Running | TaskState::Committed | TaskState::Delivered => {
                self.pending.remove(&number);
                self.absent.remove(&number);
            }
        }
    }

    /// True when nothing of it has to be run.
    pub fn available(&self) -> bool {
        self.available as usize == self.tasks.len()
    }

    /// Tasks that need a slot, in their order.
    pub fn pending(&self) -> &BTreeSet<u32> {
        &self.pending
    }

    /// Tasks whose output is no more.
    pub fn absent(&self) -> &BTreeSet<u32> {
        &self.absent
    }

    /// The partitions that each task drives.
    pub fn empty_places(&self) -> Places {
        let plan = &self.plan;
        let ranges = (0..plan.tasks()).map(|task| {
            let first = plan.first_partition(task);
            first..first + plan.lanes_of(task)
        });
        Places::new(ranges.collect())
    }
}
