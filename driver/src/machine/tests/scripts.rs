//! One behaviour each: what comes in, and what is done about it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use firesteel_base::{AttemptKey, Class, Epoch, ExecutorId, JobId, LeaseId, StageId, Timestamp, UserError};
use firesteel_engine::stage::adapt::Adapts;
use firesteel_shuffle::{BlockStat, LaneOutput, LaneSizes};

use crate::machine::{
    Arrival, AttemptFailure, Effect, Event, JobMachine, JobPhase, JobPlan, Life, LostBlock, OutputKind,
    Policy, StagePlan,
};

const JOB: JobId = JobId(7);

/// A machine, and what it has said since it was asked last.
pub(super) struct Script {
    pub(super) machine: JobMachine,
    pub(super) now: Timestamp,
    said: Vec<Effect>,
    leases: u64,
    up: Up,
}

/// The executors that are up, as a machine was told.
pub(super) type Up = BTreeMap<ExecutorId, Arrival>;

/// What a machine is told when other executors are up.
pub(super) fn change(before: &Up, after: &Up) -> Event {
    let is_new = |arrival: &&Arrival| before.get(&arrival.life.executor) != Some(arrival);
    Event::ClusterChanged {
        came: after.values().filter(is_new).cloned().collect(),
        gone: before.keys().filter(|executor| !after.contains_key(*executor)).cloned().collect(),
    }
}

pub(super) fn life(name: &str) -> Life {
    Life { executor: ExecutorId { worker: name.parse().unwrap(), index: 0 }, epoch: Epoch(1) }
}

pub(super) fn stage(id: u32, partitions: u32, inputs: &[u32], output: OutputKind) -> StagePlan {
    StagePlan {
        id: StageId(id),
        partitions,
        lanes: 1,
        inputs: inputs.iter().copied().map(StageId).collect(),
        told_by: Vec::new(),
        output,
        tells: false,
        adapts: Adapts::default(),
        estimated_bytes: 0,
        memory_per_task: 0,
    }
}

/// A scan of two tasks into a result of two.
pub(super) fn two_stages() -> Vec<StagePlan> {
    vec![stage(0, 2, &[], OutputKind::Hash), stage(1, 2, &[0], OutputKind::Result)]
}

fn attempt(key: &str) -> AttemptKey {
    key.parse().unwrap()
}

fn failure(class: Class, text: &str) -> AttemptFailure {
    AttemptFailure { class, error: UserError::new(text), lost: None }
}

impl Script {
    pub fn new(stages: Vec<StagePlan>, executors: &[&str]) -> Self {
        let machine = JobMachine::new(JobPlan { job: JOB, stages }, Policy::default());
        let mut script = Self { machine, now: Timestamp(0), said: Vec::new(), leases: 0, up: Up::new() };
        script.cluster(executors);
        script.tell(Event::Begin);
        script
    }

    pub fn tell(&mut self, event: Event) {
        self.machine.step(self.now, event, &mut self.said);
    }

    /// The executors that are up are these. Those that come can neither take outputs over nor read keys.
    pub fn cluster(&mut self, executors: &[&str]) {
        let arrival = |life| Arrival { life, takes_outputs: false, reads_keys: false };
        let new = executors.iter().map(|name| arrival(life(name)));
        let up = new.map(|new| self.up.get(&new.life.executor).cloned().unwrap_or(new)).collect();
        self.up_are(up);
    }

    /// Something else is true of executors that are up.
    pub fn change_each(&mut self, change: impl Fn(&mut Arrival)) {
        let mut up: Vec<_> = self.up.values().cloned().collect();
        up.iter_mut().for_each(change);
        self.up_are(up);
    }

    fn up_are(&mut self, up: Vec<Arrival>) {
        let up = up.into_iter().map(|arrival| (arrival.life.executor.clone(), arrival)).collect();
        let event = change(&self.up, &up);
        self.up = up;
        self.tell(event);
    }

    pub fn grant(&mut self, stage: u32, on: &str, tasks: u32) -> LeaseId {
        self.leases += 1;
        let lease = LeaseId(self.leases);
        self.tell(Event::Granted { lease, stage: StageId(stage), life: life(on), tasks });
        lease
    }

    pub fn finish(&mut self, attempt: &str, on: &str) {
        self.finish_with(attempt, on, &[&[100, 100]]);
    }

