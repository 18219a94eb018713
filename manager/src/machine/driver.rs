//! Drivers and what they say of their jobs.
//!
//! ```text
//!              Hello                    stream ended · silence for the driver time-out
//!   (unknown) ───────► connected ───────────────────────────────────────────────────► (unknown)
//!                       │     ▲        its leases end; its client-mode jobs fail,
//!                       └─────┘        its cluster-mode jobs are detached
//!                  jobs, demands, releases, heartbeats: each renews its leases
//! ```

use std::collections::{BTreeMap, BTreeSet};

use firesteel_base::{Class, JobId, LeaseId, Timestamp, UserError};

use super::Machine;
use super::job::{Job, Phase, lost};
use super::message::{
    Demand, DriverEvent, Effect, Ending, Failure, Note, OpenJob, Refusal, SessionId, StageProgress, ToDriver,
};

/// A connected driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Driver {
    /// Its host.
    pub host: String,
    /// Who runs it.
    pub user: String,
    /// The release it is of.
    pub release: String,
    /// When it was last heard.
    pub heard: Timestamp,
    /// Its jobs that have not ended.
    pub jobs: BTreeSet<JobId>,
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

    /// How many are connected.
    #[must_use]
    pub fn count(&self) -> usize {
        self.all.len()
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
            (false, DriverEvent::Hello { release, host, user }) => {
                self.greet(session, Driver { host, user, release, heard: now, jobs: BTreeSet::new() }, fx);
            }
            (true, DriverEvent::Hello { .. }) => {
                self.drop_driver(now, session, "a driver greets once in a session", fx);
            }
            // The session was given up: what still comes of it is stale.
            (
                false,
                DriverEvent::OpenJob(_)
                | DriverEvent::Demand(_)
                | DriverEvent::Release { .. }
                | DriverEvent::CloseJob { .. }
                | DriverEvent::Heartbeat(_)
                | DriverEvent::StreamLost,
            ) => {}
            (true, DriverEvent::OpenJob(open)) => self.open_job(now, session, open, fx),
            (true, DriverEvent::Demand(demand)) => self.note_demand(session, demand, fx),
            (true, DriverEvent::Release { lease, tasks }) => self.release(session, lease, tasks),
            (true, DriverEvent::CloseJob { job, ending }) => self.close_job(now, session, job, ending, fx),
            (true, DriverEvent::Heartbeat(progress)) => self.note_progress(session, progress),
            (true, DriverEvent::StreamLost) => self.drop_driver(now, session, "its connection ended", fx),
        }
    }

    fn greet(&mut self, session: SessionId, driver: Driver, fx: &mut Vec<Effect>) {
        let limit = self.config.limits.drivers;
        if self.drivers.count() >= limit {
            return fx.push(Effect::Refuse(session, Refusal::TooMany { what: "connected drivers", limit }));
        }
        self.drivers.all.insert(session, driver);
        fx.push(Effect::ToDriver(session, ToDriver::Welcome(self.nodes.shapes())));
    }

    /// A job that may not be is one that has failed at once: its driver's other jobs go on.
    fn open_job(&mut self, now: Timestamp, session: SessionId, open: OpenJob, fx: &mut Vec<Effect>) {
        if let Some(job) = open.submitted_job {
            return self.adopt_job(session, open.request, job, fx);
        }
        let limits = &self.config.limits;
        let refusal = if self.jobs.live_count() >= limits.live_jobs {
            Some(Refusal::TooMany { what: "jobs at a time", limit: limits.live_jobs })
        } else if open.sql.len() > limits.sql_bytes {
            Some(Refusal::TooLong { what: "job's SQL text", limit: limits.sql_bytes })
        } else {
            None
        };
        let driver = self.drivers.all.get_mut(&session).expect("a known driver opens jobs");
        // A text that is too long is not kept either.
        let sql = if refusal.is_some() { String::new() } else { open.sql };
        let mut job =
            Job::new(open.name.clone(), sql, driver.user.clone(), Phase::Open { driver: session }, now);
        job.driver_host = driver.host.clone();
        job.queue = open.queue;
        job.weight = open.weight.max(1);
        let id = self.jobs.add(job);
        driver.jobs.insert(id);
        fx.push(Effect::Note(Note::JobAdded { job: id, name: open.name }));
        fx.push(Effect::ToDriver(session, ToDriver::JobOpened { request: open.request, job: id }));
        if let Some(refusal) = refusal {
            let (job, reason) = (id, refusal.to_string());
            let failure = Failure { class: Class::User, error: UserError::new(reason.clone()) };
            self.end_job(now, id, Ending::Failed(failure), fx);
            fx.push(Effect::ToDriver(session, ToDriver::CancelJob { job, reason }));
        }
    }

    /// A driver that a worker launched takes its job. Too late, or twice: it is told to stop.
    fn adopt_job(&mut self, session: SessionId, request: u64, id: JobId, fx: &mut Vec<Effect>) {
        fx.push(Effect::ToDriver(session, ToDriver::JobOpened { request, job: id }));
        let driver = self.drivers.all.get_mut(&session).expect("a known driver opens jobs");
        let Some(job) = self.jobs.live_mut(id) else {
            let reason = "the job has ended, or there never was one".to_owned();
            return fx.push(Effect::ToDriver(session, ToDriver::CancelJob { job: id, reason }));
        };
        match job.phase {
            Phase::Launching { .. } => {
                job.phase = Phase::Open { driver: session };
                job.driver_host = driver.host.clone();
                driver.jobs.insert(id);
            }
            Phase::Submitted | Phase::Open { .. } | Phase::Detached { .. } | Phase::Ended(_) => {
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
            let reason = Refusal::TooMany { what: "stages of a job with a demand", limit }.to_string();
            let refused = ToDriver::DemandRefused { job: demand.job, stage: demand.stage, reason };
            return fx.push(Effect::ToDriver(session, refused));
        }
        job.demands.insert(demand.stage, demand);
        self.slots_changed = true;
    }

    fn release(&mut self, session: SessionId, lease: LeaseId, tasks: u32) {
        let Some(held) = self.leases.get(lease) else { return };
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
                    launch.result_address = address;
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

    /// A driver went away, or is sent away: its leases end and so do its jobs, but those that a worker answers for.
    pub(super) fn drop_driver(
        &mut self,
        now: Timestamp,
        session: SessionId,
        reason: &str,
        fx: &mut Vec<Effect>,
    ) {
        let Some(driver) = self.drivers.all.remove(&session) else { return };
        fx.push(Effect::EndSession(session, reason.to_owned()));
        for id in driver.jobs {
            self.leases.end_job(id);
            self.slots_changed = true;
            let job = self.jobs.live_mut(id).expect("a driver's jobs are live");
            job.demands.clear();
            let driver_ended = job.launch.as_ref().map(|launch| launch.driver_ended.clone());
            match (&job.cancelled, driver_ended) {
                (Some((_, why)), _) => {
                    let ending = Ending::Cancelled { reason: why.clone() };
                    self.end_job(now, id, ending, fx);
                }
                (None, None) => self.end_job(now, id, lost("the driver went away", reason), fx),
                (None, Some(Some((_, how)))) => {
                    self.end_job(now, id, lost("the driver ended early", how), fx)
                }
                (None, Some(None)) => job.phase = Phase::Detached { since: now },
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
            self.drop_driver(now, session, &reason, fx);
        }
    }
}
