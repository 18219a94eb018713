//! What the manager says, and how its coming and going is taken.

use std::collections::BTreeSet;

use firesteel_base::{ExecutorId, JobId, LeaseId, StageId, UserError, version};
use firesteel_protocol::{MalformedMessage, required, v1};
use v1::driver_to_manager::Message as ToManager;
use v1::manager_to_driver::Message as FromManager;

use super::cluster::{Executor, workers};
use super::convert;
use super::manager_link::{self, ManagerLink};
use super::messages::{ManagerNews, RunId};
use super::outgoing::Outgoing;
use super::peers::Incoming;
use super::run::DriverLoop;
use crate::machine::{Event, Outcome};

/// The request under which the submitted job is opened; queries count from 1.
pub(super) const SUBMITTED_REQUEST: u64 = 0;

/// The job that this process was launched for.
pub(super) struct Submitted {
    job: JobId,
    is_open: bool,
    /// Why nothing can be run under it any more.
    ended: Option<Outcome>,
    /// How the session's user says that it ends.
    concluded: Option<Outcome>,
    /// How its queries ended: the worst of all, else the last.
    of_queries: Outcome,
    rows: u64,
}

impl Submitted {
    pub fn new(job: JobId) -> Self {
        Self { job, is_open: false, ended: None, concluded: None, of_queries: Outcome::Succeeded, rows: 0 }
    }

    pub fn job(&self) -> JobId {
        self.job
    }

    pub fn conclude(&mut self, end: Result<u64, UserError>) {
        self.concluded = Some(match end {
            Ok(rows) => {
                self.rows = rows;
                Outcome::Succeeded
            }
            Err(error) => Outcome::Failed(error),
        });
    }

    fn note(&mut self, outcome: &Outcome, rows: u64) {
        match outcome {
            Outcome::Succeeded if self.concluded.is_none() => self.rows = rows,
            Outcome::Succeeded => {}
            Outcome::Failed(_) | Outcome::Cancelled(_) => self.of_queries = outcome.clone(),
        }
    }

    pub fn close(self) -> v1::CloseJob {
        let outcome = self.ended.or(self.concluded).unwrap_or(self.of_queries);
        convert::close_job(self.job.0, &outcome, self.rows)
    }
}

impl DriverLoop {
    pub fn note_outcome(&mut self, outcome: &Outcome, rows: u64) {
        if let Some(submitted) = &mut self.submitted {
            submitted.note(outcome, rows);
        }
    }

    pub fn manager_news(&mut self, generation: u64, news: ManagerNews) {
        if generation != self.manager_generation {
            return;
        }
        match news {
            ManagerNews::Said(message) => {
                if let Err(fault) = self.manager_said(message) {
                    tracing::warn!(%fault, "ignored a message of the manager");
                }
            }
            ManagerNews::Down(reason) => {
                tracing::warn!(reason, "lost the manager; what runs goes on while it is looked for");
                self.call_manager();
            }
            ManagerNews::Up(outgoing, incoming, welcome) => {
                tracing::info!("the manager is back");
                self.manager_up(outgoing, incoming, welcome);
                self.resume();
            }
            ManagerNews::GaveUp(error) => self.manager_gone(error),
        }
    }

    /// A session with the manager begins.
    pub fn manager_up(
        &mut self,
        outgoing: Outgoing<v1::DriverToManager>,
        incoming: Incoming<v1::ManagerToDriver>,
        welcome: v1::DriverWelcome,
    ) {
        self.manager_generation += 1;
        manager_link::pump(incoming, self.manager_generation, self.inbox_sender.clone());
        self.manager = ManagerLink::Connected(outgoing);
        self.heartbeat.every(welcome.heartbeat_ms);
        self.manager_run = welcome.run;
        self.manager_wire = version::agreed(welcome.wire_version);
        if let Err(fault) = self.cluster_is(welcome.cluster.unwrap_or_default()) {
            tracing::warn!(%fault, "ignored the manager's list of executors");
        }
        if let Some(submitted) = self.submitted.as_ref().filter(|submitted| !submitted.is_open) {
            let open = v1::OpenJob {
                submitted_job: Some(submitted.job.0),
                ..self.open_message(SUBMITTED_REQUEST, "")
            };
            self.manager.send(ToManager::OpenJob(open));
        }
    }

    /// After an absence: the jobs of this driver wait for it at the manager; one that is new hears of them here.
    fn resume(&mut self) {
        if let Some(submitted) = self.submitted.as_ref().filter(|submitted| submitted.is_open) {
            return self.resume_submitted(submitted.job);
        }
        for (open, close) in &self.unheard {
            self.manager.send(ToManager::OpenJob(open.clone()));
            self.manager.send(ToManager::CloseJob(close.clone()));
        }
        for run in self.runs() {
            self.ask_for_job(run);
        }
    }

