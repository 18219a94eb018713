//! Drivers and what they say of their jobs.
//!
//! ```text
//!              Hello                    stream ended: its jobs are detached, and may be resumed
//!   (unknown) ───────► connected ───────────────────────────────────────────────────► (unknown)
//!                       │     ▲         silence for the driver time-out: its leases end, its
//!                       └─────┘         client-mode jobs fail, its cluster-mode jobs are detached
//!                  jobs, demands, releases, heartbeats: each renews its leases
//! ```
//!
//! [`resume`](super::resume) has how a driver takes its jobs up again.

use std::collections::{BTreeMap, BTreeSet};

use firesteel_base::{Class, JobId, LeaseId, StageKey, Timestamp};

use super::Machine;
use super::job::{Job, Phase, lost};
use super::message::{
    Demand, DriverEvent, Effect, Ending, Failure, Note, OpenJob, Refusal, SessionId, StageProgress, ToDriver,
};
use super::rights::Rights;

/// A connected driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Driver {
    /// Its host.
    pub host: String,
    /// Who runs it.
    pub user: String,
    /// The release it is of.
    pub release: String,
    /// Random, new with each driver.
    pub incarnation: String,
    /// What it may do.
    pub rights: Rights,
    /// When it was last heard.
    pub heard: Timestamp,
    /// Its jobs that have not ended.
    pub jobs: BTreeSet<JobId>,
}

/// Whether what a driver leaves is kept for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MayReturn {
    Yes,
    No,
}

impl Driver {
    /// A job that it opens.
    pub(super) fn job(&self, session: SessionId, open: OpenJob, now: Timestamp) -> Job {
        let mut job = Job::new(open.name, open.sql, self.user.clone(), Phase::Open { driver: session }, now);
        job.driver_host = self.host.clone();
        job.incarnation = self.incarnation.clone();
        job.queue = open.queue;
        job.weight = open.weight.max(1);
        job
    }

    /// It runs a job that is there already.
    pub(super) fn takes(&mut self, session: SessionId, job: &mut Job) {
        job.phase = Phase::Open { driver: session };
        job.driver_host.clone_from(&self.host);
        job.incarnation.clone_from(&self.incarnation);
        self.jobs.insert(job.id);
    }
}

/// The connected drivers.
#[derive(Debug, Default)]
pub struct Drivers {
    all: BTreeMap<SessionId, Driver>,
}

impl Drivers {
    /// A connected driver.
    #[must_use]
    pub fn get(&self, session: SessionId) -> Option<&Driver> {
        self.all.get(&session)
    }

