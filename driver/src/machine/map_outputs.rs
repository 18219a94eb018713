//! The registry of committed map outputs: what was written, how much of it, and who holds it.
//!
//! ```text
//!            commit
//!   absent ----------> held --> absent    freed: nobody needs it; lost: its holder is gone, or a block unreadable
//! ```

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use firesteel_base::{AttemptKey, ExecutorId, StageId, TaskKey};
use firesteel_shuffle::LaneSizes;

use super::{Life, OutputKind};

/// Rows and bytes of what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BlockSize {
    /// Rows.
    pub rows: u64,
    /// Bytes.
    pub bytes: u64,
}

/// All that one attempt wrote and committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapOutput {
    /// The attempt.
    pub producer: AttemptKey,
    /// Who holds it.
    pub life: Life,
    /// What each lane wrote.
    pub lanes: Vec<LaneSizes>,
}

impl MapOutput {
    /// Rows and bytes of all its blocks.
    #[must_use]
    pub fn total(&self) -> BlockSize {
        self.lanes.iter().fold(BlockSize::default(), |sum, lane| BlockSize {
            rows: sum.rows + lane.rows(),
            bytes: sum.bytes + lane.bytes(),
        })
    }
}

#[derive(Debug, Default)]
pub(super) struct MapOutputs {
    stages: BTreeMap<StageId, Vec<Option<Arc<MapOutput>>>>,
    /// The list that attempts are launched with, made once for all of them.
    lists: BTreeMap<StageId, Arc<[Arc<MapOutput>]>>,
    unreadable: BTreeMap<Life, u32>,
}

impl MapOutputs {
    /// A stage of so many tasks, of which nothing is committed.
    pub fn add_stage(&mut self, stage: StageId, tasks: u32) {
        self.stages.insert(stage, vec![None; tasks as usize]);
    }

    pub fn commit(&mut self, output: MapOutput) {
        let stage = output.producer.stage();
        self.lists.remove(&stage);
        let slot = self.slot(output.producer.task);
        assert!(slot.is_none(), "{} is committed twice", output.producer.task);
        *slot = Some(Arc::new(output));
    }

    /// True when the outputs of all tasks of a stage are there.
    pub fn is_complete(&self, stage: StageId) -> bool {
        self.stages[&stage].iter().all(Option::is_some)
    }

    pub fn get(&self, task: TaskKey) -> Option<&Arc<MapOutput>> {
        self.stages.get(&task.stage.stage)?.get(task.task as usize)?.as_ref()
    }

    /// Forgets one output.
    pub fn remove(&mut self, task: TaskKey) -> Option<Arc<MapOutput>> {
        self.lists.remove(&task.stage.stage);
        self.slot(task).take()
    }

    /// Forgets all outputs of a stage and says who held some.
    pub fn remove_stage(&mut self, stage: StageId) -> Vec<Life> {
        self.lists.remove(&stage);
        let outputs = self.stages.get_mut(&stage).expect("a stage of this job");
        let holders: BTreeSet<_> =
            outputs.iter_mut().filter_map(Option::take).map(|output| output.life.clone()).collect();
        holders.into_iter().collect()
    }

    /// The tasks whose output `life` holds.
    pub fn held_by(&self, life: &Life) -> Vec<TaskKey> {
        let all = self.stages.values().flatten().flatten();
        all.filter(|output| output.life == *life).map(|output| output.producer.task).collect()
    }

    /// The outputs whose holder is one of those.
    pub fn held_where(&self, is_meant: impl Fn(&Life) -> bool) -> Vec<Arc<MapOutput>> {
        let all = self.stages.values().flatten().flatten();
        all.filter(|output| is_meant(&output.life)).cloned().collect()
    }

    /// Another life holds the output of a task from now on.
    pub fn relocate(&mut self, task: TaskKey, life: Life) -> Arc<MapOutput> {
        self.lists.remove(&task.stage.stage);
        let slot = self.slot(task);
        let held = slot.as_ref().expect("an output that moves is there");
        let moved = Arc::new(MapOutput { life, ..MapOutput::clone(held) });
        *slot = Some(Arc::clone(&moved));
        moved
    }

    /// All outputs of a complete stage, ordered by task.
    pub fn list(&mut self, stage: StageId) -> Arc<[Arc<MapOutput>]> {
        let stages = &self.stages;
        let make = || stages[&stage].iter().flatten().cloned().collect();
        Arc::clone(self.lists.entry(stage).or_insert_with(make))
    }

    /// Counts an unreadable block of `life`, and says how many there have been.
    pub fn count_unreadable(&mut self, life: &Life) -> u32 {
        let count = self.unreadable.entry(life.clone()).or_default();
        *count += 1;
        *count
    }

    /// The lanes of all outputs of a stage, in the order of its tasks.
    pub fn lanes_of(&self, stage: StageId) -> impl Iterator<Item = &LaneSizes> {
        self.stages[&stage].iter().flatten().flat_map(|output| &output.lanes)
    }

