//! How drivers take up their jobs again, and executors their lives, after a connection ended or the manager did.
//!
//! ```text
//!   driver:    OpenJob of a job that it ran ──► Open, with what it holds: leases that are known stand; those of an earlier
//!                                               manager are adopted where the executor is up, else claimed
//!   executor:  ExecutorBack ──► up in the epoch it had; claims on it become leases ──► nothing new is lent there
//!                               until drivers have had time to come back ──► as any other
//! ```
//!
//! What an earlier manager lent is known to the drivers alone. So an executor that it left behind is lent to nobody
//! before they could claim what they hold: a slot is never used twice.

use std::collections::BTreeMap;

use firesteel_base::{Epoch, ExecutorId, JobId, LeaseId, Timestamp};

use super::Machine;
use super::driver::Driver;
use super::job::{Job, Phase};
use super::lease::Lease;
use super::message::{Effect, Ending, HeldLease, Note, OpenJob, Resumed, SessionId, ToDriver};
use super::rights::Rights;
use crate::ManagerConfig;

/// No manager counts so far: what claims such a number is not believed.
const JOB_NUMBER_MAX: u64 = 1 << 53;

/// Leases of an earlier manager on executors that have not come back, by executor and epoch.
#[derive(Debug, Default)]
pub(super) struct Claims {
    all: BTreeMap<(ExecutorId, Epoch), Vec<Lease>>,
}

impl Claims {
    fn add(&mut self, lease: Lease) {
        self.all.entry((lease.executor.clone(), lease.epoch)).or_default().push(lease);
    }

    /// Takes those on one life of an executor.
    fn take(&mut self, executor: &ExecutorId, epoch: Epoch) -> Vec<Lease> {
        self.all.remove(&(executor.clone(), epoch)).unwrap_or_default()
    }

    /// Takes those on all lives of an executor.
    fn take_all(&mut self, executor: &ExecutorId) -> Vec<Lease> {
        let lives = (executor.clone(), Epoch::default())..=(executor.clone(), Epoch(u64::MAX));
        let lives: Vec<_> = self.all.range(lives).map(|(life, _)| life.clone()).collect();
        lives.into_iter().flat_map(|life| self.all.remove(&life).unwrap_or_default()).collect()
    }

    /// A driver gives slots back that it holds on an executor which has not come back.
    pub fn release(&mut self, id: LeaseId, tasks: u32, is_its: impl Fn(JobId) -> bool) {
        self.all.retain(|_, leases| {
            for lease in leases.iter_mut().filter(|lease| lease.id == id && is_its(lease.job)) {
                lease.tasks = lease.tasks.saturating_sub(tasks);
            }
            leases.retain(|lease| lease.tasks > 0);
            !leases.is_empty()
        });
    }

    /// Forgets those of a job.
    pub fn end_job(&mut self, job: JobId) {
        self.all.retain(|_, leases| {
            leases.retain(|lease| lease.job != job);
            !leases.is_empty()
        });
    }

    /// The jobs that have some.
    pub fn jobs(&self) -> impl Iterator<Item = JobId> {
        self.all.values().flatten().map(|lease| lease.job)
    }
}

impl Machine {
    /// A manager after another one, which has left these jobs and may have given numbers up to `numbered`. Drivers of those
    /// that ran may come back.
    #[must_use]
    pub fn restore(config: ManagerConfig, mut jobs: Vec<Job>, numbered: u64, now: Timestamp) -> Self {
        let mut machine = Self::new(config);
        machine.jobs.number_past(numbered);
        machine.returning_until = now + machine.config.returning_wait;
        // The history is in the order in which they ended.
        jobs.sort_by_key(|job| job.ended);
        for mut job in jobs {
            job.demands.clear();
            match job.phase {
                Phase::Open { .. } | Phase::Detached { .. } => {
                    job.phase = Phase::Detached { until: now + machine.config.driver_timeout };
                    machine.returning.insert(job.id);
                }
                Phase::Launching { .. } => job.phase = Phase::Launching { since: now },
                Phase::Submitted | Phase::Ended(_) => {}
            }
            machine.jobs.restore(job);
        }
        machine
    }

