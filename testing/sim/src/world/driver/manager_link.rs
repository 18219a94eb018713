//! The session with the manager: a model of `driver/src/shell/manager_link.rs` and `manager_messages.rs`.
//!
//! ```text
//!               stream ended                       a new session
//!   connected --------------> away: calls again --------------------> connected: opens its jobs anew
//!                               │ not within a minute                   ▲
//!                               ▼                                       │ a query is run
//!                              lost ────────────────────────────────────┘
//! ```

use std::collections::BTreeSet;
use std::time::Duration;

use firesteel_base::{JobId, LeaseId, Timestamp, UserError};
use firesteel_driver::machine::{Arrival, Event, Life, Outcome};
use firesteel_manager::machine::message::{
    ClusterChange, DriverEvent, Ending, ExecutorRef, Grant, Members, ToDriver,
};
use firesteel_manager::machine::rights::Rights;

use super::{Driver, submitted};
use crate::channel::{Conn, Host, Message, Proc};
use crate::world::{Scene, Timer};

const WELCOME_TIMEOUT: Duration = Duration::from_secs(10);
pub(super) const AWAY_MAX: Duration = Duration::from_secs(60);
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// Where the session stands.
#[derive(Debug)]
pub struct ManagerLink {
    conn: Option<Conn>,
    /// The manager that was called last.
    called: Option<Proc>,
    state: State,
    /// It has never been welcomed: its user tries until it is.
    is_first: bool,
    deadline: Timestamp,
    backoff: Duration,
    /// The latest run of a manager that was heard.
    latest_run: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Connected,
    Away,
    Lost,
}

impl ManagerLink {
    /// Of a driver that has not called yet.
    pub fn first(now: Timestamp) -> Self {
        let (state, backoff) = (State::Away, BACKOFF_MIN);
        Self {
            conn: None,
            called: None,
            state,
            is_first: true,
            deadline: now + AWAY_MAX,
            backoff,
            latest_run: 0,
        }
    }

    pub(super) fn is(&self, conn: Conn) -> bool {
        self.conn == Some(conn)
    }

    pub(super) fn called(&self) -> Option<Proc> {
        self.called
    }

    pub(super) fn is_lost(&self) -> bool {
        self.state == State::Lost
    }

    pub(super) fn connected(&self) -> Option<Conn> {
        self.conn.filter(|_| self.state == State::Connected)
    }
}

pub(super) fn life(executor: &ExecutorRef) -> Life {
    Life { executor: executor.id.clone(), epoch: executor.epoch }
}

/// All processes are of one release.
pub(super) fn arrival(life: Life) -> Arrival {
    Arrival { life, takes_outputs: true, reads_keys: true }
}

impl Driver {
    /// Calls the manager, if it still looks for it.
    pub fn call(&mut self, manager: (Proc, Host), scene: &mut Scene) {
        if self.manager.state != State::Away || self.manager.conn.is_some() {
            return;
        }
        let user = format!("user{}", self.number);
        let incarnation = self.proc.0.to_string();
        let hello = DriverEvent::Hello {
            release: "sim".to_owned(),
            host: self.host(scene).to_string(),
            user,
            incarnation,
            rights: Rights::All,
        };
        let conn = scene.call(self.proc, manager, Message::OfDriver(hello));
        self.manager.conn = Some(conn);
        self.manager.called = Some(manager.0);
        scene.wake(self.proc, WELCOME_TIMEOUT, Timer::DriverUnanswered(conn));
    }

    pub(super) fn manager_unanswered(&mut self, conn: Conn, scene: &mut Scene) {
        if self.manager.is(conn) && self.manager.state != State::Connected {
            scene.close(conn, 0);
            self.manager_down(scene);
        }
    }

    pub(super) fn manager_down(&mut self, scene: &mut Scene) {
        self.manager.conn = None;
        match self.manager.state {
            State::Connected => {
                scene.tell(self.proc, || "lost the manager; what runs goes on".to_owned());
                self.call_manager(scene);
            }
            State::Away => self.call_again_or_give_up(scene),
            State::Lost => {}
        }
    }

    pub(super) fn call_manager(&mut self, scene: &mut Scene) {
        self.manager.state = State::Away;
        self.manager.deadline = scene.clock(self.proc) + AWAY_MAX;
        self.manager.backoff = BACKOFF_MIN;
        scene.wake(self.proc, Duration::ZERO, Timer::DriverCall);
    }

