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
        let by_key = adapts.by_key && self.cluster.all_read_keys();
        Adapts { by_key, ..adapts }
    }

    /// Whether an executor knows how to read what lanes of the stage are to read.
    pub(in crate::machine) fn can_read(&self, stage: &Stage, executor: &ExecutorId) -> bool {
        self.cluster.reads_keys(executor) || !stage.reads_keys()
    }

    /// The executors that do not.
    pub(in crate::machine) fn cannot_read(&self, stage: &Stage) -> BTreeSet<ExecutorId> {
        if self.cluster.all_read_keys() || !stage.reads_keys() {
            return BTreeSet::new();
        }
        self.cluster.usable_keyless()
    }

    /// Whether there are executors, and none that could run what is left of the stage.
    pub(in crate::machine) fn nobody_can_read(&self, stage: &Stage) -> bool {
        stage.state.launches()
            && !stage.pending().is_empty()
            && self.cluster.none_reads_keys()
            && stage.reads_keys()
    }

    /// Whether some task waits for an executor that knows how, and there are only others.
    pub(in crate::machine) fn waits_for_key_readers(&self) -> bool {
        self.cluster.none_reads_keys() && self.stages.iter().any(|stage| self.nobody_can_read(stage))
    }
}
