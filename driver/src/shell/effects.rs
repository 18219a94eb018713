//! What machines want done.

use std::ops::Range;

use firesteel_base::{AttemptKey, JobId, StageId, StageKey, version};
use firesteel_engine::Stage;
use firesteel_executor::convert::wire_slice;
use firesteel_protocol::v1;
use firesteel_shuffle::{LanesOf, Part, Slice};
use v1::driver_to_executor::Message as ToExecutor;
use v1::driver_to_manager::Message as ToManager;

use super::convert;
use super::messages::RunId;
use super::run::DriverLoop;
use super::running::Running;
use crate::machine::{Demand, Effect, Event, Launch, Life, MapOutput, Outcome, StageInputs};

/// Ends of jobs that are kept until the manager has heard of them; of more it may never hear.
const UNHEARD_MAX: usize = 1000;

impl DriverLoop {
    pub fn apply(&mut self, run: RunId, effect: Effect) {
        match effect {
            Effect::Demand(demand) => self.demand(run, &demand),
            Effect::Launch(launch) => self.launch(run, launch),
            Effect::MoreInputs { attempt, life, input } => self.more_inputs(run, attempt, &life, &input),
            Effect::CancelAttempt { attempt, life, reason } => {
                let attempt = Some(attempt.into());
                self.say(&life, ToExecutor::Cancel(v1::CancelAttempt { attempt, reason }));
            }
            Effect::TakeOutput { output, life } => self.take_output(run, &output, life),
            Effect::OutputMoved { output, lives } => self.output_moved(&output, &lives),
            Effect::Left { worker, left } => self.say_left(run, &worker, left),
            Effect::FreeAttempt { attempt, life } => {
                self.forget_take(&life, attempt);
                self.say(&life, ToExecutor::FreeAttempt(v1::FreeAttempt { attempt: Some(attempt.into()) }));
            }
            Effect::FreeStage { stage, lives } => self.free_stage(run, stage, &lives),
            Effect::ReleaseSlots { lease, tasks } => {
                self.manager.send(ToManager::Release(v1::ReleaseSlots { lease: lease.0, tasks }));
            }
            Effect::Absorb { stage, probe } => self.absorb(run, stage, probe),
            Effect::Decided { stage, decision } => self.jobs[&run].note(stage, decision),
            Effect::ResultReady(outputs) => {
                let outputs = outputs.iter().map(|output| self.shuffle_output(output)).collect();
                self.jobs[&run].show_result(outputs);
            }
            Effect::Settled(outcome) => {
                self.jobs[&run].settle(&outcome);
                self.publish();
            }
            Effect::Close { outcome, rows, lives } => self.close_job(run, &outcome, rows, &lives),
        }
    }

    fn demand(&mut self, run: RunId, demand: &Demand) {
        let Some(job) = self.jobs[&run].manager_job else { return };
        let less = demand.less.filter(|_| self.manager_wire >= version::WIRE_CHANGES);
        self.manager.send(match less {
            Some(tasks) => ToManager::LessDemand(v1::LessDemand { job: job.0, stage: demand.stage.0, tasks }),
            None => ToManager::Demand(convert::wire_demand(job.0, demand)),
        });
    }

    fn absorb(&mut self, run: RunId, stage: StageId, probe: StageId) {
        let Some(job) = self.jobs.get_mut(&run) else { return };
        if let Err(error) = job.absorb(stage, probe) {
            self.tell(run, Event::PlanFailed { error });
        }
    }

    fn launch(&mut self, run: RunId, launch: Launch) {
        let life = launch.life.clone();
        let Some(executor) = self.refs.get(&life).cloned() else {
            let reason = "its address is not known".to_owned();
            return self.tell(run, Event::LinkLost { life, reason, blocks_kept: false });
        };
        self.put_stage(run, launch.attempt.task.stage, &life, executor);
        let message = self.wire_launch(run, &launch);
        let link = self.links.get_mut(&life).expect("putting the stage has opened the link");
        link.launched.insert(launch.attempt, message.clone());
        link.send(ToExecutor::Launch(message));
    }

    /// Sends a stage's plan to an executor, unless it is there.
    fn put_stage(&mut self, run: RunId, key: StageKey, life: &Life, executor: v1::ExecutorRef) {
        self.link(life, executor);
        if !self.links[life].put.contains(&key) {
            if let Some(message) = self.put_stage_message(run, key, life) {
                self.say(life, ToExecutor::PutStage(message));
            }
            self.links.get_mut(life).expect("the link is open").put.insert(key);
        }
    }

    /// The message that carries a plan; none when it goes by pointer.
    pub fn put_stage_message(&self, run: RunId, key: StageKey, life: &Life) -> Option<v1::PutStage> {
        let job = &self.jobs[&run];
        let prepared = job.prepared(key.stage);
        let settings = &job.request.settings;
        match (&prepared.encoded, self.peers.executors.get(&life.executor)) {
            (None, Some(here)) => {
                here.put_stage_shared(key, prepared.digest, prepared.stage.clone(), settings.clone());
                None
            }
            (plan, _) => Some(v1::PutStage {
                job: key.job.0,
                stage: key.stage.0,
                digest: prepared.digest.to_vec().into(),
                plan: plan.clone().unwrap_or_default(),
                conf: settings.0.clone().into_iter().collect(),
            }),
        }
    }

