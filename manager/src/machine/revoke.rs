//! Asking slots back: for jobs that wait with less than their fair share, from those that hold most above theirs.
//!
//! A slot is asked back once. Slots that were asked back and are still held count as free here, so that nothing is
//! asked back twice for the same need.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use firesteel_base::{JobId, LeaseId};

use super::Machine;
use super::job::Job;
use super::lease::Lease;
use super::message::{Demand, Effect, ToDriver};
use crate::placement::{Cluster, fitting};

/// How many tasks room is made for in one step; as slots come back there is another.
const TASKS_PER_STEP_MAX: u64 = 256;

/// How often all executors are searched in one step for the one where a wide task takes the fewest slots.
const SEARCHES_PER_STEP_MAX: u32 = 16;

/// What would be free if all that is asked back were given back.
struct Plan {
    /// The seats where there is room, will be, or could be made.
    seats: BTreeMap<usize, Room>,
    /// Cores that each job holds above its share, once it has given back what it was asked for.
    above: BTreeMap<JobId, u64>,
    asked: BTreeMap<LeaseId, u32>,
    /// How often all seats may still be searched.
    searches: u32,
}

struct Room {
    cores: u64,
    memory: u64,
    slots: Vec<Slots>,
}

/// Slots of a lease that were not asked back yet.
#[derive(Debug, Clone, Copy)]
struct Slots {
    lease: LeaseId,
    job: JobId,
    tasks: u32,
    cores: u64,
    memory: u64,
}

impl Machine {
    pub(super) fn revoke(&mut self, cluster: &Cluster, shares: &BTreeMap<JobId, u64>, fx: &mut Vec<Effect>) {
        let above = self.above(shares);
        if above.is_empty() || !self.is_any_below(shares) {
            return;
        }
        let mut plan = self.plan(cluster, above);
        self.work.leases += plan.seats.values().map(|room| room.slots.len() as u64).sum::<u64>();
        let mut budget = TASKS_PER_STEP_MAX;
        for job in self.jobs.iter_wanting().filter(|job| job.needs().next().is_some()) {
            let mut below = self.below(job, shares);
            for demand in job.needs() {
                let wanted = tasks_within(demand, below).min(budget);
                below -= wanted.min(tasks_within(demand, below)) * u64::from(demand.cores_per_task);
                budget -= plan.make_room(cluster, demand, wanted);
            }
        }
        for (lease, tasks) in plan.asked {
            self.leases.revoke(lease, tasks);
            let job = self.leases.get(lease).expect("it is held").job;
            if let Some(driver) = self.jobs.live(job).and_then(Job::driver) {
                fx.push(Effect::ToDriver(driver, ToDriver::Revoke { lease, tasks }));
            }
        }
    }

    /// Cores that each job holds above its share, once it has given back what it was asked for.
    fn above(&self, shares: &BTreeMap<JobId, u64>) -> BTreeMap<JobId, u64> {
        let kept = self.leases.holders().map(|(job, held)| (job, held.cores - held.asked_back));
        let above = kept.map(|(job, cores)| (job, cores.saturating_sub(shares[&job])));
        above.filter(|(_, cores)| *cores > 0).collect()
    }

    /// Cores that a job lacks of its share.
    fn below(&self, job: &Job, shares: &BTreeMap<JobId, u64>) -> u64 {
        shares[&job.id].saturating_sub(self.leases.cores_of(job.id))
    }

    /// Whether a job could have another task within its share.
    fn is_any_below(&self, shares: &BTreeMap<JobId, u64>) -> bool {
        self.jobs.iter_wanting().any(|job| {
            let below = self.below(job, shares);
            job.needs().any(|demand| tasks_within(demand, below) > 0)
        })
    }

