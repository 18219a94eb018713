//! Turns: of which stages the next tasks get slots, in the fair order of their jobs.
//!
//! The order is kept from step to step and changed for those jobs only that hold or want something else, so that it does not matter
//! how many jobs there are.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use firesteel_base::{JobId, StageKey};

use super::Machine;
use super::message::Demand;
use super::queue::{Claim, FairOrder};
use super::schedule::Round;

/// How the live jobs stand to each other.
#[derive(Debug, Default)]
pub struct Standings {
    /// In the order for what they need.
    needs: FairOrder,
    /// In the order for what they could make use of early.
    early: FairOrder,
    /// Those that stand elsewhere while turns were counted.
    moved: BTreeSet<JobId>,
}

/// Whose turns they are.
#[derive(Default)]
pub struct Turns {
    /// Tasks of a stage, in the order of the first turn of each.
    pub quotas: Vec<(StageKey, u64)>,
    /// A stage whose turn it was when too little was left for it.
    pub short: Option<StageKey>,
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
    fn wish(&self) -> Wish {
        let (tasks, turns) = if self.gang { (self.tasks, 1) } else { (1, self.tasks) };
        let cores = u64::from(tasks) * u64::from(self.cores_per_task);
        Wish { key: self.key(), cores, tasks: u64::from(tasks), turns: u64::from(turns) }
    }
}

impl Machine {
    /// Counts turns in the fair order until nothing free is left or a stage is short.
    pub(super) fn turns(&mut self, round: &mut Round) -> Turns {
        let free = round.free();
        if free == 0 {
            return Turns::default();
        }
        self.update_standings();
        let mut standings = std::mem::take(&mut self.standings);
        let order = if round.early { &mut standings.early } else { &mut standings.needs };
        let mut wishes = BTreeMap::new();
        let turns = self.count_turns(free, order, &mut wishes, round);
        self.work.jobs += wishes.len() as u64;
        standings.moved.extend(wishes.into_keys());
        self.standings = standings;
        turns
    }

    fn count_turns(
        &self,
        mut free: u64,
        order: &mut FairOrder,
        wishes: &mut BTreeMap<JobId, VecDeque<Wish>>,
        round: &mut Round,
    ) -> Turns {
        let mut turns = Turns::default();
        let mut given: BTreeMap<StageKey, usize> = BTreeMap::new();
        while free > 0
            && let Some(job) = order.next()
        {
            let of_job = wishes.entry(job).or_insert_with(|| self.wishes(job, round.early));
            let Some(wish) = of_job.front_mut() else {
                order.retire(job);
                continue;
            };
            if wish.turns == 0 || round.stuck.contains(&wish.key) {
                of_job.pop_front();
            } else if wish.cores > free {
                if !round.early && round.may_reserve() {
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

    fn wishes(&self, job: JobId, early: bool) -> VecDeque<Wish> {
        let demands = self.jobs.live(job).into_iter().flat_map(|job| job.demands.values());
        demands.filter(|demand| demand.early == early).map(Demand::wish).collect()
    }

    /// Whether a job has not got all that it needs.
    pub(super) fn is_needing(&mut self) -> bool {
        self.update_standings();
        self.standings.needs.next().is_some()
    }

    /// Brings the standings up to what jobs hold and want. Returns the jobs that may hold or want something else.
    pub(super) fn update_standings(&mut self) -> BTreeSet<JobId> {
        let mut moved = std::mem::take(&mut self.standings.moved);
        moved.extend(self.jobs.find_wanting());
        moved.extend(self.leases.take_moved());
        self.work.jobs += moved.len() as u64;
        for &id in &moved {
            let Some(job) = self.jobs.live(id) else {
                self.standings.needs.remove(id);
                self.standings.early.remove(id);
                continue;
            };
            let held = self.leases.cores_of(id);
            let claim = |wants| Claim { job: id, queue: &job.queue, weight: job.weight, held, wants };
            self.standings.needs.set(claim(job.needs().next().is_some()));
            self.standings.early.set(claim(job.demands.values().any(|demand| demand.early)));
        }
        moved
    }
}
