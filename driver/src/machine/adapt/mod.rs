//! What the sizes of a stage's inputs decide, within what its plan allows ([`Adapts`]).
//!
//! ```text
//!   Blocked: an input has no rows         -> others are spared: neither waited for nor read
//!            the build side is small      -> the stage takes the place of the one that makes its probe side
//!   Blocked -> Running, the first time    -> which partitions each lane reads
//!   Early, the first launch               -> its partitions as planned, for more of them is still to come
//! ```
//!
//! Every decision is made once and stays, whatever is run again later: what one task has read by it, another must not
//! read in another way.

mod keys;
mod slices;

use std::fmt;
use std::time::Duration;

use firesteel_base::{ByteSize, ExecutorId, StageId};
use firesteel_engine::stage::adapt::{Adapts, Broadcast};
use firesteel_shuffle::LaneSizes;

use super::effect::Effect;
use super::job::JobMachine;
use super::plan::{OutputKind, StagePlan};
use super::stage::{StageReading, StageState};
use slices::Divided;

/// What was decided of a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Its partitions are read in other groups.
    Regrouped {
        /// Partitions as planned.
        planned: u32,
        /// Partitions now.
        now: u32,
        /// Planned ones that are read by several lanes.
        divided: u32,
        /// Those of them that are divided by key.
        by_key: u32,
        /// Bytes of all of them.
        bytes: u64,
    },
    /// Inputs are not read, for another has no rows.
    Spared {
        /// The one without rows.
        empty: StageId,
        /// Those that are not read.
        spared: Vec<StageId>,
    },
    /// It runs as a part of the stage that makes the rows of its probe side.
    Absorbed {
        /// That stage.
        probe: StageId,
        /// The stage that every task reads whole.
        build: StageId,
        /// Bytes of it.
        bytes: u64,
    },
    /// It began while its inputs were still written.
    Early {
        /// Those of which some was missing: the stage, tasks of it that were done, and all of them.
        inputs: Vec<(StageId, u32, u32)>,
    },
    /// A task that takes long got a second attempt.
    Speculated {
        /// The task.
        task: u32,
        /// How long the first has run.
        after: Duration,
        /// Where.
        executor: ExecutorId,
    },
}

impl Decision {
    /// The same with every stage renamed.
    #[must_use]
    pub fn renamed(self, name: impl Fn(StageId) -> StageId) -> Self {
        match self {
            Self::Regrouped { .. } | Self::Speculated { .. } => self,
            Self::Spared { empty, spared } => {
                Self::Spared { empty: name(empty), spared: spared.into_iter().map(name).collect() }
            }
            Self::Absorbed { probe, build, bytes } => {
                Self::Absorbed { probe: name(probe), build: name(build), bytes }
            }
            Self::Early { inputs } => {
                let renamed = |(stage, done, tasks)| (name(stage), done, tasks);
                Self::Early { inputs: inputs.into_iter().map(renamed).collect() }
            }
        }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Regrouped { planned, now, divided, by_key, bytes } => {
                write!(f, "adapted: {planned} partitions of {} read as {now}", ByteSize(*bytes))?;
                match divided {
                    0 => return Ok(()),
                    1 => f.write_str(", a skewed one by several lanes")?,
                    several => write!(f, ", {several} skewed ones by several lanes each")?,
                }
                match by_key {
                    0 => Ok(()),
                    all if all == divided => f.write_str(", divided by key"),
                    some => write!(f, ", {some} of them divided by key"),
                }
            }
            Self::Spared { empty, spared } => {
                let spared: Vec<_> = spared.iter().map(ToString::to_string).collect();
                write!(f, "adapted: {empty} has no rows, so {} is not read", spared.join(", "))
            }
            Self::Absorbed { probe, build, bytes } => {
                let bytes = ByteSize(*bytes);
                write!(f, "adapted: runs where the rows of {probe} are made, {build} is read whole ({bytes})")
            }
            Self::Early { inputs } => {
                let inputs: Vec<_> = inputs
                    .iter()
                    .map(|(stage, done, tasks)| format!("{done} of {tasks} tasks of {stage}"))
                    .collect();
                write!(f, "pipelined: began when {} were done", inputs.join(", "))
            }
            Self::Speculated { task, after, executor } => {
                let after = after.as_secs_f64();
                write!(f, "speculated: task {task} was begun a second time after {after:.1} s on {executor}")
            }
        }
    }
}

