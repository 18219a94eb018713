//! Pipelined exchanges: a stage that begins while its inputs are still written.
//!
//! ```text
//!   attempts of all missing tasks are out ----> Early: slots that nobody else needs run its tasks
//!   one of the missing outputs is committed --> they are told of it
//!   all are there ---------------------------> Running: they are attempts like all others
//!   one of those attempts failed, or an output is lost --> Blocked: they stop
//! ```
//!
//! So an attempt that waits holds no slot that another waits for: as soon as something that it reads has to be run, it gives its
//! own back. What it was told of once is not run anew beside it, for the same reason. Outputs are kept until the stage is
//! complete, as always: pipelining costs nothing that recovery needs.

use std::sync::Arc;

use firesteel_base::StageId;

use super::adapt::Decision;
use super::attempt::Attempt;
use super::effect::{Effect, StageInputs};
use super::job::JobMachine;
use super::stage::{Inputs, Stage, StageReading, StageState};

impl JobMachine {
    /// How far the inputs of a stage have come.
    pub(super) fn inputs_state(&mut self, position: usize) -> Inputs {
        let missing = self.missing_inputs(position);
        if missing.is_empty() {
            return Inputs::There;
        }
        let stage = &self.stages[position];
        let is_coming =
            stage.may_read_early() && missing.iter().all(|&input| self.is_coming(position, input));
        if is_coming && self.is_worth_beginning(position, &missing) {
            Inputs::Coming
        } else {
            Inputs::Missing
        }
    }

    fn missing_inputs(&self, position: usize) -> Vec<usize> {
        let stage = &self.stages[position];
        let is_missing = |input: &&usize| !self.stages[**input].available() && !stage.spared.contains(*input);
        stage.inputs.iter().filter(is_missing).copied().collect()
    }

    /// True when all of an input is there or being made, and none of it waits for something else.
    fn is_coming(&self, position: usize, input: usize) -> bool {
        let plan = &self.stages[position].plan;
        let input = &self.stages[input];
        let is_pipelined = plan.adapts.pipelined.contains(&input.plan.id);
        let is_told = plan.told_by.contains(&input.plan.id);
        let all_out = input.pending().is_empty() && input.absent().is_empty();
        is_pipelined && !is_told && all_out && input.state == StageState::Running
    }

    /// Whether the stage gains more from an early start than from knowing the sizes of all that it reads. Looked at when the
    /// first output is there, which tells what the others will be like, and never again.
    fn is_worth_beginning(&mut self, position: usize, missing: &[usize]) -> bool {
        if let Some(known) = self.stages[position].early {
            return known;
        }
        let begun = missing.iter().all(|&input| self.stages[input].available_tasks() > 0);
        if !begun {
            return false;
        }
        let expected = |input: StageId, bytes: u64| {
            let missing = self.position(input).filter(|at| missing.contains(at));
            missing.map_or(bytes, |at| scaled(bytes, &self.stages[at]))
        };
        let is_worth = self.expected_bytes(missing) >= self.early_bytes(position)
            && self.would_read_as_planned(position, expected);
        self.stages[position].early = Some(is_worth);
        is_worth
    }

    fn early_bytes(&self, position: usize) -> u64 {
        let plan = &self.stages[position].plan;
        plan.adapts.limits.pipeline_above.saturating_mul(u64::from(plan.tasks()))
    }

    /// What inputs will hold if the tasks that are missing write as much as those that are there.
    fn expected_bytes(&self, inputs: &[usize]) -> u64 {
        let expected = |&input: &usize| {
            let stage = &self.stages[input];
            let there: u64 = self.outputs.lanes_of(stage.plan.id).map(|lane| lane.bytes()).sum();
            scaled(there, stage)
        };
        inputs.iter().map(expected).sum()
    }

    /// The first attempt is about to be launched before all of its input is there: nothing is decided by sizes any more.
    pub(super) fn begin_early(&mut self, position: usize, effects: &mut Vec<Effect>) {
        let stage = &self.stages[position];
        if !stage.is_untouched() {
            return;
        }
        let of = |&input: &usize| {
            let stage = &self.stages[input];
            (stage.plan.id, stage.available_tasks(), stage.plan.tasks())
        };
        let inputs = self.missing_inputs(position).iter().map(of).collect();
        let id = stage.plan.id;
        self.stages[position].reading = StageReading::AsPlanned;
        effects.push(Effect::Decided { stage: id, decision: Decision::Early { inputs } });
    }

    /// An output was committed: attempts that read it and were launched before are told of it.
    pub(super) fn tell_early_readers(&mut self, position: usize, number: u32, effects: &mut Vec<Effect>) {
        let producer = &self.stages[position];
        let key = producer.task_key(self.job, number);
        let Some(output) = self.outputs.get(key).map(Arc::clone) else { return };
        let (stage, coming) = (producer.plan.id, !producer.available());
        let outputs: Arc<[_]> = Arc::new([output]);
        for &consumer in &producer.consumers {
            let consumer = &self.stages[consumer];
            if consumer.state != StageState::Early {
                continue;
            }
            for attempt in consumer.early_attempts() {
                let input = StageInputs { stage, outputs: Arc::clone(&outputs), coming };
                let (attempt, life) = (attempt.key, attempt.life.clone());
                effects.push(Effect::MoreInputs { attempt, life, input });
            }
        }
    }

    /// All inputs are there, and all attempts have been told of them.
    pub(super) fn end_early(&mut self, position: usize) {
        let attempts = self.stages[position].tasks.iter_mut().flat_map(|task| &mut task.live);
        attempts.for_each(|attempt| attempt.early = false);
    }

    /// Something has to be run that attempts of this stage wait for: they make room for it.
    pub(super) fn stop_early(&mut self, position: usize, effects: &mut Vec<Effect>) {
        let waiting: Vec<_> =
            self.stages[position].early_attempts().map(|attempt| attempt.key.task.task).collect();
        for number in waiting {
            self.cancel_task(position, number, "what it reads has to be run again", effects);
        }
    }
}

impl Stage {
    /// Slices are of exchanges whose sizes are known.
    fn may_read_early(&self) -> bool {
        match self.reading {
            StageReading::Undecided | StageReading::AsPlanned => self.plan.adapts.limits.pipeline_above > 0,
            StageReading::Slices(_) => false,
        }
    }

    /// Attempts that wait for some of their input.
    fn early_attempts(&self) -> impl Iterator<Item = &Attempt> {
        self.tasks.iter().flat_map(|task| &task.live).filter(|attempt| attempt.early && attempt.counts())
    }
}

/// What a stage will have written if all of its tasks write as much as those that are done.
fn scaled(there: u64, stage: &Stage) -> u64 {
    let done = u128::from(stage.available_tasks().max(1));
    let all = u128::from(there) * u128::from(stage.plan.tasks()) / done;
    u64::try_from(all).unwrap_or(u64::MAX)
}
