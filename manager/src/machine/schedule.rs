//! Lending slots: in the fair order, placed by [`placement`](crate::placement).
//!
//! A round asks whose turn it is until nothing free is left, places all turns of a stage at once, and repeats with what
//! did not fit aside. A stage whose turn it is and which does not fit, although its job is below its fair share,
//! *reserves* executors: what is free there is kept for it, or narrow tasks would starve wide ones. What is free then,
//! and reserved by nobody, goes to *early* demands, whose tasks would wait for others: in the same order, but they
//! reserve nothing, count for no share, and nothing is asked back for them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use firesteel_base::{ExecutorId, JobId, LeaseId, StageKey, Timestamp};

use super::Machine;
use super::lease::Lease;
use super::message::{Demand, Effect, Grant, ToDriver};
use super::node::Node;
use super::share::{Appetite, fair_shares};
use crate::placement::{Cluster, Inputs, Placement, Request, Site, fitting, place};

/// How many stages may reserve executors at a time.
const RESERVING_STAGES_MAX: usize = 16;

/// Slots are asked back again after a pause of a millisecond for so many live jobs, and at once where there are fewer. What is fair is worked
/// out for all of them, which takes two to three microseconds each: so a twentieth of a processor is the most that goes into it, however
/// many they are, and a job among 1,000 waits 63 ms longer for slots that it gets back when their tasks end.
const JOBS_PER_MILLISECOND: u64 = 16;

/// What each live job was entitled to when that was worked out last.
#[derive(Debug, Default)]
pub struct Shares {
    cores: Arc<BTreeMap<JobId, u64>>,
    /// They are fair enough until then, and only then slots are asked back again.
    until: Timestamp,
    /// Jobs waited for slots when it was too early to ask for them.
    pub is_due: bool,
}

impl Shares {
    /// Whether slots that jobs wait for are to be asked back now.
    #[must_use]
    pub fn are_due(&self, now: Timestamp) -> bool {
        self.is_due && now >= self.until
    }
}

/// What is decided in one round.
pub struct Round {
    cluster: Cluster,
    /// Whether it is the turn of early demands.
    pub early: bool,
    /// Demands that do not fit any more.
    pub stuck: BTreeSet<StageKey>,
    /// Seats kept for a stage.
    reserved: BTreeMap<usize, StageKey>,
    /// How many stages tried to reserve.
    reserving: usize,
    shares: Option<Arc<BTreeMap<JobId, u64>>>,
}

impl Round {
    /// Free cores that are kept for nobody.
    #[must_use]
    pub fn free(&self) -> u64 {
        let seats = self.cluster.seats();
        let reserved: u64 = self.reserved.keys().map(|seat| seats[*seat].cores_free()).sum();
        self.cluster.cores_free() - reserved
    }

    /// Whether another stage may keep executors for itself.
    #[must_use]
    pub fn may_reserve(&self) -> bool {
        self.reserving < RESERVING_STAGES_MAX
    }
}

impl Demand {
    /// Its key.
    #[must_use]
    pub fn key(&self) -> StageKey {
        StageKey { job: self.job, stage: self.stage }
    }

    /// How many of its tasks it takes at least.
    pub(super) fn least(&self) -> u64 {
        if self.gang { u64::from(self.tasks) } else { 1 }
    }
}

impl Machine {
    pub(super) fn schedule(&mut self, now: Timestamp, fx: &mut Vec<Effect>) {
        self.shares.is_due = false;
        let changed = self.update_standings();
        if self.jobs.iter_wanting().next().is_none() {
            return;
        }
        self.work.rounds += 1;
        self.refuse_impossible(&changed, self.cluster.is_some(), fx);
        let cluster = self.surveyed();
        let mut round = Round {
            cluster,
            early: false,
            stuck: BTreeSet::new(),
            reserved: BTreeMap::new(),
            reserving: 0,
            shares: None,
        };
        self.lend_all(now, &mut round, fx);
        round.early = true;
        self.lend_all(now, &mut round, fx);
        if self.is_needing() {
            self.ask_back_for_the_waiting(now, &mut round, fx);
        }
        self.cluster = Some(round.cluster);
    }

    /// Asks for slots that are above what is fair, unless that was done just now.
    fn ask_back_for_the_waiting(&mut self, now: Timestamp, round: &mut Round, fx: &mut Vec<Effect>) {
        if now < self.shares.until {
            self.shares.is_due = true;
            return;
        }
        let shares = round.shares.take().unwrap_or_else(|| Arc::new(self.fair_shares(&round.cluster)));
        self.revoke(&round.cluster, &shares, fx);
        let pause = Duration::from_millis(self.jobs.live_count() as u64 / JOBS_PER_MILLISECOND);
        self.shares = Shares { cores: shares, until: now + pause, is_due: false };
    }

