//! A query in a driver loop: from its request to the end of its machine.

use std::sync::Arc;

use firesteel_base::{AttemptKey, JobId, StageId, StageKey, Timestamp, UserError};
use firesteel_engine::codec;
use firesteel_engine::datafusion::error::DataFusionError;
use firesteel_engine::run::StageMetrics;
use firesteel_engine::stage::adapt;
use firesteel_protocol::v1;
use firesteel_shuffle::MapOutput;

use super::convert;
use super::messages::{JobRequest, PreparedStage, StageOffset};
use crate::machine::{Decision, JobMachine, JobPhase, JobPlan, Outcome, Policy, StagePlan};
use crate::progress::{JobProgress, Measured, Phase, StageProgress};

pub(super) struct Running {
    pub request: JobRequest,
    pub offset: StageOffset,
    /// Names the wish to open a job, as the manager echoes it.
    pub opening: u64,
    /// The job as the manager knows it now; another one after the manager was away.
    pub manager_job: Option<JobId>,
    /// The manager that gave it the number under which its attempts run.
    pub opened_by: u64,
    /// None while the job is not opened.
    pub machine: Option<JobMachine>,
    /// What an attempt measured whose end the machine is about to hear of.
    pub measured: Option<(AttemptKey, v1::AttemptMetrics)>,
    /// What the attempts that count have measured.
    pub totals: Measured,
}

impl Running {
    /// Makes the machine, now that the job has a number.
    pub fn open(&mut self, job: JobId, policy: Policy) {
        let stages = self.request.stages.iter().map(|stage| self.stage_plan(stage)).collect();
        self.machine = Some(JobMachine::new(JobPlan { job, stages }, policy));
        self.manager_job = Some(job);
    }

    fn stage_plan(&self, prepared: &PreparedStage) -> StagePlan {
        let stage = &prepared.stage;
        let partitions = u32::try_from(stage.partitions).expect("partitions are counted in 32 bits");
        StagePlan {
            id: self.offset.apply(stage.id),
            partitions,
            lanes: self.request.lanes.max(1),
            inputs: stage.inputs.iter().map(|input| self.offset.apply(*input)).collect(),
            told_by: stage.told_by.iter().map(|input| self.offset.apply(*input)).collect(),
            output: convert::output_kind(&stage.output),
            tells: stage.writes_aside(),
            adapts: stage.adapts.renamed(|input| self.offset.apply(input)),
            estimated_bytes: stage.estimated_bytes,
            memory_per_task: 0,
        }
    }

    /// The id past all of its stages.
    pub fn stages_end(&self) -> u32 {
        let count = u32::try_from(self.request.stages.len()).expect("stages are counted in 32 bits");
        self.offset.0 + count
    }

    pub fn prepared(&self, stage: StageId) -> &PreparedStage {
        let id = self.offset.remove(stage);
        let found = self.request.stages.iter().find(|prepared| prepared.stage.id == id);
        found.expect("the machine speaks of this job's stages only")
    }

    /// Makes a stage a part of the one that makes the rows of its probe side.
    pub fn absorb(&mut self, stage: StageId, probe: StageId) -> Result<(), UserError> {
        let absorb = || {
            let absorbed = adapt::absorb(&self.prepared(stage).stage, &self.prepared(probe).stage)?;
            let encoded = codec::encode(&absorbed)?;
            Ok::<_, DataFusionError>((absorbed, encoded))
        };
        let (absorbed, encoded) = absorb().map_err(|fault| {
            UserError::new(format!("{stage} could not be made a part of {probe}"))
                .detail(fault.strip_backtrace())
                .hint("set firesteel.adaptive = false runs the query as planned")
        })?;
        let digest = codec::digest(&encoded);
        let id = absorbed.id;
        let place = self.request.stages.iter_mut().find(|prepared| prepared.stage.id == id);
        *place.expect("a stage of this job") =
            PreparedStage { stage: Arc::new(absorbed), encoded: Some(encoded), digest };
        Ok(())
    }

    /// Keeps what was decided of a stage for EXPLAIN ANALYZE.
    pub fn note(&self, stage: StageId, decision: Decision) {
        let decision = decision.renamed(|stage| self.offset.remove(stage)).to_string();
        let stage = self.offset.remove(stage);
        tracing::debug!(job = ?self.manager_job, %stage, decision);
        if let Some(sink) = &self.request.analyze {
            sink.note(stage, decision);
        }
    }

