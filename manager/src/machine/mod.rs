//! The manager's logic: what happened goes in, what is to be done comes out.
//!
//! Every thing with a life has its own file, which opens with its states: [`node`], [`executor`], [`driver`], [`job`], [`lease`].
//! `admission` says which jobs are taken and when a submitted one gets a place for its driver, `launch` runs drivers in cluster deploy mode, `resume` lets drivers and executors outlive a connection or the manager itself, [`drain`] empties workers that are to go,
//! [`queue`] says whose turn it is and [`share`] what is fair, `schedule` lends slots as `turns` come, `refuse` says which never could be lent, and `revoke`
//! asks them back, [`show`] is what clients see.

mod admission;
mod check;
pub mod drain;
pub mod driver;
pub mod executor;
pub mod job;
mod launch;
pub mod lease;
pub mod message;
pub mod node;
pub mod queue;
mod refuse;
mod resume;
mod revoke;
pub mod rights;
mod schedule;
pub mod share;
pub mod show;
mod silence;
#[cfg(test)]
mod tests;
mod turns;
mod work;

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use firesteel_base::{Epoch, ExecutorId, JobId, StageId, StageKey, Timestamp};

use crate::ManagerConfig;
use crate::placement::{Cluster, Inputs};
use drain::Drains;
use driver::Drivers;
use job::{Job, Jobs, Phase};
use lease::Leases;
use message::{ClusterChange, Effect, Ending, Event, Members, ToDriver, ToWorker};
use node::Nodes;
use resume::Claims;
use schedule::Shares;
use turns::Standings;
pub use work::Work;

/// All that the manager knows.
#[derive(Debug)]
pub struct Machine {
    config: ManagerConfig,
    nodes: Nodes,
    drivers: Drivers,
    jobs: Jobs,
    leases: Leases,
    /// What drivers hold on executors that have not come back yet.
    claims: Claims,
    drains: Drains,
    /// Jobs of an earlier manager whose drivers have not come back.
    returning: BTreeSet<JobId>,
    /// Until when executors wait for these.
    returning_until: Timestamp,
    /// The executors that may get tasks, until one comes or goes.
    cluster: Option<Cluster>,
    /// In that cluster, where the input of stages lies that still need slots.
    located: BTreeMap<StageKey, Arc<Inputs>>,
    standings: Standings,
    shares: Shares,
    /// The last one given out, to any executor.
    last_epoch: Epoch,
    /// Lives that an earlier manager began and this one has ended: the latest of each executor. Drivers have heard that they are over.
    /// There are no more than executors were up when this manager began.
    ended: BTreeMap<ExecutorId, Epoch>,
    /// Executors came or went in this step, or others are drained: drivers are to be told.
    cluster_changed: bool,
    /// Which came or went.
    came_or_went: BTreeSet<ExecutorId>,
    /// Slots, demands or executors changed in this step: there may be something to lend.
    slots_changed: bool,
    /// A job was submitted, or a worker can run another driver.
    launch_due: bool,
    /// How many jobs come before each that waits for a place for its driver, since somebody asked.
    jobs_before: OnceCell<BTreeMap<JobId, usize>>,
    work: Work,
}

impl Machine {
    /// A manager of an empty cluster.
    #[must_use]
    pub fn new(config: ManagerConfig) -> Self {
        Self {
            last_epoch: Epoch(config.epoch_seed),
            nodes: Nodes::default(),
            drivers: Drivers::default(),
            jobs: Jobs::default(),
            leases: Leases::counting_from(config.lease_seed),
            claims: Claims::default(),
            drains: Drains::counting_from(config.epoch_seed),
            returning: BTreeSet::new(),
            returning_until: Timestamp::default(),
            cluster: None,
            located: BTreeMap::new(),
            standings: Standings::default(),
            shares: Shares::default(),
            ended: BTreeMap::new(),
            cluster_changed: false,
            came_or_went: BTreeSet::new(),
            slots_changed: false,
            launch_due: false,
            jobs_before: OnceCell::new(),
            work: Work::default(),
            config,
        }
    }

    /// Takes in what happened at `now` and appends what is to be done. `now` never goes back.
    pub fn step(&mut self, now: Timestamp, event: Event, effects: &mut Vec<Effect>) {
        self.hear(now, event, effects);
        self.settle(now, effects);
    }

