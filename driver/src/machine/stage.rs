//! A stage, from waiting for its inputs to the freeing of its output.
//!
//! ```text
//!             inputs complete           all tasks available           every consumer complete
//!   Blocked -----------------> Running ---------------------> Complete ----------------------> Released
//!     ^  ^ ^                   |  ^ ^                            |                                |
//!     |  | |    the last of    |  | |                            |                                |
//!     |  | |  an input's tasks |  | | inputs complete            |                                |
//!     |  | |      run          |  | |                            |                                |
//!     |  | +----------------> Early-+                            |                                |
//!     |  |   one is lost <--   |  |                              |                                |
//!     |  +---- input lost -----+  +-------- output lost ---------+                                |
//!     +------------------------------ a consumer has lost its output ----------------------------+
//! ```
//!
//! The state follows from what is wanted and what is there, whatever happened before: see [`StageState::of`].

use std::collections::{BTreeMap, BTreeSet};

use firesteel_base::{ExecutorId, JobId, StageKey, TaskKey};

use firesteel_shuffle::Slice;

use super::demand::DemandState;
use super::map_outputs::Places;
use super::plan::StagePlan;
use super::speculate::Experience;
use super::task::{Task, TaskState};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StageState {
    /// Wanted, but an input is incomplete.
    Blocked,
    /// Its tasks may use slots that nobody else needs, and read inputs as they come ([`early`](super::early)).
    Early,
    /// Its tasks can run.
    Running,
    /// All its output is there.
    Complete,
    /// Nobody needs its output any more.
    Released,
}

impl StageState {
    pub fn of(wanted: bool, available: bool, inputs: Inputs) -> Self {
        match (wanted, available, inputs) {
            (false, true | false, Inputs::There | Inputs::Coming | Inputs::Missing) => Self::Released,
            (true, true, Inputs::There | Inputs::Coming | Inputs::Missing) => Self::Complete,
            (true, false, Inputs::There) => Self::Running,
            (true, false, Inputs::Coming) => Self::Early,
            (true, false, Inputs::Missing) => Self::Blocked,
        }
    }

    /// True when tasks of it may be launched.
    pub fn launches(self) -> bool {
        match self {
            Self::Early | Self::Running => true,
            Self::Blocked | Self::Complete | Self::Released => false,
        }
    }
}

/// How far the inputs of a stage have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Inputs {
    /// Some task of an input has to be run.
    Missing,
    /// Attempts of all missing tasks are out, and it is worth while to read what is there.
    Coming,
    /// All of it can be read.
    There,
}

/// What the partitions of a stage read. Decided once, when it begins to run: whoever reads some of its output counts on the
/// rest being divided alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum StageReading {
    /// It has not begun.
    Undecided,
    /// The exchange's partition of the same number.
    AsPlanned,
    /// These.
    Slices(Vec<Slice>),
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
    /// What each of its partitions reads of the exchanges that it is divided as.
    pub reading: StageReading,
    /// How many of `inputs` were there when it was last decided what their sizes change.
    pub inputs_judged: usize,
    /// Those of `inputs` of which nothing comes into its rows, and that it does not wait for.
    pub spared: BTreeSet<usize>,
    /// Whether it is worth while to begin before its inputs are complete, once that was looked at.
    pub early: Option<bool>,
    /// Where its input lies; made when it begins to run.
    pub places: Places,
    pub demand: DemandState,
    /// What its tasks have shown, and which of them take too long.
    pub experience: Experience,
    pending: BTreeSet<u32>,
    running: BTreeSet<u32>,
    absent: BTreeSet<u32>,
    available: u32,
}

impl Stage {
    pub fn new(plan: StagePlan) -> Self {
        let tasks = plan.tasks();
        let reading =
            if plan.adapts.divided.is_empty() { StageReading::AsPlanned } else { StageReading::Undecided };
        Self {
            state: StageState::Blocked,
            tasks: (0..tasks).map(|_| Task::new()).collect(),
            inputs: Vec::new(),
            consumers: Vec::new(),
            failures: BTreeMap::new(),
            failed_attempts: 0,
            reruns: 0,
            reading,
            inputs_judged: 0,
            spared: BTreeSet::new(),
            early: None,
            places: Places::default(),
            demand: DemandState::default(),
            experience: Experience::default(),
            pending: (0..tasks).collect(),
            running: BTreeSet::new(),
            absent: BTreeSet::new(),
            available: 0,
            plan,
        }
    }

    /// Gives it other partitions, before anything of it was run.
    pub fn divide_anew(&mut self, partitions: u32) {
        assert!(self.is_untouched(), "{} has begun to run", self.plan.id);
        self.plan.partitions = partitions;
        let tasks = self.plan.tasks();
        self.tasks = (0..tasks).map(|_| Task::new()).collect();
        self.pending = (0..tasks).collect();
    }

    /// True when no attempt of it was ever launched.
    pub fn is_untouched(&self) -> bool {
        self.tasks.iter().all(|task| task.attempts == 0)
    }

    /// What the lanes of a task read; empty when that is as planned.
    pub fn slices_of(&self, task: u32) -> &[Slice] {
        let StageReading::Slices(slices) = &self.reading else { return &[] };
        let first = self.plan.first_partition(task) as usize;
        &slices[first..first + self.plan.lanes_of(task) as usize]
    }

    /// Whether some of its lanes read some keys of a partition.
    pub fn reads_keys(&self) -> bool {
        match &self.reading {
            StageReading::Slices(slices) => slices.iter().any(|slice| slice.keys().is_some()),
            StageReading::Undecided | StageReading::AsPlanned => false,
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
        self.experience.forget(number);
        for numbers in [&mut self.pending, &mut self.running, &mut self.absent] {
            numbers.remove(&number);
        }
        if state == TaskState::Pending {
            self.places.restart();
        }
        match state {
            TaskState::Pending => self.pending.insert(number),
            TaskState::Running => self.running.insert(number),
            TaskState::Absent => self.absent.insert(number),
            TaskState::Committed | TaskState::Delivered => false,
        };
    }

    /// Tasks of which an attempt is out.
    pub fn running(&self) -> &BTreeSet<u32> {
        &self.running
    }

    /// True when nothing of it has to be run.
    pub fn available(&self) -> bool {
        self.available as usize == self.tasks.len()
    }

    /// Tasks of which nothing has to be run.
    pub fn available_tasks(&self) -> u32 {
        self.available
    }

    /// Tasks that need a slot, in their order.
    pub fn pending(&self) -> &BTreeSet<u32> {
        &self.pending
    }

    /// Tasks whose output is no more.
    pub fn absent(&self) -> &BTreeSet<u32> {
        &self.absent
    }

    /// The pending task with the most input on `executor`, the first of equals; none that shuns it when others can have those.
    pub fn nearest_pending(&mut self, executor: &ExecutorId, may_avoid: bool) -> Option<u32> {
        let Self { places, pending, tasks, .. } = self;
        let may = |task: u32| !may_avoid || tasks[task as usize].avoid.as_ref() != Some(executor);
        let nearest = places.nearest(executor, |task| pending.contains(&task), may);
        nearest.or_else(|| pending.iter().copied().find(|&task| may(task)))
    }

    /// The partitions that each task reads.
    pub fn empty_places(&self) -> Places {
        let plan = &self.plan;
        let ranges = (0..plan.tasks()).map(|task| {
            let first = plan.first_partition(task);
            match self.slices_of(task) {
                [] => first..first + plan.lanes_of(task),
                [one] => one.partitions.clone(),
                [head, .., last] => head.partitions.start..last.partitions.end,
            }
        });
        Places::new(ranges.collect())
    }
}