    /// The attempt has written so many bytes for each partition, by lane.
    pub fn finish_with(&mut self, attempt: &str, on: &str, lanes: &[&[u64]]) {
        let block = |&bytes: &u64| BlockStat { rows: bytes / 10, bytes };
        let lane =
            |bytes: &&[u64]| LaneSizes::of(&LaneOutput { partitions: bytes.iter().map(block).collect() });
        let lanes = lanes.iter().map(lane).collect();
        self.tell(Event::AttemptFinished { attempt: attempt.parse().unwrap(), life: life(on), lanes });
    }

    /// The attempt has written so many bytes so far.
    pub fn progress(&mut self, attempt: &str, on: &str, bytes: u64) {
        let (attempt, life) = (attempt.parse().unwrap(), life(on));
        self.tell(Event::AttemptProgress { attempt, life, rows: bytes / 10, bytes });
    }

    fn fail(&mut self, attempt: &str, on: &str, failure: AttemptFailure) {
        self.tell(Event::AttemptFailed { attempt: attempt.parse().unwrap(), life: life(on), failure });
    }

    /// The attempt has failed by itself.
    pub fn fail_with(&mut self, attempt: &str, on: &str, class: Class) {
        self.fail(attempt, on, failure(class, "it failed"));
    }

    pub fn cannot_fetch(&mut self, attempt: &str, on: &str, producer: &str, holder: &str) {
        let lost = LostBlock { producer: producer.parse().unwrap(), life: life(holder) };
        self.fail(attempt, on, AttemptFailure { lost: Some(lost), ..failure(Class::Fetch, "block gone") });
    }

    /// What was said since the last time, a line each.
    pub fn said(&mut self) -> String {
        let said = std::mem::take(&mut self.said);
        said.iter().map(|effect| line(effect).trim_end().to_owned()).collect::<Vec<_>>().join("\n")
    }

    #[track_caller]
    pub fn says(&mut self, expected: &str) {
        let expected: Vec<_> = expected.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        assert_eq!(self.said(), expected.join("\n"));
    }
}

fn names<'a>(items: impl IntoIterator<Item = &'a ExecutorId>) -> String {
    items.into_iter().map(|id| id.worker.to_string()).collect::<Vec<_>>().join(",")
}

fn line(effect: &Effect) -> String {
    match effect {
        Effect::Demand(demand) => {
            let excluded = names(&demand.excluded);
            let but = if excluded.is_empty() { String::new() } else { format!(" but {excluded}") };
            let early = if demand.early { " early" } else { "" };
            format!("demand {} {}{early}{but}", demand.stage, demand.tasks)
        }
        Effect::Launch(launch) => {
            let inputs = launch.inputs.iter().flat_map(|input| input.outputs.iter());
            let inputs: Vec<_> = inputs.map(|output| output.producer.to_string()).collect();
            let reads =
                if inputs.is_empty() { String::new() } else { format!(" reads {}", inputs.join(" ")) };
            let coming: Vec<_> = launch
                .inputs
                .iter()
                .filter(|input| input.coming)
                .map(|input| input.stage.to_string())
                .collect();
            let coming =
                if coming.is_empty() { String::new() } else { format!(", more of {}", coming.join(" ")) };
            let slices: Vec<_> = launch.slices.iter().map(ToString::to_string).collect();
            let slices =
                if slices.is_empty() { String::new() } else { format!(", partitions {}", slices.join("; ")) };
            format!(
                "launch {} on {} under {}{reads}{coming}{slices}",
                launch.attempt, launch.life.executor.worker, launch.lease
            )
        }
        Effect::MoreInputs { attempt, life, input } => {
            let outputs: Vec<_> = input.outputs.iter().map(|output| output.producer.to_string()).collect();
            let rest = if input.coming { ", more is coming" } else { "" };
            format!("tell {attempt} on {} {}{rest}", life.executor.worker, outputs.join(" "))
        }
        Effect::CancelAttempt { attempt, life, .. } => {
            format!("cancel {attempt} on {}", life.executor.worker)
        }
        Effect::TakeOutput { output, life } => {
            format!(
                "take {} from {} to {}",
                output.producer, output.life.executor.worker, life.executor.worker
            )
        }
        Effect::OutputMoved { output, lives } => {
            let told = names(lives.iter().map(|life| &life.executor));
            let told = if told.is_empty() { String::new() } else { format!(", tell {told}") };
            format!("moved {} to {}{told}", output.producer, output.life.executor.worker)
        }
        Effect::Left { worker, left } => {
            format!(
                "left at {worker}: {} running, {} held, {} bytes",
                left.attempts, left.outputs, left.bytes
            )
        }
        Effect::FreeAttempt { attempt, life } => format!("free {attempt} on {}", life.executor.worker),
        Effect::FreeStage { stage, lives } => {
            format!("free {stage} on {}", names(lives.iter().map(|life| &life.executor)))
        }
        Effect::Absorb { stage, probe } => format!("absorb {probe} into {stage}"),
        Effect::Decided { stage, decision } => format!("{stage} {decision}"),
        Effect::ReleaseSlots { lease, tasks } => format!("release {tasks} of {lease}"),
        Effect::ResultReady(outputs) => {
            let producers: Vec<_> = outputs.iter().map(|output| output.producer.to_string()).collect();
            format!("result {}", producers.join(" "))
        }
        Effect::Settled(outcome) => format!("settled {}", outcome_line(outcome)),
        Effect::Close { outcome, rows, lives } => {
            let lives = names(lives.iter().map(|life| &life.executor));
            format!("close {} with {rows} rows, forget it on {lives}", outcome_line(outcome))
        }
    }
}

