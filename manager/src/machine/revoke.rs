//! Asking slots back: for jobs that wait with less than their fair share, from those that hold most above theirs.
//!
//! A slot is asked back once. Slots that were asked back and are still held count as free here, so that nothing is
//! asked back twice for the same need.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use firesteel_base::{JobId, LeaseId};

use super::Machine;
use super::job::Job;
use super::lease::{Lease, Leases};
use super::message::{Demand, Effect, ToDriver};
use crate::placement::{Cluster, fitting};

/// How many tasks room is made for in one step; as slots come back there is another.
const TASKS_PER_STEP_MAX: u64 = 256;

/// How often all executors are searched in one step for the one where a wide task takes the fewest slots.
const SEARCHES_PER_STEP_MAX: u32 = 16;

/// What would be free if all that is asked back were given back. It is looked at as little as is needed for what is wanted.
struct Plan<'a> {
    leases: &'a Leases,
    cluster: &'a Cluster,
    /// The seats that were looked at.
    seats: BTreeMap<usize, Room>,
    /// Those of them with free cores.
    roomy: BTreeSet<usize>,
    /// Cores that are or will be free, when those of any seat are as good as others; then it is not looked at where.
    anywhere: Option<u64>,
    /// Cores that each job holds above its share, once it has given back what it was asked for.
    above: BTreeMap<JobId, u64>,
    /// All of these.
    spare: u64,
    asked: BTreeMap<LeaseId, u32>,
    /// Whether all slots of jobs above their shares were looked at.
    is_full: bool,
    /// How often all seats may still be searched.
    searches: u32,
    /// Leases that were looked at.
    looked_at: u64,
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

/// Jobs above their shares, that which is most so first, each with the newest lease that may still make room for a task.
type Singles = BinaryHeap<(u64, LeaseId, JobId)>;

