//! Where a task's inputs lie.

use std::collections::BTreeMap;
use std::sync::Arc;

use firesteel_base::StageId;
use firesteel_shuffle::MapOutput;
use firesteel_shuffle::fetch::{FetchCounters, Fetcher};

/// The committed output of a stage that a task reads.
#[derive(Debug, Clone)]
pub struct StageInput {
    /// The stage that wrote it.
    pub stage: StageId,
    /// One map output for each task of that stage.
    pub outputs: Vec<MapOutput>,
}

/// All inputs of the running task and the means to fetch them, as operators find them in their task context.
pub struct ShuffleInputs {
    /// Fetches blocks.
    pub fetcher: Arc<Fetcher>,
    /// Map outputs by stage, ordered by task.
    pub by_stage: BTreeMap<StageId, Vec<MapOutput>>,
    /// What this task fetched so far.
    pub fetched: Arc<FetchCounters>,
}

impl ShuffleInputs {
    /// The inputs, with each stage's outputs in the order of its tasks.
    #[must_use]
    pub fn new(fetcher: Arc<Fetcher>, inputs: Vec<StageInput>) -> Self {
        let by_stage = inputs
            .into_iter()
            .map(|mut input| {
                input.outputs.sort_by_key(|output| output.producer.task.task);
                (input.stage, input.outputs)
            })
            .collect();
        Self { fetcher, by_stage, fetched: Arc::default() }
    }
}