    /// The executors that may get new tasks, and what is lent of them now.
    fn surveyed(&mut self) -> Cluster {
        let changed = self.leases.take_changed();
        match self.cluster.take() {
            Some(mut cluster) => {
                for executor in changed {
                    cluster.set_lent_of(&executor, self.leases.lent(&executor));
                }
                cluster
            }
            None => {
                let mut cluster = self.survey();
                cluster.set_lent(|executor| self.leases.lent(executor));
                cluster
            }
        }
    }

    /// The executors that may get new tasks.
    fn survey(&self) -> Cluster {
        let alive = self.nodes.present().filter(|node| self.takes_work(node));
        let site = |node: &Node, index: u32| {
            let executor = &node.executors[&index];
            let is_open = executor.life.is_some() && executor.claimed_until.is_none();
            is_open.then(|| Site {
                id: node.executor_id(index),
                rack: node.rack.clone(),
                host: node.host.clone(),
                nics: node.nics.clone(),
                numa_node: executor.spec.numa_node,
                cores: u64::from(executor.spec.slots),
                memory: executor.spec.memory_bytes,
            })
        };
        let sites = alive.flat_map(|node| node.executors.keys().filter_map(move |index| site(node, *index)));
        Cluster::new(sites.collect())
    }

    fn lend_all(&mut self, now: Timestamp, round: &mut Round, fx: &mut Vec<Effect>) {
        loop {
            let mut turns = self.turns(round);
            if turns.quotas.is_empty() && turns.short.is_none() {
                return;
            }
            // The widest first: narrow tasks fill the gaps that those leave, but not the other way round.
            turns.quotas.sort_by_key(|(key, _)| std::cmp::Reverse(self.demand(*key).cores_per_task));
            for (key, tasks) in turns.quotas {
                if self.lend(now, key, tasks, round, fx) < tasks {
                    self.set_aside(now, key, round);
                }
            }
            if let Some(key) = turns.short
                && !round.stuck.contains(&key)
                && self.lend(now, key, self.demand(key).least(), round, fx) == 0
            {
                self.set_aside(now, key, round);
            }
        }
    }

    fn demand(&self, key: StageKey) -> &Demand {
        let job = self.jobs.live(key.job).expect("only live jobs have demands");
        &job.demands[&key.stage]
    }

    /// Places that many tasks of a stage and lends the slots. Returns how many found room.
    fn lend(
        &mut self,
        now: Timestamp,
        key: StageKey,
        tasks: u64,
        round: &mut Round,
        fx: &mut Vec<Effect>,
    ) -> u64 {
        let inputs = self.located(key, &round.cluster);
        self.work.stages += 1;
        self.work.seats += round.cluster.free().len() as u64;
        let demand = self.demand(key);
        let mut excluded: Vec<usize> =
            demand.excluded.iter().filter_map(|id| round.cluster.seat_of(id)).collect();
        excluded.extend(round.reserved.iter().filter(|(_, by)| **by != key).map(|(seat, _)| *seat));
        let request = Request {
            tasks,
            cores_per_task: demand.cores_per_task,
            memory_per_task: demand.memory_per_task,
            inputs,
            excluded,
            gang: demand.gang,
        };
        let mut lent = 0;
        for placement in place(&round.cluster, &request) {
            lent += placement.tasks;
            self.open_lease(now, key, placement, &mut round.cluster, fx);
        }
        lent
    }

    /// Where a stage's input lies. It is looked for once, as long as nobody comes or goes.
    fn located(&mut self, key: StageKey, cluster: &Cluster) -> Arc<Inputs> {
        if let Some(located) = self.located.get(&key) {
            return Arc::clone(located);
        }
        let inputs = self.demand(key).inputs.iter();
        let seats = inputs.filter_map(|(id, bytes)| Some((cluster.seat_of(id)?, *bytes)));
        let located = Arc::new(Inputs::new(cluster, seats));
        self.work.seats += located.len() as u64;
        self.located.insert(key, Arc::clone(&located));
        located
    }

