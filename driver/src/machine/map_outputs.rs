//! The registry of committed map outputs: what was written, how much of it, and who holds it.
//!
//! ```text
//!            commit
//!   absent ----------> held --> absent    freed: nobody needs it; lost: its holder is gone, or a block unreadable
//! ```

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
        let mut by_executor: BTreeMap<&ExecutorId, Vec<u64>> = BTreeMap::new();
        let blocks = kind.blocks_read_by(places.all_partitions()).end as usize;
        for output in self.stages[&stage].iter().flatten() {
            let sums = by_executor.entry(&output.life.executor).or_insert_with(|| vec![0; blocks]);
            output.lanes.iter().for_each(|lane| lane.add_to(sums));
        }
        let readers = kind.readers_of_a_block(places.partitions.len()) as u64;
        for (executor, sums) in by_executor {
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

/// Where the input of a stage's tasks lies.
#[derive(Debug, Clone, Default)]
pub(super) struct Places {
    /// For each task, the partitions it drives.
    partitions: Vec<Range<u32>>,
    executors: Vec<ExecutorId>,
    /// For each task, bytes on each of `executors`; shorter when the rest are none.
    bytes: Vec<Vec<u64>>,
    totals: Vec<(ExecutorId, u64)>,
}

impl Places {
    pub fn new(partitions: Vec<Range<u32>>) -> Self {
        let bytes = vec![Vec::new(); partitions.len()];
        Self { partitions, executors: Vec::new(), bytes, totals: Vec::new() }
    }

    fn all_partitions(&self) -> Range<u32> {
        0..self.partitions.iter().map(|range| range.end).max().unwrap_or(0)
    }

    fn index_of(&mut self, executor: &ExecutorId) -> usize {
        self.executors.iter().position(|known| known == executor).unwrap_or_else(|| {
            self.executors.push(executor.clone());
            self.executors.len() - 1
        })
    }

    fn add(&mut self, task: usize, executor: usize, bytes: u64) {
        let row = &mut self.bytes[task];
        if row.len() <= executor {
            row.resize(executor + 1, 0);
        }
        row[executor] += bytes;
    }

    /// Bytes of `task`'s input on `executor`.
    pub fn bytes_on(&self, task: u32, executor: &ExecutorId) -> u64 {
        let index = self.executors.iter().position(|known| known == executor);
        index.and_then(|index| self.bytes.get(task as usize)?.get(index)).copied().unwrap_or(0)
    }

    /// Bytes of `task`'s input.
    pub fn bytes_of(&self, task: u32) -> u64 {
        self.bytes.get(task as usize).map_or(0, |row| row.iter().sum())
    }

    /// Bytes of all tasks' input on each executor, in the executors' order.
    pub fn totals(&self) -> &[(ExecutorId, u64)] {
        &self.totals
    }

    /// Makes the totals, once all inputs are located.
    pub fn sum_up(&mut self) {
        let mut totals: BTreeMap<&ExecutorId, u64> = BTreeMap::new();
        for row in &self.bytes {
            for (executor, bytes) in self.executors.iter().zip(row) {
                *totals.entry(executor).or_default() += bytes;
            }
        }
        let some = totals.into_iter().filter(|&(_, bytes)| bytes > 0);
        self.totals = some.map(|(executor, bytes)| (executor.clone(), bytes)).collect();
    }
}
