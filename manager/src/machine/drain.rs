//! Draining a worker: it gets nothing new, what runs there ends, what lies there and is still needed moves, and it leaves.
//!
//! ```text
//!               a client's order · its own word: a signal                 nothing of it is needed any more
//!   (in use) ───────────────────────────────────────────────► draining ───────────────────────────────────► told to leave
//!      ▲                                                         │  │
//!      └── a client's order, before it has left ─────────────────┘  └──► lost, left: by its own deadline too
//! ```
//!
//! The worker keeps the drain and its deadline, and says it again to a manager that comes after this one. What is ordered of
//! it carries a number: what it says of an earlier order is stale. Drivers hear which workers drain, have their map outputs
//! moved, and say what they still have there; a driver of the wire version before says nothing, and what it has there is waited
//! for by the bytes that lie there.

use std::collections::BTreeMap;
use std::time::Duration;

use firesteel_base::{ExecutorId, JobId, Timestamp, WorkerId, version};

use super::Machine;
use super::executor::Executor;
use super::job::{Job, Phase};
use super::message::{DrainReport, Effect, LeftThere, Note, Refusal, SessionId, ToDriver, ToWorker};
use super::node::Node;

/// How often an executor must have answered that it runs nothing, once nothing there is lent: what it said before may be old.
const QUIET_ANSWERS: u64 = 2;

/// A worker that is drained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drain {
    /// Who wants it.
    pub reason: String,
    /// When what is left is given up, by its own clock.
    pub until: Option<Timestamp>,
    /// It has heard of it.
    pub confirmed: bool,
    /// Drivers of cluster mode that run there.
    pub drivers: u32,
    /// Bytes that executors which are gone have left there.
    pub kept_bytes: u64,
    /// Whether it has said how it stands since it has told of its executors, and since one of them has gone last.
    is_known: bool,
    /// What jobs have said that they still have there.
    pub left: BTreeMap<JobId, LeftThere>,
    /// For executors that run nothing and have lent nothing: how often they had answered when that was first seen.
    quiet: BTreeMap<u32, u64>,
    told_to_leave: bool,
}

/// The workers that are drained, and what was ordered of any.
#[derive(Debug, Default)]
pub struct Drains {
    all: BTreeMap<WorkerId, Drain>,
    /// The number of the last order to each worker that is there.
    ordered: BTreeMap<WorkerId, u64>,
    orders: u64,
}

impl Drains {
    /// None yet; orders are numbered from `seed` on.
    #[must_use]
    pub fn counting_from(seed: u64) -> Self {
        Self { orders: seed, ..Self::default() }
    }

    /// The drain of a worker.
    #[must_use]
    pub fn get(&self, worker: &WorkerId) -> Option<&Drain> {
        self.all.get(worker)
    }

    /// The workers that are drained, by name.
    #[must_use]
    pub fn workers(&self) -> Vec<WorkerId> {
        self.all.keys().cloned().collect()
    }

    fn order(&mut self, worker: &WorkerId) -> u64 {
        self.orders += 1;
        self.ordered.insert(worker.clone(), self.orders);
        self.orders
    }

    fn last_order(&self, worker: &WorkerId) -> u64 {
        self.ordered.get(worker).copied().unwrap_or(0)
    }
}

impl Machine {
    /// Whether a node may get new work.
    pub(super) fn takes_work(&self, node: &Node) -> bool {
        node.is_alive() && self.drains.get(&node.id).is_none()
    }

    /// A client wants a worker drained. Again, it changes the deadline.
    pub(super) fn drain(
        &mut self,
        now: Timestamp,
        worker: &WorkerId,
        deadline: Option<Duration>,
        force: bool,
        fx: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        let session = self.session_of(worker)?;
        let has_room = |node: &Node| !node.executors.is_empty() && self.takes_work(node);
        let has_others = self.nodes.present().any(|node| node.id != *worker && has_room(node));
        if !force && !has_others {
            return Err(Refusal::LastWorker(worker.clone()));
        }
        let order = self.drains.order(worker);
        let until = deadline.map(|span| now + span);
        self.begin_drain(worker, "an operator's order".to_owned(), fx);
        let drain = self.drains.all.get_mut(worker).expect("it was just begun");
        (drain.until, drain.confirmed) = (until, false);
        let order = ToWorker::Drain { order, draining: true, deadline };
        fx.push(Effect::ToWorker(session, order));
        Ok(())
    }