    fn open_lease(
        &mut self,
        now: Timestamp,
        key: StageKey,
        placement: Placement,
        cluster: &mut Cluster,
        fx: &mut Vec<Effect>,
    ) {
        let &Demand { cores_per_task, memory_per_task, .. } = self.demand(key);
        let StageKey { job, stage } = key;
        let tasks = u32::try_from(placement.tasks).expect("no more are placed than are demanded");
        let cores = placement.tasks * u64::from(cores_per_task);
        cluster.lend(placement.seat, cores, placement.tasks * memory_per_task);
        let id = &cluster.seats()[placement.seat].site.id;
        let executor = self.nodes.reference(id).expect("a seat is an executor that is up");
        let lease = self.leases.open(Lease {
            id: LeaseId(0),
            job,
            stage,
            executor: id.clone(),
            epoch: executor.epoch,
            tasks,
            revoked: 0,
            cores_per_task,
            memory_per_task,
        });
        let of = self.jobs.live_mut(job).expect("only live jobs have demands");
        if of.started.is_none() {
            of.started = Some(now);
            // Its driver's leases tell the same again.
            fx.push(Effect::Keep { job, at_once: false });
        }
        let left = of.demands.get_mut(&stage).expect("it is being met");
        left.tasks -= tasks;
        if left.tasks == 0 {
            of.demands.remove(&stage);
            self.located.remove(&key);
        }
        let driver = of.driver().expect("a job with demands has a driver");
        let grant = Grant { lease, job, stage, executor, tasks, cores_per_task };
        fx.push(Effect::ToDriver(driver, ToDriver::Grant(grant)));
    }

    /// A stage does not fit: it is out of this round, and reserves executors when its job is below its share.
    fn set_aside(&self, now: Timestamp, key: StageKey, round: &mut Round) {
        round.stuck.insert(key);
        if round.early || !round.may_reserve() {
            return;
        }
        round.reserving += 1;
        let share = self.share_of(now, key.job, round);
        if self.leases.cores_of(key.job) >= share {
            return;
        }
        let demand = self.demand(key);
        let mut candidates: Vec<(usize, u64)> = self
            .rooms_without_others(demand, &round.cluster)
            .filter(|(seat, room)| *room > 0 && !round.reserved.contains_key(seat))
            .collect();
        candidates
            .sort_by_key(|(seat, _)| (std::cmp::Reverse(round.cluster.seats()[*seat].cores_free()), *seat));
        let mut missing = demand.least();
        for (seat, room) in candidates {
            if missing == 0 {
                break;
            }
            round.reserved.insert(seat, key);
            missing = missing.saturating_sub(room);
        }
    }

    /// For each seat that a stage may use: how many more of its tasks would fit if only its own ran there.
    fn rooms_without_others<'a>(
        &self,
        demand: &'a Demand,
        cluster: &'a Cluster,
    ) -> impl Iterator<Item = (usize, u64)> + use<'a> {
        let mut own: BTreeMap<ExecutorId, u64> = BTreeMap::new();
        for lease in self.leases.of_job(demand.job).filter(|lease| lease.stage == demand.stage) {
            *own.entry(lease.executor.clone()).or_default() += u64::from(lease.tasks);
        }
        cluster.seats().iter().enumerate().filter(|(_, seat)| !demand.excluded.contains(&seat.site.id)).map(
            move |(at, seat)| {
                let site = &seat.site;
                let all = fitting(site.cores, site.memory, demand.cores_per_task, demand.memory_per_task);
                (at, all.saturating_sub(own.get(&site.id).copied().unwrap_or(0)))
            },
        )
    }

    /// What a job is entitled to, as it is worked out once in a round or was a moment ago.
    fn share_of(&self, now: Timestamp, job: JobId, round: &mut Round) -> u64 {
        let last =
            Some(&self.shares.cores).filter(|cores| now < self.shares.until && cores.contains_key(&job));
        let shares = round.shares.get_or_insert_with(|| match last {
            Some(last) => Arc::clone(last),
            None => Arc::new(self.fair_shares(&round.cluster)),
        });
        shares[&job]
    }

    /// The cores that each live job is entitled to at the moment.
    fn fair_shares(&self, cluster: &Cluster) -> BTreeMap<JobId, u64> {
        let outside = self.leases.cores() - cluster.cores_lent();
        let appetites = self.jobs.iter_live().map(|job| {
            let held = self.leases.tasks_by_width(job.id).into_iter();
            let wanted = job.needs().map(|demand| (demand.cores_per_task, u64::from(demand.tasks)));
            Appetite {
                job: job.id,
                queue: &job.queue,
                weight: job.weight,
                tasks: held.chain(wanted).collect(),
            }
        });
        fair_shares(cluster.cores() + outside, appetites.collect())
    }
}