fn outcome_line(outcome: &crate::machine::Outcome) -> String {
    match outcome {
        crate::machine::Outcome::Succeeded => "succeeded".to_owned(),
        crate::machine::Outcome::Failed(error) => format!("failed: {}", error.message),
        crate::machine::Outcome::Cancelled(reason) => format!("cancelled: {reason}"),
    }
}

/// The scan done on `a` and `b`, and the result stage running on both.
fn second_stage_running() -> Script {
    let mut script = Script::new(two_stages(), &["a", "b"]);
    script.grant(0, "a", 1);
    script.grant(0, "b", 1);
    script.finish("job7/s0/p0/a0", "a");
    script.finish("job7/s0/p1/a0", "b");
    script.grant(1, "a", 1);
    script.grant(1, "b", 1);
    script.said();
    script
}

/// The result ready on `a` and `b`.
fn delivering() -> Script {
    let mut script = second_stage_running();
    script.finish("job7/s1/p0/a0", "a");
    script.finish("job7/s1/p1/a0", "b");
    script.said();
    script
}

#[test]
fn a_job_runs_stage_after_stage_and_gives_everything_back() {
    let mut script = Script::new(two_stages(), &["a", "b"]);
    script.says("demand s0 2");
    script.grant(0, "a", 1);
    script.says("launch job7/s0/p0/a0 on a under lease1");
    script.finish("job7/s0/p0/a0", "a");
    // The slot goes on with the next task, and the manager need not look for another.
    script.says(
        "launch job7/s0/p1/a0 on a under lease1
         demand s0 0",
    );
    script.finish("job7/s0/p1/a0", "a");
    script.says(
        "release 1 of lease1
         demand s1 2",
    );
    script.grant(1, "b", 2);
    script.says(
        "launch job7/s1/p0/a0 on b under lease2 reads job7/s0/p0/a0 job7/s0/p1/a0
         launch job7/s1/p1/a0 on b under lease2 reads job7/s0/p0/a0 job7/s0/p1/a0",
    );
    script.finish("job7/s1/p1/a0", "b");
    script.says("release 1 of lease2");
    script.finish("job7/s1/p0/a0", "b");
    script.says(
        "free s0 on a
         release 1 of lease2
         result job7/s1/p0/a0 job7/s1/p1/a0",
    );
    script.tell(Event::ResultBegun { producer: attempt("job7/s1/p0/a0") });
    script.tell(Event::ResultTaskRead { producer: attempt("job7/s1/p0/a0") });
    script.says("free job7/s1/p0/a0 on b");
    script.tell(Event::ResultTaskRead { producer: attempt("job7/s1/p1/a0") });
    script.says("free job7/s1/p1/a0 on b");
    script.tell(Event::ResultRead);
    script.says(
        "settled succeeded
         close succeeded with 40 rows, forget it on a,b",
    );
    assert!(script.machine.has_ended());
}

#[test]
fn stages_that_do_not_read_each_other_run_at_the_same_time() {
    let stages = vec![
        stage(0, 1, &[], OutputKind::Hash),
        stage(1, 3, &[], OutputKind::Broadcast),
        stage(2, 1, &[0, 1], OutputKind::Result),
    ];
    let mut script = Script::new(stages, &["a"]);
    script.says(
        "demand s0 1
         demand s1 3",
    );
}

