//! Workers. Their executors are in [`executor`](super::executor).
//!
//! ```text
//!             register                silence · stream ended
//!   (unknown) ────────► Alive ────────────────────────────► Suspect: gets no new slots
//!      ▲                 │  ▲                                 │   │
//!      │                 │  └── heard again · same incarnation┘   │ silence for the node time-out
//!      │         leaving │                                        │ another incarnation while no stream is there
//!      │                 ▼                                        ▼
//!      │               Left                                      Lost        both: executors gone, leases ended
//!      └── forgotten ───┴────────── register anew ──────► Alive ◄─┘
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use firesteel_base::{ExecutorId, Timestamp, WorkerId};

use super::Machine;
use super::executor::{Executor, Life};
use super::message::{
    Effect, ExecutorRef, ExecutorShape, Note, Refusal, Registration, SessionId, ToWorker, Usage, WorkerEvent,
};

/// Whether a worker can be relied on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeState {
    /// It reports.
    Alive,
    /// It has been silent, or its stream ended; it keeps what it has and gets nothing new.
    Suspect,
    /// It was silent too long.
    Lost {
        /// What was seen of it last.
        reason: String,
    },
    /// It went on purpose.
    Left {
        /// Why.
        reason: String,
    },
}

/// A worker.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Its name.
    pub id: WorkerId,
    /// Its process's life.
    pub incarnation: String,
    /// The release it is of.
    pub release: String,
    /// The wire version that is spoken with it.
    pub wire: u32,
    /// host:port of its own gRPC service.
    pub address: String,
    /// host:port where it serves the blocks of executors that are gone; empty when it does not.
    pub keeper_address: String,
    /// Whether an executor of it is gone and may have left blocks.
    pub keeps_blocks: bool,
    /// Its host.
    pub host: String,
    /// Its host's rack.
    pub rack: String,
    /// The hardware as it reported it.
    pub topology_json: Arc<str>,
    /// The NUMA node of each network card.
    pub nics: Vec<Option<u32>>,
    /// Whether it can be relied on.
    pub state: NodeState,
    /// Its stream, while there is one.
    pub session: Option<SessionId>,
    /// When it was last heard.
    pub heard: Timestamp,
    /// Its executors.
    pub executors: BTreeMap<u32, Executor>,
    /// Drivers in cluster deploy mode that it runs at a time.
    pub driver_places: usize,
}

impl Node {
    fn new(registration: Registration, session: SessionId, now: Timestamp) -> Self {
        let executors = registration
            .executors
            .into_iter()
            .map(|spec| {
                (spec.index, Executor { spec, life: None, claimed_until: None, usage: Usage::default() })
            })
            .collect();
        Self {
            id: registration.worker,
            incarnation: registration.incarnation,
            release: registration.release,
            wire: registration.wire,
            address: registration.address,
            keeper_address: registration.keeper_address,
            keeps_blocks: false,
            host: registration.host,
            rack: registration.rack,
            topology_json: registration.topology_json,
            nics: registration.nics,
            state: NodeState::Alive,
            session: Some(session),
            heard: now,
            executors,
            driver_places: registration.driver_places,
        }
    }

    /// Whether it is alive or may be.
    #[must_use]
    pub fn is_present(&self) -> bool {
        match self.state {
            NodeState::Alive | NodeState::Suspect => true,
            NodeState::Lost { .. } | NodeState::Left { .. } => false,
        }
    }

    /// Whether it may get new work.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.state == NodeState::Alive
    }

    /// The id of one of its executors.
    #[must_use]
    pub fn executor_id(&self, index: u32) -> ExecutorId {
        ExecutorId { worker: self.id.clone(), index }
    }

    fn shape(&self, executor: &Executor) -> Option<ExecutorShape> {
        let life = executor.life.as_ref()?;
        Some(ExecutorShape {
            executor: self.reference(executor.spec.index, life),
            slots: executor.spec.slots,
            memory_bytes: executor.spec.memory_bytes,
            host: self.host.clone(),
            numa_node: executor.spec.numa_node,
            wire: self.wire,
        })
    }

    fn reference(&self, index: u32, life: &Life) -> ExecutorRef {
        ExecutorRef {
            id: self.executor_id(index),
            epoch: life.epoch,
            control_address: life.up.control_address.clone(),
            shuffle_address: life.up.shuffle_address.clone(),
            keeper_address: self.keeper_address.clone(),
        }
    }
}