    /// The streams of all connected drivers.
    #[must_use]
    pub fn sessions(&self) -> Vec<SessionId> {
        self.all.keys().copied().collect()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (SessionId, &Driver)> {
        self.all.iter().map(|(session, driver)| (*session, driver))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Driver> {
        self.all.values_mut()
    }

    /// How many are connected.
    #[must_use]
    pub fn count(&self) -> usize {
        self.all.len()
    }

    pub(super) fn get_mut(&mut self, session: SessionId) -> Option<&mut Driver> {
        self.all.get_mut(&session)
    }

    pub(super) fn forget_job(&mut self, session: SessionId, job: JobId) {
        if let Some(driver) = self.all.get_mut(&session) {
            driver.jobs.remove(&job);
        }
    }
}

impl Machine {
    pub(super) fn on_driver(
        &mut self,
        now: Timestamp,
        session: SessionId,
        event: DriverEvent,
        fx: &mut Vec<Effect>,
    ) {
        let known = match self.drivers.all.get_mut(&session) {
            Some(driver) => {
                driver.heard = now;
                true
            }
            None => false,
        };
        match (known, event) {
            (false, DriverEvent::Hello { release, host, user, incarnation, rights }) => {
                let (user, jobs) = (rights.user().map_or(user, str::to_owned), BTreeSet::new());
                let driver = Driver { host, user, release, incarnation, rights, heard: now, jobs };
                self.greet(session, driver, fx);
            }
            (true, DriverEvent::Hello { .. }) => {
                self.drop_driver(now, session, "a driver greets once in a session", MayReturn::No, fx);
            }
            // The session was given up: what still comes of it is stale.
            (
                false,
                DriverEvent::OpenJob(_)
                | DriverEvent::Demand(_)
                | DriverEvent::LessDemand { .. }
                | DriverEvent::Release { .. }
                | DriverEvent::CloseJob { .. }
                | DriverEvent::Heartbeat(_)
                | DriverEvent::Left { .. }
                | DriverEvent::StreamLost,
            ) => {}
            (true, DriverEvent::OpenJob(open)) => self.open_or_resume(now, session, open, fx),
            (true, DriverEvent::Demand(demand)) => self.note_demand(session, demand, fx),
            (true, DriverEvent::LessDemand { job, stage, tasks }) => {
                self.lessen_demand(session, StageKey { job, stage }, tasks);
            }
            (true, DriverEvent::Release { lease, tasks }) => self.release(session, lease, tasks),
            (true, DriverEvent::CloseJob { job, ending }) => {
                self.close_job(now, session, job, ending, fx);
                fx.push(Effect::ToDriver(session, ToDriver::JobClosed(job)));
            }
            (true, DriverEvent::Heartbeat(progress)) => self.note_progress(session, progress),
            (true, DriverEvent::Left { job, worker, left }) => self.note_left(session, job, &worker, left),
            (true, DriverEvent::StreamLost) => {
                self.drop_driver(now, session, "its connection ended", MayReturn::Yes, fx);
            }
        }
    }

    fn greet(&mut self, session: SessionId, driver: Driver, fx: &mut Vec<Effect>) {
        let limit = self.config.limits.drivers;
        if self.drivers.count() >= limit {
            return fx.push(Effect::Refuse(
                session,
                Refusal::TooMany { what: "connected drivers", limit, hint: None },
            ));
        }
        self.drivers.all.insert(session, driver);
        fx.push(Effect::ToDriver(session, ToDriver::Welcome(self.members())));
    }

    fn open_or_resume(
        &mut self,
        now: Timestamp,
        session: SessionId,
        mut open: OpenJob,
        fx: &mut Vec<Effect>,
    ) {
        let rights = &self.drivers.get(session).expect("a known driver opens jobs").rights;
        if !rights.may_run(&open) {
            let claimed = open.submitted_job.or(open.resumes.map(|resumed| resumed.job)).unwrap_or_default();
            let opened = ToDriver::JobOpened { request: open.request, job: claimed, resumed: None };
            fx.push(Effect::ToDriver(session, opened));
            let reason = Refusal::OtherJob.to_string();
            return fx.push(Effect::ToDriver(session, ToDriver::CancelJob { job: claimed, reason }));
        }
        if let Some(resumed) = open.resumes.take() {
            let (job, only_to_close) = (resumed.job, resumed.only_to_close);
            if self.resume_job(now, session, &open, resumed, fx) {
                return;
            }
            if only_to_close {
                return fx.push(Effect::ToDriver(session, ToDriver::JobClosed(job)));
            }
        }
        match open.submitted_job {
            Some(job) => self.adopt_job(session, open.request, (job, open.launch), fx),
            None => self.open_job(now, session, open, fx),
        }
    }

    /// A job that may not be is one that has failed at once: its driver's other jobs go on.
    fn open_job(&mut self, now: Timestamp, session: SessionId, open: OpenJob, fx: &mut Vec<Effect>) {
        let rights = &self.drivers.get(session).expect("a known driver opens jobs").rights;
        let refusal = self.refusal_to_open(rights, &open);
        let driver = self.drivers.all.get_mut(&session).expect("a known driver opens jobs");
        // What is too much is not kept either.
        let kept = match &refusal {
            Some(_) => OpenJob { sql: String::new(), name: String::new(), queue: String::new(), ..open },
            None => open,
        };
        let (request, name) = (kept.request, kept.name.clone());
        let id = self.jobs.add(driver.job(session, kept, now));
        driver.jobs.insert(id);
        fx.push(Effect::Note(Note::JobAdded { job: id, name }));
        fx.push(Effect::Keep { job: id, at_once: false });
        let opened = ToDriver::JobOpened { request, job: id, resumed: None };
        fx.push(Effect::ToDriver(session, opened));
        if let Some(refusal) = refusal {
            let error = refusal.error();
            let (job, reason) = (id, error.to_string());
            let failure = Failure { class: Class::User, error };
            self.end_job(now, id, Ending::Failed(failure), fx);
            fx.push(Effect::ToDriver(session, ToDriver::CancelJob { job, reason }));
        }
    }

    /// A driver that a worker launched takes its job. Too late, or twice: it is told to stop.
    fn adopt_job(
        &mut self,
        session: SessionId,
        request: u64,
        (id, launch): (JobId, Option<u32>),
        fx: &mut Vec<Effect>,
    ) {
        fx.push(Effect::ToDriver(session, ToDriver::JobOpened { request, job: id, resumed: None }));
        let driver = self.drivers.all.get_mut(&session).expect("a known driver opens jobs");
        let Some(job) = self.jobs.live_mut(id) else {
            let reason = "the job has ended, or there never was one".to_owned();
            return fx.push(Effect::ToDriver(session, ToDriver::CancelJob { job: id, reason }));
        };
        match job.phase {
            Phase::Launching { .. } if job.is_launch(launch) => {
                driver.takes(session, job);
                fx.push(job.keep());
            }
            // It was opened, and its driver has not heard so: the connection broke between.
            Phase::Open { .. } | Phase::Detached { .. }
                if job.incarnation == driver.incarnation && job.is_launch(launch) =>
            {
                self.take_up(session, id, fx);
            }
            Phase::Launching { .. }
            | Phase::Submitted
            | Phase::Open { .. }
            | Phase::Detached { .. }
            | Phase::Ended(_) => {
                let reason = "this driver was not launched for it, or its time to start is over".to_owned();
                fx.push(Effect::ToDriver(session, ToDriver::CancelJob { job: id, reason }));
            }
        }
    }

    fn note_demand(&mut self, session: SessionId, demand: Demand, fx: &mut Vec<Effect>) {
        let limit = self.config.limits.stages_per_job;
        let Some(job) = self.jobs.live_mut(demand.job).filter(|job| job.driver() == Some(session)) else {
            return;
        };
        if demand.tasks == 0 {
            job.demands.remove(&demand.stage);
            return;
        }
        if job.demands.len() >= limit && !job.demands.contains_key(&demand.stage) {
            let reason =
                Refusal::TooMany { what: "stages of a job with a demand", limit, hint: None }.to_string();
            let refused = ToDriver::DemandRefused { job: demand.job, stage: demand.stage, reason };
            return fx.push(Effect::ToDriver(session, refused));
        }
        self.located.remove(&demand.key());
        job.demands.insert(demand.stage, demand);
        self.slots_changed = true;
    }

    /// Nothing can be lent for it that could not before.
    fn lessen_demand(&mut self, session: SessionId, key: StageKey, tasks: u32) {
        let Some(job) = self.jobs.live_mut(key.job).filter(|job| job.driver() == Some(session)) else {
            return;
        };
        let Some(demand) = job.demands.get_mut(&key.stage) else { return };
        demand.tasks = demand.tasks.saturating_sub(tasks);
        if demand.tasks == 0 {
            job.demands.remove(&key.stage);
            self.located.remove(&key);
        }
    }

    fn release(&mut self, session: SessionId, lease: LeaseId, tasks: u32) {
        let Some(held) = self.leases.get(lease) else {
            let is_its = |job: JobId| self.jobs.live(job).and_then(Job::driver) == Some(session);
            return self.claims.release(lease, tasks, is_its);
        };
        if self.jobs.live(held.job).and_then(Job::driver) == Some(session) {
            self.leases.release(lease, tasks);
            self.slots_changed = true;
        }
    }

    fn close_job(
        &mut self,
        now: Timestamp,
        session: SessionId,
        id: JobId,
        ending: Ending,
        fx: &mut Vec<Effect>,
    ) {
        let Some(job) = self.jobs.live_mut(id).filter(|job| job.driver() == Some(session)) else { return };
        let worker = job.worker().cloned();
        let address = worker.and_then(|id| self.nodes.get(&id)).map(|node| node.address.clone());
        let ending = match (&job.cancelled, ending) {
            (Some((_, reason)), Ending::Failed(_)) => Ending::Cancelled { reason: reason.clone() },
            (Some(_) | None, Ending::Succeeded { rows }) => {
                if let Some(launch) = &mut job.launch {
                    launch.result_address = address.or_else(|| launch.worker_address.clone());
                }
                Ending::Succeeded { rows }
            }
            (None, ending @ Ending::Failed(_)) | (Some(_) | None, ending @ Ending::Cancelled { .. }) => {
                ending
            }
        };
        self.end_job(now, id, ending, fx);
    }

    fn note_progress(&mut self, session: SessionId, progress: Vec<(JobId, Vec<StageProgress>)>) {
        for (id, mut stages) in progress {
            let Some(job) = self.jobs.live_mut(id).filter(|job| job.driver() == Some(session)) else {
                continue;
            };
            stages.truncate(self.config.limits.stages_per_job);
            job.stages = stages;
        }
    }

    /// A driver went away, or is sent away. One that may return finds its jobs and their leases as they are, for a while;
    /// else its leases end and so do its jobs, but those that a worker answers for.
    pub(super) fn drop_driver(
        &mut self,
        now: Timestamp,
        session: SessionId,
        reason: &str,
        may_return: MayReturn,
        fx: &mut Vec<Effect>,
    ) {
        let Some(driver) = self.drivers.all.remove(&session) else { return };
        fx.push(Effect::EndSession(session, reason.to_owned()));
        for id in driver.jobs {
            self.slots_changed = true;
            let job = self.jobs.live_mut(id).expect("a driver's jobs are live");
            job.demands.clear();
            let driver_ended = job.launch.as_ref().map(|launch| launch.driver_ended.clone());
            match (&job.cancelled, driver_ended, may_return) {
                (Some((_, why)), _, _) => {
                    let ending = Ending::Cancelled { reason: why.clone() };
                    self.end_job(now, id, ending, fx);
                }
                (None, Some(Some((_, how))), _) => {
                    job.phase = Phase::Detached { until: now };
                    self.driver_lost(now, id, &how, fx);
                }
                (None, None, MayReturn::No) => {
                    self.end_job(now, id, lost("the driver went away", reason), fx);
                }
                (None, None, MayReturn::Yes) => {
                    job.phase = Phase::Detached { until: now + self.config.driver_return };
                }
                (None, Some(None), _) => {
                    job.phase = Phase::Detached { until: now + self.config.driver_timeout };
                    if may_return == MayReturn::No {
                        self.leases.end_job(id);
                    }
                }
            }
        }
    }

    /// Gives drivers up that were silent too long.
    pub(super) fn tick_drivers(&mut self, now: Timestamp, fx: &mut Vec<Effect>) {
        let timeout = self.config.driver_timeout;
        let silent: Vec<SessionId> = self
            .drivers
            .all
            .iter()
            .filter(|(_, d)| now - d.heard >= timeout)
            .map(|(session, _)| *session)
            .collect();
        for session in silent {
            let reason = format!("nothing was heard of it for {:.1}s", timeout.as_secs_f64());
            self.drop_driver(now, session, &reason, MayReturn::No, fx);
        }
    }
}