#[test]
fn tasks_go_where_most_of_their_input_lies() {
    let mut script = Script::new(two_stages(), &["a", "b"]);
    script.grant(0, "a", 1);
    script.grant(0, "b", 1);
    script.finish_with("job7/s0/p0/a0", "a", &[&[10, 500]]);
    script.finish_with("job7/s0/p1/a0", "b", &[&[300, 20]]);
    let Some(Effect::Demand(demand)) = script.said.pop() else { panic!("the next stage is demanded") };
    assert_eq!(demand.inputs[..], [(life("a").executor, 510), (life("b").executor, 320)]);
    script.said();
    script.grant(1, "a", 1);
    script.says("launch job7/s1/p1/a0 on a under lease3 reads job7/s0/p0/a0 job7/s0/p1/a0");
}

#[test]
fn a_users_error_fails_the_job_at_once() {
    let mut script = second_stage_running();
    script.fail("job7/s1/p0/a0", "a", failure(Class::User, "division by zero"));
    script.says(
        "settled failed: division by zero
         cancel job7/s1/p1/a0 on b
         release 1 of lease3",
    );
    // The other attempt's slot comes back when it has ended.
    script.fail("job7/s1/p1/a0", "b", failure(Class::Cancelled, "cancelled"));
    script.says(
        "release 1 of lease4
         close failed: division by zero with 0 rows, forget it on a,b",
    );
}

#[test]
fn a_passing_failure_is_tried_again_elsewhere() {
    let mut script = second_stage_running();
    script.fail("job7/s1/p0/a0", "a", failure(Class::Transient, "panicked"));
    script.says(
        "release 1 of lease3
         demand s1 1 but a",
    );
    script.grant(1, "b", 1);
    script.says("launch job7/s1/p0/a1 on b under lease5 reads job7/s0/p0/a0 job7/s0/p1/a0");
}

#[test]
fn the_only_executor_is_tried_again() {
    let mut script = Script::new(vec![stage(0, 1, &[], OutputKind::Result)], &["a"]);
    script.grant(0, "a", 1);
    script.said();
    for attempt in 0..3 {
        let key = format!("job7/s0/p0/a{attempt}");
        script.fail(&key, "a", failure(Class::Resources, &format!("out of memory, time {attempt}")));
        script.says(&format!("launch job7/s0/p0/a{} on a under lease1", attempt + 1));
    }
    script.fail("job7/s0/p0/a3", "a", failure(Class::Resources, "out of memory at last"));
    let Some(Effect::Settled(crate::machine::Outcome::Failed(error))) = script.said.first() else {
        panic!("the fourth failure is the job's")
    };
    assert_eq!(error.message, "out of memory at last");
    let detail = error.detail.as_ref().unwrap();
    assert!(detail.contains("task job7/s0/p0 failed 4 times"), "{detail}");
    assert!(detail.contains("a0 on a/e0: out of memory, time 0"), "{detail}");
}

#[test]
fn an_executor_where_a_stage_fails_again_and_again_is_left_out() {
    let stages = vec![stage(0, 4, &[], OutputKind::Result)];
    let mut script = Script::new(stages, &["a", "b"]);
    script.grant(0, "a", 2);
    script.said();
    script.fail("job7/s0/p0/a0", "a", failure(Class::Transient, "x"));
    script.says("launch job7/s0/p2/a0 on a under lease1");
    script.fail("job7/s0/p1/a0", "a", failure(Class::Transient, "x"));
    script.says(
        "release 1 of lease1
         demand s0 3 but a",
    );
    // A grant that was on its way goes back, and the manager is told again.
    script.grant(0, "a", 1);
    script.says(
        "release 1 of lease2
         demand s0 3 but a",
    );
}

#[test]
fn a_block_that_cannot_be_read_is_made_again_while_its_reader_waits() {
    let mut script = second_stage_running();
    script.cannot_fetch("job7/s1/p0/a0", "a", "job7/s0/p1/a0", "b");
    script.says(
        "free job7/s0/p1/a0 on b
         release 1 of lease3
         demand s0 1 but b",
    );
    script.grant(0, "a", 1);
    script.says("launch job7/s0/p1/a1 on a under lease5");
    script.finish("job7/s0/p1/a1", "a");
    script.says(
        "release 1 of lease5
         demand s1 1",
    );
    script.grant(1, "a", 1);
    script.says("launch job7/s1/p0/a1 on a under lease6 reads job7/s0/p0/a0 job7/s0/p1/a1");
}

#[test]
fn a_reader_of_an_output_that_was_made_anew_since_is_just_run_again() {
    let mut script = second_stage_running();
    script.cannot_fetch("job7/s1/p0/a0", "a", "job7/s0/p1/a0", "b");
    script.grant(0, "a", 1);
    script.finish("job7/s0/p1/a1", "a");
    script.said();
    script.cannot_fetch("job7/s1/p1/a0", "b", "job7/s0/p1/a0", "b");
    script.says("launch job7/s1/p0/a1 on b under lease4 reads job7/s0/p0/a0 job7/s0/p1/a1");
}

