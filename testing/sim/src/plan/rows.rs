//! What a lane makes of what it reads, and how it divides that.

use std::collections::BTreeMap;
use std::rc::Rc;

use firesteel_base::{AttemptKey, StageId};
use firesteel_driver::machine::{Launch, OutputKind};
use firesteel_shuffle::Slice;

use super::{Op, StageWork};
use crate::chance::mixed;

/// Rows of all blocks of a map output: by lane, then by partition.
pub type Rows = Vec<Vec<Vec<u64>>>;

/// What an attempt has read of each of its inputs, in the order of their tasks.
pub type Read = BTreeMap<StageId, Vec<(AttemptKey, Rc<Rows>)>>;

/// The key of a row: to which partition it goes where rows are divided by key.
pub(super) fn partition_of(row: u64, partitions: u32) -> u32 {
    u32::try_from(mixed(row ^ 0x5eed) % u64::from(partitions.max(1))).expect("partitions fit in 32 bits")
}

/// Which of `parts` parts of its partition the key of a row is in.
fn part_of(row: u64, partitions: u32, parts: u32) -> u32 {
    let finer = mixed(row ^ 0x5eed) / u64::from(partitions.max(1));
    u32::try_from(finer % u64::from(parts)).expect("parts fit in 32 bits")
}

/// A row as it is after a stage.
pub(super) fn passed(row: u64, by: StageId, with: u64) -> u64 {
    mixed(row ^ mixed(u64::from(by.0) + 0x1_0000) ^ mixed(with))
}

/// A row that a source makes.
pub(super) fn made(by: StageId, partition: u32, number: u32) -> u64 {
    mixed((u64::from(by.0) << 48) | (u64::from(partition) << 24) | u64::from(number))
}

/// The sum that stands for rows that are read whole.
pub(super) fn sum(rows: impl IntoIterator<Item = u64>) -> u64 {
    rows.into_iter().fold(0, u64::wrapping_add)
}

/// What one lane reads: its partition, or those of its slice.
struct Lane<'a> {
    work: &'a StageWork,
    read: &'a Read,
    partition: u32,
    slice: Option<&'a Slice>,
}

/// All that an attempt writes.
#[must_use]
pub fn compute(work: &StageWork, launch: &Launch, read: &Read) -> Rows {
    let lane = |number: u32| {
        let lane = Lane {
            work,
            read,
            partition: launch.first_partition + number,
            slice: launch.slices.get(number as usize),
        };
        divide(work, launch.attempt, lane.rows(&work.op, work.id))
    };
    (0..launch.lanes).map(lane).collect()
}

fn divide(work: &StageWork, attempt: AttemptKey, rows: Vec<u64>) -> Vec<Vec<u64>> {
    let blocks = match work.output {
        OutputKind::Hash | OutputKind::Range | OutputKind::RoundRobin => work.divisions,
        OutputKind::Single
        | OutputKind::Broadcast
        | OutputKind::Merge
        | OutputKind::SampledRange
        | OutputKind::Result => 1,
    };
    let mut divided = vec![Vec::new(); blocks as usize];
    for row in rows {
        // In turn, and each run begins with another turn.
        let salt = if work.output == OutputKind::RoundRobin { 1 + u64::from(attempt.attempt) } else { 0 };
        let key = if salt > 0 { mixed(row ^ salt) } else { row };
        divided[partition_of(key, blocks) as usize].push(row);
    }
    divided
}

