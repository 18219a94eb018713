//! Executors of workers, and the epochs that tell their lives apart.
//!
//! ```text
//!           ExecutorUp: a new epoch · ExecutorBack: the epoch that an earlier manager gave it
//!   down ──────────────────────────────────────────► up
//!    ▲                                                │
//!    └── ExecutorDown of that epoch ──────────────────┤
//!        another process came up in its place ────────┤   leases on it end, every driver hears it
//!        its worker was lost, left or started anew ───┘
//! ```
//!
//! Epochs are drawn from one counter, which begins above all that earlier runs of the manager gave out.

use firesteel_base::{Epoch, ExecutorId, Timestamp, WorkerId};

use super::Machine;
use super::message::{
    Effect, ExecutorRef, ExecutorSpec, ExecutorUp, Note, SessionId, ToDriver, ToWorker, Usage,
};

/// No clock counts so far: what claims such an epoch is not believed.
const EPOCH_BELIEVED_MAX: Epoch = Epoch(1 << 60);

/// An executor of a worker.
#[derive(Debug, Clone, PartialEq)]
pub struct Executor {
    /// As planned.
    pub spec: ExecutorSpec,
    /// Set while it is up.
    pub life: Option<Life>,
    /// Set while it gets nothing new, since drivers may still claim what an earlier manager lent them there: until then
    /// at least.
    pub claimed_until: Option<Timestamp>,
    /// As last reported.
    pub usage: Usage,
}

/// An executor's process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Life {
    /// The number that fences earlier lives.
    pub epoch: Epoch,
    /// Where it is reached.
    pub up: ExecutorUp,
}

impl Machine {
    pub(super) fn note_usage(&mut self, id: &WorkerId, usage: Vec<Usage>) {
        let node = self.nodes.get_mut(id).expect("a session's worker is known");
        for usage in usage {
            if let Some(executor) = node.executors.get_mut(&usage.index) {
                executor.usage = usage;
            }
        }
    }

    pub(super) fn executor_up(
        &mut self,
        session: SessionId,
        id: &WorkerId,
        up: ExecutorUp,
        fx: &mut Vec<Effect>,
    ) {
        let executor = ExecutorId { worker: id.clone(), index: up.index };
        let index = up.index;
        let node = &self.nodes.get(id).expect("a session's worker is known");
        let Some(known) = node.executors.get(&index) else {
            fx.push(Effect::EndSession(
                session,
                format!("{executor} is none of those that worker '{id}' registered"),
            ));
            return self.worker_stream_lost(session, fx);
        };
        let epoch = match &known.life {
            Some(life) if life.up == up => life.epoch,
            Some(_) => {
                self.executor_gone(&executor, "another process took its place", true, fx);
                self.begin_life(id, up, fx)
            }
            None => self.begin_life(id, up, fx),
        };
        fx.push(Effect::ToWorker(session, ToWorker::ExecutorEpoch { index, epoch }));
    }

    /// An executor that has its epoch already. One that an earlier manager gave stands; of one that this manager gave it
    /// knows better.
    pub(super) fn executor_back(
        &mut self,
        now: Timestamp,
        session: SessionId,
        id: &WorkerId,
        (up, epoch): (ExecutorUp, Epoch),
        fx: &mut Vec<Effect>,
    ) {
        let index = up.index;
        let node = self.nodes.get(id).expect("a session's worker is known");
        let is_down = node.executors.get(&index).is_some_and(|executor| executor.life.is_none());
        let executor = ExecutorId { worker: id.clone(), index };
        let has_ended = self.ended.get(&executor).is_some_and(|ended| epoch <= *ended);
        if !is_down || has_ended || !self.is_of_earlier(epoch) {
            // A manager with another journal may have counted further: the executor takes later epochs only.
            self.last_epoch = self.last_epoch.max(epoch.min(EPOCH_BELIEVED_MAX));
            return self.executor_up(session, id, up, fx);
        }
        let claimed_until = Some(now + self.config.claim_wait);
        self.live(id, up, epoch, claimed_until, fx);
        fx.push(Effect::ToWorker(session, ToWorker::ExecutorEpoch { index, epoch }));
        self.adopt_claims(&executor, epoch, fx);
    }

    /// A worker says that a life of one of its executors has ended.
    pub(super) fn executor_down(
        &mut self,
        executor: &ExecutorId,
        epoch: Epoch,
        reason: &str,
        fx: &mut Vec<Effect>,
    ) {
        match self.nodes.life(executor) {
            Some(life) if life.epoch == epoch => self.executor_gone(executor, reason, true, fx),
            None if self.is_of_earlier(epoch) => self.unseen_life_ended(executor, epoch, reason, fx),
            Some(_) | None => {}
        }
    }

