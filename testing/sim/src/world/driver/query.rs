//! A query, from its user's wish to the end of its machine.

use std::rc::Rc;

use firesteel_base::JobId;
use firesteel_driver::machine::{Event, Held, JobMachine, JobPlan, Outcome, Policy};
use firesteel_manager::machine::message::{DriverEvent, HeldLease, OpenJob, Resumed};

use super::manager_link::arrival;
use super::{Driver, Reader};
use crate::channel::{Message, Proc};
use crate::plan::Graph;
use crate::world::Scene;

/// A query that a user means to run.
#[derive(Debug, Clone)]
pub struct QueryPlan {
    /// What it does.
    pub graph: Graph,
    /// The rows that it must give.
    pub expected: Rc<Vec<u64>>,
    /// The queue whose share it draws on.
    pub queue: String,
    /// Its weight.
    pub weight: u32,
    /// How long its reader rests between blocks at most, in milliseconds.
    pub reader_rests: u64,
}

/// A query that runs.
#[derive(Debug)]
pub struct Query {
    /// What it does, as far as that was not changed since.
    pub graph: Graph,
    /// Names the wish to open a job.
    pub opening: u64,
    /// The job as the manager knows it now.
    pub manager_job: Option<JobId>,
    /// The manager at which it was opened.
    pub opened_at: Option<Proc>,
    /// None while the job is not opened.
    pub machine: Option<JobMachine>,
    /// Who reads its result.
    pub reader: Reader,
    plan: QueryPlan,
}

impl Query {
    /// What opens a job for it.
    pub(super) fn open(&self, number: u64, request: u64) -> OpenJob {
        OpenJob {
            request,
            name: format!("q{number}"),
            sql: String::new(),
            queue: self.plan.queue.clone(),
            weight: self.plan.weight,
            submitted_job: None,
            launch: None,
            resumes: None,
        }
    }

    /// What a manager is told of it that may know nothing, once it is open.
    pub(super) fn resumed(&self) -> Option<Resumed> {
        let (machine, job) = (self.machine.as_ref()?, self.manager_job?);
        let held = |held: Held| HeldLease {
            lease: held.lease,
            stage: held.stage,
            executor: held.life.executor,
            epoch: held.life.epoch,
            tasks: held.tasks,
            cores_per_task: held.cores_per_task,
            memory_per_task: held.memory_per_task,
        };
        let gone = machine.gone().iter().map(|life| (life.executor.clone(), life.epoch)).collect();
        let leases = machine.held().into_iter().map(held).collect();
        Some(Resumed { job, leases, gone, only_to_close: false })
    }
}

impl Driver {
    /// The user runs a query.
    pub(super) fn begin(&mut self, number: u64, scene: &mut Scene) {
        let Some(plan) = self.planned.remove(&number) else { return };
        self.openings += 1;
        scene.tell(self.proc, || format!("runs query q{number}: {}", shape(&plan.graph)));
        scene.check.query_begins(self.proc, number, &plan);
        let query = Query {
            graph: plan.graph.clone(),
            opening: self.openings,
            manager_job: None,
            opened_at: None,
            machine: None,
            reader: Reader::new(plan.reader_rests),
            plan,
        };
        self.queries.insert(number, query);
        if self.manager.is_lost() {
            self.call_manager(scene);
        }
        self.ask_for_job(number, scene);
    }

    pub(super) fn ask_for_job(&mut self, number: u64, scene: &mut Scene) {
        if self.open_under_submitted(number, scene) {
            return;
        }
        let query = &self.queries[&number];
        let open = OpenJob { resumes: query.resumed(), ..query.open(number, query.opening) };
        self.say_to_manager(DriverEvent::OpenJob(open), scene);
    }

    pub(super) fn say_to_manager(&mut self, event: DriverEvent, scene: &mut Scene) {
        if let Some(conn) = self.manager.connected() {
            scene.send(conn, 0, Message::OfDriver(event));
        }
    }

    /// The query has its job.
    pub(super) fn open_query(&mut self, number: u64, job: JobId, scene: &mut Scene) {
        let policy = Policy { first_attempt: self.first_attempt(scene), ..Policy::default() };
        let query = self.queries.get_mut(&number).expect("a query that waits for its job");
        let plan = JobPlan { job, stages: query.graph.stages.clone() };
        query.machine = Some(JobMachine::new(plan, policy));
        query.manager_job = Some(job);
        query.opened_at = self.manager.called();
        scene.tell(self.proc, || format!("q{number} is {job}"));
        self.tell(number, Event::Draining { workers: self.draining.clone() });
        let came = self.up.values().cloned().map(arrival).collect();
        self.tell(number, Event::ClusterChanged { came, gone: Vec::new() });
        self.tell(number, Event::Begin);
    }

    /// A job that is not open yet has nothing to give back.
    pub(super) fn cancel(&mut self, number: u64, reason: &str) {
        let Some(query) = self.queries.get(&number) else { return };
        if query.machine.is_some() {
            self.tell(number, Event::Cancel { reason: reason.to_owned() });
        }
    }

    pub(super) fn forget_unopened(&mut self, number: u64, outcome: &Outcome, scene: &mut Scene) {
        if self.queries.remove(&number).is_some() {
            scene.tell(self.proc, || format!("q{number} ends before it had a job: {outcome:?}"));
            scene.check.query_ends(self.proc, number, outcome, 0);
            if let Some(submitted) = &mut self.submitted {
                submitted.note(outcome, 0);
            }
        }
    }
}

fn shape(graph: &Graph) -> String {
    let stage = |stage: &firesteel_driver::machine::StagePlan| {
        let inputs: Vec<String> = stage.inputs.iter().map(ToString::to_string).collect();
        format!("{}[{}] x{} {:?}", stage.id, inputs.join(" "), stage.partitions, stage.output)
    };
    graph.stages.iter().map(stage).collect::<Vec<_>>().join(", ")
}