    fn wire_launch(&self, run: RunId, launch: &Launch) -> v1::Launch {
        let job = &self.jobs[&run];
        let stage = &job.prepared(launch.attempt.stage()).stage;
        let input = |input: &StageInputs| {
            let read = launch.partitions_read();
            self.wire_input(job, stage, input, &read)
        };
        let slice = |slice: &Slice| {
            let part = slice.part.clone().map(|part| match part {
                Part::Lanes(LanesOf { stage, lanes }) => {
                    Part::Lanes(LanesOf { stage: job.offset.remove(stage), lanes })
                }
                keys @ Part::Keys(_) => keys,
            });
            wire_slice(&Slice { partitions: slice.partitions.clone(), part })
        };
        v1::Launch {
            attempt: Some(launch.attempt.into()),
            digest: job.prepared(launch.attempt.stage()).digest.to_vec().into(),
            lease: launch.lease.0,
            epoch: launch.life.epoch.0,
            first_partition: launch.first_partition,
            lanes: launch.lanes,
            inputs: launch.inputs.iter().map(input).collect(),
            memory_bytes: launch.memory_bytes,
            slices: launch.slices.iter().map(slice).collect(),
        }
    }

    /// What an attempt of `stage` that reads those partitions is told of an input.
    fn wire_input(
        &self,
        job: &Running,
        stage: &Stage,
        input: &StageInputs,
        read: &Range<u32>,
    ) -> v1::StageInput {
        // A plan names its inputs as its graph does.
        let id = job.offset.remove(input.stage);
        let read = convert::blocks_read(read, stage.adapts.divided.contains(&id));
        let outputs = input.outputs.iter().map(|output| self.wire_output(output, &read)).collect();
        v1::StageInput { stage: id.0, outputs, coming: input.coming }
    }

    /// Tells an attempt of what it reads, and the next connection to its executor too, should this one break.
    fn more_inputs(&mut self, run: RunId, attempt: AttemptKey, life: &Life, input: &StageInputs) {
        let Some(launch) = self.links.get(life).and_then(|link| link.launched.get(&attempt)) else { return };
        let job = &self.jobs[&run];
        // Who is launched early reads its partitions as planned.
        let read = launch.first_partition..launch.first_partition + launch.lanes;
        let input = self.wire_input(job, &job.prepared(attempt.stage()).stage, input, &read);
        let Some(link) = self.links.get_mut(life) else { return };
        if let Some(launch) = link.launched.get_mut(&attempt)
            && let Some(told) = launch.inputs.iter_mut().find(|told| told.stage == input.stage)
        {
            told.outputs.extend(input.outputs.iter().cloned());
            told.coming = input.coming;
        }
        let message = v1::MoreInputs { attempt: Some(attempt.into()), inputs: vec![input] };
        link.send(ToExecutor::MoreInputs(message));
    }

    pub fn wire_output(&self, output: &MapOutput, read: &Range<u32>) -> v1::MapOutput {
        let holder = self.refs.get(&output.life).cloned().unwrap_or_else(|| v1::ExecutorRef {
            id: Some((&output.life.executor).into()),
            epoch: output.life.epoch.0,
            control_address: String::new(),
            shuffle_address: String::new(),
            keeper_address: String::new(),
        });
        convert::wire_output(output, read, holder)
    }

    pub fn shuffle_output(&self, output: &MapOutput) -> firesteel_shuffle::MapOutput {
        convert::shuffle_output(output, self.refs.get(&output.life))
    }

    fn free_stage(&mut self, run: RunId, stage: StageId, lives: &[Life]) {
        let Some(job) = self.jobs[&run].machine.as_ref().map(|machine| machine.job()) else { return };
        for life in lives {
            self.say(life, ToExecutor::FreeStage(v1::FreeStage { job: job.0, stage: stage.0 }));
        }
    }

    /// Forgets a query that has given everything back.
    fn close_job(&mut self, run: RunId, outcome: &Outcome, rows: u64, lives: &[Life]) {
        self.publish();
        self.note_outcome(outcome, rows);
        let Some(job) = self.jobs.remove(&run) else { return };
        let keys = job.stage_keys();
        if let Some(key) = keys.first().filter(|_| self.submitted.is_none()) {
            self.config.fetcher.forget_job(key.job);
        }
        for life in lives {
            self.forget_at(life, &keys);
        }
        if self.submitted.is_none()
            && let Some(JobId(id)) = job.manager_job
        {
            self.say_closed(&job, convert::close_job(id, outcome, rows));
        }
    }

    /// Tells the manager how a query ended, again when it does not answer before it goes away.
    fn say_closed(&mut self, job: &Running, close: v1::CloseJob) {
        self.openings += 1;
        let open = self.open_message(self.openings, &job.request.sql);
        let open = v1::OpenJob { resumed_job: Some(close.job), only_to_close: true, ..open };
        self.say_end(open, close);
    }

    /// Tells the manager how a job ended; `open` takes it up at one that has not heard it.
    pub fn say_end(&mut self, open: v1::OpenJob, close: v1::CloseJob) {
        self.manager.send(ToManager::CloseJob(close.clone()));
        if self.unheard.len() < UNHEARD_MAX {
            self.unheard.push((open, close));
        }
    }

    /// Frees what an executor has of a query: all of its job, or its stages when others run under the same job.
    fn forget_at(&mut self, life: &Life, keys: &[StageKey]) {
        let is_shared = self.submitted.is_some();
        let Some(link) = self.links.get_mut(life) else { return };
        link.put.retain(|key| !keys.contains(key));
        link.launched.retain(|attempt, _| !keys.contains(&attempt.task.stage));
        link.taking.retain(|producer, _| !keys.contains(&producer.task.stage));
        if is_shared {
            for key in keys {
                link.send(ToExecutor::FreeStage(v1::FreeStage { job: key.job.0, stage: key.stage.0 }));
            }
        } else if let Some(key) = keys.first() {
            link.send(ToExecutor::FreeJob(v1::FreeJob { job: key.job.0 }));
        }
    }
}