/// All workers by name, and which stream is whose.
#[derive(Debug, Default)]
pub struct Nodes {
    all: BTreeMap<WorkerId, Node>,
    by_session: BTreeMap<SessionId, WorkerId>,
    /// Lost and left ones, in that order.
    gone: VecDeque<WorkerId>,
}

impl Nodes {
    /// A worker.
    #[must_use]
    pub fn get(&self, id: &WorkerId) -> Option<&Node> {
        self.all.get(id)
    }

    pub(super) fn get_mut(&mut self, id: &WorkerId) -> Option<&mut Node> {
        self.all.get_mut(id)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Node> {
        self.all.values_mut()
    }

    /// All workers by name.
    pub fn iter(&self) -> impl Iterator<Item = &Node> {
        self.all.values()
    }

    /// Workers that are alive or suspect.
    pub fn present(&self) -> impl Iterator<Item = &Node> {
        self.all.values().filter(|node| node.is_present())
    }

    /// How many of those there are.
    #[must_use]
    pub fn present_count(&self) -> usize {
        self.all.len() - self.gone.len()
    }

    /// How many lost and left ones are remembered.
    #[must_use]
    pub fn gone_count(&self) -> usize {
        self.gone.len()
    }

    /// The life of an executor that is up.
    #[must_use]
    pub fn life(&self, id: &ExecutorId) -> Option<&Life> {
        self.all.get(&id.worker)?.executors.get(&id.index)?.life.as_ref()
    }

    /// How to reach an executor that is up.
    #[must_use]
    pub fn reference(&self, id: &ExecutorId) -> Option<ExecutorRef> {
        let node = self.all.get(&id.worker)?;
        Some(node.reference(id.index, node.executors.get(&id.index)?.life.as_ref()?))
    }

    /// All executors that are up.
    #[must_use]
    pub fn shapes(&self) -> Vec<ExecutorShape> {
        let of = |node: &'_ Node| node.executors.values().filter_map(|e| node.shape(e)).collect::<Vec<_>>();
        self.all.values().flat_map(of).collect()
    }

    /// An executor that is up.
    #[must_use]
    pub fn shape(&self, id: &ExecutorId) -> Option<ExecutorShape> {
        let node = self.all.get(&id.worker)?;
        node.shape(node.executors.get(&id.index)?)
    }

    fn forget_gone(&mut self, kept: usize) {
        while self.gone.len() > kept {
            if let Some(id) = self.gone.pop_front() {
                self.all.remove(&id);
            }
        }
    }
}

impl Machine {
    pub(super) fn on_worker(
        &mut self,
        now: Timestamp,
        session: SessionId,
        event: WorkerEvent,
        fx: &mut Vec<Effect>,
    ) {
        let registered = self.nodes.by_session.get(&session).cloned();
        match (registered, event) {
            (None, WorkerEvent::Register(registration)) => self.register(now, session, registration, fx),
            (Some(_), WorkerEvent::Register(_)) => {
                fx.push(Effect::EndSession(session, "a worker registers once in a session".to_owned()));
                self.worker_stream_lost(session, fx);
            }
            // The session was replaced or given up: what still comes of it is stale.
            (
                None,
                WorkerEvent::Heartbeat(_)
                | WorkerEvent::ExecutorUp(_)
                | WorkerEvent::ExecutorBack { .. }
                | WorkerEvent::ExecutorDown { .. }
                | WorkerEvent::DriverEnded { .. }
                | WorkerEvent::Drain(_)
                | WorkerEvent::Leaving { .. }
                | WorkerEvent::StreamLost,
            ) => {}
            (Some(_), WorkerEvent::StreamLost) => self.worker_stream_lost(session, fx),
            (Some(id), WorkerEvent::Heartbeat(usage)) => {
                self.heard_worker(now, &id);
                self.note_usage(&id, usage);
            }
            (Some(id), WorkerEvent::ExecutorUp(up)) => {
                self.heard_worker(now, &id);
                self.executor_up(session, &id, up, fx);
            }
            (Some(id), WorkerEvent::ExecutorBack { up, epoch }) => {
                self.heard_worker(now, &id);
                self.executor_back(now, session, &id, (up, epoch), fx);
            }
            (Some(id), WorkerEvent::ExecutorDown { index, epoch, reason }) => {
                self.heard_worker(now, &id);
                self.executor_down(&ExecutorId { worker: id, index }, epoch, &reason, fx);
            }
            (Some(id), WorkerEvent::DriverEnded { job, launch, succeeded, reason }) => {
                self.heard_worker(now, &id);
                self.driver_process_ended(now, &id, (job, launch), succeeded, reason, fx);
            }
            (Some(id), WorkerEvent::Drain(report)) => {
                self.heard_worker(now, &id);
                self.drain_reported(now, session, &id, report, fx);
            }
            (Some(id), WorkerEvent::Leaving { reason }) => {
                self.retire_node(now, &id, NodeState::Left { reason }, fx);
            }
        }
    }

