//! What runs next. Everything here follows from the present state alone: which stages somebody still reads, which of
//! their tasks have no output, which slots are idle.

use std::sync::Arc;

use firesteel_base::{AttemptKey, ExecutorId, LeaseId, Timestamp};

use super::Life;
use super::attempt::Attempt;
use super::effect::{Effect, Launch, StageInputs};
use super::job::{JobMachine, JobState};
use super::stage::StageState;
use super::task::TaskState;

impl JobMachine {
    pub(super) fn schedule(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        self.settle_stages(now, effects);
        if !self.is_active() {
            return;
        }
        self.find_stragglers(now);
        self.fill_slots(now, effects);
        self.offer_result(effects);
        self.clear_drained(effects);
        self.sync_demands(now, effects);
    }

    /// Brings every stage into the state that follows from what is there; again when rolling one back changed it.
    fn settle_stages(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        let mut settled = false;
        while !settled && self.is_active() {
            settled = true;
            for position in (0..self.stages.len()).rev() {
                settled &= !self.settle(now, position, effects);
            }
        }
    }

    /// True when other stages were changed by it.
    fn settle(&mut self, now: Timestamp, position: usize, effects: &mut Vec<Effect>) -> bool {
        if self.adapt(position, effects) {
            return true;
        }
        let stage = &self.stages[position];
        let before = stage.state;
        let inputs = self.inputs_state(position);
        let after = StageState::of(self.is_wanted(position), self.stages[position].available(), inputs);
        self.stages[position].state = after;
        match (before, after) {
            (
                StageState::Blocked | StageState::Early | StageState::Complete | StageState::Released,
                StageState::Running,
            ) => {
                self.end_early(position);
                self.decide_reading(position, effects);
                self.locate_inputs(position);
                self.revive(now, position, effects)
            }
            (
                StageState::Blocked | StageState::Running | StageState::Complete | StageState::Released,
                StageState::Early,
            ) => {
                self.locate_inputs(position);
                self.revive(now, position, effects)
            }
            (_, StageState::Blocked) => {
                self.stop_early(position, effects);
                self.revive(now, position, effects)
            }
            (StageState::Running, StageState::Running) | (StageState::Early, StageState::Early) => {
                self.revive(now, position, effects)
            }
            (
                StageState::Blocked | StageState::Early | StageState::Running | StageState::Complete,
                StageState::Released,
            ) => {
                self.let_go(position, effects);
                false
            }
            (StageState::Released, StageState::Released) | (_, StageState::Complete) => false,
        }
    }

    /// A stage is wanted while one that reads it still has something to run. The driver reads the last.
    fn is_wanted(&self, position: usize) -> bool {
        let still_reading = |&consumer: &usize| match self.stages[consumer].state {
            StageState::Blocked | StageState::Early | StageState::Running => {
                !self.stages[consumer].spared.contains(&position)
            }
            StageState::Complete | StageState::Released => false,
        };
        position == self.result_position() || self.stages[position].consumers.iter().any(still_reading)
    }

    /// Tasks whose output is no more must run again. True when stages that read it were rolled back.
    fn revive(&mut self, now: Timestamp, position: usize, effects: &mut Vec<Effect>) -> bool {
        let stage = &mut self.stages[position];
        let absent = stage.absent().clone();
        absent.iter().for_each(|&number| stage.set(number, TaskState::Pending));
        let divides_anew = !absent.is_empty() && !stage.plan.output.repeatable();
        divides_anew && self.roll_back_consumers(now, position, effects)
    }

    /// Nobody needs the stage any more: its attempts stop, its blocks are freed.
    fn let_go(&mut self, position: usize, effects: &mut Vec<Effect>) {
        self.cancel_attempts(position, "nobody needs its output any more", effects);
        // Freeing a stage whole makes executors forget its attempts, and those that end have to be heard of.
        if self.stages[position].tasks.iter().any(|task| !task.live.is_empty()) {
            self.free_outputs(position, effects);
        }
        let stage = &mut self.stages[position];
        let lives = self.outputs.remove_stage(stage.plan.id);
        for number in 0..stage.plan.tasks() {
            if stage.tasks[number as usize].state == TaskState::Committed {
                stage.set(number, TaskState::Absent);
            }
        }
        if !lives.is_empty() {
            effects.push(Effect::FreeStage { stage: stage.plan.id, lives });
        }
    }

    fn free_outputs(&mut self, position: usize, effects: &mut Vec<Effect>) {
        for number in 0..self.stages[position].plan.tasks() {
            let key = self.stages[position].task_key(self.job, number);
            if let Some(output) = self.outputs.remove(key) {
                effects.push(Effect::FreeAttempt { attempt: output.producer, life: output.life.clone() });
            }
        }
    }