    /// Takes in what happened at `now`, one thing of several at a time; [`settle`](Self::settle) follows the last of them.
    pub fn hear(&mut self, now: Timestamp, event: Event, effects: &mut Vec<Effect>) {
        match event {
            Event::Worker(session, event) => self.on_worker(now, session, event, effects),
            Event::Driver(session, event) => self.on_driver(now, session, event, effects),
            Event::Client(ticket, rights, request) => self.on_client(now, ticket, &rights, request, effects),
            Event::Tick => {
                self.tick_nodes(now, effects);
                self.tick_drivers(now, effects);
                self.tick_jobs(now, effects);
            }
            Event::Absence(span) => self.forgive_silence(now, span),
        }
    }

    /// How much it has looked at to lend slots.
    #[must_use]
    pub fn work(&self) -> Work {
        self.work
    }

    /// Everybody was heard so much later, and whoever is waited for is waited for so much longer.
    fn forgive_silence(&mut self, now: Timestamp, span: Duration) {
        let later = |at: Timestamp| (at + span).min(now);
        for node in self.nodes.iter_mut() {
            node.heard = later(node.heard);
        }
        self.drivers.iter_mut().for_each(|driver| driver.heard = later(driver.heard));
        self.returning_until = self.returning_until + span;
        for job in self.jobs.iter_live_mut() {
            match &mut job.phase {
                Phase::Launching { since } => *since = later(*since),
                Phase::Detached { until } => *until = *until + span,
                Phase::Submitted | Phase::Open { .. } | Phase::Ended(_) => {}
            }
        }
    }

    /// Draws the conclusions of what was heard, and lends slots: drivers hear of executors before they get slots on them.
    pub fn settle(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        if std::mem::take(&mut self.launch_due) {
            self.launch_submitted(now, effects);
            self.jobs_before.take();
        }
        if std::mem::take(&mut self.cluster_changed) {
            let change = Arc::new(self.cluster_change());
            for session in self.drivers.sessions() {
                effects.push(Effect::ToDriver(session, ToDriver::ClusterChanged(Arc::clone(&change))));
            }
        }
        if std::mem::take(&mut self.slots_changed) || self.shares.are_due(now) {
            self.schedule(now, effects);
        }
        self.settle_drains(effects);
    }

    /// The cluster as drivers know it.
    #[must_use]
    pub fn members(&self) -> Members {
        Members { executors: self.nodes.shapes(), draining: self.drains.workers() }
    }

    /// How it is other than they know.
    fn cluster_change(&mut self) -> ClusterChange {
        let mut change = ClusterChange { draining: self.drains.workers(), ..ClusterChange::default() };
        for executor in std::mem::take(&mut self.came_or_went) {
            match self.nodes.shape(&executor) {
                Some(shape) => change.came.push(shape),
                None => change.gone.push(executor),
            }
        }
        change
    }

    /// The one way for a job to end: its leases end with it, and the history takes it.
    fn end_job(&mut self, now: Timestamp, id: JobId, ending: Ending, effects: &mut Vec<Effect>) {
        self.leases.end_job(id);
        self.claims.end_job(id);
        let stages = StageKey { job: id, stage: StageId(0) }..=StageKey { job: id, stage: StageId(u32::MAX) };
        self.located.extract_if(stages, |_, _| true).for_each(drop);
        self.returning.remove(&id);
        self.slots_changed = true;
        self.launch_due = true;
        if let Some(driver) = self.jobs.live(id).and_then(Job::driver) {
            self.drivers.forget_job(driver, id);
        }
        let limits = &self.config.limits;
        let forgotten = self.jobs.end(id, ending, now, limits.ended_jobs, limits.ended_text_bytes);
        effects.extend(self.jobs.get(id).map(Job::keep));
        effects.push(Effect::JobEnded(id));
        let keepers = self.nodes.present().filter(|node| node.keeps_blocks).filter_map(|node| node.session);
        effects.extend(keepers.map(|session| Effect::ToWorker(session, ToWorker::FreeKept(id))));
        if let Some(job) = forgotten {
            effects.push(Effect::Forget(job.id));
            self.free_result(&job, effects);
        }
    }

    fn free_result(&self, job: &Job, effects: &mut Vec<Effect>) {
        let kept = job.launch.as_ref().filter(|launch| launch.result_address.is_some());
        let worker = kept.and_then(|launch| launch.worker.as_ref()).and_then(|id| self.nodes.get(id));
        if let Some(session) = worker.and_then(|node| node.session) {
            effects.push(Effect::ToWorker(session, ToWorker::FreeResult(job.id)));
        }
    }
}