#[test]
fn blocks_that_are_unreadable_time_and_again_fail_the_job() {
    let mut script = second_stage_running();
    let limit = Policy::default().reruns_per_stage_max;
    let holder = |round| if round % 2 == 0 { "b" } else { "a" };
    for round in 0..limit {
        let (reader, producer) = (format!("job7/s1/p0/a{round}"), format!("job7/s0/p1/a{round}"));
        script.cannot_fetch(&reader, "a", &producer, holder(round));
        let next = holder(round + 1);
        script.grant(0, next, 2);
        // All that the holder had may have been given up.
        let launched: Vec<AttemptKey> = script.said.iter().filter_map(launched_scan).collect();
        for attempt in launched {
            script.finish(&attempt.to_string(), next);
        }
        script.said.clear();
        script.grant(1, "a", 1);
    }
    script.cannot_fetch(&format!("job7/s1/p0/a{limit}"), "a", &format!("job7/s0/p1/a{limit}"), holder(limit));
    let said = script.said();
    assert!(said.contains("settled failed: block gone"), "{said}");
}

fn launched_scan(effect: &Effect) -> Option<AttemptKey> {
    match effect {
        Effect::Launch(launch) if launch.attempt.stage() == StageId(0) => Some(launch.attempt),
        _ => None,
    }
}

#[test]
fn what_an_executor_took_with_it_is_run_again_if_somebody_reads_it() {
    let mut script = second_stage_running();
    script.cluster(&["a"]);
    script.tell(Event::ExecutorGone { life: life("b"), reason: "host is down".into(), blocks_kept: false });
    // p1 of the scan for p1 of the result, which was running there; p0 of both is where it was.
    script.says("demand s0 1");
    script.grant(0, "a", 1);
    script.says("launch job7/s0/p1/a1 on a under lease5");
    script.finish("job7/s1/p0/a0", "a");
    script.says("release 1 of lease3");
    script.finish("job7/s0/p1/a1", "a");
    script.says(
        "release 1 of lease5
         demand s1 1",
    );
}

#[test]
fn what_nobody_reads_any_more_is_not_run_again() {
    let mut script = delivering();
    script.tell(Event::ResultTaskRead { producer: attempt("job7/s1/p0/a0") });
    script.said();
    script.tell(Event::ExecutorGone { life: life("a"), reason: "host is down".into(), blocks_kept: false });
    script.says("");
}

#[test]
fn a_result_that_was_lost_before_it_was_read_is_made_again_with_all_it_needs() {
    let mut script = delivering();
    script.tell(Event::ExecutorGone { life: life("b"), reason: "host is down".into(), blocks_kept: false });
    // The scan was freed when its readers had finished.
    script.says("demand s0 2");
    script.grant(0, "a", 2);
    script.finish("job7/s0/p0/a1", "a");
    script.finish("job7/s0/p1/a1", "a");
    script.said();
    script.grant(1, "a", 1);
    script.says("launch job7/s1/p1/a1 on a under lease6 reads job7/s0/p0/a1 job7/s0/p1/a1");
    script.finish("job7/s1/p1/a1", "a");
    script.says(
        "free s0 on a
         release 1 of lease6
         result job7/s1/p0/a0 job7/s1/p1/a1",
    );
}

#[test]
fn a_result_that_is_partly_read_cannot_be_made_again() {
    let mut script = delivering();
    script.tell(Event::ResultBegun { producer: attempt("job7/s1/p0/a0") });
    let producer = "job7/s1/p0/a0".parse().unwrap();
    script.tell(Event::ResultFetchFailed { producer, error: UserError::new("block gone") });
    script.says(
        "settled failed: block gone
         close failed: block gone with 40 rows, forget it on a,b",
    );
}

#[test]
fn a_broken_connection_loses_what_was_there_and_shuns_the_executor() {
    let mut script = second_stage_running();
    script.tell(Event::LinkLost { life: life("b"), reason: "connection reset".into(), blocks_kept: false });
    script.says(
        "release 1 of lease4
         demand s0 1",
    );
    script.grant(0, "b", 1);
    script.finish("job7/s0/p1/a1", "b");
    script.says(
        "launch job7/s0/p1/a1 on b under lease5
         release 1 of lease5
         demand s1 1 but b",
    );
}

