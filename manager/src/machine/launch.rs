//! Cluster deploy mode: which worker runs a submitted job's driver, and what happens when it does not end well.
//! The states are those of a [`Job`](super::job::Job).

use std::collections::BTreeMap;

use firesteel_base::units::display_duration;
use firesteel_base::{JobId, Timestamp, WorkerId};

use super::Machine;
use super::job::{Job, Launch, Phase, lost};
use super::message::{Answer, ClientRequest, Effect, Ending, Note, Refusal, Ticket, ToDriver, ToWorker};
use super::node::{Node, NodeState};

/// How often a job's driver is launched, all in all: once more after its worker was lost.
const LAUNCHES_MAX: u32 = 2;

/// How long what a driver said last may take to arrive after its worker has told how it ended, in milliseconds.
const LAST_WORDS_MS: u64 = 2_000;

impl Machine {
    pub(super) fn on_client(
        &mut self,
        now: Timestamp,
        ticket: Ticket,
        request: ClientRequest,
        fx: &mut Vec<Effect>,
    ) {
        let answer = match request {
            ClientRequest::Submit { name, sql, conf, user } => {
                self.submit(now, name, sql, conf, user, fx).map(Answer::Job)
            }
            ClientRequest::Cancel { job } => self.cancel(now, job, fx).map(Answer::Job),
            ClientRequest::Drain { worker, deadline, force } => {
                let drained = self.drain(now, &worker, deadline, force, fx);
                drained.map(|()| Answer::Worker(worker))
            }
            ClientRequest::Undrain { worker } => self.undrain(&worker, fx).map(|()| Answer::Worker(worker)),
        };
        fx.push(Effect::Answer(ticket, answer));
    }

    fn submit(
        &mut self,
        now: Timestamp,
        name: String,
        sql: String,
        conf: BTreeMap<String, String>,
        user: String,
        fx: &mut Vec<Effect>,
    ) -> Result<JobId, Refusal> {
        let limits = &self.config.limits;
        if self.jobs.live_count() >= limits.live_jobs {
            return Err(Refusal::TooMany { what: "jobs at a time", limit: limits.live_jobs });
        }
        if sql.len() > limits.sql_bytes {
            return Err(Refusal::TooLong { what: "job's SQL text", limit: limits.sql_bytes });
        }
        let mut job = Job::new(name, sql, user, Phase::Submitted, now);
        job.launch = Some(Launch {
            conf,
            worker: None,
            worker_address: None,
            worker_incarnation: None,
            launches: 0,
            driver_ended: None,
            result_address: None,
        });
        self.launch_due = true;
        let name = job.name.clone();
        let id = self.jobs.add(job);
        fx.push(Effect::Note(Note::JobAdded { job: id, name }));
        fx.push(Effect::Keep { job: id, at_once: true });
        Ok(id)
    }

    fn cancel(&mut self, now: Timestamp, id: JobId, fx: &mut Vec<Effect>) -> Result<JobId, Refusal> {
        let reason = "cancelled on request".to_owned();
        let Some(job) = self.jobs.live_mut(id) else {
            return self.jobs.get(id).map(|_| id).ok_or(Refusal::UnknownJob(id));
        };
        match job.phase {
            Phase::Submitted => self.end_job(now, id, Ending::Cancelled { reason }, fx),
            Phase::Launching { .. } | Phase::Detached { .. } => {
                self.stop_driver(id, fx);
                self.end_job(now, id, Ending::Cancelled { reason }, fx);
            }
            Phase::Open { driver } => {
                if job.cancelled.is_none() {
                    job.cancelled = Some((now, reason.clone()));
                    job.demands.clear();
                    fx.push(job.keep());
                    fx.push(Effect::ToDriver(driver, ToDriver::CancelJob { job: id, reason }));
                    self.stop_driver(id, fx);
                }
            }
            Phase::Ended(_) => unreachable!("an ended job is not live"),
        }
        Ok(id)
    }

    /// Tells the worker that runs a cluster-mode job's driver to stop it.
    pub(super) fn stop_driver(&self, id: JobId, fx: &mut Vec<Effect>) {
        let worker = self.jobs.live(id).and_then(Job::worker);
        if let Some(session) = worker.and_then(|id| self.nodes.get(id)).and_then(|node| node.session) {
            fx.push(Effect::ToWorker(session, ToWorker::StopDriver(id)));
        }
    }