impl Lane<'_> {
    fn rows(&self, op: &Op, name: StageId) -> Vec<u64> {
        match op {
            Op::Source(counts) => {
                let rows = counts.get(self.partition as usize).copied().unwrap_or(0);
                (0..rows).map(|number| made(name, self.partition, number)).collect()
            }
            Op::Union(inputs) => self.union(name, inputs),
            Op::Join { build, probe } => {
                let build = self.of_partitions(*build);
                let probe = self.of_partitions(*probe).into_values().flatten();
                self.joined(name, &build, probe)
            }
            Op::Absorbed { build, probe: (probe_name, probe) } => {
                let build = self.whole_by_partition(*build);
                let probe = self.rows(probe, *probe_name);
                self.joined(name, &build, probe)
            }
        }
    }

    fn joined(
        &self,
        name: StageId,
        build: &BTreeMap<u32, Vec<u64>>,
        probe: impl IntoIterator<Item = u64>,
    ) -> Vec<u64> {
        let matching =
            |row: u64| build.get(&partition_of(row, self.work.divisions)).filter(|b| !b.is_empty());
        let pass = |row: u64| Some(passed(row, name, sum(matching(row)?.iter().copied())));
        probe.into_iter().filter_map(pass).collect()
    }

    fn union(&self, name: StageId, inputs: &[StageId]) -> Vec<u64> {
        let (mut whole, mut wholes, mut rows, mut divided) = (0, 0, Vec::new(), 0);
        for &input in inputs {
            if self.kind(input) == OutputKind::Broadcast {
                wholes += 1;
                whole = sum([whole, sum(self.whole_by_partition(input).into_values().flatten())]);
            } else {
                divided += 1;
                rows.extend(self.of_input(input));
            }
        }
        if divided == 0 && wholes > 0 {
            rows = if self.partition == 0 { vec![0] } else { Vec::new() };
        }
        rows.into_iter().map(|row| passed(row, name, whole)).collect()
    }

    fn kind(&self, input: StageId) -> OutputKind {
        self.work.kinds[&input]
    }

    fn of_input(&self, input: StageId) -> Vec<u64> {
        match self.kind(input) {
            OutputKind::Hash | OutputKind::Range | OutputKind::RoundRobin => {
                self.of_partitions(input).into_values().flatten().collect()
            }
            OutputKind::Single | OutputKind::Merge if self.partition > 0 => Vec::new(),
            OutputKind::SampledRange => self.of_range(input),
            OutputKind::Single | OutputKind::Merge | OutputKind::Broadcast | OutputKind::Result => {
                self.whole_by_partition(input).into_values().flatten().collect()
            }
        }
    }

    /// Where the ranges begin follows from all that was written, by these very attempts.
    fn of_range(&self, input: StageId) -> Vec<u64> {
        let writers = self.read[&input]
            .iter()
            .map(|(key, _)| mixed((u64::from(key.task.task) << 32) | u64::from(key.attempt)));
        let bounds = sum(writers);
        let all = self.whole_by_partition(input).into_values().flatten();
        all.filter(|row| partition_of(mixed(row ^ bounds), self.work.partitions) == self.partition).collect()
    }

    /// The rows of an exchange that this lane reads, by its partitions.
    fn of_partitions(&self, input: StageId) -> BTreeMap<u32, Vec<u64>> {
        let own = self.partition..self.partition + 1;
        let partitions = self.slice.map_or(own, |slice| slice.partitions.clone());
        let lanes = self.lanes(input);
        let reads = |lane: u32| self.slice.is_none_or(|slice| slice.reads_lane(input, lane));
        let keys = self.slice.and_then(Slice::keys);
        let is_read =
            |row: &u64| keys.is_none_or(|keys| part_of(*row, self.work.divisions, keys.parts) == keys.part);
        let of = |partition: u32| {
            let blocks = (0..).zip(&lanes).filter(|(lane, _)| reads(*lane));
            let blocks = blocks.filter_map(|(_, blocks)| blocks.get(partition as usize));
            (partition, blocks.flatten().copied().filter(is_read).collect())
        };
        partitions.map(of).collect()
    }

    fn whole_by_partition(&self, input: StageId) -> BTreeMap<u32, Vec<u64>> {
        let mut all: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
        for blocks in self.lanes(input) {
            for (partition, block) in (0..).zip(blocks) {
                all.entry(partition).or_default().extend(block);
            }
        }
        all
    }

    fn lanes(&self, input: StageId) -> Vec<&Vec<Vec<u64>>> {
        self.read.get(&input).into_iter().flatten().flat_map(|(_, rows)| rows.iter()).collect()
    }
}