    /// A life is over for drivers. One that this manager began is known by its epoch.
    fn note_ended(&mut self, executor: &ExecutorId, epoch: Epoch) {
        if self.is_of_earlier(epoch) {
            let ended = self.ended.entry(executor.clone()).or_default();
            *ended = epoch.max(*ended);
        }
    }

    /// Whether a manager before this one gave the epoch out.
    pub(super) fn is_of_earlier(&self, epoch: Epoch) -> bool {
        epoch != Epoch::default() && epoch.0 <= self.config.epoch_seed
    }

    fn begin_life(&mut self, id: &WorkerId, up: ExecutorUp, fx: &mut Vec<Effect>) -> Epoch {
        self.last_epoch = self.last_epoch.next();
        let (index, epoch) = (up.index, self.last_epoch);
        self.live(id, up, epoch, None, fx);
        self.drop_claims(&ExecutorId { worker: id.clone(), index }, fx);
        epoch
    }

    fn live(
        &mut self,
        id: &WorkerId,
        up: ExecutorUp,
        epoch: Epoch,
        claimed_until: Option<Timestamp>,
        fx: &mut Vec<Effect>,
    ) {
        let node = self.nodes.get_mut(id).expect("a session's worker is known");
        let executor = node.executors.get_mut(&up.index).expect("it was looked up");
        executor.usage = Usage { index: up.index, ..Usage::default() };
        executor.claimed_until = claimed_until;
        let name = ExecutorId { worker: id.clone(), index: up.index };
        executor.life = Some(Life { epoch, up });
        self.cluster_changed = true;
        self.came_or_went.insert(name.clone());
        fx.push(Effect::Note(Note::ExecutorUp { executor: name, epoch }));
        self.seats_changed();
    }

    /// Gives an executor that is up a new life: whoever took its present one for ended is right then.
    pub(super) fn renew_life(&mut self, executor: &ExecutorId, fx: &mut Vec<Effect>) {
        let Some(life) = self.nodes.life(executor) else { return };
        let up = life.up.clone();
        self.executor_gone(executor, "a driver has given it up under an earlier manager", false, fx);
        let epoch = self.begin_life(&executor.worker, up, fx);
        let session = self.nodes.get(&executor.worker).and_then(|node| node.session);
        // Without a session its worker hears it when it comes back.
        let told = ToWorker::ExecutorEpoch { index: executor.index, epoch };
        fx.extend(session.map(|session| Effect::ToWorker(session, told)));
    }

    /// A life of an earlier manager's has ended that this one has not seen.
    pub(super) fn unseen_life_ended(
        &mut self,
        executor: &ExecutorId,
        epoch: Epoch,
        reason: &str,
        fx: &mut Vec<Effect>,
    ) {
        let node = self.nodes.get_mut(&executor.worker).expect("its worker has just spoken");
        let blocks_kept = !node.keeper_address.is_empty();
        node.keeps_blocks |= blocks_kept;
        self.note_gone(executor);
        self.note_ended(executor, epoch);
        let node = self.nodes.get(&executor.worker).expect("its worker has just spoken");
        let gone = ExecutorRef {
            id: executor.clone(),
            epoch,
            control_address: String::new(),
            shuffle_address: String::new(),
            keeper_address: node.keeper_address.clone(),
        };
        self.tell_gone(&gone, reason, blocks_kept, fx);
    }

    fn tell_gone(&self, gone: &ExecutorRef, reason: &str, blocks_kept: bool, fx: &mut Vec<Effect>) {
        for session in self.drivers.sessions() {
            let told =
                ToDriver::ExecutorGone { executor: gone.clone(), reason: reason.to_owned(), blocks_kept };
            fx.push(Effect::ToDriver(session, told));
        }
    }

    /// Ends an executor's life: leases end, and every driver hears it, as any may have blocks there. A worker that lives
    /// serves these from then on, if it ever does.
    pub(super) fn executor_gone(
        &mut self,
        executor: &ExecutorId,
        reason: &str,
        worker_lives: bool,
        fx: &mut Vec<Effect>,
    ) {
        let Some(gone) = self.nodes.reference(executor) else { return };
        let node = self.nodes.get_mut(&executor.worker).expect("an executor that is up has a node");
        let blocks_kept = worker_lives && !node.keeper_address.is_empty();
        node.keeps_blocks |= blocks_kept;
        if let Some(executor) = node.executors.get_mut(&executor.index) {
            executor.life = None;
            executor.claimed_until = None;
        }
        let note =
            Note::ExecutorGone { executor: gone.id.clone(), epoch: gone.epoch, reason: reason.to_owned() };
        fx.push(Effect::Note(note));
        self.leases.end_executor(executor);
        self.note_gone(executor);
        self.note_ended(executor, gone.epoch);
        self.tell_gone(&gone, reason, blocks_kept, fx);
        self.cluster_changed = true;
        self.came_or_went.insert(executor.clone());
        self.seats_changed();
    }
}
