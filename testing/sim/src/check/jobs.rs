//! A job, counted at its machine's door: slots run one attempt each, nothing is freed that a running attempt reads, and it
//! ends once.

use std::collections::{BTreeMap, BTreeSet};

use firesteel_base::{AttemptKey, LeaseId, StageId, TaskKey, WorkerId};
use firesteel_driver::machine::{Effect, Event, Launch, Life};
use firesteel_shuffle::Slice;

/// Attempts of one task that a policy's limits allow for, with room: more is a loop without a bound.
const ATTEMPTS_MAX: u32 = 100;

#[derive(Debug)]
struct Lease {
    stage: StageId,
    life: Life,
    slots: u32,
    running: BTreeSet<AttemptKey>,
}

#[derive(Debug)]
struct Running {
    life: Life,
    lease: LeaseId,
    reads: BTreeSet<AttemptKey>,
    is_cancelled: bool,
}

/// What a job has.
#[derive(Debug)]
pub struct JobLedger {
    name: String,
    leases: BTreeMap<LeaseId, Lease>,
    taken: BTreeSet<LeaseId>,
    running: BTreeMap<AttemptKey, Running>,
    launched: BTreeSet<AttemptKey>,
    /// Who holds what was committed.
    held: BTreeMap<AttemptKey, Life>,
    /// Workers that are drained.
    drained: BTreeSet<WorkerId>,
    /// What the lanes of each task were told to read.
    slices: BTreeMap<TaskKey, Vec<Slice>>,
    is_settled: bool,
    is_closed: bool,
}

impl JobLedger {
    /// Of a job that has nothing.
    pub fn new(name: String) -> Self {
        Self {
            name,
            leases: BTreeMap::new(),
            taken: BTreeSet::new(),
            running: BTreeMap::new(),
            launched: BTreeSet::new(),
            held: BTreeMap::new(),
            drained: BTreeSet::new(),
            slices: BTreeMap::new(),
            is_settled: false,
            is_closed: false,
        }
    }

    /// The machine has made a step.
    pub fn step(&mut self, event: &Event, effects: &[Effect]) -> Result<(), String> {
        self.hear(event);
        let mut freed = BTreeSet::new();
        for effect in effects {
            self.say(effect, &mut freed).map_err(|what| format!("{}: {what}", self.name))?;
        }
        let is_unreadable = match event {
            Event::AttemptFailed { failure, .. } => failure.lost.is_some(),
            Event::ResultFetchFailed { .. } => true,
            _ => false,
        };
        if !is_unreadable {
            self.nothing_needed_is_freed(&freed)?;
        }
        if !self.is_closed { self.no_slot_is_idle() } else { Ok(()) }
    }

    fn hear(&mut self, event: &Event) {
        if let Event::AttemptFinished { attempt, life, .. } = event {
            self.held.insert(*attempt, life.clone());
        }
        match event {
            Event::Granted { lease, stage, life, tasks } if *tasks > 0 && self.taken.insert(*lease) => {
                let (stage, life, slots) = (*stage, life.clone(), *tasks);
                self.leases.insert(*lease, Lease { stage, life, slots, running: BTreeSet::new() });
            }
            Event::AttemptFinished { attempt, life, .. } | Event::AttemptFailed { attempt, life, .. }
                if self.running.get(attempt).is_some_and(|running| running.life == *life) =>
            {
                self.ended(attempt);
            }
            Event::Draining { workers } => self.drained.clone_from(workers),
            Event::ExecutorGone { life, .. } => {
                self.leases.retain(|_, lease| lease.life != *life);
                self.lost(life);
            }
            Event::LinkLost { life, .. } => self.lost(life),
            Event::ManagerBack { leases } => self.leases.retain(|lease, _| leases.contains(lease)),
            _ => {}
        }
    }

    fn lost(&mut self, life: &Life) {
        let lost: Vec<AttemptKey> =
            self.running.iter().filter(|(_, r)| r.life == *life).map(|(key, _)| *key).collect();
        lost.iter().for_each(|attempt| self.ended(attempt));
    }

    fn ended(&mut self, attempt: &AttemptKey) {
        if let Some(running) = self.running.remove(attempt)
            && let Some(lease) = self.leases.get_mut(&running.lease)
        {
            lease.running.remove(attempt);
        }
    }

