//! Leases: slots of an executor lent to a job's stage, and the only place where they are counted.
//!
//! ```text
//!            Grant · claimed, of an earlier manager
//!   (free) ─────────► held ──┬──────────────────► held, smaller
//!                      │     │    Release (some)
//!                      │     │ Revoke: asked back, once a slot; it stays held until it is released
//!                      ▼     ▼
//!                     ended: all released · job ended · not claimed by its driver · executor's life ended
//! ```

use std::collections::{BTreeMap, BTreeSet};

use firesteel_base::{Epoch, ExecutorId, JobId, LeaseId, StageId};

/// Slots lent: `tasks` tasks at a time of that stage on that executor's life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Its number.
    pub id: LeaseId,
    /// The job that holds it.
    pub job: JobId,
    /// The stage of it.
    pub stage: StageId,
    /// Where.
    pub executor: ExecutorId,
    /// In which life.
    pub epoch: Epoch,
    /// Tasks at a time; never 0.
    pub tasks: u32,
    /// How many of them were asked back.
    pub revoked: u32,
    /// Cores of each.
    pub cores_per_task: u32,
    /// Memory of each.
    pub memory_per_task: u64,
}

impl Lease {
    /// Cores it holds.
    #[must_use]
    pub fn cores(&self) -> u64 {
        u64::from(self.tasks) * u64::from(self.cores_per_task)
    }

    /// Memory it holds.
    #[must_use]
    pub fn memory(&self) -> u64 {
        u64::from(self.tasks).saturating_mul(self.memory_per_task)
    }

    /// Cores of it that were asked back.
    #[must_use]
    pub fn cores_asked_back(&self) -> u64 {
        u64::from(self.revoked) * u64::from(self.cores_per_task)
    }
}

/// What an executor has lent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lent {
    /// Cores.
    pub cores: u64,
    /// Memory.
    pub memory: u64,
    leases: BTreeSet<LeaseId>,
}

/// What a job holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held {
    /// Cores.
    pub cores: u64,
    /// Tasks' slots.
    pub tasks: u64,
    /// Cores that were asked back of it.
    pub asked_back: u64,
    /// Leases by the cores that each of their tasks takes.
    widths: BTreeMap<u32, u64>,
    leases: BTreeSet<LeaseId>,
}

/// All leases, and their sums by executor and by job.
#[derive(Debug, Default)]
pub struct Leases {
    opened: u64,
    all: BTreeMap<LeaseId, Lease>,
    by_executor: BTreeMap<ExecutorId, Lent>,
    by_job: BTreeMap<JobId, Held>,
    /// Cores of all of them.
    cores: u64,
    /// Those of which slots were asked back.
    asked_back: BTreeSet<LeaseId>,
    /// Executors of which more or less is lent than when that was asked last.
    changed: BTreeSet<ExecutorId>,
    /// Jobs that hold more or less than when that was asked last.
    moved: BTreeSet<JobId>,
}

impl Leases {
    /// None yet; numbers are given from `seed` on.
    #[must_use]
    pub fn counting_from(seed: u64) -> Self {
        Self { opened: seed, ..Self::default() }
    }

    /// Lends slots; the lease's number is given here.
    pub fn open(&mut self, mut lease: Lease) -> LeaseId {
        assert!(lease.tasks > 0 && lease.revoked == 0, "a new lease holds slots and none is asked back");
        self.opened += 1;
        lease.id = LeaseId(self.opened);
        self.add(lease)
    }

    /// Takes in a lease that an earlier manager gave out. Returns whether it stands: not when its number is in use, or was
    /// never given out before this one counted.
    pub fn adopt(&mut self, lease: Lease, seed: u64) -> bool {
        let is_free = lease.id.0 <= seed && !self.all.contains_key(&lease.id);
        if is_free {
            self.add(lease);
        }
        is_free
    }

    fn add(&mut self, lease: Lease) -> LeaseId {
        let id = lease.id;
        self.changed.insert(lease.executor.clone());
        self.moved.insert(lease.job);
        self.count(&lease);
        self.all.insert(id, lease);
        id
    }