    /// What a manager is told that may know nothing of it, when it was opened before.
    pub fn resume(&self, open: v1::OpenJob) -> v1::OpenJob {
        let (Some(machine), Some(job)) = (&self.machine, self.manager_job) else { return open };
        v1::OpenJob {
            resumed_job: Some(job.0),
            leases: machine.held().iter().map(convert::held_lease).collect(),
            gone: machine.gone().iter().map(convert::executor_life).collect(),
            ..open
        }
    }

    /// All of its stages, as executors name them.
    pub fn stage_keys(&self) -> Vec<StageKey> {
        let Some(machine) = &self.machine else { return Vec::new() };
        let key = |prepared: &PreparedStage| StageKey {
            job: machine.job(),
            stage: self.offset.apply(prepared.stage.id),
        };
        self.request.stages.iter().map(key).collect()
    }

    /// True when the manager means this query by that job and stage.
    pub fn is_at_manager(&self, job: JobId, stage: StageId) -> bool {
        self.manager_job == Some(job) && self.machine.as_ref().is_some_and(|machine| machine.has_stage(stage))
    }

    pub fn owns(&self, attempt: AttemptKey) -> bool {
        let of = |machine: &JobMachine| machine.job() == attempt.job() && machine.has_stage(attempt.stage());
        self.machine.as_ref().is_some_and(of)
    }

    /// Lets the result be read.
    pub fn show_result(&self, outputs: Arc<[MapOutput]>) {
        let tasks = self.machine.as_ref().map_or(0, JobMachine::result_tasks);
        self.request.view.send_modify(|view| {
            view.tasks = tasks;
            view.outputs = Some(outputs);
        });
    }

    pub fn settle(&self, outcome: &Outcome) {
        self.request.view.send_modify(|view| view.outcome = Some(outcome.clone()));
    }

    pub fn progress(&self, now: Timestamp) -> JobProgress {
        let Some(machine) = &self.machine else {
            return JobProgress { phase: Phase::Opening, ..JobProgress::default() };
        };
        let snapshot = machine.snapshot();
        let stage = |stage: &crate::machine::StageSnapshot| StageProgress {
            stage: stage.stage,
            tasks: stage.tasks,
            running: stage.running,
            done: stage.done,
            failed_attempts: stage.failed_attempts,
            rows: stage.rows,
            bytes: stage.bytes,
        };
        JobProgress {
            job: self.manager_job,
            phase: match &snapshot.phase {
                JobPhase::Waiting => Phase::Opening,
                JobPhase::Running => Phase::Running,
                JobPhase::Delivering => Phase::Delivering,
                JobPhase::Ended(Outcome::Succeeded) => Phase::Succeeded,
                JobPhase::Ended(Outcome::Failed(_)) => Phase::Failed,
                JobPhase::Ended(Outcome::Cancelled(_)) => Phase::Cancelled,
            },
            stages: snapshot.stages.iter().map(stage).collect(),
            waiting_for_slots: snapshot.waiting_for_slots_since.map(|since| now - since),
            measured: self.totals,
        }
    }

    /// Keeps what an attempt measured, when the machine counts it: EXPLAIN ANALYZE reads it as soon as the last rows are
    /// there, so this comes before anybody hears of them.
    pub fn keep_measured(&mut self) {
        let Some((attempt, metrics)) = self.measured.take() else { return };
        if !self.machine.as_ref().is_some_and(|machine| machine.is_committed(attempt)) {
            return;
        }
        self.totals.read += metrics.bytes_read;
        self.totals.fetched += metrics.bytes_fetched;
        self.totals.spilled += metrics.spilled_bytes;
        self.totals.copied += metrics.bytes_copied;
        let Some(sink) = self.request.analyze.as_ref() else { return };
        if metrics.operators_json.is_empty() {
            return;
        }
        match serde_json::from_str::<StageMetrics>(&metrics.operators_json) {
            Ok(stage) => sink.add(stage),
            Err(fault) => tracing::warn!(%attempt, %fault, "ignored an attempt's metrics"),
        }
    }
}