impl JobMachine {
    /// Decides what can be decided of a stage that waits for inputs. True when other stages were changed by it.
    pub(super) fn adapt(&mut self, position: usize, effects: &mut Vec<Effect>) -> bool {
        let stage = &self.stages[position];
        let waits = match stage.state {
            StageState::Blocked | StageState::Early => true,
            StageState::Running | StageState::Complete | StageState::Released => false,
        };
        if !waits || stage.plan.adapts.is_fixed() {
            return false;
        }
        // Sizes are looked at when an input has come, and not with every event.
        let there = stage.inputs.iter().filter(|&&input| self.stages[input].available()).count();
        if there == stage.inputs_judged || !stage.is_untouched() {
            return false;
        }
        self.stages[position].inputs_judged = there;
        let is_spared = self.spare_inputs(position, effects);
        self.absorb_probe(position, effects) || is_spared
    }

    fn spare_inputs(&mut self, position: usize, effects: &mut Vec<Effect>) -> bool {
        let rules = self.stages[position].plan.adapts.spares.clone();
        let mut changed = false;
        for rule in rules {
            let waits = rule.spared.iter().filter_map(|stage| self.position(*stage)).filter(|&input| {
                !self.stages[input].available() && !self.stages[position].spared.contains(&input)
            });
            let waits: Vec<_> = waits.collect();
            if waits.is_empty() || !self.has_no_rows(rule.empty) {
                continue;
            }
            let spared = waits.iter().map(|&input| self.stages[input].plan.id).collect();
            self.stages[position].spared.extend(waits);
            let (stage, empty) = (self.stages[position].plan.id, rule.empty);
            effects.push(Effect::Decided { stage, decision: Decision::Spared { empty, spared } });
            changed = true;
        }
        changed
    }

    /// True when a stage has run and written no row.
    fn has_no_rows(&self, stage: StageId) -> bool {
        let Some(position) = self.position(stage) else { return false };
        let tells = self.stages[position].plan.tells;
        self.is_written(position) && self.outputs.lanes_of(stage).all(|lane| lane.is_empty(tells))
    }

    /// True when all output of a stage is there to be looked at.
    fn is_written(&self, position: usize) -> bool {
        let stage = &self.stages[position];
        stage.available() && self.outputs.is_complete(stage.plan.id)
    }

    /// Puts the stage into the place of the one that makes its probe side's rows, when its build side is small.
    fn absorb_probe(&mut self, position: usize, effects: &mut Vec<Effect>) -> bool {
        let Adapts { broadcast: Some(Broadcast { build, probe }), limits, .. } =
            self.stages[position].plan.adapts
        else {
            return false;
        };
        let (Some(build_at), Some(probe_at)) = (self.position(build), self.position(probe)) else {
            return false;
        };
        let probe_stage = &self.stages[probe_at];
        // How it reads may be decided while it waits for its first slot: its partitions are not those of its plan then.
        let is_divided_anew = matches!(probe_stage.reading, StageReading::Slices(_));
        let has_begun = probe_stage.available() || !probe_stage.is_untouched() || is_divided_anew;
        if !self.is_written(build_at) || has_begun {
            return false;
        }
        let bytes = self.outputs.lanes_of(build).map(LaneSizes::bytes).sum();
        let is_spared = !self.stages[position].spared.is_empty();
        if bytes > limits.broadcast_below || is_spared {
            return false;
        }
        let absorbed = self.stages[probe_at].plan.clone();
        self.take_place_of(position, probe_at, &absorbed, build);
        self.stages[build_at].plan.output = OutputKind::Broadcast;
        let stage = self.stages[position].plan.id;
        effects.push(Effect::Absorb { stage, probe });
        effects.push(Effect::Decided { stage, decision: Decision::Absorbed { probe, build, bytes } });
        true
    }

