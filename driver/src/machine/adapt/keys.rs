//! Who knows how to read some keys of a partition. Executors of the wire version before do not: no partition is divided by key
//! while one of them is there, and where one was, they get no task of the stage.

use std::collections::BTreeSet;

use firesteel_base::ExecutorId;
use firesteel_engine::stage::adapt::Adapts;

use super::super::job::JobMachine;
use super::super::stage::Stage;

impl JobMachine {
    /// What may be decided of a stage as the cluster is now.
    pub(super) fn adapts(&self, position: usize) -> Adapts {
        let adapts = self.stages[position].plan.adapts.clone();
        let by_key = adapts.by_key && self.members.is_subset(&self.key_readers);
        Adapts { by_key, ..adapts }
    }

    /// Whether an executor knows how to read what lanes of the stage are to read.
    pub(in crate::machine) fn can_read(&self, stage: &Stage, executor: &ExecutorId) -> bool {
        !stage.reads_keys() || self.key_readers.contains(executor)
    }

    /// The executors that do not. Of a large cluster all would be looked at, for nothing where the stage reads no keys.
    pub(in crate::machine) fn cannot_read(&self, stage: &Stage) -> BTreeSet<ExecutorId> {
        if !stage.reads_keys() {
            return BTreeSet::new();
        }
        self.executors.iter().filter(|executor| !self.can_read(stage, executor)).cloned().collect()
    }

    /// Whether there are executors, and none that could run what is left of the stage.
    pub(in crate::machine) fn nobody_can_read(&self, stage: &Stage) -> bool {
        stage.reads_keys()
            && stage.state.launches()
            && !self.executors.is_empty()
            && !self.executors.iter().any(|executor| self.can_read(stage, executor))
            && !stage.pending().is_empty()
    }
}