    /// A driver goes on with a job. `false` when it cannot: it is to open another.
    pub(super) fn resume_job(
        &mut self,
        now: Timestamp,
        session: SessionId,
        open: &OpenJob,
        resumed: Resumed,
        fx: &mut Vec<Effect>,
    ) -> bool {
        let (id, request) = (resumed.job, open.request);
        let driver = self.drivers.get(session).expect("a known driver opens jobs");
        match self.jobs.get(id) {
            None if self.may_recreate(id, &driver.rights, open) => self.recreate(now, session, id, open, fx),
            None => return false,
            Some(job) if !is_run_by(job, driver, open.launch) => return false,
            Some(job) => match &job.phase {
                Phase::Launching { .. } | Phase::Open { .. } | Phase::Detached { .. } => {}
                Phase::Ended(Ending::Cancelled { reason }) => {
                    let reason = reason.clone();
                    let opened = ToDriver::JobOpened { request, job: id, resumed: Some(Vec::new()) };
                    fx.push(Effect::ToDriver(session, opened));
                    fx.push(Effect::ToDriver(session, ToDriver::CancelJob { job: id, reason }));
                    return true;
                }
                Phase::Submitted | Phase::Ended(_) => return false,
            },
        }
        self.take_up(session, id, fx);
        let kept = self.reclaim(id, resumed.leases);
        if let Some(job) = self.jobs.live_mut(id).filter(|job| !kept.is_empty() && job.started.is_none()) {
            job.started = Some(now);
        }
        fx.push(Effect::ToDriver(session, ToDriver::JobOpened { request, job: id, resumed: Some(kept) }));
        if let Some((_, reason)) = self.jobs.live(id).and_then(|job| job.cancelled.clone()) {
            fx.push(Effect::ToDriver(session, ToDriver::CancelJob { job: id, reason }));
        }
        for (executor, epoch) in resumed.gone {
            if self.is_of_earlier(epoch) && self.nodes.life(&executor).is_some_and(|life| life.epoch == epoch)
            {
                self.renew_life(&executor, fx);
            }
        }
        self.slots_changed = true;
        true
    }

    /// A job of a client's driver that an earlier manager numbered, and that nothing was kept of.
    fn may_recreate(&self, id: JobId, rights: &Rights, open: &OpenJob) -> bool {
        let fits = self.refusal_to_open(rights, open).is_none();
        let is_number = (1..=JOB_NUMBER_MAX).contains(&id.0);
        open.submitted_job.is_none() && fits && is_number
    }

    fn recreate(
        &mut self,
        now: Timestamp,
        session: SessionId,
        id: JobId,
        open: &OpenJob,
        fx: &mut Vec<Effect>,
    ) {
        let driver = self.drivers.get(session).expect("a known driver opens jobs");
        let job = Job { id, started: Some(now), ..driver.job(session, open.clone(), now) };
        fx.push(Effect::Note(Note::JobAdded { job: id, name: job.name.clone() }));
        self.jobs.restore(job);
    }

    pub(super) fn take_up(&mut self, session: SessionId, id: JobId, fx: &mut Vec<Effect>) {
        let job = self.jobs.live_mut(id).expect("it was just seen");
        if let Some(old) = job.driver() {
            self.drivers.forget_job(old, id);
        }
        let driver = self.drivers.get_mut(session).expect("a known driver opens jobs");
        driver.takes(session, job);
        job.demands.clear();
        fx.push(job.keep());
        self.returning.remove(&id);
    }

    /// Makes a job's leases those that its driver holds, as far as they can stand, and returns these.
    fn reclaim(&mut self, id: JobId, held: Vec<HeldLease>) -> Vec<LeaseId> {
        let claimed: BTreeMap<LeaseId, HeldLease> =
            held.into_iter().map(|lease| (lease.lease, lease)).collect();
        let known: Vec<(LeaseId, u32)> =
            self.leases.of_job(id).map(|lease| (lease.id, lease.tasks)).collect();
        for (lease, tasks) in known {
            let kept = claimed.get(&lease).map_or(0, |claim| claim.tasks.min(tasks));
            self.leases.release(lease, tasks - kept);
            // Both sides count anew what is asked back: a word of it may have been lost.
            self.leases.forget_revoked(lease);
        }
        self.claims.end_job(id);
        claimed.into_values().filter(|claim| self.claim(id, claim)).map(|claim| claim.lease).collect()
    }

