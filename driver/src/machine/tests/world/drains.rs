//! Workers that are drained and stay after all, and outputs that move meanwhile.

use std::collections::BTreeSet;
use std::sync::Arc;

use firesteel_base::{AttemptKey, WorkerId};

use super::World;
use crate::machine::{Event, LeftThere, Life, MapOutput};

/// What the world knows of drained workers.
#[derive(Default)]
pub(super) struct Drains {
    workers: BTreeSet<WorkerId>,
    takes: Vec<Take>,
    /// Where outputs lie that are held elsewhere too.
    behind: BTreeSet<(AttemptKey, Life)>,
    pub moved: u32,
}

#[derive(Clone, PartialEq, Eq)]
struct Take {
    producer: AttemptKey,
    from: Life,
    to: Life,
}

impl World {
    pub(super) fn tell_drains(&mut self) {
        self.tell(Event::Draining { workers: self.drains.workers.clone() });
    }

    /// One more worker is drained, or one less.
    pub(super) fn drain_or_not(&mut self) {
        let workers: Vec<WorkerId> = self.slots.keys().map(|id| id.worker.clone()).collect();
        let Some(worker) = self.rng.pick(&workers) else { return };
        if !self.drains.workers.remove(&worker) && self.drains.workers.len() + 1 < workers.len() {
            self.drains.workers.insert(worker);
        }
        self.tell_drains();
    }

    pub(super) fn drain_nobody(&mut self) {
        self.drains.workers.clear();
        self.tell_drains();
    }

    pub(super) fn check_is_not_drained(&self, life: &Life) {
        let is_drained = self.drains.workers.contains(&life.executor.worker);
        assert!(!is_drained, "something is launched on {life}, whose worker is drained");
    }

    pub(super) fn take_output(&mut self, output: &MapOutput, to: Life) {
        self.check_is_not_drained(&to);
        assert!(self.drains.workers.contains(&output.life.executor.worker), "{output:?} could stay");
        let take = Take { producer: output.producer, from: output.life.clone(), to };
        assert!(!self.drains.takes.contains(&take), "it is asked for twice");
        self.drains.takes.push(take);
    }

    /// One of the outputs that are asked for is taken, or cannot be. False when there is none.
    pub(super) fn take_something(&mut self, unfair: bool) -> bool {
        if self.drains.takes.is_empty() || self.rng.chance(60) {
            return false;
        }
        let take = self.drains.takes.swap_remove(0);
        let Take { producer, from, to } = take;
        if self.up.get(&to.executor) != Some(&to.epoch) {
            return true;
        }
        match self.blocks.get(&(producer, from)).cloned() {
            Some(block) if !(unfair && self.rng.chance(15)) => {
                self.blocks.insert((producer, to.clone()), block);
                self.tell(Event::OutputTaken { producer, life: to });
            }
            Some(_) | None => self.tell(Event::OutputNotTaken { producer, life: to }),
        }
        true
    }

    pub(super) fn output_moved(&mut self, output: &Arc<MapOutput>, lives: &[Life]) {
        self.drains.moved += 1;
        let moved = |known: &Arc<MapOutput>| known.producer == output.producer;
        for running in self.running.values_mut() {
            for input in &mut running.launch.inputs {
                if input.outputs.iter().any(moved) {
                    assert!(lives.contains(&running.launch.life), "{} is not told", running.launch.attempt);
                    let told = |known: &Arc<MapOutput>| Arc::clone(if moved(known) { output } else { known });
                    input.outputs = input.outputs.iter().map(told).collect();
                }
            }
        }
        let old = self.blocks.keys().filter(|(key, life)| *key == output.producer && *life != output.life);
        self.drains.behind.extend(old.cloned());
    }

    pub(super) fn is_behind(&self, attempt: AttemptKey, life: &Life) -> bool {
        self.drains.behind.contains(&(attempt, life.clone()))
    }

    pub(super) fn forget_take(&mut self, producer: AttemptKey, life: &Life) {
        self.drains.takes.retain(|take| take.producer != producer || take.to != *life);
    }

    /// Nobody is there any more to take anything.
    pub(super) fn forget_takes_to(&mut self, life: &Life) {
        self.drains.takes.retain(|take| take.to != *life);
    }

    pub(super) fn left(&mut self, worker: WorkerId, left: LeftThere) {
        assert!(self.drains.workers.contains(&worker), "{worker} is not drained");
        assert_eq!(self.machine.left_at(&worker), left);
    }
}