#[test]
fn a_task_that_takes_its_executors_down_fails_the_job() {
    let mut script = Script::new(vec![stage(0, 1, &[], OutputKind::Result)], &["a", "b"]);
    for _ in 0..Policy::default().losses_per_task_max {
        script.grant(0, "a", 1);
        script.grant(0, "b", 1);
        script.tell(Event::LinkLost { life: life("a"), reason: "killed".into(), blocks_kept: false });
        script.tell(Event::LinkLost { life: life("b"), reason: "killed".into(), blocks_kept: false });
    }
    let said = script.said();
    assert!(said.contains("settled failed: job7/s0/p0/a7 was lost with"), "{said}");
}

#[test]
fn stale_reports_change_nothing() {
    let mut script = second_stage_running();
    script.finish("job7/s0/p0/a0", "a"); // again
    script.says("");
    script.finish("job7/s1/p0/a0", "b"); // not where it runs
    script.says("free job7/s1/p0/a0 on b");
    script.finish("job7/s1/p0/a3", "a"); // never launched
    script.says("free job7/s1/p0/a3 on a");
    script.finish("job8/s1/p0/a0", "a"); // not ours
    script.fail("job7/s1/p9/a0", "a", failure(Class::User, "no such task"));
    script.fail("job7/s0/p0/a0", "a", failure(Class::User, "ended already"));
    script.says("");
}

#[test]
fn revoked_slots_go_back_when_their_attempts_end() {
    let mut script = Script::new(vec![stage(0, 4, &[], OutputKind::Result)], &["a"]);
    let lease = script.grant(0, "a", 2);
    script.tell(Event::Revoked { lease, tasks: 1 });
    script.said();
    script.finish("job7/s0/p0/a0", "a");
    script.says("release 1 of lease1");
    script.finish("job7/s0/p1/a0", "a");
    script.says(
        "launch job7/s0/p2/a0 on a under lease1
         demand s0 1",
    );
}

#[test]
fn cancelling_stops_attempts_and_waits_for_them_but_not_for_ever() {
    let mut script = second_stage_running();
    script.tell(Event::Cancel { reason: "Ctrl-C".into() });
    script.says(
        "settled cancelled: Ctrl-C
         cancel job7/s1/p0/a0 on a
         cancel job7/s1/p1/a0 on b",
    );
    script.fail("job7/s1/p0/a0", "a", failure(Class::Cancelled, "cancelled"));
    script.says("release 1 of lease3");
    let deadline = script.machine.next_deadline().unwrap();
    assert_eq!(deadline, script.now + Policy::default().ending_wait_max);
    script.now = deadline;
    script.tell(Event::Tick);
    script.says(
        "release 1 of lease4
         close cancelled: Ctrl-C with 0 rows, forget it on a,b",
    );
    script.grant(1, "a", 2);
    script.says("release 2 of lease5");
}

#[test]
fn a_refused_demand_fails_the_job_unless_executors_were_left_out() {
    let mut script = second_stage_running();
    script.fail("job7/s1/p0/a0", "a", failure(Class::Transient, "x"));
    script.said();
    script.tell(Event::DemandRefused { stage: StageId(1), reason: "all excluded".into() });
    script.says("demand s1 1");
    script.tell(Event::DemandRefused { stage: StageId(1), reason: "too large".into() });
    let said = script.said();
    assert!(
        said.starts_with("settled failed: no executor of the cluster can run a task of job7/s1"),
        "{said}"
    );
}

#[test]
fn a_cluster_without_executors_is_waited_for_and_then_given_up() {
    let mut script = Script::new(two_stages(), &[]);
    script.says("demand s0 2");
    script.now = script.machine.next_deadline().unwrap() + Duration::from_millis(0);
    script.tell(Event::Tick);
    script.says(
        "settled failed: job7 cannot go on: the cluster has no executor
         demand s0 0
         close failed: job7 cannot go on: the cluster has no executor with 0 rows, forget it on",
    );
}

#[test]
fn waiting_for_slots_is_no_failure_but_shows() {
    let mut script = Script::new(two_stages(), &["a"]);
    script.now = Timestamp(90_000);
    script.tell(Event::Tick);
    let snapshot = script.machine.snapshot();
    assert_eq!(snapshot.phase, JobPhase::Running);
    assert_eq!(snapshot.waiting_for_slots_since, Some(Timestamp(0)));
    assert_eq!(snapshot.stages[0].waiting, 2);
    script.grant(0, "a", 1);
    assert_eq!(script.machine.snapshot().waiting_for_slots_since, None);
}