    fn register(
        &mut self,
        now: Timestamp,
        session: SessionId,
        registration: Registration,
        fx: &mut Vec<Effect>,
    ) {
        if registration.executors.len() > self.config.limits.executors_per_node {
            let limit = self.config.limits.executors_per_node;
            let refusal = Refusal::TooMany { what: "executors of one worker", limit, hint: None };
            return fx.push(Effect::Refuse(session, refusal));
        }
        let id = registration.worker.clone();
        let known = self.nodes.all.get(&id).map(|node| {
            (
                node.state.clone(),
                node.incarnation == registration.incarnation,
                node.session,
                node.address.clone(),
            )
        });
        match known {
            None => self.admit(now, session, registration, fx),
            Some((NodeState::Alive | NodeState::Suspect, true, old, _)) => {
                self.resume(now, session, old, registration, fx);
            }
            Some((NodeState::Alive | NodeState::Suspect, false, Some(_), address)) => {
                fx.push(Effect::Refuse(session, Refusal::IdInUse { worker: id, address }));
            }
            Some((NodeState::Alive | NodeState::Suspect, false, None, _)) => {
                let reason = "its worker was started anew".to_owned();
                self.retire_node(now, &id, NodeState::Lost { reason }, fx);
                self.admit(now, session, registration, fx);
            }
            Some((NodeState::Lost { .. } | NodeState::Left { .. }, is_same, _, _)) => {
                let may_keep = is_same && !registration.keeper_address.is_empty();
                self.admit(now, session, registration, fx);
                // It was given up, and lived on: what its executors left before is still there.
                if let Some(node) = self.nodes.all.get_mut(&id) {
                    node.keeps_blocks |= may_keep;
                }
            }
        }
    }

    fn admit(
        &mut self,
        now: Timestamp,
        session: SessionId,
        registration: Registration,
        fx: &mut Vec<Effect>,
    ) {
        let limit = self.config.limits.nodes;
        if self.nodes.present_count() >= limit {
            let hint =
                "raise manager.workers on the manager, or let a worker leave (`firesteel nodes drain`)";
            let refusal = Refusal::TooMany { what: "workers", limit, hint: Some(hint) };
            return fx.push(Effect::Refuse(session, refusal));
        }
        let id = registration.worker.clone();
        self.forget_drain(&id);
        self.nodes.gone.retain(|gone| *gone != id);
        self.nodes.by_session.insert(session, id.clone());
        let reason = format!("registered from {}", registration.address);
        fx.push(Effect::Note(Note::WorkerChanged { worker: id.clone(), state: "alive", reason }));
        self.nodes.all.insert(id.clone(), Node::new(registration, session, now));
        fx.push(Effect::ToWorker(session, ToWorker::Registered));
        self.seats_changed();
        self.launch_due = true;
        self.drivers_lost_unseen(now, &id, fx);
        self.tell_launches_again(&id, fx);
    }