    pub(super) fn locate_inputs(&mut self, position: usize) {
        let mut places = self.stages[position].empty_places();
        for &input in &self.stages[position].inputs {
            let plan = &self.stages[input].plan;
            let only_tells = self.stages[position].plan.told_by.contains(&plan.id);
            if !only_tells && !self.stages[position].spared.contains(&input) {
                self.outputs.locate(plan.id, plan.output, &mut places);
            }
        }
        places.sum_up();
        self.stages[position].places = places;
    }

    fn fill_slots(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        for id in self.leases.idle() {
            self.return_revoked(id, effects);
            while let Some((position, task, life)) = self.next_for(id) {
                self.note_second(now, position, task, effects);
                self.launch(now, position, task, (id, life), effects);
            }
        }
        self.release_idle(effects);
    }

    fn return_revoked(&mut self, id: LeaseId, effects: &mut Vec<Effect>) {
        let slots = self.leases.get(id).map_or(0, |lease| lease.revoked.min(lease.idle()));
        if slots > 0 {
            self.release(id, slots, effects);
        }
    }

    pub(super) fn release_idle(&mut self, effects: &mut Vec<Effect>) {
        for id in self.leases.idle() {
            let slots = self.leases.get(id).map_or(0, super::lease::Lease::idle);
            self.release(id, slots, effects);
        }
    }

    /// The task that an idle slot of the lease runs next.
    fn next_for(&mut self, id: LeaseId) -> Option<(usize, u32, Life)> {
        let may_use = |life: &Life| !self.cluster.is_drained(&life.executor);
        let lease = self.leases.get(id).filter(|lease| lease.idle() > 0 && may_use(&lease.life))?;
        let (position, life) = (self.position(lease.stage)?, lease.life.clone());
        let task = self.pick(position, &life.executor)?;
        Some((position, task, life))
    }

    /// The pending task with the most input on `executor`; the first of equals.
    fn pick(&mut self, position: usize, executor: &ExecutorId) -> Option<u32> {
        let stage = &self.stages[position];
        if !stage.state.launches() {
            return None;
        }
        if self.excluded(stage).contains(executor) || !self.can_read(stage, executor) {
            return None;
        }
        if stage.pending().is_empty() {
            return self.pick_straggler(position, executor);
        }
        let may_avoid = self.can_avoid(stage, executor);
        self.stages[position].nearest_pending(executor, may_avoid)
    }

    fn launch(
        &mut self,
        now: Timestamp,
        position: usize,
        number: u32,
        (lease, life): (LeaseId, Life),
        effects: &mut Vec<Effect>,
    ) {
        let inputs = self.inputs_of(position);
        let early = inputs.iter().any(|input| input.coming);
        if early {
            self.begin_early(position, effects);
        }
        let stage = &mut self.stages[position];
        stage.set(number, TaskState::Running);
        let task_key = stage.task_key(self.job, number);
        let task = stage.task_mut(number);
        let attempt = AttemptKey { task: task_key, attempt: self.policy.first_attempt + task.attempts };
        task.attempts += 1;
        task.live.push(Attempt::launched(now, attempt, life.clone(), lease, early));
        self.leases.occupy(lease, attempt);
        self.used.insert(life.clone());
        let stage = &self.stages[position];
        let plan = &stage.plan;
        effects.push(Effect::Launch(Launch {
            attempt,
            lease,
            life,
            first_partition: plan.first_partition(number),
            lanes: plan.lanes_of(number),
            slices: stage.slices_of(number).to_vec(),
            inputs,
            memory_bytes: plan.memory_per_task,
        }));
    }

    fn inputs_of(&mut self, position: usize) -> Vec<StageInputs> {
        let inputs = self.stages[position].inputs.clone();
        let list = |input: usize| {
            let stage = self.stages[input].plan.id;
            match self.stages[position].spared.contains(&input) {
                true => StageInputs { stage, outputs: Arc::new([]), coming: false },
                false => {
                    let coming = !self.stages[input].available();
                    StageInputs { stage, outputs: self.outputs.list(stage), coming }
                }
            }
        };
        inputs.into_iter().map(list).collect()
    }

    /// Hands the result out as soon as all of it is there, and again when a part of it was made anew.
    fn offer_result(&mut self, effects: &mut Vec<Effect>) {
        let position = self.result_position();
        let complete = self.stages[position].available();
        match (&self.state, complete) {
            (JobState::Running, true) => {
                self.state = JobState::Delivering;
                let result = self.stages[position].plan.id;
                effects.push(Effect::ResultReady(self.outputs.list(result).to_vec()));
            }
            (JobState::Delivering, false) => self.state = JobState::Running,
            (JobState::Running, false) | (JobState::Delivering, true) => {}
            (JobState::Waiting | JobState::Ending { .. } | JobState::Ended { .. }, _) => {}
        }
    }
}