#[test]
fn progress_counts_what_runs_and_what_is_done() {
    let mut script = second_stage_running();
    let attempt = "job7/s1/p0/a0".parse().unwrap();
    script.tell(Event::AttemptStarted { attempt, life: life("a") });
    script.tell(Event::AttemptProgress { attempt, life: life("a"), rows: 5, bytes: 50 });
    script.finish("job7/s1/p1/a0", "b");
    let stages = script.machine.snapshot().stages;
    assert_eq!((stages[0].done, stages[0].running, stages[0].rows), (2, 0, 40));
    assert_eq!((stages[1].done, stages[1].running, stages[1].rows, stages[1].bytes), (1, 1, 25, 250));
}

#[test]
fn attempts_outlive_an_absence_of_the_manager() {
    let mut script = second_stage_running();
    script.tell(Event::ManagerBack { leases: BTreeSet::new() });
    script.says("");
    script.fail("job7/s1/p0/a0", "a", failure(Class::Transient, "x"));
    script.says("demand s1 1 but a");
    script.finish("job7/s1/p1/a0", "b");
    // Its slot was lent by the session that ended.
    script.says("");
}

#[test]
fn leases_that_outlive_an_absence_of_the_manager_are_used_and_given_back() {
    let mut script = second_stage_running();
    let held = script.machine.held();
    let told: Vec<_> = held.iter().map(|held| (held.stage, held.life.to_string(), held.tasks)).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    let (kept, lost) = (held[0].lease, held[1].lease);
    script.tell(Event::Revoked { lease: kept, tasks: 1 });
    script.tell(Event::ManagerBack { leases: BTreeSet::from([kept]) });
    script.says("");
    assert_eq!(script.machine.held().iter().map(|held| held.lease).collect::<Vec<_>>(), [kept]);
    // It is asked back no more, so the task that failed beside it runs there next.
    script.fail("job7/s1/p1/a0", "b", failure(Class::Transient, "x"));
    script.says("demand s1 1 but b");
    script.finish("job7/s1/p0/a0", "a");
    let said = script.said();
    assert!(said.contains("launch job7/s1/p1/a1") && !said.contains(&format!("{lost}")), "{said}");
}

#[test]
fn readers_of_rows_that_are_divided_anew_start_over() {
    for divided in [OutputKind::RoundRobin, OutputKind::SampledRange] {
        let stages = vec![
            stage(0, 1, &[], divided),
            stage(1, 2, &[0], OutputKind::Hash),
            stage(2, 1, &[1], OutputKind::Result),
        ];
        let mut script = Script::new(stages, &["a", "b"]);
        script.grant(0, "a", 1);
        script.finish("job7/s0/p0/a0", "a");
        script.grant(1, "b", 2);
        script.finish("job7/s1/p0/a0", "b");
        script.said();
        script.cannot_fetch("job7/s1/p1/a0", "b", "job7/s0/p0/a0", "a");
        // p0 was made from rows that p1 may get the second time.
        script.says(
            "free job7/s0/p0/a0 on a
             free job7/s1/p0/a0 on b
             release 1 of lease2
             demand s0 1 but a",
        );
    }
}

#[test]
fn ranges_of_a_sort_are_made_anew_together_and_never_beside_rows_that_were_handed_out() {
    let stages = || vec![stage(0, 2, &[], OutputKind::SampledRange), stage(1, 2, &[0], OutputKind::Result)];
    let begun = || {
        let mut script = Script::new(stages(), &["a", "b"]);
        script.grant(0, "a", 1);
        script.grant(0, "b", 1);
        script.finish("job7/s0/p0/a0", "a");
        script.finish("job7/s0/p1/a0", "b");
        script.grant(1, "a", 1);
        script.grant(1, "b", 1);
        script.finish("job7/s1/p0/a0", "a");
        script
    };
    let mut script = begun();
    script.said();
    // One lane is sorted again: the range that was merged from its first run is merged again as well.
    script.cannot_fetch("job7/s1/p1/a0", "b", "job7/s0/p1/a0", "b");
    let said = script.said();
    assert!(said.contains("free job7/s1/p0/a0 on a"), "{said}");
    assert!(said.contains("demand s0 1"), "{said}");

    let mut script = begun();
    script.finish("job7/s1/p1/a0", "b");
    script.tell(Event::ResultBegun { producer: attempt("job7/s1/p0/a0") });
    script.tell(Event::ResultTaskRead { producer: attempt("job7/s1/p0/a0") });
    script.said();
    let producer = "job7/s1/p1/a0".parse().unwrap();
    script.tell(Event::ResultFetchFailed { producer, error: UserError::new("gone") });
    let said = script.said();
    assert!(said.contains("settled failed"), "{said}");
}

