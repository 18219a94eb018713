//! Executors of workers, and the epochs that tell their lives apart.
//!
//! ```text
//!           ExecutorUp: a new epoch
//!   down ──────────────────────────────────────────► up
//!    ▲                                                │
//!    └── ExecutorDown of that epoch ──────────────────┤
//!        another process came up in its place ────────┤   leases on it end, every driver hears it
//!        its worker was lost, left or started anew ───┘
//! ```
//!
//! Epochs are drawn from one counter, which begins above all that earlier runs of the manager gave out.

use firesteel_base::{Epoch, ExecutorId, WorkerId};

use super::Machine;
use super::message::{Effect, ExecutorSpec, ExecutorUp, Note, SessionId, ToDriver, ToWorker, Usage};

/// An executor of a worker.
#[derive(Debug, Clone, PartialEq)]
pub struct Executor {
    /// As planned.
    pub spec: ExecutorSpec,
    /// Set while it is up.
    pub life: Option<Life>,
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

    fn begin_life(&mut self, id: &WorkerId, up: ExecutorUp, fx: &mut Vec<Effect>) -> Epoch {
        self.last_epoch = self.last_epoch.next();
        let epoch = self.last_epoch;
        let node = self.nodes.get_mut(id).expect("a session's worker is known");
        let executor = node.executors.get_mut(&up.index).expect("it was looked up");
        executor.usage = Usage { index: up.index, ..Usage::default() };
        let name = ExecutorId { worker: id.clone(), index: up.index };
        fx.push(Effect::Note(Note::ExecutorUp { executor: name, epoch }));
        executor.life = Some(Life { epoch, up });
        self.cluster_changed = true;
        self.seats_changed();
        epoch
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
        }
        let note =
            Note::ExecutorGone { executor: gone.id.clone(), epoch: gone.epoch, reason: reason.to_owned() };
        fx.push(Effect::Note(note));
        self.leases.end_executor(executor);
        for session in self.drivers.sessions() {
            let told =
                ToDriver::ExecutorGone { executor: gone.clone(), reason: reason.to_owned(), blocks_kept };
            fx.push(Effect::ToDriver(session, told));
        }
        self.cluster_changed = true;
        self.seats_changed();
    }
}