    fn count(&mut self, lease: &Lease) {
        self.cores += lease.cores();
        let lent = self.by_executor.entry(lease.executor.clone()).or_default();
        lent.cores += lease.cores();
        lent.memory += lease.memory();
        lent.leases.insert(lease.id);
        let held = self.by_job.entry(lease.job).or_default();
        held.cores += lease.cores();
        held.tasks += u64::from(lease.tasks);
        held.asked_back += lease.cores_asked_back();
        *held.widths.entry(lease.cores_per_task).or_default() += 1;
        held.leases.insert(lease.id);
        if lease.revoked > 0 {
            self.asked_back.insert(lease.id);
        }
    }

    /// Takes `tasks` slots of a lease back, all when it has fewer.
    pub fn release(&mut self, id: LeaseId, tasks: u32) {
        let Some(lease) = self.all.get_mut(&id) else { return };
        let before = lease.clone();
        lease.tasks -= tasks.min(lease.tasks);
        lease.revoked = lease.revoked.saturating_sub(tasks);
        let left = lease.clone();
        self.changed.insert(left.executor.clone());
        self.moved.insert(left.job);
        self.uncount(&before);
        if left.tasks > 0 {
            self.count(&left);
        } else {
            self.all.remove(&id);
        }
    }

    fn uncount(&mut self, lease: &Lease) {
        self.cores -= lease.cores();
        let lent = self.by_executor.get_mut(&lease.executor).expect("a lease is counted at its executor");
        lent.cores -= lease.cores();
        lent.memory -= lease.memory();
        lent.leases.remove(&lease.id);
        if lent.leases.is_empty() {
            self.by_executor.remove(&lease.executor);
        }
        let held = self.by_job.get_mut(&lease.job).expect("a lease is counted at its job");
        held.cores -= lease.cores();
        held.tasks -= u64::from(lease.tasks);
        held.asked_back -= lease.cores_asked_back();
        held.leases.remove(&lease.id);
        if let Some(leases) = held.widths.get_mut(&lease.cores_per_task) {
            *leases -= 1;
            held.widths.retain(|_, leases| *leases > 0);
        }
        if held.leases.is_empty() {
            self.by_job.remove(&lease.job);
        }
        self.asked_back.remove(&lease.id);
    }

    /// Ends all leases of a job.
    pub fn end_job(&mut self, job: JobId) {
        let ids = self.by_job.get(&job).map(|held| held.leases.clone()).unwrap_or_default();
        for id in ids {
            self.release(id, u32::MAX);
        }
    }

    /// Ends all leases on an executor.
    pub fn end_executor(&mut self, executor: &ExecutorId) {
        let ids = self.by_executor.get(executor).map(|lent| lent.leases.clone()).unwrap_or_default();
        for id in ids {
            self.release(id, u32::MAX);
        }
    }

    /// Notes that none of a lease's slots are asked back any more.
    pub fn forget_revoked(&mut self, id: LeaseId) {
        self.set_revoked(id, |_| 0);
    }

    /// Notes that `tasks` more slots of a lease were asked back.
    pub fn revoke(&mut self, id: LeaseId, tasks: u32) {
        assert!(self.all.contains_key(&id), "only a lease that is held is revoked");
        self.set_revoked(id, |revoked| revoked + tasks);
    }

    fn set_revoked(&mut self, id: LeaseId, change: impl Fn(u32) -> u32) {
        let Some(lease) = self.all.get_mut(&id) else { return };
        let before = lease.cores_asked_back();
        lease.revoked = change(lease.revoked);
        assert!(lease.revoked <= lease.tasks, "a slot is asked back once");
        let held = self.by_job.get_mut(&lease.job).expect("a lease is counted at its job");
        held.asked_back = held.asked_back + lease.cores_asked_back() - before;
        if lease.revoked > 0 {
            self.asked_back.insert(id);
        } else {
            self.asked_back.remove(&id);
        }
    }

    /// The lease of that number, unless it has ended.
    #[must_use]
    pub fn get(&self, id: LeaseId) -> Option<&Lease> {
        self.all.get(&id)
    }