    /// Launches the drivers of submitted jobs, oldest first, each on the alive worker with the fewest of them.
    pub(super) fn launch_submitted(&mut self, now: Timestamp, fx: &mut Vec<Effect>) {
        let mut drivers: BTreeMap<WorkerId, usize> = self
            .nodes
            .present()
            .filter(|node| self.takes_work(node))
            .map(|node| (node.id.clone(), 0))
            .collect();
        for worker in
            self.jobs.iter_live().filter(|job| job.phase != Phase::Submitted).filter_map(Job::worker)
        {
            if let Some(count) = drivers.get_mut(worker) {
                *count += 1;
            }
        }
        let limit = self.config.limits.drivers_per_node;
        for job in self.jobs.iter_live_mut().filter(|job| job.phase == Phase::Submitted) {
            let fewest =
                drivers.iter_mut().filter(|(_, count)| **count < limit).min_by_key(|(_, count)| **count);
            let Some((worker, count)) = fewest else { break };
            let node = self.nodes.get(worker).expect("it is present");
            let session = node.session.expect("an alive worker has a stream");
            let launch = job.launch.as_mut().expect("a submitted job is of cluster mode");
            *count += 1;
            launch.worker = Some(worker.clone());
            launch.worker_address = Some(node.address.clone());
            launch.worker_incarnation = Some(node.incarnation.clone());
            launch.launches = launch.launches.saturating_add(1);
            launch.driver_ended = None;
            job.phase = Phase::Launching { since: now };
            let (sql, conf, launch) = (job.sql.clone(), launch.conf.clone(), launch.launches);
            fx.push(job.keep());
            fx.push(Effect::ToWorker(
                session,
                ToWorker::LaunchDriver { job: job.id, name: job.name.clone(), sql, conf, launch },
            ));
        }
    }

    /// A worker says that a driver's process has ended. What the driver said last may come after this.
    pub(super) fn driver_process_ended(
        &mut self,
        now: Timestamp,
        worker: &WorkerId,
        (id, launch): (JobId, Option<u32>),
        succeeded: bool,
        reason: String,
        fx: &mut Vec<Effect>,
    ) {
        let Some(job) = self.jobs.live_mut(id).filter(|job| job.worker() == Some(worker)) else { return };
        // A worker that was lost for a while may be where the driver is launched anew.
        if !job.is_launch(launch) {
            return;
        }
        let how = match (succeeded, reason.is_empty()) {
            (true, true) => "it ended without closing its job".to_owned(),
            (false, true) => "it failed without a reason".to_owned(),
            (true | false, false) => reason,
        };
        match job.phase {
            Phase::Launching { .. } | Phase::Open { .. } => {
                let launch = job.launch.as_mut().expect("a job with a worker is of cluster mode");
                launch.driver_ended.get_or_insert((now, how));
            }
            Phase::Detached { .. } => self.end_job(now, id, lost("the driver ended early", how), fx),
            // It is the driver of a launch that was given up.
            Phase::Submitted => {}
            Phase::Ended(_) => unreachable!("an ended job is not live"),
        }
    }

    /// A worker is gone and so are the drivers on it: each is launched once more, or its job fails.
    pub(super) fn drivers_lost_with(
        &mut self,
        now: Timestamp,
        worker: &WorkerId,
        why: &str,
        fx: &mut Vec<Effect>,
    ) {
        let lost_jobs: Vec<JobId> = self
            .jobs
            .iter_live()
            .filter(|job| job.worker() == Some(worker) && job.phase != Phase::Submitted)
            .map(|job| job.id)
            .collect();
        for id in lost_jobs {
            self.driver_lost(now, id, why, fx);
        }
    }

    /// A worker is here as another process than the one that was told to run drivers, while there was no manager to see that one
    /// end: they ended with it.
    pub(super) fn drivers_lost_unseen(&mut self, now: Timestamp, worker: &WorkerId, fx: &mut Vec<Effect>) {
        let Some(node) = self.nodes.get(worker) else { return };
        let ran_elsewhere = |job: &&Job| {
            let launch = job.launch.as_ref().filter(|launch| launch.worker.as_ref() == Some(worker));
            let process = launch.and_then(|launch| launch.worker_incarnation.as_ref());
            process.is_some_and(|process| *process != node.incarnation) && job.phase != Phase::Submitted
        };
        let lost_jobs: Vec<JobId> = self.jobs.iter_live().filter(ran_elsewhere).map(|job| job.id).collect();
        for id in lost_jobs {
            self.driver_lost(now, id, "its worker was started anew", fx);
        }
    }

