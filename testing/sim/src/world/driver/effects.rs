//! What machines want done: a model of `driver/src/shell/effects.rs`.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

use firesteel_base::{AttemptKey, JobId, StageKey};
use firesteel_driver::machine::{
    Demand, Effect, Event, Launch, LeftThere, Life, MapOutput, Outcome, StageInputs,
};
use firesteel_manager::machine::message::{
    self, Demand as AtManager, DriverEvent, Ending, Failure, OpenJob, Resumed,
};

use super::Driver;
use crate::channel::{Located, Message};
use crate::plan::Graph;
use crate::world::Scene;

/// Calls to executors: the life that is meant, and its address.
pub type Calls = Vec<(Life, String)>;

impl Driver {
    pub(super) fn apply(&mut self, number: u64, effect: Effect, scene: &mut Scene) {
        match effect {
            Effect::Demand(demand) => self.demand(number, demand, scene),
            Effect::Launch(launch) => self.launch(number, launch, scene),
            Effect::MoreInputs { attempt, life, input } => self.more_inputs(attempt, &life, input, scene),
            Effect::CancelAttempt { attempt, life, reason } => {
                scene.tell(self.proc, || format!("cancels {attempt} on {life}: {reason}"));
                self.say(&life, Message::Cancel(attempt, reason), scene);
            }
            Effect::TakeOutput { output, life } => self.take_output(number, &output, &life, scene),
            Effect::OutputMoved { output, lives } => self.output_moved(&output, &lives, scene),
            Effect::Left { worker, left } => {
                let Some(job) = self.queries[&number].manager_job else { return };
                let LeftThere { attempts, outputs, bytes } = left;
                let left = message::LeftThere { attempts, outputs, bytes };
                self.say_to_manager(DriverEvent::Left { job, worker, left }, scene);
            }
            Effect::FreeAttempt { attempt, life } => {
                if let Some(link) = self.links.get_mut(&life) {
                    link.taking.remove(&attempt);
                }
                self.say(&life, Message::FreeAttempt(attempt), scene);
            }
            Effect::FreeStage { stage, lives } => {
                let Some(job) = self.job_of(number) else { return };
                for life in lives {
                    self.say(&life, Message::FreeStage(StageKey { job, stage }), scene);
                }
            }
            Effect::ReleaseSlots { lease, tasks } => {
                self.say_to_manager(DriverEvent::Release { lease, tasks }, scene);
            }
            Effect::Absorb { stage, probe } => {
                self.queries.get_mut(&number).expect("a query that runs").graph.absorb(stage, probe);
            }
            Effect::Decided { stage, decision } => {
                scene.check.decided(&decision);
                scene.tell(self.proc, || format!("{stage} of q{number}: {decision}"));
            }
            Effect::ResultReady(outputs) => self.show_result(number, &outputs, scene),
            Effect::Settled(outcome) => {
                scene.tell(self.proc, || format!("q{number} is settled: {}", told(&outcome)));
                let query = self.queries.get_mut(&number).expect("a query that runs");
                query.reader.outcome = Some(outcome);
                Self::wake_reader(self.proc, number, query, scene);
            }
            Effect::Close { outcome, rows, lives } => self.close(number, &outcome, rows, &lives, scene),
        }
    }

    fn job_of(&self, number: u64) -> Option<firesteel_base::JobId> {
        Some(self.queries.get(&number)?.machine.as_ref()?.job())
    }

    fn demand(&mut self, number: u64, demand: Demand, scene: &mut Scene) {
        let Some(job) = self.queries[&number].manager_job else { return };
        let Demand { stage, tasks, cores_per_task, memory_per_task, inputs, excluded, early, less, .. } =
            demand;
        if let Some(tasks) = less {
            return self.say_to_manager(DriverEvent::LessDemand { job, stage, tasks }, scene);
        }
        let demand = AtManager {
            job,
            stage,
            tasks,
            cores_per_task,
            memory_per_task,
            inputs: inputs.to_vec(),
            excluded,
            gang: false,
            early,
        };
        self.say_to_manager(DriverEvent::Demand(demand), scene);
    }

    fn launch(&mut self, number: u64, launch: Launch, scene: &mut Scene) {
        let life = launch.life.clone();
        if !self.refs.contains_key(&life) {
            let reason = "its address is not known".to_owned();
            return self.tell(number, Event::LinkLost { life, reason, blocks_kept: false });
        }
        let attempt = launch.attempt;
        scene.tell(self.proc, || format!("launches {attempt} on {life} in {}", launch.lease));
        self.link(&life, scene.clock(self.proc));
        if self.links.get_mut(&life).expect("it was just called").put.insert(attempt.task.stage) {
            let work = Rc::new(self.queries[&number].graph.work(attempt.stage()));
            self.say(&life, Message::PutStage(attempt.task.stage, work), scene);
        }
        let launch = Located { unknown: self.unknown(&launch.inputs), what: launch };
        let link = self.links.get_mut(&life).expect("it was just called");
        link.launched.insert(attempt, launch.clone());
        self.say(&life, Message::Launch(launch), scene);
    }

    /// Lives that hold some of the inputs, and whose address is not known any more.
    fn unknown(&self, inputs: &[StageInputs]) -> BTreeSet<Life> {
        let lives = inputs.iter().flat_map(|input| input.outputs.iter()).map(|output| &output.life);
        lives.filter(|life| !self.refs.contains_key(*life)).cloned().collect()
    }

