//! A job, from its beginning to the return of everything it was lent.
//!
//! ```text
//!             begin             result stage complete
//!   Waiting --------> Running ------------------------> Delivering
//!      |               |  ^                               |   |
//!      |               |  +-- a result block was lost ----+   |
//!      |               |                                      |
//!      |               | failed, cancelled                    | read to the end, failed, cancelled
//!      +---------------+-----------> Ending <-----------------+
//!                                      |
//!                                      | attempts have reported, or did not in time
//!                                      v
//!                                    Ended
//! ```

use std::collections::{BTreeMap, BTreeSet};

use firesteel_base::{AttemptKey, JobId, LeaseId, StageId, Timestamp, UserError};

use super::Life;
use super::attempt::AttemptState;
use super::cluster::Cluster;
use super::drain::Drains;
use super::effect::{Effect, Outcome};
use super::event::Event;
use super::lease::Leases;
use super::map_outputs::MapOutputs;
use super::plan::JobPlan;
use super::policy::Policy;
use super::stage::Stage;
use super::task::TaskState;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum JobState {
    Waiting,
    Running,
    Delivering,
    Ending { outcome: Outcome, since: Timestamp },
    Ended { outcome: Outcome },
}

/// How far the result was handed out: tasks are read in their order.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Reading {
    pub tasks_read: u32,
    /// Some of the next task's rows were handed out.
    pub partly: bool,
}

/// A lease as the job has it: what it tells a manager that may not know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Its number.
    pub lease: LeaseId,
    /// The stage it is for.
    pub stage: StageId,
    /// Where.
    pub life: Life,
    /// Attempts at a time.
    pub tasks: u32,
    /// Core threads of each.
    pub cores_per_task: u32,
    /// Memory of each.
    pub memory_per_task: u64,
}

/// One job.
#[derive(Debug)]
pub struct JobMachine {
    pub(super) job: JobId,
    pub(super) policy: Policy,
    pub(super) state: JobState,
    /// Inputs before consumers; the last is the result stage.
    pub(super) stages: Vec<Stage>,
    positions: BTreeMap<StageId, usize>,
    pub(super) outputs: MapOutputs,
    pub(super) leases: Leases,
    pub(super) cluster: Cluster,
    pub(super) drains: Drains,
    empty_since: Option<Timestamp>,
    /// Lives that are over.
    pub(super) gone: BTreeSet<Life>,
    /// Lives whose blocks may be served elsewhere by now. One that cannot be read condemns all of them.
    pub(super) in_doubt: BTreeSet<Life>,
    /// Lives that may hold something of this job.
    pub(super) used: BTreeSet<Life>,
    pub(super) reading: Reading,
    /// What was taken back of the result because the rows before it are divided anew. It may have been read already.
    pub(super) rolled_back: BTreeSet<AttemptKey>,
}

impl JobMachine {
    /// A job that waits for [`Event::Begin`].
    ///
    /// # Panics
    /// When the plan is not a stage graph: no stage, a stage before its inputs, two of one id, no lanes.
    #[must_use]
    pub fn new(plan: JobPlan, policy: Policy) -> Self {
        let mut machine = Self {
            job: plan.job,
            policy,
            state: JobState::Waiting,
            stages: Vec::with_capacity(plan.stages.len()),
            positions: BTreeMap::new(),
            outputs: MapOutputs::default(),
            leases: Leases::default(),
            cluster: Cluster::default(),
            drains: Drains::default(),
            empty_since: None,
            gone: BTreeSet::new(),
            in_doubt: BTreeSet::new(),
            used: BTreeSet::new(),
            reading: Reading::default(),
            rolled_back: BTreeSet::new(),
        };
        assert!(!plan.stages.is_empty(), "a job has a result stage");
        for stage in plan.stages {
            machine.add_stage(Stage::new(stage));
        }
        machine
    }