    /// The same process is back: what it runs goes on. Where it is reached may have changed; its executors are those
    /// that it had, as a plan is made once in a process.
    fn resume(
        &mut self,
        now: Timestamp,
        session: SessionId,
        old: Option<SessionId>,
        registration: Registration,
        fx: &mut Vec<Effect>,
    ) {
        if let Some(old) = old {
            self.nodes.by_session.remove(&old);
            fx.push(Effect::EndSession(old, "the worker came back on another connection".to_owned()));
        }
        let id = registration.worker;
        self.nodes.by_session.insert(session, id.clone());
        let node = self.nodes.all.get_mut(&id).expect("a node that resumes is known");
        node.session = Some(session);
        (node.release, node.wire) = (registration.release, registration.wire);
        node.address = registration.address;
        node.keeper_address = registration.keeper_address;
        let reason = "came back".to_owned();
        fx.push(Effect::Note(Note::WorkerChanged { worker: id.clone(), state: "alive", reason }));
        fx.push(Effect::ToWorker(session, ToWorker::Registered));
        self.heard_worker(now, &id);
        self.tell_launches_again(&id, fx);
    }

    fn heard_worker(&mut self, now: Timestamp, id: &WorkerId) {
        let node = self.nodes.all.get_mut(id).expect("a session's worker is known");
        node.heard = now;
        match node.state {
            NodeState::Alive => {}
            NodeState::Suspect => {
                node.state = NodeState::Alive;
                self.seats_changed();
                self.launch_due = true;
            }
            NodeState::Lost { .. } | NodeState::Left { .. } => unreachable!("a gone worker has no session"),
        }
    }

    pub(super) fn worker_stream_lost(&mut self, session: SessionId, fx: &mut Vec<Effect>) {
        let Some(id) = self.nodes.by_session.remove(&session) else { return };
        let node = self.nodes.all.get_mut(&id).expect("a session's worker is known");
        node.session = None;
        node.state = NodeState::Suspect;
        let reason = "its connection ended".to_owned();
        fx.push(Effect::Note(Note::WorkerChanged { worker: id, state: "suspect", reason }));
        self.seats_changed();
    }

    /// Executors that may get tasks came or went.
    pub(super) fn seats_changed(&mut self) {
        self.cluster = None;
        self.located.clear();
        self.slots_changed = true;
    }

    /// A worker is no more: its executors' lives end, its drivers are launched elsewhere.
    pub(super) fn retire_node(&mut self, now: Timestamp, id: &WorkerId, to: NodeState, fx: &mut Vec<Effect>) {
        let reason = match &to {
            NodeState::Lost { reason } => format!("worker '{id}' is lost: {reason}"),
            NodeState::Left { reason } => format!("worker '{id}' left: {reason}"),
            NodeState::Alive | NodeState::Suspect => unreachable!("a node retires to lost or left"),
        };
        self.forget_drain(id);
        let indexes: Vec<u32> = self.nodes.all[id].executors.keys().copied().collect();
        for index in indexes {
            self.executor_gone(&ExecutorId { worker: id.clone(), index }, &reason, false, fx);
        }
        let node = self.nodes.all.get_mut(id).expect("a node that retires is known");
        let state = if matches!(to, NodeState::Left { .. }) { "left" } else { "lost" };
        fx.push(Effect::Note(Note::WorkerChanged { worker: id.clone(), state, reason: reason.clone() }));
        node.state = to;
        if let Some(session) = node.session.take() {
            self.nodes.by_session.remove(&session);
            fx.push(Effect::EndSession(session, reason.clone()));
        }
        // What it could have held decides what is possible.
        self.seats_changed();
        self.nodes.gone.push_back(id.clone());
        self.nodes.forget_gone(self.config.limits.gone_nodes);
        self.drivers_lost_with(now, id, &reason, fx);
    }
}