#[test]
fn what_was_read_before_the_word_came_that_it_is_made_anew_is_not_mixed_with_it() {
    let stages = || {
        let spread = stage(0, 1, &[], OutputKind::RoundRobin);
        vec![spread, stage(1, 2, &[0], OutputKind::Result)]
    };
    let rolled_back = || {
        let mut script = Script::new(stages(), &["a", "b"]);
        script.grant(0, "b", 1);
        script.finish("job7/s0/p0/a0", "b");
        script.grant(1, "a", 1);
        script.grant(1, "b", 1);
        script.finish("job7/s1/p0/a0", "a");
        script.finish("job7/s1/p1/a0", "b");
        script.tell(Event::ExecutorGone { life: life("b"), reason: "killed".into(), blocks_kept: false });
        let said = script.said();
        assert!(said.contains("free job7/s1/p0/a0 on a"), "{said}");
        script
    };
    // The reader had the rows of the first task already.
    for event in [
        Event::ResultBegun { producer: attempt("job7/s1/p0/a0") },
        Event::ResultTaskRead { producer: attempt("job7/s1/p0/a0") },
    ] {
        let mut script = rolled_back();
        script.tell(event);
        let said = script.said();
        assert!(said.contains("settled failed: what job7/s1/p0 has read is run again"), "{said}");
    }
    // What it has read a part of is lost too.
    let mut script = Script::new(stages(), &["a", "b"]);
    script.grant(0, "b", 1);
    script.finish("job7/s0/p0/a0", "b");
    script.grant(1, "b", 2);
    script.finish("job7/s1/p0/a0", "b");
    script.finish("job7/s1/p1/a0", "b");
    script.tell(Event::ResultBegun { producer: attempt("job7/s1/p0/a0") });
    script.tell(Event::ExecutorGone { life: life("b"), reason: "killed".into(), blocks_kept: false });
    assert!(script.said().contains("settled failed: what job7/s1/p0 has read is run again"));
    // It had not, and reads what is made anew.
    let mut script = rolled_back();
    script.grant(0, "a", 1);
    script.finish("job7/s0/p0/a1", "a");
    script.grant(1, "a", 2);
    script.finish("job7/s1/p0/a1", "a");
    script.finish("job7/s1/p1/a1", "a");
    script.tell(Event::ResultBegun { producer: attempt("job7/s1/p0/a1") });
    script.tell(Event::ResultTaskRead { producer: attempt("job7/s1/p0/a1") });
    assert!(!script.said().contains("settled"));
}

#[test]
fn an_empty_result_is_a_result() {
    let mut script = Script::new(vec![stage(0, 0, &[], OutputKind::Result)], &["a"]);
    script.says("result");
    script.tell(Event::ResultRead);
    script.says(
        "settled succeeded
         close succeeded with 0 rows, forget it on",
    );
}

#[test]
fn what_a_dead_executor_wrote_is_read_from_where_it_is_kept_and_not_run_again() {
    let mut script = second_stage_running();
    // The connection breaks before the manager tells why.
    script.tell(Event::LinkLost { life: life("b"), reason: "connection reset".into(), blocks_kept: true });
    script.says(
        "release 1 of lease4
         demand s1 1 but b",
    );
    script.tell(Event::ExecutorGone { life: life("b"), reason: "killed".into(), blocks_kept: true });
    script.says("");
    script.grant(1, "a", 1);
    script.says("launch job7/s1/p1/a1 on a under lease5 reads job7/s0/p0/a0 job7/s0/p1/a0");
}

#[test]
fn when_one_block_is_not_kept_none_of_that_executor_is() {
    let three = vec![stage(0, 3, &[], OutputKind::Hash), stage(1, 1, &[0], OutputKind::Result)];
    let mut script = Script::new(three, &["a", "b"]);
    script.grant(0, "a", 1);
    script.grant(0, "b", 2);
    for (task, on) in [(0, "a"), (1, "b"), (2, "b")] {
        script.finish(&format!("job7/s0/p{task}/a0"), on);
    }
    script.grant(1, "a", 1);
    script.said();
    script.tell(Event::ExecutorGone { life: life("b"), reason: "killed".into(), blocks_kept: true });
    script.cannot_fetch("job7/s1/p0/a0", "a", "job7/s0/p1/a0", "b");
    let said = script.said();
    assert!(said.contains("demand s0 2"), "{said}");
}