    fn say(&mut self, effect: &Effect, freed: &mut BTreeSet<AttemptKey>) -> Result<(), String> {
        match effect {
            Effect::Launch(launch) => self.launch(launch)?,
            Effect::MoreInputs { attempt, input, .. } => {
                if let Some(running) = self.running.get_mut(attempt) {
                    running.reads.extend(input.outputs.iter().map(|output| output.producer));
                }
            }
            Effect::CancelAttempt { attempt, .. } => {
                if let Some(running) = self.running.get_mut(attempt) {
                    running.is_cancelled = true;
                }
            }
            Effect::OutputMoved { output, .. } => {
                self.held.insert(output.producer, output.life.clone());
            }
            // What lies elsewhere too is read there.
            Effect::FreeAttempt { attempt, life }
                if self.held.get(attempt).is_none_or(|held| held == life) =>
            {
                freed.insert(*attempt);
            }
            Effect::FreeStage { stage, .. } => {
                freed.extend(self.launched.iter().filter(|attempt| attempt.stage() == *stage));
            }
            Effect::ReleaseSlots { lease, tasks } => self.release(*lease, *tasks)?,
            Effect::Settled(_) if std::mem::replace(&mut self.is_settled, true) => {
                return Err("it is settled twice".to_owned());
            }
            Effect::Close { .. } if std::mem::replace(&mut self.is_closed, true) => {
                return Err("it is closed twice".to_owned());
            }
            _ => {}
        }
        Ok(())
    }

    fn launch(&mut self, launch: &Launch) -> Result<(), String> {
        let key = launch.attempt;
        if self.is_settled {
            return Err(format!("{key} is launched when all is decided"));
        }
        if !self.launched.insert(key) || key.number() >= ATTEMPTS_MAX {
            return Err(format!("{key} is launched twice, or its task too often"));
        }
        let Some(lease) = self.leases.get_mut(&launch.lease) else {
            return Err(format!("{key} is launched in {}, which is not held", launch.lease));
        };
        if self.drained.contains(&launch.life.executor.worker) {
            return Err(format!("{key} is launched on {}, whose worker is drained", launch.life));
        }
        if lease.stage != key.stage() || lease.life != launch.life {
            return Err(format!("{key} is launched in {}, which is for another", launch.lease));
        }
        lease.running.insert(key);
        if lease.running.len() > lease.slots as usize {
            return Err(format!("{} has {} slots, and more attempts run", launch.lease, lease.slots));
        }
        let slices = self.slices.entry(key.task).or_insert_with(|| launch.slices.clone());
        if *slices != launch.slices {
            return Err(format!("two attempts of {} read differently", key.task));
        }
        let outputs = launch.inputs.iter().flat_map(|input| input.outputs.iter());
        let running = Running {
            life: launch.life.clone(),
            lease: launch.lease,
            reads: outputs.map(|output| output.producer).collect(),
            is_cancelled: false,
        };
        self.running.insert(key, running);
        Ok(())
    }

    fn release(&mut self, id: LeaseId, tasks: u32) -> Result<(), String> {
        let Some(lease) = self.leases.get_mut(&id) else {
            return Err(format!("slots of {id} are given back, which is not held"));
        };
        if lease.slots < tasks {
            return Err(format!("{id} has {} slots, and {tasks} are given back", lease.slots));
        }
        lease.slots -= tasks;
        if lease.slots == 0 {
            self.leases.remove(&id);
        }
        Ok(())
    }

    fn nothing_needed_is_freed(&self, freed: &BTreeSet<AttemptKey>) -> Result<(), String> {
        for (reader, running) in self.running.iter().filter(|(_, running)| !running.is_cancelled) {
            if let Some(read) = running.reads.intersection(freed).next() {
                return Err(format!("{read} is freed, and {reader} reads it"));
            }
        }
        Ok(())
    }

    /// An idle slot does not outlive the step that made it.
    fn no_slot_is_idle(&self) -> Result<(), String> {
        let idle = self.leases.iter().find(|(_, lease)| lease.running.len() < lease.slots as usize);
        match idle {
            Some((id, _)) => Err(format!("{}: a slot of {id} runs nothing and is not given back", self.name)),
            None => Ok(()),
        }
    }
}