    fn plan(&self, cluster: &Cluster, above: BTreeMap<JobId, u64>) -> Plan {
        let mut plan =
            Plan { seats: BTreeMap::new(), above, asked: BTreeMap::new(), searches: SEARCHES_PER_STEP_MAX };
        for &seat in cluster.free() {
            plan.room(cluster, seat);
        }
        for lease in self.leases.with_asked_back() {
            if let Some(seat) = cluster.seat_of(&lease.executor) {
                let room = plan.room(cluster, seat);
                room.cores += lease.cores_asked_back();
                room.memory += u64::from(lease.revoked) * lease.memory_per_task;
            }
        }
        // Nothing is taken from others.
        let jobs: Vec<JobId> = plan.above.keys().copied().collect();
        for lease in jobs.into_iter().flat_map(|job| self.leases.of_job(job)) {
            if let Some(seat) = cluster.seat_of(&lease.executor) {
                plan.room(cluster, seat).slots.push(Slots::of(lease));
            }
        }
        plan
    }
}

/// How many tasks of a demand come within that many cores; of a gang all or none.
fn tasks_within(demand: &Demand, cores: u64) -> u64 {
    let tasks = (cores / u64::from(demand.cores_per_task)).min(u64::from(demand.tasks));
    if demand.gang && tasks < u64::from(demand.tasks) { 0 } else { tasks }
}

impl Slots {
    fn of(lease: &Lease) -> Self {
        Self {
            lease: lease.id,
            job: lease.job,
            tasks: lease.tasks - lease.revoked,
            cores: u64::from(lease.cores_per_task),
            memory: lease.memory_per_task,
        }
    }
}

impl Plan {
    fn room(&mut self, cluster: &Cluster, seat: usize) -> &mut Room {
        self.seats.entry(seat).or_insert_with(|| {
            let seat = &cluster.seats()[seat];
            Room { cores: seat.cores_free(), memory: seat.memory_free(), slots: Vec::new() }
        })
    }

    fn at(&mut self, seat: usize) -> &mut Room {
        self.seats.get_mut(&seat).expect("it is one of those that were looked at")
    }

    /// Makes room for tasks of a demand, first from what is or will be free. Returns for how many it asked slots back.
    fn make_room(&mut self, cluster: &Cluster, demand: &Demand, mut wanted: u64) -> u64 {
        if wanted == 0 {
            return 0;
        }
        let is_usable = |seat: &usize| !demand.excluded.contains(&cluster.seats()[*seat].site.id);
        let usable: Vec<usize> = self.seats.keys().copied().filter(is_usable).collect();
        for &seat in &usable {
            wanted -= self.at(seat).take(demand, wanted);
        }
        let mut singles = self.singles(&usable, demand);
        let mut made = 0;
        while wanted > 0 {
            let single = self.best_single(&mut singles, demand).map(|(seat, slot)| (seat, vec![slot]));
            let Some((seat, slots)) = single.or_else(|| self.cheapest(&usable, demand)) else { break };
            for slot in slots {
                self.ask_back(seat, slot);
            }
            let room = self.at(seat).take(demand, wanted);
            wanted -= room;
            made += room;
        }
        made
    }

    /// By job the leases, oldest first, of which one slot alone makes room for a task.
    fn singles(&self, usable: &[usize], demand: &Demand) -> BTreeMap<JobId, Vec<(LeaseId, usize)>> {
        let mut singles: BTreeMap<JobId, Vec<(LeaseId, usize)>> = BTreeMap::new();
        for &seat in usable {
            for slots in &self.seats[&seat].slots {
                if slots.job != demand.job && self.above.contains_key(&slots.job) {
                    singles.entry(slots.job).or_default().push((slots.lease, seat));
                }
            }
        }
        for leases in singles.values_mut() {
            leases.retain(|(lease, seat)| self.seats[seat].single(*lease, demand).is_some());
            leases.sort_unstable();
        }
        singles
    }

