//! Jobs without SQL: a graph of stages that pass numbered rows on, and what the result must be.
//!
//! ```text
//!   source stages make rows ──► union: passes on all that it reads     ──┐
//!                               join: probe rows that meet build rows  ──┴─► ... ──► result: the driver reads it
//! ```
//!
//! A row is a number that tells by which stages it came. So a row that is lost, doubled or made of a wrong build side shows
//! in the result, whatever the way that it took: by key, in turn, whole, or by ranges that follow from samples.

mod draw;
mod expect;
mod rows;

use std::collections::BTreeMap;

use firesteel_base::StageId;
use firesteel_driver::machine::{OutputKind, StagePlan};

pub use draw::draw;
pub use expect::expected;
pub use rows::{Read, Rows, compute};

/// What a stage does with its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Makes rows: so many in each of its partitions, if that many.
    Source(Vec<u32>),
    /// Passes on the rows of these inputs.
    Union(Vec<StageId>),
    /// Passes on each row of `probe` that meets rows of `build` with its key.
    Join {
        /// The side that is looked up.
        build: StageId,
        /// The side whose rows are passed on.
        probe: StageId,
    },
    /// A join that runs where its probe side's rows are made.
    Absorbed {
        /// The side that is looked up, which each task reads whole.
        build: StageId,
        /// What makes the probe side's rows, under that stage's name.
        probe: (StageId, Box<Op>),
    },
}

/// A stage as executors get it: what it does, and how all that it may read is divided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageWork {
    /// The stage.
    pub id: StageId,
    /// What it does.
    pub op: Op,
    /// How its rows are divided.
    pub output: OutputKind,
    /// Into how many partitions, where that is by key or in turn.
    pub divisions: u32,
    /// How each stage of the job divides its rows.
    pub kinds: BTreeMap<StageId, OutputKind>,
    /// Its partitions as planned.
    pub partitions: u32,
}

/// A job's graph.
#[derive(Debug, Clone)]
pub struct Graph {
    /// Its stages, inputs before consumers.
    pub stages: Vec<StagePlan>,
    /// What each of them does.
    pub ops: BTreeMap<StageId, Op>,
    /// Into how many partitions rows are divided by key or in turn.
    pub divisions: u32,
}

impl Graph {
    /// A stage.
    #[must_use]
    pub fn stage(&self, id: StageId) -> &StagePlan {
        self.stages.iter().find(|stage| stage.id == id).expect("a stage of this graph")
    }

    /// What executors get of a stage.
    #[must_use]
    pub fn work(&self, id: StageId) -> StageWork {
        let stage = self.stage(id);
        StageWork {
            id,
            op: self.ops[&id].clone(),
            output: stage.output,
            divisions: self.divisions,
            kinds: self.stages.iter().map(|stage| (stage.id, stage.output)).collect(),
            partitions: stage.partitions,
        }
    }

    /// From now on `stage` makes its probe side's rows itself.
    pub fn absorb(&mut self, stage: StageId, probe: StageId) {
        let below = self.ops[&probe].clone();
        let partitions = self.stage(probe).partitions;
        if let Some(Op::Join { build, .. }) = self.ops.get(&stage).cloned() {
            self.ops.insert(stage, Op::Absorbed { build, probe: (probe, Box::new(below)) });
            let plan = self.stages.iter_mut().find(|plan| plan.id == stage).expect("a stage of this graph");
            plan.partitions = partitions;
        }
    }
}