impl Machine {
    pub(super) fn revoke(&mut self, cluster: &Cluster, shares: &BTreeMap<JobId, u64>, fx: &mut Vec<Effect>) {
        let above = self.above(shares);
        if above.is_empty() || !self.is_any_below(shares) {
            return;
        }
        let mut plan = Plan::new(&self.leases, cluster, above);
        if self.jobs.iter_wanting().flat_map(Job::needs).all(is_narrow) && plan.is_all_in_seats() {
            plan.count_anywhere();
        } else {
            plan.look_for_room();
        }
        let mut budget = TASKS_PER_STEP_MAX;
        // Demands of one size look for the same slots.
        let mut singles: BTreeMap<(u32, u64), Singles> = BTreeMap::new();
        for job in self.jobs.iter_wanting() {
            let mut below = self.below(job, shares);
            for demand in job.needs() {
                if plan.spare == 0 {
                    break;
                }
                let wanted = tasks_within(demand, below).min(budget);
                below -= wanted.min(tasks_within(demand, below)) * u64::from(demand.cores_per_task);
                let size = (demand.cores_per_task, demand.memory_per_task);
                budget -= match demand.excluded.is_empty() {
                    true => {
                        plan.make_room(demand, wanted, singles.entry(size).or_insert_with(|| plan.singles()))
                    }
                    false => plan.make_room(demand, wanted, &mut plan.singles()),
                };
            }
        }
        let Plan { asked, looked_at, .. } = plan;
        self.work.leases += looked_at;
        for (lease, tasks) in asked {
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
}

/// Whether any core is as good for its tasks as any other.
fn is_narrow(demand: &Demand) -> bool {
    demand.cores_per_task <= 1 && demand.memory_per_task == 0 && demand.excluded.is_empty()
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

impl<'a> Plan<'a> {
    fn new(leases: &'a Leases, cluster: &'a Cluster, above: BTreeMap<JobId, u64>) -> Self {
        let spare = above.values().sum();
        Self {
            leases,
            cluster,
            seats: BTreeMap::new(),
            roomy: BTreeSet::new(),
            anywhere: None,
            above,
            spare,
            asked: BTreeMap::new(),
            is_full: false,
            searches: SEARCHES_PER_STEP_MAX,
            looked_at: 0,
        }
    }

    /// Whether all that is lent is lent of seats.
    fn is_all_in_seats(&self) -> bool {
        self.leases.cores() == self.cluster.cores_lent()
    }

    fn count_anywhere(&mut self) {
        let asked_back: u64 = self.leases.holders().map(|(_, held)| held.asked_back).sum();
        self.anywhere = Some(self.cluster.cores_free() + asked_back);
    }

    fn look_for_room(&mut self) {
        for &seat in self.cluster.free() {
            self.change(seat, |_| {});
        }
        for lease in self.leases.with_asked_back() {
            self.looked_at += 1;
            if let Some(seat) = self.cluster.seat_of(&lease.executor) {
                self.change(seat, |room| {
                    room.cores += lease.cores_asked_back();
                    room.memory += u64::from(lease.revoked) * lease.memory_per_task;
                });
            }
        }
    }

    fn room(&mut self, seat: usize) -> &mut Room {
        self.seats.entry(seat).or_insert_with(|| {
            let seat = &self.cluster.seats()[seat];
            Room { cores: seat.cores_free(), memory: seat.memory_free(), slots: Vec::new() }
        })
    }

    /// Changes what is free on a seat.
    fn change<T>(&mut self, seat: usize, change: impl FnOnce(&mut Room) -> T) -> T {
        let room = self.room(seat);
        let changed = change(room);
        if room.cores > 0 {
            self.roomy.insert(seat);
        } else {
            self.roomy.remove(&seat);
        }
        changed
    }

    fn singles(&self) -> Singles {
        let newest = |(job, above): (&JobId, &u64)| Some((*above, self.leases.older(*job, None)?, *job));
        self.above.iter().filter_map(newest).collect()
    }

    /// Makes room for tasks of a demand, first from what is or will be free. Returns for how many it asked slots back.
    fn make_room(&mut self, demand: &Demand, mut wanted: u64, singles: &mut Singles) -> u64 {
        if wanted == 0 {
            return 0;
        }
        wanted -= self.take_free(demand, wanted);
        let mut made = 0;
        while wanted > 0 && self.spare > 0 {
            let single = self.best_single(singles, demand).map(|(seat, slot)| (seat, vec![slot]));
            let Some((seat, slots)) = single.or_else(|| self.cheapest(demand)) else { break };
            for slot in slots {
                self.ask_back(seat, slot);
            }
            let room = match self.anywhere {
                Some(_) => self.take_free(demand, wanted),
                None => self.change(seat, |room| room.take(demand, wanted)),
            };
            wanted -= room;
            made += room;
        }
        made
    }

    /// Takes room for up to that many tasks of what is or will be free. Returns for how many there was some.
    fn take_free(&mut self, demand: &Demand, tasks: u64) -> u64 {
        if let Some(cores) = &mut self.anywhere {
            let taken = tasks.min(*cores);
            *cores -= taken;
            return taken;
        }
        let usable = self.roomy.iter().copied().filter(|seat| self.is_usable(*seat, demand));
        let mut left = tasks;
        for seat in usable.collect::<Vec<_>>() {
            left -= self.change(seat, |room| room.take(demand, left));
        }
        tasks - left
    }

    fn is_usable(&self, seat: usize, demand: &Demand) -> bool {
        demand.excluded.is_empty() || !demand.excluded.contains(&self.cluster.seats()[seat].site.id)
    }

    /// One slot that makes room for a task: of the job most above its share, the newest.
    fn best_single(&mut self, singles: &mut Singles, demand: &Demand) -> Option<(usize, Slots)> {
        while let Some((rank, lease, job)) = singles.pop() {
            let above = self.above[&job];
            if above != rank {
                singles.push((above, lease, job));
                continue;
            }
            let seat = self.look_at(lease).filter(|seat| self.is_usable(*seat, demand));
            match seat.and_then(|seat| Some((seat, self.seats[&seat].single(lease, demand)?))) {
                Some((_, slots)) if above < slots.cores => {}
                Some((seat, slots)) => {
                    singles.push((above, lease, job));
                    return Some((seat, Slots { tasks: 1, ..slots }));
                }
                None => singles.extend(self.leases.older(job, Some(lease)).map(|older| (above, older, job))),
            }
        }
        None
    }

    /// Adds the slots of a lease to those of its seat, which it returns.
    fn look_at(&mut self, lease: LeaseId) -> Option<usize> {
        let lease = self.leases.get(lease)?;
        let seat = self.cluster.seat_of(&lease.executor)?;
        self.looked_at += 1;
        let room = self.room(seat);
        if room.slots.iter().all(|slots| slots.lease != lease.id) {
            room.slots.push(Slots::of(lease));
        }
        Some(seat)
    }

    /// Looks at all slots of jobs above their shares. Nothing is taken from others.
    fn look_at_all(&mut self) {
        if std::mem::replace(&mut self.is_full, true) {
            return;
        }
        let jobs: Vec<JobId> = self.above.keys().copied().collect();
        let leases = self.leases;
        for lease in jobs.into_iter().flat_map(|job| leases.of_job(job)) {
            self.look_at(lease.id);
        }
    }

    /// The seat where fewest slots must be asked back for one task, and of equals where they are most above the share.
    fn cheapest(&mut self, demand: &Demand) -> Option<(usize, Vec<Slots>)> {
        // A slot of any size is enough for the smallest, and was found.
        if demand.cores_per_task <= 1 && demand.memory_per_task == 0 {
            return None;
        }
        self.searches = self.searches.checked_sub(1)?;
        self.look_at_all();
        let usable = self.seats.keys().copied().filter(|seat| self.is_usable(*seat, demand));
        let options = usable.filter_map(|seat| Some((seat, self.slots_for_one(seat, demand)?)));
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
        self.change(seat, |room| {
            room.cores += slot.cores;
            room.memory += slot.memory;
            let slots = room.slots.iter_mut().find(|slots| slots.lease == slot.lease);
            slots.expect("it was chosen there").tasks -= 1;
        });
        *self.above.get_mut(&slot.job).expect("it is above its share") -= slot.cores;
        self.spare -= slot.cores;
        self.anywhere = self.anywhere.map(|cores| cores + slot.cores);
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