    /// Adds to `places` what each of a consumer's tasks reads of `stage`, and where it lies. An estimate: it takes the
    /// consumer's partitions to be those of the exchange, which below a union they are not.
    pub fn locate(&self, stage: StageId, kind: OutputKind, places: &mut Places) {
        let mut by_executor: BTreeMap<&ExecutorId, Vec<&MapOutput>> = BTreeMap::new();
        for output in self.stages[&stage].iter().flatten() {
            by_executor.entry(&output.life.executor).or_default().push(output);
        }
        let blocks = kind.blocks_read_by(places.all_partitions()).end as usize;
        let readers = kind.readers_of_a_block(places.partitions.len()) as u64;
        for (executor, outputs) in by_executor {
            let mut sums = vec![0; blocks];
            outputs.iter().flat_map(|output| &output.lanes).for_each(|lane| lane.add_to(&mut sums));
            let executor = places.index_of(executor);
            for task in 0..places.partitions.len() {
                let read = kind.blocks_read_by(places.partitions[task].clone());
                let bytes: u64 = sums[read.start as usize..read.end as usize].iter().sum();
                places.add(task, executor, bytes / readers);
            }
        }
    }

    fn slot(&mut self, task: TaskKey) -> &mut Option<Arc<MapOutput>> {
        let outputs = self.stages.get_mut(&task.stage.stage).expect("a stage of this job");
        outputs.get_mut(task.task as usize).expect("a task of this stage")
    }
}

/// So many numbers are kept of which executor has how much of which task's input. Where there would be more, each executor has so
/// little of each task's that it does not matter.
const CELLS_MAX: usize = 1 << 22;

/// Where the input of a stage's tasks lies.
#[derive(Debug, Clone, Default)]
pub(super) struct Places {
    /// For each task, the partitions it drives.
    partitions: Vec<Range<u32>>,
    executors: BTreeMap<ExecutorId, usize>,
    /// For each executor, bytes of each task's input, and all of them; of the first there are none when they would be too many.
    bytes: Vec<Vec<u64>>,
    sums: Vec<u64>,
    /// Bytes of each task's input.
    of_tasks: Vec<u64>,
    totals: Arc<[(ExecutorId, u64)]>,
    /// For each executor that was asked about, the tasks that have input there.
    nearest: BTreeMap<usize, Nearest>,
}

/// Tasks with input on an executor, those with most of it first, and how many of them were found not to wait any more.
#[derive(Debug, Clone)]
struct Nearest {
    tasks: Vec<u32>,
    passed: usize,
}

impl Places {
    pub fn new(partitions: Vec<Range<u32>>) -> Self {
        Self { of_tasks: vec![0; partitions.len()], partitions, ..Self::default() }
    }

    fn all_partitions(&self) -> Range<u32> {
        0..self.partitions.iter().map(|range| range.end).max().unwrap_or(0)
    }

    fn index_of(&mut self, executor: &ExecutorId) -> usize {
        if let Some(index) = self.executors.get(executor) {
            return *index;
        }
        let index = self.executors.len();
        self.executors.insert(executor.clone(), index);
        self.bytes.push(Vec::new());
        self.sums.push(0);
        index
    }

    fn add(&mut self, task: usize, executor: usize, bytes: u64) {
        self.of_tasks[task] += bytes;
        self.sums[executor] += bytes;
        if self.bytes.len() * self.partitions.len() > CELLS_MAX {
            self.bytes[executor] = Vec::new();
            return;
        }
        let row = &mut self.bytes[executor];
        row.resize(self.of_tasks.len(), 0);
        row[task] += bytes;
    }

    /// The task with the most input on `executor` of those that `waits` is true of and `may` too; the first of equals. What does not
    /// wait is not asked about again before a [`restart`](Self::restart).
    pub fn nearest(
        &mut self,
        executor: &ExecutorId,
        waits: impl Fn(u32) -> bool,
        may: impl Fn(u32) -> bool,
    ) -> Option<u32> {
        let index = *self.executors.get(executor)?;
        let row = &self.bytes[index];
        let nearest = self.nearest.entry(index).or_insert_with(|| {
            let mut tasks: Vec<u32> =
                (0..).zip(row).filter(|(_, bytes)| **bytes > 0).map(|(task, _)| task).collect();
            tasks.sort_by_key(|task| Reverse(row[*task as usize]));
            Nearest { tasks, passed: 0 }
        });
        while nearest.tasks.get(nearest.passed).is_some_and(|task| !waits(*task)) {
            nearest.passed += 1;
        }
        nearest.tasks[nearest.passed..].iter().copied().find(|&task| waits(task) && may(task))
    }

    /// Some task waits again.
    pub fn restart(&mut self) {
        self.nearest.values_mut().for_each(|nearest| nearest.passed = 0);
    }

    /// Bytes of `task`'s input.
    pub fn bytes_of(&self, task: u32) -> u64 {
        self.of_tasks.get(task as usize).copied().unwrap_or(0)
    }

    /// Bytes of all tasks' input on each executor, in the executors' order.
    pub fn totals(&self) -> &Arc<[(ExecutorId, u64)]> {
        &self.totals
    }

    /// Makes the totals, once all inputs are located.
    pub fn sum_up(&mut self) {
        let totals = self.executors.iter().map(|(executor, index)| (executor.clone(), self.sums[*index]));
        self.totals = totals.filter(|(_, bytes)| *bytes > 0).collect();
        if self.bytes.len() * self.partitions.len() > CELLS_MAX {
            self.bytes = vec![Vec::new(); self.sums.len()];
        }
    }
}