    fn add_stage(&mut self, mut stage: Stage) {
        let id = stage.plan.id;
        let position = self.stages.len();
        stage.inputs = stage.plan.inputs.iter().map(|input| self.positions[input]).collect();
        for &input in &stage.inputs {
            self.stages[input].consumers.push(position);
        }
        self.outputs.add_stage(id, stage.plan.tasks());
        assert!(self.positions.insert(id, position).is_none(), "two stages have the id {id}");
        self.stages.push(stage);
    }

    /// Takes in one event and appends to `effects` what is to be done about it.
    pub fn step(&mut self, now: Timestamp, event: Event, effects: &mut Vec<Effect>) {
        match event {
            Event::Begin => self.begin(),
            Event::ClusterChanged { came, gone } => self.cluster_changed(came, &gone, effects),
            Event::Draining { workers } => self.draining(workers, effects),
            Event::OutputTaken { producer, life } => self.output_taken(producer, life, effects),
            Event::OutputNotTaken { producer, life } => self.output_not_taken(producer, life),
            Event::Granted { lease, stage, life, tasks } => {
                self.granted(now, lease, stage, life, tasks, effects)
            }
            Event::Revoked { lease, tasks } => self.leases.revoke(lease, tasks),
            Event::DemandRefused { stage, reason } => self.refused(now, stage, &reason, effects),
            Event::AttemptStarted { attempt, life } => self.started(attempt, &life),
            Event::AttemptProgress { attempt, life, rows, bytes } => {
                self.progressed(attempt, &life, rows, bytes)
            }
            Event::AttemptFinished { attempt, life, lanes } => {
                self.finished(attempt, life, lanes, now, effects)
            }
            Event::AttemptFailed { attempt, life, failure } => {
                self.failed(now, attempt, &life, failure, effects)
            }
            Event::ExecutorGone { life, reason, blocks_kept } => {
                self.executor_gone(now, life, &reason, blocks_kept, effects)
            }
            Event::LinkLost { life, reason, blocks_kept } => {
                self.link_lost(now, &life, &reason, blocks_kept, effects)
            }
            Event::ResultBegun { producer } => self.result_begun(now, producer, effects),
            Event::ResultTaskRead { producer } => self.result_task_read(now, producer, effects),
            Event::ResultRead => self.end(now, Outcome::Succeeded, effects),
            Event::ResultFetchFailed { producer, error } => {
                self.result_unreadable(now, producer, &error, effects)
            }
            Event::Cancel { reason } => self.end(now, Outcome::Cancelled(reason), effects),
            Event::ManagerBack { leases } => self.manager_back(&leases),
            Event::ManagerLost { error } => self.end(now, Outcome::Failed(error), effects),
            Event::PlanFailed { error } => self.end(now, Outcome::Failed(error), effects),
            Event::Tick => {}
        }
        self.watch_cluster(now, effects);
        self.advance(now, effects);
    }