    fn call_again_or_give_up(&mut self, scene: &mut Scene) {
        let backoff = self.manager.backoff;
        let is_patient = self.manager.is_first && self.submitted.is_none();
        if !is_patient && scene.clock(self.proc) + backoff >= self.manager.deadline {
            return self.manager_gone(scene);
        }
        scene.wake(self.proc, backoff, Timer::DriverCall);
        self.manager.backoff = (backoff * 2).min(BACKOFF_MAX);
    }

    fn manager_gone(&mut self, scene: &mut Scene) {
        scene.tell(self.proc, || "gives the manager up".to_owned());
        let error = UserError::new("the manager was lost and did not come back in time");
        self.manager.state = State::Lost;
        self.tell_all(&Event::ManagerLost { error: error.clone() });
        let unopened = self.queries.iter().filter(|(_, query)| query.machine.is_none());
        for number in unopened.map(|(number, _)| *number).collect::<Vec<_>>() {
            self.forget_unopened(number, &Outcome::Failed(error.clone()), scene);
        }
    }

    pub(super) fn manager_said(&mut self, conn: Conn, run: u64, message: ToDriver, scene: &mut Scene) {
        if !self.manager.is(conn) {
            return;
        }
        if run < self.manager.latest_run {
            scene.tell(self.proc, || "does not listen to a manager that was replaced".to_owned());
            scene.close(conn, 0);
            return self.manager_down(scene);
        }
        self.manager.latest_run = run;
        match message {
            ToDriver::Welcome(members) => self.manager_up(&members, scene),
            ToDriver::JobOpened { request, job, resumed } => self.job_opened(request, job, resumed, scene),
            ToDriver::JobClosed(job) => self.unheard.retain(|(_, closed, _)| *closed != job),
            ToDriver::Grant(grant) => self.granted(grant, scene),
            ToDriver::Revoke { lease, tasks } => self.tell_all(&Event::Revoked { lease, tasks }),
            ToDriver::ExecutorGone { executor, reason, blocks_kept } => {
                self.executor_gone(&life(&executor), reason, blocks_kept, scene);
            }
            ToDriver::CancelJob { job, reason } if self.submitted_cancelled(job, &reason, scene) => {}
            ToDriver::CancelJob { job, reason } => {
                let meant = self.queries.iter().filter(|(_, query)| query.manager_job == Some(job));
                for number in meant.map(|(number, _)| *number).collect::<Vec<_>>() {
                    self.tell(number, Event::Cancel { reason: reason.clone() });
                }
            }
            ToDriver::ClusterChanged(change) => self.cluster_changed(&change),
            ToDriver::DemandRefused { job, stage, reason } => {
                let is_meant = |query: &super::Query| {
                    query.manager_job == Some(job)
                        && query.machine.as_ref().is_some_and(|machine| machine.has_stage(stage))
                };
                if let Some(number) = self.queries.iter().find(|(_, q)| is_meant(q)).map(|(n, _)| *n) {
                    self.tell(number, Event::DemandRefused { stage, reason });
                }
            }
        }
    }

    fn manager_up(&mut self, members: &Members, scene: &mut Scene) {
        scene
            .tell(self.proc, || format!("is welcomed by the manager: {} executors", members.executors.len()));
        self.manager.state = State::Connected;
        self.cluster_changed(&self.change_to(members));
        self.greet_for_submitted(scene);
        if std::mem::take(&mut self.manager.is_first) {
            for number in self.planned.keys().copied().collect::<Vec<_>>() {
                scene.wake_within(self.proc, (0, 4_000), Timer::Query(number));
            }
            return;
        }
        for (open, job, ending) in self.unheard.clone() {
            self.say_to_manager(DriverEvent::OpenJob(open), scene);
            self.say_to_manager(DriverEvent::CloseJob { job, ending }, scene);
        }
        for number in self.queries.keys().copied().collect::<Vec<_>>() {
            self.ask_for_job(number, scene);
        }
    }

    /// How the cluster is other than this driver knew it.
    fn change_to(&self, members: &Members) -> ClusterChange {
        let Members { executors: came, draining } = members.clone();
        let here: BTreeSet<_> = came.iter().map(|shape| &shape.executor.id).collect();
        let gone = self.up.keys().filter(|executor| !here.contains(executor)).cloned().collect();
        ClusterChange { came, gone, draining }
    }

