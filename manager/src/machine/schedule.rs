//! Lending slots: in the fair order, placed by [`placement`](crate::placement).
//!
//! A round asks whose turn it is until nothing free is left, places all turns of a stage at once, and repeats with what
//! did not fit aside. A stage whose turn it is and which does not fit, although its job is below its fair share,
//! *reserves* executors: what is free there is kept for it, or narrow tasks would starve wide ones. What is free then,
//! and reserved by nobody, goes to *early* demands, whose tasks would wait for others: in the same order, but they
//! reserve nothing, count for no share, and nothing is asked back for them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use firesteel_base::{ExecutorId, JobId, LeaseId, StageKey, Timestamp};

use super::Machine;
use super::lease::Lease;
use super::message::{Demand, Effect, Grant, ToDriver};
use super::node::Node;
use super::queue::{Claim, FairOrder};
use super::share::{Appetite, fair_shares};
use crate::placement::{Cluster, Placement, Request, Site, fitting, place};

/// How many stages may reserve executors at a time.
const RESERVING_STAGES_MAX: usize = 16;

/// What is decided in one round.
struct Round {
    cluster: Cluster,
    /// Whether it is the turn of early demands.
    early: bool,
    /// Demands that do not fit any more.
    stuck: BTreeSet<StageKey>,
    /// Seats kept for a stage.
    reserved: BTreeMap<usize, StageKey>,
    /// How many stages tried to reserve.
    reserving: usize,
    shares: Option<BTreeMap<JobId, u64>>,
}

/// Whose turns they are.
#[derive(Default)]
struct Turns {
    /// Tasks of a stage, in the order of the first turn of each.
    quotas: Vec<(StageKey, u64)>,
    /// A stage whose turn it was when too little was left for it.
    short: Option<StageKey>,
}

/// A stage's wishes while turns are counted.
struct Wish {
    key: StageKey,
    /// Cores that one turn takes.
    cores: u64,
    /// Tasks that one turn gives.
    tasks: u64,
    turns: u64,
}

impl Demand {
    /// Its key.
    #[must_use]
    pub fn key(&self) -> StageKey {
        StageKey { job: self.job, stage: self.stage }
    }

    /// How many of its tasks it takes at least.
    fn least(&self) -> u64 {
        if self.gang { u64::from(self.tasks) } else { 1 }
    }

    fn wish(&self) -> Wish {
        let (tasks, turns) = if self.gang { (self.tasks, 1) } else { (1, self.tasks) };
        let cores = u64::from(tasks) * u64::from(self.cores_per_task);
        Wish { key: self.key(), cores, tasks: u64::from(tasks), turns: u64::from(turns) }
    }

    fn excludes(&self, node: &Node, index: u32) -> bool {
        self.excluded.iter().any(|executor| executor.index == index && executor.worker == node.id)
    }
}

