//! What a session needs from whoever runs its jobs.

use std::fmt::Debug;
use std::sync::Arc;

use datafusion::error::Result;
use datafusion::execution::SendableRecordBatchStream;
use firesteel_base::StageId;

use crate::run::StageMetrics;
use crate::{Settings, StageGraph};

/// What a plan can count on: how many executors there are now, and how many core threads each lends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClusterShape {
    /// Executors that are up.
    pub executors: usize,
    /// Core threads of the smallest of them: the lanes of a task.
    pub cores_per_executor: usize,
    /// Core threads of all of them: the partitions of a parallel stage.
    pub cores: usize,
    /// True when the one executor lives in this process: plans are then not cut, and travel by pointer.
    pub local: bool,
}

/// A query, cut and ready to run.
#[derive(Debug, Clone)]
pub struct JobSpec {
    /// The stages.
    pub graph: Arc<StageGraph>,
    /// Session settings that attempts need.
    pub settings: Settings,
    /// The text it came from, or a description of it; for people.
    pub sql: String,
    /// Where EXPLAIN ANALYZE wants each attempt's operator metrics; `None` for an ordinary query.
    pub analyze: Option<Arc<MetricsSink>>,
}

/// Collects the operator metrics of a job's committed attempts.
#[derive(Debug, Default)]
pub struct MetricsSink {
    stages: parking_lot::Mutex<Vec<StageMetrics>>,
    notes: parking_lot::Mutex<Vec<(StageId, String)>>,
}

impl MetricsSink {
    /// Adds what one attempt measured.
    pub fn add(&self, metrics: StageMetrics) {
        self.stages.lock().push(metrics);
    }

    /// Adds what was decided of a stage when it was known how much it reads.
    pub fn note(&self, stage: StageId, decision: String) {
        self.notes.lock().push((stage, decision));
    }

    /// What was decided so far, in the order of arrival.
    #[must_use]
    pub fn notes(&self) -> Vec<(StageId, String)> {
        self.notes.lock().clone()
    }

    /// What was measured so far, in the order of arrival.
    #[must_use]
    pub fn taken(&self) -> Vec<StageMetrics> {
        std::mem::take(&mut self.stages.lock())
    }
}

/// Runs jobs: the driver, as a session sees it.
#[async_trait::async_trait]
pub trait JobRunner: Send + Sync + Debug {
    /// The cluster as it is now. May wait for a first executor to come up, with a deadline.
    ///
    /// # Errors
    /// When there is no executor to plan for.
    async fn shape(&self) -> Result<ClusterShape>;

    /// Runs the job and streams the rows of its result stage. Dropping the stream cancels the job. The call itself
    /// does not wait: faults come through the stream.
    ///
    /// # Errors
    /// When the job cannot even be started.
    fn run(&self, job: JobSpec) -> Result<SendableRecordBatchStream>;
}