    /// A client wants a worker to stay after all.
    pub(super) fn undrain(&mut self, worker: &WorkerId, fx: &mut Vec<Effect>) -> Result<(), Refusal> {
        let session = self.session_of(worker)?;
        match self.drains.get(worker) {
            None => return Err(Refusal::NotDrained(worker.clone())),
            Some(drain) if drain.told_to_leave => return Err(Refusal::Leaving(worker.clone())),
            Some(_) => {}
        }
        let order = self.drains.order(worker);
        fx.push(Effect::ToWorker(session, ToWorker::Drain { order, draining: false, deadline: None }));
        self.end_drain(worker, "stays after all", fx);
        Ok(())
    }

    /// The session of a worker that can be drained.
    fn session_of(&self, worker: &WorkerId) -> Result<SessionId, Refusal> {
        let Some(node) = self.nodes.get(worker).filter(|node| node.is_present()) else {
            let known = self.nodes.present().map(|node| node.id.clone()).collect();
            return Err(Refusal::UnknownWorker { worker: worker.clone(), known });
        };
        if node.wire < version::WIRE_DRAIN {
            return Err(Refusal::OldWorker { worker: worker.clone(), release: node.release.clone() });
        }
        node.session.ok_or_else(|| Refusal::WorkerAway(worker.clone()))
    }

    /// A worker says how it stands. Of an order that it has not heard it is told again.
    pub(super) fn drain_reported(
        &mut self,
        now: Timestamp,
        session: SessionId,
        worker: &WorkerId,
        report: DrainReport,
        fx: &mut Vec<Effect>,
    ) {
        let last = self.drains.last_order(worker);
        if report.order < last {
            if report.is_first {
                let drain = self.drains.get(worker);
                let deadline = drain.and_then(|drain| drain.until).map(|until| until - now);
                let order = ToWorker::Drain { order: last, draining: drain.is_some(), deadline };
                fx.push(Effect::ToWorker(session, order));
            }
            return;
        }
        if !report.draining {
            return self.end_drain(worker, "stays after all", fx);
        }
        self.begin_drain(worker, report.reason, fx);
        let drain = self.drains.all.get_mut(worker).expect("it was just begun");
        drain.confirmed = true;
        drain.until = report.left.map(|left| now + left);
        (drain.drivers, drain.kept_bytes) = (report.drivers, report.kept_bytes);
        // What comes first after a registration comes before its executors are named.
        drain.is_known = !report.is_first;
        // A word of it may have been lost with its connection.
        drain.told_to_leave &= !report.is_first;
    }

    fn begin_drain(&mut self, worker: &WorkerId, reason: String, fx: &mut Vec<Effect>) {
        if self.drains.all.contains_key(worker) {
            return;
        }
        let drain = Drain {
            reason: reason.clone(),
            until: None,
            confirmed: false,
            drivers: 0,
            kept_bytes: 0,
            is_known: false,
            left: BTreeMap::new(),
            quiet: BTreeMap::new(),
            told_to_leave: false,
        };
        self.drains.all.insert(worker.clone(), drain);
        fx.push(Effect::Note(Note::WorkerChanged { worker: worker.clone(), state: "draining", reason }));
        self.cluster_changed = true;
        self.seats_changed();
    }

    fn end_drain(&mut self, worker: &WorkerId, reason: &str, fx: &mut Vec<Effect>) {
        if self.drains.all.remove(worker).is_none() {
            return;
        }
        let reason = reason.to_owned();
        fx.push(Effect::Note(Note::WorkerChanged { worker: worker.clone(), state: "alive", reason }));
        self.cluster_changed = true;
        self.launch_due = true;
        self.seats_changed();
    }

    /// A worker is gone, or another process has its name.
    pub(super) fn forget_drain(&mut self, worker: &WorkerId) {
        self.drains.ordered.remove(worker);
        self.cluster_changed |= self.drains.all.remove(worker).is_some();
    }

    /// A driver says what a job of it still has at a worker that is drained.
    pub(super) fn note_left(&mut self, session: SessionId, job: JobId, worker: &WorkerId, left: LeftThere) {
        let is_its = self.jobs.live(job).and_then(Job::driver) == Some(session);
        if let Some(drain) = self.drains.all.get_mut(worker).filter(|_| is_its) {
            drain.left.insert(job, left);
        }
    }