    /// When [`Event::Tick`] must come at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        match &self.state {
            JobState::Waiting | JobState::Running | JobState::Delivering => {
                let empty = self.empty_since.map(|since| since + self.policy.no_executors_wait_max);
                self.stages.iter().filter_map(|stage| stage.experience.look_at()).chain(empty).min()
            }
            JobState::Ending { since, .. } => Some(*since + self.policy.ending_wait_max),
            JobState::Ended { .. } => None,
        }
    }

    /// The job.
    #[must_use]
    pub fn job(&self) -> JobId {
        self.job
    }

    /// True when what this attempt wrote is its task's output.
    #[must_use]
    pub fn is_committed(&self, attempt: AttemptKey) -> bool {
        self.outputs.get(attempt.task).is_some_and(|output| output.producer == attempt)
    }

    /// True when the stage is one of this job's.
    #[must_use]
    pub fn has_stage(&self, stage: StageId) -> bool {
        self.positions.contains_key(&stage)
    }

    /// Tasks of the result stage.
    #[must_use]
    pub fn result_tasks(&self) -> u32 {
        self.stages[self.result_position()].plan.tasks()
    }

    /// The leases that it holds.
    #[must_use]
    pub fn held(&self) -> Vec<Held> {
        let held = |(id, lease): (LeaseId, &super::lease::Lease)| {
            let plan = &self.stages[self.position(lease.stage)?].plan;
            Some(Held {
                lease: id,
                stage: lease.stage,
                life: lease.life.clone(),
                tasks: lease.slots,
                cores_per_task: plan.cores_per_task(),
                memory_per_task: plan.memory_per_task,
            })
        };
        self.leases.iter().filter_map(held).collect()
    }

    /// Lives that are over for it.
    #[must_use]
    pub fn gone(&self) -> &BTreeSet<Life> {
        &self.gone
    }

    /// True when everything was given back and nothing more is to come.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        matches!(self.state, JobState::Ended { .. })
    }

    pub(super) fn is_active(&self) -> bool {
        match self.state {
            JobState::Running | JobState::Delivering => true,
            JobState::Waiting | JobState::Ending { .. } | JobState::Ended { .. } => false,
        }
    }

    pub(super) fn position(&self, stage: StageId) -> Option<usize> {
        self.positions.get(&stage).copied()
    }

    pub(super) fn result_position(&self) -> usize {
        self.stages.len() - 1
    }

    /// The position of the attempt's stage, when the attempt is one of this job's.
    pub(super) fn position_of(&self, attempt: AttemptKey) -> Option<usize> {
        let position = self.position(attempt.stage()).filter(|_| attempt.job() == self.job)?;
        ((attempt.task.task as usize) < self.stages[position].tasks.len()).then_some(position)
    }

    fn begin(&mut self) {
        if self.state == JobState::Waiting {
            self.state = JobState::Running;
        }
    }

    fn granted(
        &mut self,
        now: Timestamp,
        lease: LeaseId,
        stage: StageId,
        life: Life,
        tasks: u32,
        effects: &mut Vec<Effect>,
    ) {
        let position = self.position(stage);
        let of_no_use = position.is_none() || self.gone.contains(&life);
        if tasks == 0 || !self.leases.take(lease, stage, life, tasks) {
            return;
        }
        if let Some(position) = position {
            self.stages[position].demand.granted(now, tasks);
        }
        if of_no_use {
            self.release(lease, tasks, effects);
        }
    }

    pub(super) fn release(&mut self, lease: LeaseId, tasks: u32, effects: &mut Vec<Effect>) {
        self.leases.shrink(lease, tasks);
        effects.push(Effect::ReleaseSlots { lease, tasks });
    }

    /// Without the exclusions there may be an executor; without an executor there is no job.
    fn refused(&mut self, now: Timestamp, stage: StageId, reason: &str, effects: &mut Vec<Effect>) {
        let Some(position) = self.position(stage).filter(|_| self.is_active()) else { return };
        let stage = &mut self.stages[position];
        if !stage.demand.is_open() {
            return;
        }
        let excluded = stage.demand.excludes();
        stage.demand.forgotten();
        if excluded {
            stage.failures.clear();
            stage.tasks.iter_mut().for_each(|task| task.avoid = None);
            return;
        }
        let error =
            UserError::new(format!("no executor of the cluster can run a task of {}", stage.key(self.job)))
                .detail(reason)
                .hint("ask for less memory or fewer cores per task, or add larger executors");
        self.end(now, Outcome::Failed(error), effects);
    }

    /// Attempts that run go on, in a slot or without one.
    fn manager_back(&mut self, leases: &BTreeSet<LeaseId>) {
        self.leases.keep_only(leases);
        self.drains.forget_told();
        self.stages.iter_mut().for_each(|stage| stage.demand.forgotten());
    }

    fn watch_cluster(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        let is_stuck =
            self.cluster.is_empty() || self.waits_for_the_drained() || self.waits_for_key_readers();
        if !is_stuck || !self.is_active() {
            self.empty_since = None;
            return;
        }
        let since = *self.empty_since.get_or_insert(now);
        if now >= since + self.policy.no_executors_wait_max {
            self.end(now, Outcome::Failed(self.no_executor()), effects);
        }
    }

    fn no_executor(&self) -> UserError {
        let waited = self.policy.no_executors_wait_max.as_secs();
        if self.cluster.is_empty() {
            return UserError::new(format!("{} cannot go on: the cluster has no executor", self.job))
                .detail(format!("the last one left {waited} s ago"))
                .hint("are the workers running? `firesteel nodes` lists them");
        }
        if let Some(stage) = self.stages.iter().find(|stage| self.nobody_can_read(stage)) {
            let stage = stage.key(self.job);
            return UserError::new(format!("{stage} cannot go on: all executors are of an older release"))
                .detail(format!("there has been none for {waited} s that can read some keys of a partition"))
                .hint("run the query again");
        }
        UserError::new(format!("{} cannot go on: every worker is being drained", self.job))
            .detail(format!("there has been none for its tasks for {waited} s"))
            .hint("start another worker, or keep one with `firesteel nodes undrain NODE`")
    }

    fn advance(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        if self.is_active() {
            self.schedule(now, effects);
        }
        match &self.state {
            JobState::Waiting | JobState::Running | JobState::Delivering => {}
            JobState::Ending { since, .. } => {
                let since = *since;
                self.release_idle(effects);
                self.close_when_quiet(now, since, effects);
            }
            JobState::Ended { .. } => self.release_idle(effects),
        }
    }

    /// Decides how the job ends, once.
    pub(super) fn end(&mut self, now: Timestamp, outcome: Outcome, effects: &mut Vec<Effect>) {
        match self.state {
            JobState::Waiting | JobState::Running | JobState::Delivering => {}
            JobState::Ending { .. } | JobState::Ended { .. } => return,
        }
        let reason = match &outcome {
            Outcome::Succeeded => "the result has been read".to_owned(),
            Outcome::Failed(error) => format!("the job failed: {}", error.message),
            Outcome::Cancelled(reason) => reason.clone(),
        };
        effects.push(Effect::Settled(outcome.clone()));
        self.state = JobState::Ending { outcome, since: now };
        self.withdraw_demands(now, effects);
        for position in 0..self.stages.len() {
            self.cancel_attempts(position, &reason, effects);
        }
    }

    /// Cancels the attempts of a stage that still count; their tasks need a slot again, should anyone want them.
    pub(super) fn cancel_attempts(&mut self, position: usize, reason: &str, effects: &mut Vec<Effect>) {
        for task in 0..self.stages[position].plan.tasks() {
            self.cancel_task(position, task, reason, effects);
        }
    }

    pub(super) fn cancel_task(
        &mut self,
        position: usize,
        number: u32,
        reason: &str,
        effects: &mut Vec<Effect>,
    ) {
        let stage = &mut self.stages[position];
        let task = stage.task_mut(number);
        for attempt in task.live.iter_mut().filter(|attempt| attempt.counts()) {
            attempt.state = AttemptState::Cancelling;
            let (attempt, life) = (attempt.key, attempt.life.clone());
            effects.push(Effect::CancelAttempt { attempt, life, reason: reason.to_owned() });
        }
        if task.state == TaskState::Running {
            stage.set(number, TaskState::Pending);
        }
    }

    fn close_when_quiet(&mut self, now: Timestamp, since: Timestamp, effects: &mut Vec<Effect>) {
        let quiet = self.stages.iter().flat_map(|stage| &stage.tasks).all(|task| task.live.is_empty());
        if !quiet && now < since + self.policy.ending_wait_max {
            return;
        }
        for (lease, tasks) in self.leases.drop_all() {
            effects.push(Effect::ReleaseSlots { lease, tasks });
        }
        let JobState::Ending { outcome, .. } = &self.state else { unreachable!("only an ending job closes") };
        let outcome = outcome.clone();
        self.state = JobState::Ended { outcome: outcome.clone() };
        let lives = std::mem::take(&mut self.used).into_iter().collect();
        effects.push(Effect::Close { outcome, rows: self.result_rows(), lives });
    }
}