    fn driver_lost(&mut self, now: Timestamp, id: JobId, why: &str, fx: &mut Vec<Effect>) {
        self.detach(id, why, fx);
        let job = self.jobs.live_mut(id).expect("only a live job has a driver");
        let launches = job.launch.as_ref().map_or(0, |launch| launch.launches);
        match &job.cancelled {
            Some((_, reason)) => {
                let ending = Ending::Cancelled { reason: reason.clone() };
                self.end_job(now, id, ending, fx);
            }
            None if launches >= LAUNCHES_MAX => {
                self.end_job(now, id, lost(format!("the driver was lost {launches} times"), why), fx);
            }
            None => {
                job.phase = Phase::Submitted;
                job.stages.clear();
                self.launch_due = true;
                fx.push(job.keep());
                self.returning.remove(&id);
            }
        }
    }

    /// Parts a job from its driver, should that still be connected.
    fn detach(&mut self, id: JobId, why: &str, fx: &mut Vec<Effect>) {
        self.leases.end_job(id);
        self.slots_changed = true;
        let job = self.jobs.live_mut(id).expect("only a live job has a driver");
        job.demands.clear();
        if let Some(driver) = job.driver() {
            self.drivers.forget_job(driver, id);
            fx.push(Effect::ToDriver(driver, ToDriver::CancelJob { job: id, reason: why.to_owned() }));
        }
    }

    /// Ends jobs whose driver has not done in time what it had to.
    pub(super) fn tick_jobs(&mut self, now: Timestamp, fx: &mut Vec<Effect>) {
        for id in self.left_by_their_workers(now) {
            self.driver_lost(now, id, "neither it nor its worker came back", fx);
        }
        let overdue: Vec<(JobId, Ending)> =
            self.jobs.iter_live().filter_map(|job| Some((job.id, self.overdue(now, job)?))).collect();
        for (id, ending) in overdue {
            self.stop_driver(id, fx);
            self.end_job(now, id, ending, fx);
        }
    }

    /// Jobs whose driver did not come back, and neither did the worker that ran it: after the manager was started anew.
    fn left_by_their_workers(&self, now: Timestamp) -> Vec<JobId> {
        let is_left = |job: &&Job| {
            let is_overdue = matches!(job.phase, Phase::Detached { until } if now >= until);
            let is_there = |id: &WorkerId| self.nodes.get(id).is_some_and(Node::is_present);
            is_overdue && job.worker().is_some_and(|worker| !is_there(worker))
        };
        self.jobs.iter_live().filter(is_left).map(|job| job.id).collect()
    }

    fn overdue(&self, now: Timestamp, job: &Job) -> Option<Ending> {
        let ended = job.launch.as_ref().and_then(|launch| launch.driver_ended.as_ref());
        match (&job.phase, &job.cancelled, ended) {
            (Phase::Launching { .. }, _, Some((at, how))) if now.0 - at.0 >= LAST_WORDS_MS => {
                Some(lost("the driver ended before it opened its job", how))
            }
            (Phase::Launching { since }, _, None) if now - *since >= self.config.launch_timeout => {
                let worker = job.worker().map(WorkerId::as_str).unwrap_or_default();
                let took = display_duration(self.config.launch_timeout);
                Some(lost(
                    "the driver did not start in time",
                    format!("worker '{worker}' was asked {took} ago"),
                ))
            }
            (Phase::Open { .. }, Some((at, reason)), _) if now - *at >= self.config.driver_timeout => {
                Some(Ending::Cancelled { reason: reason.clone() })
            }
            (Phase::Detached { until }, Some((_, reason)), _) if now >= *until => {
                Some(Ending::Cancelled { reason: reason.clone() })
            }
            // A suspect worker may be lost, and then the driver is launched elsewhere.
            (Phase::Detached { until }, _, _) if now >= *until => {
                let node = job.worker().and_then(|id| self.nodes.get(id));
                let suspect = node.is_some_and(|node| node.state == NodeState::Suspect);
                (!suspect).then(|| lost("the driver went away", "its connection ended"))
            }
            (
                Phase::Submitted
                | Phase::Launching { .. }
                | Phase::Open { .. }
                | Phase::Detached { .. }
                | Phase::Ended(_),
                _,
                _,
            ) => None,
        }
    }
}
