//! What the manager was told that a stage needs, and when it must be told anew.
//!
//! ```text
//!             tasks need slots                     granted              all granted, or not needed any more
//!   nothing ------------------> demanded(n tasks) --------> demanded(n - granted) ------------------> nothing
//! ```
//!
//! The manager takes what it grants off the demand. So what it believes is known here, and it is told only when that
//! is not what is needed: a demand that crosses a grant on its way does no harm but a slot lent and given back.

use std::collections::BTreeSet;
use std::sync::Arc;

use firesteel_base::{ExecutorId, Timestamp};

use super::effect::{Demand, Effect};
use super::job::JobMachine;
use super::stage::{Stage, StageState};

#[derive(Debug, Default)]
pub(super) struct DemandState {
    /// Tasks that the manager still means to find slots for.
    believed: u32,
    last: Option<Demand>,
    /// It granted more than it was thought to believe.
    surprised: bool,
    /// Since when tasks wait for slots without getting any.
    pub waiting_since: Option<Timestamp>,
}

impl DemandState {
    /// The manager lends `tasks` slots.
    pub fn granted(&mut self, now: Timestamp, tasks: u32) {
        self.surprised |= tasks > self.believed;
        self.believed = self.believed.saturating_sub(tasks);
        self.waiting_since = self.waiting_since.map(|_| now);
    }

    /// The manager knows nothing of it any more.
    pub fn forgotten(&mut self) {
        self.believed = 0;
        self.last = None;
    }

    pub fn is_open(&self) -> bool {
        self.believed > 0
    }

    /// True when any executor was excluded in what was said last.
    pub fn excludes(&self) -> bool {
        self.last.as_ref().is_some_and(|demand| !demand.excluded.is_empty())
    }

    /// The demand to be sent so that the manager believes `demand`, if it does not already.
    fn update(&mut self, now: Timestamp, demand: Demand) -> Option<Demand> {
        let surprised = std::mem::take(&mut self.surprised);
        let waits = demand.tasks > 0 && !demand.early;
        self.waiting_since = waits.then(|| self.waiting_since.unwrap_or(now));
        let nothing = demand.tasks == 0 && self.believed == 0;
        let known =
            demand.tasks == self.believed && self.last.as_ref().is_some_and(|last| last.is_alike(&demand));
        if !surprised && (nothing || known) {
            return None;
        }
        let is_less = !surprised && demand.tasks > 0 && demand.tasks < self.believed;
        let is_alike = self.last.as_ref().is_some_and(|last| last.is_alike(&demand));
        let less = (is_less && is_alike).then(|| self.believed - demand.tasks);
        self.believed = demand.tasks;
        self.last = Some(demand.clone());
        Some(Demand { less, ..demand })
    }
}

impl Demand {
    /// Whether both are the same but for how many tasks they are of.
    fn is_alike(&self, other: &Self) -> bool {
        let is_same_place = Arc::ptr_eq(&self.inputs, &other.inputs) || self.inputs == other.inputs;
        is_same_place && self.excluded == other.excluded && self.early == other.early
    }
}

impl JobMachine {
    /// Tells the manager of every stage whose need is not what it believes.
    pub(super) fn sync_demands(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        for index in 0..self.stages.len() {
            let demand = self.demand_of(index);
            effects.extend(self.stages[index].demand.update(now, demand).map(Effect::Demand));
        }
    }

    /// Withdraws all demands.
    pub(super) fn withdraw_demands(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        for stage in &mut self.stages {
            let nothing = bare_demand(stage, 0);
            effects.extend(stage.demand.update(now, nothing).map(Effect::Demand));
        }
    }

    fn demand_of(&self, index: usize) -> Demand {
        let stage = &self.stages[index];
        let tasks = match stage.state {
            StageState::Running | StageState::Early if self.nobody_can_read(stage) => 0,
            StageState::Running | StageState::Early => {
                u32::try_from(stage.pending().len()).expect("tasks are numbered in 32 bits")
            }
            StageState::Blocked | StageState::Complete | StageState::Released => 0,
        };
        if tasks == 0 && stage.state == StageState::Running && !stage.stragglers().is_empty() {
            return self.demand_for_stragglers(stage);
        }
        let mut demand = bare_demand(stage, tasks);
        if tasks > 0 {
            demand.early = stage.state == StageState::Early;
            demand.inputs = Arc::clone(stage.places.totals());
            demand.excluded = self.useless_executors(stage).into_iter().collect();
        }
        demand
    }

    /// Slots that nobody else needs, where not all of them run already.
    fn demand_for_stragglers(&self, stage: &Stage) -> Demand {
        let excluded = self.excluded(stage);
        let excluded: BTreeSet<_> = excluded.union(&stage.executors_of_stragglers()).cloned().collect();
        if !self.cluster.has_usable(|executor| excluded.contains(executor)) {
            return bare_demand(stage, 0);
        }
        let count = u32::try_from(stage.stragglers().len()).expect("tasks are numbered in 32 bits");
        let mut demand = bare_demand(stage, count);
        demand.early = true;
        demand.inputs = Arc::clone(stage.places.totals());
        demand.excluded = excluded.into_iter().collect();
        demand
    }

    /// Executors whose slots no pending task of the stage would take.
    fn useless_executors(&self, stage: &Stage) -> BTreeSet<ExecutorId> {
        let mut useless = self.excluded(stage);
        let mut pending = stage.pending().iter().map(|&task| stage.tasks[task as usize].avoid.as_ref());
        if let Some(Some(avoided)) = pending.next()
            && self.can_avoid(stage, avoided)
            && pending.all(|other| other == Some(avoided))
        {
            useless.insert(avoided.clone());
        }
        useless
    }

    /// Executors on which the stage has failed too often, none when nothing would be left; and those that cannot read what it reads.
    pub(super) fn excluded(&self, stage: &Stage) -> BTreeSet<ExecutorId> {
        let limit = self.policy.failures_per_executor_max;
        let failing = stage.failures.iter().filter(|&(_, &failures)| failures >= limit);
        let failing: BTreeSet<_> = failing.map(|(executor, _)| executor.clone()).collect();
        let mut excluded = self.cannot_read(stage);
        let all: BTreeSet<_> = failing.union(&excluded).cloned().collect();
        if self.cluster.has_usable(|executor| all.contains(executor)) {
            excluded = all;
        }
        excluded
    }

    /// True when there is an executor other than `avoided` that the stage may use.
    pub(super) fn can_avoid(&self, stage: &Stage, avoided: &ExecutorId) -> bool {
        let excluded = self.excluded(stage);
        self.cluster.has_usable(|executor| executor == avoided || excluded.contains(executor))
    }
}

fn bare_demand(stage: &Stage, tasks: u32) -> Demand {
    let plan = &stage.plan;
    Demand {
        stage: plan.id,
        tasks,
        cores_per_task: plan.cores_per_task(),
        memory_per_task: plan.memory_per_task,
        inputs: Arc::default(),
        output: plan.output,
        output_bytes: plan.estimated_bytes,
        excluded: Vec::new(),
        early: false,
        less: None,
    }
}