    /// All leases, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Lease> {
        self.all.values()
    }

    /// The leases of a job, oldest first.
    pub fn of_job(&self, job: JobId) -> impl DoubleEndedIterator<Item = &Lease> {
        self.by_job.get(&job).into_iter().flat_map(|held| held.leases.iter()).map(|id| &self.all[id])
    }

    /// The newest lease of a job that is older than that one, or the newest of all.
    #[must_use]
    pub fn older(&self, job: JobId, than: Option<LeaseId>) -> Option<LeaseId> {
        let leases = &self.by_job.get(&job)?.leases;
        match than {
            Some(than) => leases.range(..than).next_back().copied(),
            None => leases.last().copied(),
        }
    }

    /// Those of which slots were asked back, oldest first.
    pub fn with_asked_back(&self) -> impl Iterator<Item = &Lease> {
        self.asked_back.iter().map(|id| &self.all[id])
    }

    /// The jobs that hold some, with what each holds.
    pub fn holders(&self) -> impl Iterator<Item = (JobId, &Held)> {
        self.by_job.iter().map(|(job, held)| (*job, held))
    }

    /// The widths of the tasks that a job has slots for, and how many of each there are, in the order in which it got them.
    #[must_use]
    pub fn tasks_by_width(&self, job: JobId) -> Vec<(u32, u64)> {
        let Some(held) = self.by_job.get(&job) else { return Vec::new() };
        match held.widths.first_key_value() {
            Some((width, _)) if held.widths.len() == 1 => vec![(*width, held.tasks)],
            _ => self.of_job(job).map(|lease| (lease.cores_per_task, u64::from(lease.tasks))).collect(),
        }
    }

    /// Cores of all leases.
    #[must_use]
    pub fn cores(&self) -> u64 {
        self.cores
    }

    /// Executors of which more or less is lent than when this was asked last.
    pub fn take_changed(&mut self) -> BTreeSet<ExecutorId> {
        std::mem::take(&mut self.changed)
    }

    /// Jobs that hold more or less than when this was asked last.
    pub fn take_moved(&mut self) -> BTreeSet<JobId> {
        std::mem::take(&mut self.moved)
    }

    /// What an executor has lent.
    #[must_use]
    pub fn lent(&self, executor: &ExecutorId) -> (u64, u64) {
        self.by_executor.get(executor).map_or((0, 0), |lent| (lent.cores, lent.memory))
    }

    /// The leases on an executor of which not all slots were asked back: the job and how many there are more.
    #[must_use]
    pub fn not_asked_back(&self, executor: &ExecutorId) -> Vec<(LeaseId, JobId, u32)> {
        let ids = self.by_executor.get(executor).map(|lent| &lent.leases);
        let leases = ids.into_iter().flatten().map(|id| &self.all[id]);
        let left = leases.map(|lease| (lease.id, lease.job, lease.tasks - lease.revoked));
        left.filter(|(.., tasks)| *tasks > 0).collect()
    }

    /// Cores that a job holds.
    #[must_use]
    pub fn cores_of(&self, job: JobId) -> u64 {
        self.by_job.get(&job).map_or(0, |held| held.cores)
    }

    /// Tasks' slots that a job holds.
    #[must_use]
    pub fn tasks_of(&self, job: JobId) -> u64 {
        self.by_job.get(&job).map_or(0, |held| held.tasks)
    }

    /// Recounts everything; for tests and simulation.
    ///
    /// # Panics
    /// When a sum is not what the leases add up to.
    pub fn check(&self) {
        let mut recount = Self::default();
        for lease in self.all.values() {
            assert!(lease.tasks > 0 && lease.revoked <= lease.tasks, "{lease:?}");
            recount.count(lease);
        }
        assert_eq!((self.cores, &self.asked_back), (recount.cores, &recount.asked_back), "all leases");
        assert_eq!(self.by_executor, recount.by_executor, "what executors have lent");
        assert_eq!(self.by_job, recount.by_job, "what jobs hold");
    }
}