    /// Asks all slots of workers that are drained back, and lets those go of which nothing is needed any more.
    pub(super) fn settle_drains(&mut self, fx: &mut Vec<Effect>) {
        for worker in self.drains.workers() {
            self.ask_back(&worker, fx);
            self.note_quiet(&worker);
            let session = self.nodes.get(&worker).and_then(|node| node.session);
            if let Some(session) = session.filter(|_| self.may_leave(&worker)) {
                self.drains.all.get_mut(&worker).expect("it is drained").told_to_leave = true;
                fx.push(Effect::ToWorker(session, ToWorker::Leave));
            }
        }
    }

    fn executors_of(&self, worker: &WorkerId) -> impl Iterator<Item = (ExecutorId, &Executor)> {
        let node = self.nodes.get(worker).filter(|node| node.is_present());
        node.into_iter()
            .flat_map(|node| node.executors.iter().map(|(index, e)| (node.executor_id(*index), e)))
    }

    fn ask_back(&mut self, worker: &WorkerId, fx: &mut Vec<Effect>) {
        let executors: Vec<ExecutorId> = self.executors_of(worker).map(|(id, _)| id).collect();
        for executor in executors {
            for (lease, job, tasks) in self.leases.not_asked_back(&executor) {
                self.leases.revoke(lease, tasks);
                if let Some(driver) = self.jobs.live(job).and_then(Job::driver) {
                    fx.push(Effect::ToDriver(driver, ToDriver::Revoke { lease, tasks }));
                }
            }
        }
    }

    fn note_quiet(&mut self, worker: &WorkerId) {
        let is_quiet = |id: &ExecutorId, executor: &Executor| {
            executor.usage.running_attempts == 0 && self.leases.lent(id) == (0, 0)
        };
        let quiet: BTreeMap<u32, u64> = self
            .executors_of(worker)
            .filter(|(id, executor)| is_quiet(id, executor))
            .map(|(id, executor)| (id.index, executor.usage.answers))
            .collect();
        let drain = self.drains.all.get_mut(worker).expect("it is drained");
        drain.quiet.retain(|index, _| quiet.contains_key(index));
        for (index, answers) in quiet {
            drain.quiet.entry(index).or_insert(answers);
        }
    }

    fn may_leave(&self, worker: &WorkerId) -> bool {
        let drain = self.drains.get(worker).expect("it is drained");
        let is_waited_for = drain.told_to_leave || !drain.confirmed || !drain.is_known || drain.drivers > 0;
        !is_waited_for
            && self.executors_of(worker).all(|(id, executor)| self.is_at_rest(drain, &id, executor))
            && self.nothing_needed_is_at(worker, drain)
    }

    /// Whether nothing runs on an executor, and nothing can begin to.
    fn is_at_rest(&self, drain: &Drain, id: &ExecutorId, executor: &Executor) -> bool {
        let has_answered = |since: &u64| executor.usage.answers >= since + QUIET_ANSWERS;
        let is_quiet = drain.quiet.get(&id.index).is_some_and(has_answered);
        executor.claimed_until.is_none() && (executor.life.is_none() || is_quiet)
    }

    /// Bytes of all blocks that lie there, needed or not.
    #[must_use]
    pub fn block_bytes(&self, worker: &WorkerId, drain: &Drain) -> u64 {
        let up = self.executors_of(worker).filter(|(_, executor)| executor.life.is_some());
        // What workers say may be anything.
        up.map(|(_, executor)| executor.usage.block_bytes).fold(drain.kept_bytes, u64::saturating_add)
    }

    /// Whether no job has said that it needs something there; of one that has not said anything, whether no block is there.
    fn nothing_needed_is_at(&self, worker: &WorkerId, drain: &Drain) -> bool {
        let is_empty = self.block_bytes(worker, drain) == 0;
        self.jobs.iter_live().all(|job| match (&job.phase, drain.left.get(&job.id)) {
            (Phase::Open { .. } | Phase::Detached { .. }, Some(left)) => *left == LeftThere::default(),
            (Phase::Open { .. } | Phase::Detached { .. }, None) => is_empty,
            (Phase::Submitted | Phase::Launching { .. } | Phase::Ended(_), _) => true,
        })
    }

    /// An executor is gone: its worker says next what it has left.
    pub(super) fn note_gone(&mut self, executor: &ExecutorId) {
        if let Some(drain) = self.drains.all.get_mut(&executor.worker) {
            drain.is_known = false;
        }
    }
}