    /// One slot that makes room for a task: of the job most above its share, the newest.
    fn best_single(
        &self,
        singles: &mut BTreeMap<JobId, Vec<(LeaseId, usize)>>,
        demand: &Demand,
    ) -> Option<(usize, Slots)> {
        let mut best: Option<((u64, LeaseId), usize, Slots)> = None;
        for (job, leases) in singles.iter_mut() {
            while let Some((lease, seat)) = leases.last() {
                let Some(slots) = self.seats[seat].single(*lease, demand) else {
                    leases.pop();
                    continue;
                };
                let rank = (self.above[job], *lease);
                if self.above[job] >= slots.cores && best.as_ref().is_none_or(|(best, ..)| *best < rank) {
                    best = Some((rank, *seat, Slots { tasks: 1, ..slots }));
                }
                break;
            }
        }
        best.map(|(_, seat, slot)| (seat, slot))
    }

    /// The seat where fewest slots must be asked back for one task, and of equals where they are most above the share.
    fn cheapest(&mut self, usable: &[usize], demand: &Demand) -> Option<(usize, Vec<Slots>)> {
        self.searches = self.searches.checked_sub(1)?;
        let options = usable.iter().filter_map(|&seat| Some((seat, self.slots_for_one(seat, demand)?)));
        options.min_by_key(|(seat, slots)| {
            let newest = slots.first();
            let above = newest.map_or(0, |slots| self.above.get(&slots.job).copied().unwrap_or(0));
            (slots.len(), Reverse(above), Reverse(newest.map(|slots| slots.lease)), *seat)
        })
    }

    /// Single slots to be asked back on a seat so that one task fits there.
    fn slots_for_one(&self, seat: usize, demand: &Demand) -> Option<Vec<Slots>> {
        let room = &self.seats[&seat];
        let (mut cores, mut memory) = (room.cores, room.memory);
        let mut chosen: Vec<Slots> = Vec::new();
        while fitting(cores, memory, demand.cores_per_task, demand.memory_per_task) == 0 {
            let spare = |job: JobId| {
                let given: u64 = chosen.iter().filter(|slot| slot.job == job).map(|slot| slot.cores).sum();
                self.above.get(&job).map_or(0, |above| above - given)
            };
            let left = |slots: &Slots| {
                let given = chosen.iter().filter(|slot| slot.lease == slots.lease).count();
                slots.tasks > u32::try_from(given).expect("no more are chosen than there are")
            };
            let best = room
                .slots
                .iter()
                .filter(|slots| slots.job != demand.job && spare(slots.job) >= slots.cores && left(slots))
                .max_by_key(|slots| (spare(slots.job), slots.lease))?;
            cores += best.cores;
            memory += best.memory;
            chosen.push(Slots { tasks: 1, ..*best });
        }
        Some(chosen)
    }

    fn ask_back(&mut self, seat: usize, slot: Slots) {
        let room = self.at(seat);
        room.cores += slot.cores;
        room.memory += slot.memory;
        let slots =
            room.slots.iter_mut().find(|slots| slots.lease == slot.lease).expect("it was chosen there");
        slots.tasks -= 1;
        *self.above.get_mut(&slot.job).expect("it is above its share") -= slot.cores;
        *self.asked.entry(slot.lease).or_default() += 1;
    }
}

impl Room {
    /// The slots of a lease, if one of them alone makes room for a task.
    fn single(&self, lease: LeaseId, demand: &Demand) -> Option<Slots> {
        let slots = self.slots.iter().find(|slots| slots.lease == lease && slots.tasks > 0)?;
        let (cores, memory) = (self.cores + slots.cores, self.memory + slots.memory);
        (fitting(cores, memory, demand.cores_per_task, demand.memory_per_task) > 0).then_some(*slots)
    }

    /// Takes room for up to that many tasks. Returns for how many there was some.
    fn take(&mut self, demand: &Demand, tasks: u64) -> u64 {
        let room = fitting(self.cores, self.memory, demand.cores_per_task, demand.memory_per_task).min(tasks);
        self.cores -= room * u64::from(demand.cores_per_task);
        self.memory -= room * demand.memory_per_task;
        room
    }
}