    fn claim(&mut self, job: JobId, held: &HeldLease) -> bool {
        let of_job = self.leases.get(held.lease).map(|lease| lease.job == job);
        if let Some(of_job) = of_job {
            return of_job;
        }
        let lease = Lease {
            id: held.lease,
            job,
            stage: held.stage,
            executor: held.executor.clone(),
            epoch: held.epoch,
            tasks: held.tasks,
            revoked: 0,
            cores_per_task: held.cores_per_task,
            memory_per_task: held.memory_per_task,
        };
        match self.nodes.life(&held.executor) {
            Some(life) if life.epoch == held.epoch => self.adopt(lease),
            None if self.is_of_earlier(held.epoch) => {
                self.claims.add(lease);
                true
            }
            Some(_) | None => false,
        }
    }

    fn adopt(&mut self, lease: Lease) -> bool {
        let Some(executor) =
            self.nodes.get(&lease.executor.worker).and_then(|node| node.executors.get(&lease.executor.index))
        else {
            return false;
        };
        let (cores, memory) = self.leases.lent(&lease.executor);
        let fits = cores.saturating_add(lease.cores()) <= u64::from(executor.spec.slots)
            && memory.saturating_add(lease.memory()) <= executor.spec.memory_bytes;
        fits && self.leases.adopt(lease, self.config.lease_seed)
    }

    /// An executor is back: what was claimed there is lent, or asked back when it cannot be.
    pub(super) fn adopt_claims(&mut self, executor: &ExecutorId, epoch: Epoch, fx: &mut Vec<Effect>) {
        for lease in self.claims.take(executor, epoch) {
            let (id, job, tasks) = (lease.id, lease.job, lease.tasks);
            if !self.adopt(lease)
                && let Some(driver) = self.jobs.live(job).and_then(Job::driver)
            {
                fx.push(Effect::ToDriver(driver, ToDriver::Revoke { lease: id, tasks }));
            }
        }
    }

    /// An executor is up in another life than was claimed: what ran there has ended.
    pub(super) fn drop_claims(&mut self, executor: &ExecutorId, fx: &mut Vec<Effect>) {
        let mut epochs: Vec<Epoch> = self.claims.take_all(executor).iter().map(|lease| lease.epoch).collect();
        epochs.dedup();
        for epoch in epochs {
            self.unseen_life_ended(executor, epoch, "another process took its place", fx);
        }
    }

    /// Lets executors of an earlier manager have new tasks, once drivers have had their time to come back.
    pub(super) fn end_claims(&mut self, now: Timestamp) {
        if !self.returning.is_empty() && now < self.returning_until {
            return;
        }
        let mut opened = false;
        for node in self.nodes.iter_mut() {
            for executor in node.executors.values_mut() {
                opened |= executor.claimed_until.take_if(|until| now >= *until).is_some();
            }
        }
        if opened {
            self.seats_changed();
        }
    }
}

/// Whether this driver runs the job, or is to, and may: nobody else may take it up. The driver of an earlier launch, which was given
/// up and lives on, may not take the job from the one that is awaited.
pub(super) fn is_run_by(job: &Job, driver: &Driver, launch: Option<u32>) -> bool {
    let is_awaited = matches!(job.phase, Phase::Launching { .. }) && job.is_launch(launch);
    let is_its_own = job.incarnation == driver.incarnation;
    let may_be = match (&driver.rights, &job.launch) {
        (Rights::All, _) => true,
        (Rights::Launched(id), Some(_)) => *id == job.id,
        (Rights::User(_), None) => driver.rights.cover(&job.user),
        (Rights::User(_), Some(_)) | (Rights::Launched(_), None) => false,
    };
    may_be && (is_awaited || is_its_own)
}