    /// All queries hold their leases under one job.
    fn resume_submitted(&mut self, job: JobId) {
        let open = self.open_message(SUBMITTED_REQUEST, "");
        let open = v1::OpenJob { submitted_job: Some(job.0), resumed_job: Some(job.0), ..open };
        let all = self.jobs.values().fold(open, |all, query| {
            let query = query.resume(v1::OpenJob::default());
            let (leases, gone) = ([all.leases, query.leases].concat(), [all.gone, query.gone].concat());
            v1::OpenJob { leases, gone, ..all }
        });
        self.manager.send(ToManager::OpenJob(all));
    }

    fn manager_gone(&mut self, error: UserError) {
        let away = self.config.manager_away_max.as_secs();
        let told = UserError::new(format!("the manager was lost and did not come back within {away} s"))
            .detail(error.to_string())
            .hint("is the manager running?");
        self.manager = ManagerLink::Lost;
        self.tell_all(&Event::ManagerLost { error: told.clone() });
        let unopened: Vec<_> =
            self.jobs.iter().filter(|(_, job)| job.machine.is_none()).map(|(run, _)| *run).collect();
        for run in unopened {
            self.forget_unopened(run, &Outcome::Failed(told.clone()));
        }
    }

    fn manager_said(&mut self, message: v1::ManagerToDriver) -> Result<(), MalformedMessage> {
        match message.message {
            Some(FromManager::Welcome(_)) => Err(MalformedMessage::new("DriverWelcome", "sent twice")),
            Some(FromManager::JobOpened(opened)) => {
                self.job_opened(&opened);
                Ok(())
            }
            Some(FromManager::JobClosed(closed)) => {
                self.unheard.retain(|(_, close)| close.job != closed.job);
                Ok(())
            }
            Some(FromManager::Grant(grant)) => self.granted(grant),
            Some(FromManager::Revoke(revoke)) => {
                self.tell_all(&Event::Revoked { lease: LeaseId(revoke.lease), tasks: revoke.tasks });
                Ok(())
            }
            Some(FromManager::ExecutorGone(gone)) => self.executor_gone(gone),
            Some(FromManager::CancelJob(cancel)) => {
                self.job_cancelled(JobId(cancel.job), &cancel.reason);
                Ok(())
            }
            Some(FromManager::ClusterChanged(cluster)) => self.cluster_is(cluster),
            Some(FromManager::ClusterChange(change)) => self.cluster_changed(change),
            Some(FromManager::DemandRefused(refused)) => {
                let (job, stage) = (JobId(refused.job), StageId(refused.stage));
                if let Some(run) = self.run_at_manager(job, stage) {
                    self.tell(run, Event::DemandRefused { stage, reason: refused.reason });
                }
                Ok(())
            }
            None => {
                Err(MalformedMessage::new("ManagerToDriver.message", "of a kind unknown to this release"))
            }
        }
    }

    fn job_opened(&mut self, opened: &v1::JobOpened) {
        let (request, job) = (opened.request, JobId(opened.job));
        if self.unheard.iter().any(|(open, _)| open.request == request) {
            // It was taken up to be closed, as was said at once.
            return;
        }
        let leases: BTreeSet<_> = opened.leases.iter().map(|lease| LeaseId(*lease)).collect();
        if let Some(submitted) = self.submitted.as_mut().filter(|_| request == SUBMITTED_REQUEST) {
            submitted.is_open = true;
            if opened.resumed {
                self.tell_all(&Event::ManagerBack { leases });
            }
            for run in self.runs() {
                self.open_under_submitted(run);
            }
            return;
        }
        let Some(run) = self.jobs.iter().find(|(_, j)| j.opening == request).map(|(run, _)| *run) else {
            // Its query was cancelled before it had a job.
            let outcome = Outcome::Cancelled("it was cancelled before it began".to_owned());
            return self.manager.send(ToManager::CloseJob(convert::close_job(job.0, &outcome, 0)));
        };
        let query = self.jobs.get_mut(&run).expect("it was just found");
        match query.manager_job {
            None => self.start(run, job),
            Some(before) if opened.resumed && job == before => self.tell(run, Event::ManagerBack { leases }),
            // A manager that was started in the place of the one before, and has given the number to another job: the attempts of
            // both would run under it.
            Some(before) if query.opened_by != self.manager_run => {
                let error = UserError::new(format!("the manager was restarted, and {before} lost with it"))
                    .hint("run the query again");
                query.manager_job = Some(job);
                self.tell(run, Event::ManagerLost { error });
            }
            Some(_) => {
                query.manager_job = Some(job);
                self.tell(run, Event::ManagerBack { leases: BTreeSet::new() });
            }
        }
    }

