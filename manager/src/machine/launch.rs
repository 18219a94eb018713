//! Cluster deploy mode: which worker runs a submitted job's driver, and what happens when it does not end well.
//! The states are those of a [`Job`](super::job::Job).

use firesteel_base::units::display_duration;
use firesteel_base::{JobId, Timestamp, WorkerId};

use super::Machine;
use super::job::{Job, Launch, Phase, lost};
use super::message::{
    Answer, ClientRequest, Effect, Ending, Note, Refusal, Submission, Ticket, ToDriver, ToWorker,
};
use super::node::{Node, NodeState};
use super::rights::Rights;

/// How often a job's driver is launched, all in all: once more after it died, or its worker was lost.
const LAUNCHES_MAX: u32 = 2;

/// How long what a driver said last may take to arrive after its worker has told how it ended, in milliseconds.
const LAST_WORDS_MS: u64 = 2_000;

impl Machine {
    pub(super) fn on_client(
        &mut self,
        now: Timestamp,
        ticket: Ticket,
        rights: &Rights,
        request: ClientRequest,
        fx: &mut Vec<Effect>,
    ) {
        let answer = match request {
            ClientRequest::Submit(submission) => self.submit(now, rights, submission, fx).map(Answer::Job),
            ClientRequest::Cancel { job } => self.cancel(now, rights, job, fx).map(Answer::Job),
            ClientRequest::Drain { .. } | ClientRequest::Undrain { .. }
                if rights.refusal_to_steer().is_some() =>
            {
                Err(rights.refusal_to_steer().expect("it was just found"))
            }
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
        rights: &Rights,
        submission: Submission,
        fx: &mut Vec<Effect>,
    ) -> Result<JobId, Refusal> {
        let of_queue = rights.refusal_of_queue(&submission.queue);
        if let Some(refusal) = of_queue.or_else(|| self.refusal_to_submit(&submission)) {
            return Err(refusal);
        }
        let Submission { name, sql, conf, user, queue, weight, seed } = submission;
        let user = rights.user().map_or(user, str::to_owned);
        let mut job = Job::new(name, sql, user, Phase::Submitted, now);
        (job.queue, job.weight) = (queue, weight.max(1));
        job.launch = Some(Launch {
            conf,
            seed,
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

    fn cancel(
        &mut self,
        now: Timestamp,
        rights: &Rights,
        id: JobId,
        fx: &mut Vec<Effect>,
    ) -> Result<JobId, Refusal> {
        if let Some(refusal) = self.jobs.get(id).and_then(|job| rights.refusal_to_cancel(job)) {
            return Err(refusal);
        }
        let reason = rights.user().map_or_else(
            || "cancelled on request".to_owned(),
            |user| format!("cancelled on request of {user}"),
        );
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

    /// Launches the drivers of submitted jobs in the fair order, each on the alive worker with the fewest of them.
    pub(super) fn launch_submitted(&mut self, now: Timestamp, fx: &mut Vec<Effect>) {
        let mut places = self.driver_places();
        // The order is not made in vain for each job that comes to a full cluster.
        if !places.values().any(|places| places.has_room()) {
            return;
        }
        let mut order = self.launch_order();
        while let Some(id) = order.next() {
            let free = places.iter_mut().filter(|(_, places)| places.has_room());
            let Some((worker, places)) = free.min_by_key(|(_, places)| places.taken) else { break };
            order.charge(id, 1);
            order.retire(id);
            places.taken += 1;
            let node = self.nodes.get(worker).expect("it is present");
            let session = node.session.expect("an alive worker has a stream");
            let job = self.jobs.live_mut(id).expect("only live jobs are in the order");
            let launch = job.launch.as_mut().expect("a submitted job is of cluster mode");
            launch.worker = Some(worker.clone());
            launch.worker_address = Some(node.address.clone());
            launch.worker_incarnation = Some(node.incarnation.clone());
            launch.launches = launch.launches.saturating_add(1);
            launch.driver_ended = None;
            job.phase = Phase::Launching { since: now };
            fx.push(job.keep());
            let launch = job.launch.as_ref().expect("a submitted job is of cluster mode");
            fx.push(Effect::ToWorker(session, launch_driver(job, launch)));
        }
    }

    /// A worker is here again that was told to launch drivers: it is told so once more, for the word may have been lost with the
    /// connection, or with the manager that was about to say it. One that it has launched it knows by its number.
    pub(super) fn tell_launches_again(&self, worker: &WorkerId, fx: &mut Vec<Effect>) {
        let Some(node) = self.nodes.get(worker) else { return };
        let Some(session) = node.session else { return };
        for job in self.jobs.iter_live().filter(|job| matches!(job.phase, Phase::Launching { .. })) {
            let Some(launch) = &job.launch else { continue };
            let is_there = launch.worker.as_ref() == Some(worker)
                && launch.worker_incarnation.as_ref() == Some(&node.incarnation);
            if is_there && launch.driver_ended.is_none() {
                fx.push(Effect::ToWorker(session, launch_driver(job, launch)));
            }
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
        if succeeded {
            self.free_stray_result(worker, id, fx);
        }
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
            Phase::Detached { .. } => self.driver_lost(now, id, &how, fx),
            // It is the driver of a launch that was given up.
            Phase::Submitted => {}
            Phase::Ended(_) => unreachable!("an ended job is not live"),
        }
    }

    /// A result that a driver has left with a worker, when nobody will ask for it there: its job was given to another worker, or has
    /// ended in another way.
    fn free_stray_result(&self, worker: &WorkerId, id: JobId, fx: &mut Vec<Effect>) {
        let may_be_wanted = |job: &Job| match &job.phase {
            Phase::Ended(ending) => matches!(ending, Ending::Succeeded { .. }),
            Phase::Submitted | Phase::Launching { .. } | Phase::Open { .. } | Phase::Detached { .. } => true,
        };
        let is_its = |job: &&Job| job.worker() == Some(worker) && may_be_wanted(job);
        let is_wanted = self.jobs.get(id).filter(is_its).is_some();
        if let Some(session) = self.nodes.get(worker).and_then(|node| node.session).filter(|_| !is_wanted) {
            fx.push(Effect::ToWorker(session, ToWorker::FreeResult(id)));
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

    pub(super) fn driver_lost(&mut self, now: Timestamp, id: JobId, why: &str, fx: &mut Vec<Effect>) {
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
                // It may live on behind a cut network: the job is not its any more.
                job.incarnation.clear();
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
        for (id, how) in self.ended_before_they_opened(now) {
            self.driver_lost(now, id, &how, fx);
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

    /// Jobs whose driver's process has ended, and has said nothing, with how it ended.
    fn ended_before_they_opened(&self, now: Timestamp) -> Vec<(JobId, String)> {
        let ended = |job: &Job| {
            let (at, how) = job.launch.as_ref()?.driver_ended.as_ref()?;
            let is_due = matches!(job.phase, Phase::Launching { .. }) && now.0 - at.0 >= LAST_WORDS_MS;
            is_due.then(|| (job.id, how.clone()))
        };
        self.jobs.iter_live().filter_map(ended).collect()
    }

    fn overdue(&self, now: Timestamp, job: &Job) -> Option<Ending> {
        let ended = job.launch.as_ref().and_then(|launch| launch.driver_ended.as_ref());
        match (&job.phase, &job.cancelled, ended) {
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

fn launch_driver(job: &Job, launch: &Launch) -> ToWorker {
    ToWorker::LaunchDriver {
        job: job.id,
        name: job.name.clone(),
        sql: job.sql.clone(),
        conf: launch.conf.clone(),
        launch: launch.launches,
        seed: launch.seed,
    }
}
