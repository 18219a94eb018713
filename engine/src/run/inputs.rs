//! Where a task's inputs lie. More may come while it runs: a task may begin before all that it reads is written.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use firesteel_base::StageId;
use firesteel_shuffle::MapOutput;
use firesteel_shuffle::fetch::{FetchCounters, Fetcher};
use tokio::sync::watch;

/// The committed output of a stage that a task reads.
#[derive(Debug, Clone)]
pub struct StageInput {
    /// The stage that wrote it.
    pub stage: StageId,
    /// One map output for each task of that stage, or for some when more is coming.
    pub outputs: Vec<MapOutput>,
    /// Whether these are not all.
    pub coming: bool,
}

/// What has come of a stage's output.
#[derive(Debug, Default)]
pub struct Arrived {
    /// Map outputs as they came; those that came together in the order of their tasks.
    pub outputs: Vec<MapOutput>,
    /// Whether that is all.
    pub is_complete: bool,
}

/// The inputs of one task, by stage.
#[derive(Default)]
pub struct TaskInputs {
    by_stage: BTreeMap<StageId, watch::Sender<Arrived>>,
}

impl TaskInputs {
    /// What the task is launched with.
    #[must_use]
    pub fn new(inputs: Vec<StageInput>) -> Self {
        let arrived = |input: StageInput| {
            let (stage, sender) = (input.stage, watch::Sender::default());
            sender.send_modify(|arrived: &mut Arrived| arrived.take(input));
            (stage, sender)
        };
        Self { by_stage: inputs.into_iter().map(arrived).collect() }
    }

    /// Takes in what has come since. What is there already changes nothing, and neither does what the task does not read.
    pub fn add(&self, input: StageInput) {
        if let Some(arrived) = self.by_stage.get(&input.stage) {
            arrived.send_modify(|arrived| arrived.take(input));
        }
    }

    /// What has come of a stage's output and what comes; `None` when the task was not told of it.
    #[must_use]
    pub fn follow(&self, stage: StageId) -> Option<watch::Receiver<Arrived>> {
        self.by_stage.get(&stage).map(watch::Sender::subscribe)
    }
}

impl Arrived {
    fn take(&mut self, input: StageInput) {
        let task = |output: &MapOutput| output.producer.task.task;
        let known: BTreeSet<u32> = self.outputs.iter().map(task).collect();
        let mut more: Vec<_> =
            input.outputs.into_iter().filter(|output| !known.contains(&task(output))).collect();
        more.sort_by_key(task);
        self.outputs.append(&mut more);
        self.is_complete |= !input.coming;
    }
}

impl fmt::Debug for TaskInputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.by_stage.keys()).finish()
    }
}

/// All inputs of the running task and the means to fetch them, as operators find them in their task context.
pub struct ShuffleInputs {
    /// Fetches blocks.
    pub fetcher: Arc<Fetcher>,
    /// Where they lie.
    pub inputs: Arc<TaskInputs>,
    /// What this task fetched so far.
    pub fetched: Arc<FetchCounters>,
}

impl ShuffleInputs {
    /// The inputs of a task that fetched nothing yet.
    #[must_use]
    pub fn new(fetcher: Arc<Fetcher>, inputs: Arc<TaskInputs>) -> Self {
        Self { fetcher, inputs, fetched: Arc::default() }
    }
}