    fn take_place_of(&mut self, position: usize, probe_at: usize, probe: &StagePlan, build: StageId) {
        let stage = &mut self.stages[position];
        let plan = &mut stage.plan;
        plan.adapts = Adapts::default();
        plan.inputs.retain(|input| *input != probe.id);
        plan.inputs.extend(&probe.inputs);
        plan.told_by.extend(&probe.told_by);
        for stages in [&mut plan.inputs, &mut plan.told_by] {
            stages.sort_unstable();
            stages.dedup();
        }
        // It reads its rows: the keys come beside them.
        plan.told_by.retain(|teller| *teller != build);
        let inputs = plan.inputs.clone();
        stage.reading = StageReading::AsPlanned;
        stage.divide_anew(probe.partitions);
        let (id, tasks) = (stage.plan.id, stage.plan.tasks());
        self.outputs.add_stage(id, tasks);
        let inputs: Vec<_> = inputs.into_iter().filter_map(|input| self.position(input)).collect();
        self.stages[probe_at].consumers.retain(|&consumer| consumer != position);
        for &input in &inputs {
            if !self.stages[input].consumers.contains(&position) {
                self.stages[input].consumers.push(position);
            }
        }
        self.stages[position].inputs = inputs;
    }

    /// Decides which partitions each lane of a stage reads that is about to run for the first time.
    pub(super) fn decide_reading(&mut self, position: usize, effects: &mut Vec<Effect>) {
        let stage = &self.stages[position];
        if stage.reading != StageReading::Undecided {
            return;
        }
        let divided: Vec<_> =
            stage.plan.adapts.divided.iter().map(|input| self.divided(position, *input)).collect();
        let planned = stage.plan.partitions;
        let slices = slices::decide(&self.adapts(position), &divided);
        let Some(slices) = slices else {
            self.stages[position].reading = StageReading::AsPlanned;
            return;
        };
        let now = u32::try_from(slices.len()).expect("lanes fit in 32 bits");
        let bytes = divided.iter().flat_map(|input| &input.bytes).sum();
        drop(divided);
        let (divided, by_key) = slices::count_divided(&slices);
        let decision = Decision::Regrouped { planned, now, divided, by_key, bytes };
        let stage = &mut self.stages[position];
        stage.divide_anew(now);
        stage.reading = StageReading::Slices(slices);
        let (stage, tasks) = (stage.plan.id, stage.plan.tasks());
        self.outputs.add_stage(stage, tasks);
        effects.push(Effect::Decided { stage, decision });
    }

    /// Whether nothing would be decided of how a stage is divided if what is there of each input grew to what `expected` makes of
    /// its bytes.
    pub(super) fn would_read_as_planned(
        &self,
        position: usize,
        expected: impl Fn(StageId, u64) -> u64,
    ) -> bool {
        let stage = &self.stages[position];
        let divided = stage.plan.adapts.divided.iter().map(|&input| {
            let mut divided = self.divided(position, input);
            divided.bytes.iter_mut().for_each(|bytes| *bytes = expected(input, *bytes));
            divided
        });
        stage.reading == StageReading::AsPlanned
            || slices::decide(&self.adapts(position), &divided.collect::<Vec<_>>()).is_none()
    }

    fn divided(&self, position: usize, stage: StageId) -> Divided<'_> {
        let consumer = &self.stages[position];
        let mut bytes = vec![0; consumer.plan.partitions as usize];
        let is_read = self.position(stage).is_some_and(|input| !consumer.spared.contains(&input));
        let lanes: Vec<_> = self.outputs.lanes_of(stage).filter(|_| is_read).collect();
        lanes.iter().for_each(|lane| lane.add_to(&mut bytes));
        Divided { stage, bytes, lanes }
    }
}