    /// Starts a query under the submitted job, once that is open.
    pub fn open_under_submitted(&mut self, run: RunId) {
        let Some(submitted) = self.submitted.as_ref().filter(|submitted| submitted.is_open) else { return };
        if let Some(outcome) = submitted.ended.clone() {
            return self.forget_unopened(run, &outcome);
        }
        if self.jobs[&run].machine.is_none() {
            self.start(run, submitted.job);
        }
    }

    fn start(&mut self, run: RunId, job: JobId) {
        let policy = self.config.policy;
        let query = self.jobs.get_mut(&run).expect("a query that waits for its job");
        query.opened_by = self.manager_run;
        query.open(job, policy);
        for event in self.cluster.whole() {
            self.tell(run, event);
        }
        self.tell(run, Event::Begin);
    }

    fn granted(&mut self, grant: v1::Grant) -> Result<(), MalformedMessage> {
        let executor = required(grant.executor, "Grant.executor")?;
        let life = convert::life(&executor)?;
        let (lease, stage) = (LeaseId(grant.lease), StageId(grant.stage));
        self.refs.insert(life.clone(), executor);
        match self.run_at_manager(JobId(grant.job), stage) {
            Some(run) => self.tell(run, Event::Granted { lease, stage, life, tasks: grant.tasks }),
            // The job has ended since.
            None => self
                .manager
                .send(ToManager::Release(v1::ReleaseSlots { lease: grant.lease, tasks: grant.tasks })),
        }
        Ok(())
    }

    fn run_at_manager(&self, job: JobId, stage: StageId) -> Option<RunId> {
        self.jobs.iter().find(|(_, query)| query.is_at_manager(job, stage)).map(|(run, _)| *run)
    }

    fn executor_gone(&mut self, gone: v1::ExecutorGone) -> Result<(), MalformedMessage> {
        let life = convert::life(&required(gone.executor, "ExecutorGone.executor")?)?;
        if let Some(link) = self.links.remove(&life) {
            link.task.abort();
        }
        if gone.blocks_kept && !self.jobs.is_empty() {
            self.kept.insert(life.clone());
        }
        let event =
            Event::ExecutorGone { life: life.clone(), reason: gone.reason, blocks_kept: gone.blocks_kept };
        self.tell_all(&event);
        if !gone.blocks_kept {
            // Of outputs that lie elsewhere too, readers hear that first.
            self.drain();
            self.holder_gone(&life);
        }
        Ok(())
    }

    fn job_cancelled(&mut self, job: JobId, reason: &str) {
        if let Some(submitted) = self.submitted.as_mut().filter(|submitted| submitted.job == job) {
            submitted.ended = Some(Outcome::Cancelled(reason.to_owned()));
            return self.cancel_all(reason);
        }
        let runs = self.jobs.iter().filter(|(_, query)| query.manager_job == Some(job));
        for run in runs.map(|(run, _)| *run).collect::<Vec<_>>() {
            self.tell(run, Event::Cancel { reason: reason.to_owned() });
        }
    }

    /// The executors that are up are these.
    fn cluster_is(&mut self, cluster: v1::ClusterChanged) -> Result<(), MalformedMessage> {
        let (executors, draining) = (self.executors(cluster.executors)?, workers(&cluster.draining)?);
        self.note_reached(&executors);
        let news = self.cluster.become_all(executors, draining);
        self.cluster_is_known(&news);
        Ok(())
    }

    fn cluster_changed(&mut self, change: v1::ClusterChange) -> Result<(), MalformedMessage> {
        let (came, draining) = (self.executors(change.came)?, workers(&change.draining)?);
        let gone = change.gone.iter().map(ExecutorId::try_from).collect::<Result<_, _>>()?;
        self.note_reached(&came);
        let news = self.cluster.change(came, gone, draining);
        self.cluster_is_known(&news);
        Ok(())
    }

    fn executors(&self, shapes: Vec<v1::ExecutorShape>) -> Result<Vec<Executor>, MalformedMessage> {
        let is_here = |executor: &ExecutorId| self.peers.executors.contains_key(executor);
        shapes.into_iter().map(|shape| Executor::new(shape, is_here)).collect()
    }

    fn note_reached(&mut self, executors: &[Executor]) {
        let refs = executors.iter().map(|executor| (executor.life().clone(), executor.reference.clone()));
        self.refs.extend(refs);
    }

    /// Tells everybody of a change of the cluster, and forgets where executors were reached that are not needed any more.
    fn cluster_is_known(&mut self, news: &[Event]) {
        if self.jobs.is_empty() {
            self.kept.clear();
        }
        let (links, kept, cluster) = (&self.links, &self.kept, &self.cluster);
        self.refs.retain(|life, _| cluster.is_up(life) || links.contains_key(life) || kept.contains(life));
        self.members.send_replace(self.cluster.members());
        news.iter().for_each(|event| self.tell_all(event));
    }
}
