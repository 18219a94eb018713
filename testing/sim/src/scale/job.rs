//! What each job does: rows are read, divided by key, aggregated, divided again, and the last stage is the result.

use firesteel_base::{JobId, StageId};
use firesteel_driver::machine::{JobPlan, OutputKind, StagePlan};
use firesteel_engine::stage::adapt::{AdaptLimits, Adapts};
use firesteel_shuffle::{BlockStat, LaneOutput, LaneSizes};

use crate::chance::mixed;

/// Of so many tasks of a job one is in its last stage.
const TASKS_FOR_A_RESULT: u32 = 100;
/// Rows and bytes that a task writes for each that reads it.
const BLOCK: BlockStat = BlockStat { rows: 1_000, bytes: 1 << 20 };

/// The tasks of the stages of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    tasks: [u32; 3],
}

impl Shape {
    /// A job of that many tasks; of three at least.
    pub fn of(tasks: u32) -> Self {
        let tasks = tasks.max(3);
        let result = (tasks / TASKS_FOR_A_RESULT).max(1);
        let first = (tasks - result).div_ceil(2);
        Self { tasks: [first, tasks - result - first, result] }
    }

    pub fn plan(self, job: JobId) -> JobPlan {
        let stage = |(id, partitions): (u32, u32)| StagePlan {
            id: StageId(id),
            partitions,
            lanes: 1,
            inputs: id.checked_sub(1).map(StageId).into_iter().collect(),
            told_by: Vec::new(),
            output: if id == 2 { OutputKind::Result } else { OutputKind::Hash },
            tells: false,
            adapts: Adapts {
                limits: AdaptLimits { speculate: true, ..AdaptLimits::NEVER },
                ..Adapts::default()
            },
            estimated_bytes: 0,
            memory_per_task: 0,
        };
        JobPlan { job, stages: (0..).zip(self.tasks).map(stage).collect() }
    }

    /// What a task of a stage writes.
    pub fn sizes(self, stage: StageId) -> LaneSizes {
        let readers = self.tasks.get(stage.0 as usize + 1).copied().unwrap_or(1);
        let block = |reader: u32| BlockStat { bytes: BLOCK.bytes + u64::from(reader % 7), ..BLOCK };
        LaneSizes::of(&LaneOutput { partitions: (0..readers).map(block).collect() })
    }
}

/// How many milliseconds an attempt runs: two to twelve seconds.
pub fn runs_ms(seed: u64, job: JobId, stage: StageId, task: u32) -> u64 {
    let name = (job.0 << 40) ^ (u64::from(stage.0) << 32) ^ u64::from(task);
    2_000 + mixed(mixed(seed) ^ name) % 10_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_has_all_of_its_tasks_in_three_stages() {
        for tasks in [3, 4, 10, 99, 1_000, 12_345] {
            let shape = Shape::of(tasks);
            assert_eq!(shape.tasks.iter().sum::<u32>(), tasks);
            assert!(shape.tasks.iter().all(|&tasks| tasks > 0), "{shape:?}");
        }
    }
}