impl Machine {
    pub(super) fn schedule(&mut self, now: Timestamp, fx: &mut Vec<Effect>) {
        self.jobs.find_wanting();
        if self.jobs.iter_wanting().next().is_none() {
            return;
        }
        self.work.rounds += 1;
        self.refuse_impossible(fx);
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
        if self.jobs.iter_wanting().any(|job| job.demands.values().any(|demand| demand.early)) {
            round.early = true;
            self.lend_all(now, &mut round, fx);
        }
        if self.jobs.iter_wanting().any(|job| job.needs().next().is_some()) {
            let shares = round.shares.take().unwrap_or_else(|| self.fair_shares(&round.cluster));
            self.revoke(&round.cluster, &shares, fx);
        }
        self.cluster = Some(round.cluster);
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

    /// Drops demands that no executor of the cluster, up or not, could hold even if nothing else ran.
    fn refuse_impossible(&mut self, fx: &mut Vec<Effect>) {
        if self.nodes.present().all(|node| node.executors.is_empty()) {
            return;
        }
        let mut refused = Vec::new();
        for job in self.jobs.iter_wanting() {
            for demand in job.demands.values() {
                if let Some(reason) = self.impossible(demand) {
                    refused.push((job.driver(), demand.key(), reason));
                }
            }
        }
        for (driver, StageKey { job, stage }, reason) in refused {
            if let Some(job) = self.jobs.live_mut(job) {
                job.demands.remove(&stage);
            }
            if let Some(driver) = driver {
                fx.push(Effect::ToDriver(driver, ToDriver::DemandRefused { job, stage, reason }));
            }
        }
    }

    fn impossible(&self, demand: &Demand) -> Option<String> {
        let (mut room, mut possible) = (0, 0);
        for node in self.nodes.present() {
            for executor in node.executors.values() {
                let (cores, memory) = (u64::from(executor.spec.slots), executor.spec.memory_bytes);
                let tasks = fitting(cores, memory, demand.cores_per_task, demand.memory_per_task);
                possible += tasks;
                if !demand.excludes(node, executor.spec.index) {
                    room += tasks;
                }
            }
            if room >= demand.least() {
                return None;
            }
        }
        Some(self.why_impossible(demand, room, possible))
    }

    fn why_impossible(&self, demand: &Demand, room: u64, possible: u64) -> String {
        let (cores, memory) = (demand.cores_per_task, demand.memory_per_task);
        let size = format!("{cores} cores and {} of memory", firesteel_base::ByteSize(memory));
        if possible < demand.least() && demand.gang && possible > 0 {
            let tasks = demand.tasks;
            return format!(
                "{tasks} tasks of {size} each must run at once, but the cluster has room for {possible}"
            );
        }
        if room < possible {
            return format!("every executor that could hold a task of {size} is excluded for this stage");
        }
        let specs = || self.nodes.present().flat_map(|node| node.executors.values()).map(|e| &e.spec);
        let most_cores = specs().map(|spec| spec.slots).max().unwrap_or(0);
        let most_memory = firesteel_base::ByteSize(specs().map(|spec| spec.memory_bytes).max().unwrap_or(0));
        format!(
            "a task takes {size}, but no executor has both: the largest ones have {most_cores} cores, {most_memory}"
        )
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
                    self.set_aside(key, round);
                }
            }
            if let Some(key) = turns.short
                && !round.stuck.contains(&key)
                && self.lend(now, key, self.demand(key).least(), round, fx) == 0
            {
                self.set_aside(key, round);
            }
        }
    }

    fn demand(&self, key: StageKey) -> &Demand {
        let job = self.jobs.live(key.job).expect("only live jobs have demands");
        &job.demands[&key.stage]
    }

    /// Counts turns in the fair order until nothing free is left or a stage is short.
    fn turns(&self, round: &mut Round) -> Turns {
        let reserved: u64 = round.reserved.keys().map(|seat| round.cluster.seats()[*seat].cores_free()).sum();
        let mut free = round.cluster.cores_free() - reserved;
        let mut turns = Turns::default();
        if free == 0 {
            return turns;
        }
        let mut wishes = self.wishes(round);
        if wishes.is_empty() {
            return turns;
        }
        let mut order = FairOrder::new(self.jobs.iter_live().map(|job| Claim {
            job: job.id,
            queue: &job.queue,
            weight: job.weight,
            held: self.leases.cores_of(job.id),
            wants: wishes.contains_key(&job.id),
        }));
        let mut given: BTreeMap<StageKey, usize> = BTreeMap::new();
        while free > 0
            && let Some(job) = order.next()
        {
            let of_job = wishes.get_mut(&job).expect("only those with wishes are in the order");
            let Some(wish) = of_job.front_mut() else {
                order.retire(job);
                continue;
            };
            if wish.turns == 0 || round.stuck.contains(&wish.key) {
                of_job.pop_front();
            } else if wish.cores > free {
                if !round.early && round.reserving < RESERVING_STAGES_MAX {
                    turns.short = Some(wish.key);
                    return turns;
                }
                round.stuck.insert(wish.key);
            } else {
                wish.turns -= 1;
                free -= wish.cores;
                let at = *given.entry(wish.key).or_insert(turns.quotas.len());
                if at == turns.quotas.len() {
                    turns.quotas.push((wish.key, 0));
                }
                turns.quotas[at].1 += wish.tasks;
                order.charge(job, wish.cores);
            }
        }
        turns
    }

    fn wishes(&self, round: &Round) -> BTreeMap<JobId, VecDeque<Wish>> {
        let mut wishes: BTreeMap<JobId, VecDeque<Wish>> = BTreeMap::new();
        for demand in self.jobs.iter_wanting().flat_map(|job| job.demands.values()) {
            if demand.early == round.early && !round.stuck.contains(&demand.key()) {
                wishes.entry(demand.job).or_default().push_back(demand.wish());
            }
        }
        wishes
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
        self.work.seats += (round.cluster.free().len() + inputs.len()) as u64;
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

    /// The seats that hold a stage's input. They are looked for once, as long as nobody comes or goes.
    fn located(&mut self, key: StageKey, cluster: &Cluster) -> Vec<(usize, u64)> {
        if let Some(located) = self.located.get(&key) {
            return located.clone();
        }
        let inputs = self.demand(key).inputs.iter();
        let located: Vec<_> = inputs.filter_map(|(id, bytes)| Some((cluster.seat_of(id)?, *bytes))).collect();
        self.located.insert(key, located.clone());
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
    fn set_aside(&self, key: StageKey, round: &mut Round) {
        round.stuck.insert(key);
        if round.early || round.reserving >= RESERVING_STAGES_MAX {
            return;
        }
        round.reserving += 1;
        let share = round.shares.get_or_insert_with(|| self.fair_shares(&round.cluster))[&key.job];
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