    fn job_opened(&mut self, request: u64, job: JobId, resumed: Option<Vec<LeaseId>>, scene: &mut Scene) {
        if self.unheard.iter().any(|(open, ..)| open.request == request) {
            return;
        }
        if self.submitted.is_some() && request == submitted::REQUEST {
            return self.submitted_opened(resumed, scene);
        }
        let Some(number) = self.queries.iter().find(|(_, q)| q.opening == request).map(|(n, _)| *n) else {
            let ending = Ending::Cancelled { reason: "it was cancelled before it began".to_owned() };
            return self.say_to_manager(DriverEvent::CloseJob { job, ending }, scene);
        };
        let called = self.manager.called();
        let query = self.queries.get_mut(&number).expect("it was just found");
        match (query.manager_job, resumed) {
            (None, _) => self.open_query(number, job, scene),
            (Some(before), Some(leases)) if job == before => {
                scene.tell(self.proc, || format!("q{number} goes on as {job} with {} leases", leases.len()));
                self.tell(number, Event::ManagerBack { leases: leases.into_iter().collect() });
            }
            (Some(before), _) if query.opened_at != called => {
                query.manager_job = Some(job);
                let error = UserError::new(format!("the manager was restarted, and {before} lost with it"));
                self.tell(number, Event::ManagerLost { error });
            }
            (Some(before), _) => {
                scene.tell(self.proc, || format!("q{number} was {before} and is {job} at the manager now"));
                query.manager_job = Some(job);
                self.tell(number, Event::ManagerBack { leases: BTreeSet::new() });
            }
        }
    }

    fn granted(&mut self, grant: Grant, scene: &mut Scene) {
        let is_meant = |query: &super::Query| {
            query.manager_job == Some(grant.job)
                && query.machine.as_ref().is_some_and(|machine| machine.has_stage(grant.stage))
        };
        let (lease, tasks, stage): (LeaseId, u32, _) = (grant.lease, grant.tasks, grant.stage);
        self.refs.insert(life(&grant.executor), grant.executor.clone());
        match self.queries.iter().find(|(_, query)| is_meant(query)).map(|(number, _)| *number) {
            Some(number) => {
                let life = life(&grant.executor);
                scene.tell(self.proc, || format!("is lent {tasks} slots on {life} for {stage}: {lease}"));
                self.tell(number, Event::Granted { lease, stage, life, tasks });
            }
            None => self.say_to_manager(DriverEvent::Release { lease, tasks }, scene),
        }
    }

    fn executor_gone(&mut self, life: &Life, reason: String, blocks_kept: bool, scene: &mut Scene) {
        scene.tell(self.proc, || format!("hears that {life} is gone, blocks kept: {blocks_kept}"));
        self.drop_link(life, scene);
        if blocks_kept && !self.queries.is_empty() {
            self.kept.insert(life.clone());
        }
        self.tell_all(&Event::ExecutorGone { life: life.clone(), reason, blocks_kept });
        if !blocks_kept {
            self.drain(scene);
            self.holder_gone(life, scene);
        }
    }

    /// These executors are up too, those are not any more, and these workers are drained: queries are told of what is new to them.
    fn cluster_changed(&mut self, change: &ClusterChange) {
        change.gone.iter().for_each(|gone| drop(self.up.remove(gone)));
        let mut came = Vec::new();
        for shape in &change.came {
            let life = life(&shape.executor);
            self.refs.insert(life.clone(), shape.executor.clone());
            if self.up.insert(life.executor.clone(), life.clone()).as_ref() != Some(&life) {
                came.push(arrival(life));
            }
        }
        if self.queries.is_empty() {
            self.kept.clear();
        }
        let (links, kept, up) = (&self.links, &self.kept, &self.up);
        let is_up = |life: &Life| up.get(&life.executor) == Some(life);
        self.refs.retain(|life, _| is_up(life) || links.contains_key(life) || kept.contains(life));
        let workers: BTreeSet<_> = change.draining.iter().cloned().collect();
        if workers != self.draining {
            self.draining.clone_from(&workers);
            self.tell_all(&Event::Draining { workers });
        }
        self.tell_all(&Event::ClusterChanged { came, gone: change.gone.clone() });
    }
}
