//! Being drained: a model of `executor/src/worker/drain.rs`.

use std::time::Duration;

use firesteel_base::Timestamp;
use firesteel_manager::machine::message::{DrainReport, WorkerEvent};

use super::Worker;
use crate::world::Scene;

/// How a worker stands to being drained.
#[derive(Debug, Default)]
pub struct DrainState {
    order: u64,
    /// Set while it is drained: when what is left is given up.
    drain: Option<Option<Timestamp>>,
    may_leave: bool,
}

impl Worker {
    /// The manager's order.
    pub(super) fn obey_drain(
        &mut self,
        order: u64,
        draining: bool,
        deadline: Option<Duration>,
        scene: &mut Scene,
    ) {
        if order > self.drain.order {
            let until = deadline.map(|span| scene.clock(self.proc) + span);
            self.drain = DrainState { order, drain: draining.then_some(until), may_leave: false };
            scene.tell(self.proc, || format!("hears that it is drained: {draining}, until {until:?}"));
        }
        self.say_drain(false, scene);
    }

    /// A signal asks it to stop.
    pub fn asked_to_stop(&mut self, limit: Duration, scene: &mut Scene) {
        self.drain.drain = Some(Some(scene.clock(self.proc) + limit));
        self.say_drain(false, scene);
    }

    /// The manager lets it go.
    pub(super) fn let_go(&mut self) {
        self.drain.may_leave = self.drain.drain.is_some();
    }

    /// Whether it leaves now, and whether nothing of it is needed any more.
    pub fn leaves(&self, scene: &Scene) -> Option<bool> {
        let until = self.drain.drain?;
        let is_overdue = until.is_some_and(|until| until <= scene.clock(self.proc));
        (self.drain.may_leave || is_overdue).then_some(self.drain.may_leave)
    }

    /// It tells the manager how it stands.
    pub(super) fn say_drain(&mut self, is_first: bool, scene: &mut Scene) {
        let until = self.drain.drain.flatten();
        let report = DrainReport {
            order: self.drain.order,
            is_first,
            draining: self.drain.drain.is_some(),
            left: until.map(|until| until - scene.clock(self.proc)),
            reason: "somebody wants it".to_owned(),
            drivers: self.drivers.count(),
            kept_bytes: self.kept.values().map(|store| store.keys().len() as u64).sum(),
        };
        self.say(WorkerEvent::Drain(report), scene);
    }

    /// Its last word.
    pub fn say_goodbye(&mut self, scene: &mut Scene) {
        self.say(WorkerEvent::Leaving { reason: "it was drained".to_owned() }, scene);
    }
}