    fn more_inputs(&mut self, attempt: AttemptKey, life: &Life, input: StageInputs, scene: &mut Scene) {
        let unknown = self.unknown(std::slice::from_ref(&input));
        let Some(link) = self.links.get_mut(life) else { return };
        let Some(launch) = link.launched.get_mut(&attempt) else { return };
        if let Some(told) = launch.what.inputs.iter_mut().find(|told| told.stage == input.stage) {
            told.outputs = told.outputs.iter().chain(input.outputs.iter()).cloned().collect();
            told.coming = input.coming;
        }
        launch.unknown.extend(unknown.iter().cloned());
        self.say(life, Message::MoreInputs(attempt, Located { what: input, unknown }), scene);
    }

    fn take_output(&mut self, number: u64, output: &MapOutput, life: &Life, scene: &mut Scene) {
        let producer = output.producer;
        if !self.refs.contains_key(life) {
            return self.tell(number, Event::OutputNotTaken { producer, life: life.clone() });
        }
        scene.tell(self.proc, || format!("has {producer} moved from {} to {life}", output.life));
        self.link(life, scene.clock(self.proc));
        let is_known = self.refs.contains_key(&output.life);
        let unknown = if is_known { BTreeSet::new() } else { BTreeSet::from([output.life.clone()]) };
        let output = Located { what: output.clone(), unknown };
        self.links.get_mut(life).expect("it was just called").taking.insert(producer, output.clone());
        self.say(life, Message::TakeOutput(output), scene);
    }

    fn output_moved(&mut self, output: &MapOutput, lives: &[Life], scene: &mut Scene) {
        self.moved.insert(output.producer, output.life.clone());
        for query in self.queries.values_mut() {
            query.reader.begin_fetch_anew();
        }
        for life in lives {
            self.say(life, Message::OutputMoved(output.producer, output.life.clone()), scene);
        }
    }

    fn show_result(&mut self, number: u64, outputs: &[Arc<MapOutput>], scene: &mut Scene) {
        scene.tell(self.proc, || format!("the result of q{number} can be read: {} tasks", outputs.len()));
        let known =
            |output: &Arc<MapOutput>| (MapOutput::clone(output), self.refs.contains_key(&output.life));
        let outputs = outputs.iter().map(known).collect();
        let query = self.queries.get_mut(&number).expect("a query that runs");
        query.reader.tasks = query.machine.as_ref().map_or(0, |machine| machine.result_tasks());
        query.reader.outputs = Some(outputs);
        Self::wake_reader(self.proc, number, query, scene);
    }

    /// Forgets a query that has given everything back.
    fn close(&mut self, number: u64, outcome: &Outcome, rows: u64, lives: &[Life], scene: &mut Scene) {
        let Some(query) = self.queries.remove(&number) else { return };
        scene.tell(self.proc, || format!("q{number} has ended: {}", told(outcome)));
        scene.check.query_ends(self.proc, number, outcome, rows);
        let Some(job) = query.machine.as_ref().map(|machine| machine.job()) else { return };
        if let Some(submitted) = &mut self.submitted {
            submitted.note(outcome, rows);
        }
        for life in lives {
            let Some(link) = self.links.get_mut(life) else { continue };
            link.put.retain(|key| key.job != job);
            link.launched.retain(|attempt, _| attempt.job() != job);
            link.taking.retain(|producer, _| producer.job() != job);
            self.forget_at(life, job, &query.graph, scene);
        }
        if let Some(job) = query.manager_job.filter(|_| self.submitted.is_none()) {
            self.openings += 1;
            let resumes = Some(Resumed { job, leases: Vec::new(), gone: Vec::new(), only_to_close: true });
            let open = OpenJob { resumes, ..query.open(number, self.openings) };
            self.say_end(open, job, outcome, rows, scene);
        }
    }

    /// Frees what an executor has of a query: all of its job, or its stages when others may run under the same job.
    fn forget_at(&mut self, life: &Life, job: JobId, graph: &Graph, scene: &mut Scene) {
        if self.submitted.is_none() {
            return self.say(life, Message::FreeJob(job), scene);
        }
        for stage in graph.stages.iter().map(|stage| stage.id) {
            self.say(life, Message::FreeStage(StageKey { job, stage }), scene);
        }
    }

    /// Tells the manager how a job ended; `open` takes it up at one that has not heard it.
    pub(super) fn say_end(
        &mut self,
        open: OpenJob,
        job: JobId,
        outcome: &Outcome,
        rows: u64,
        scene: &mut Scene,
    ) {
        let ending = match outcome {
            Outcome::Succeeded => Ending::Succeeded { rows },
            Outcome::Failed(error) => {
                Ending::Failed(Failure { class: firesteel_base::Class::User, error: error.clone() })
            }
            Outcome::Cancelled(reason) => Ending::Cancelled { reason: reason.clone() },
        };
        self.unheard.push((open, job, ending.clone()));
        self.say_to_manager(DriverEvent::CloseJob { job, ending }, scene);
    }
}

pub(super) fn told(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Succeeded => "succeeded".to_owned(),
        Outcome::Failed(error) => format!("failed: {}", error.message),
        Outcome::Cancelled(reason) => format!("cancelled: {reason}"),
    }
}
