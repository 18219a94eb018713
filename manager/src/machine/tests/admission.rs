//! Which jobs are taken, which wait for a place for their driver, and what they are told.

use super::*;
use crate::Limits;

fn with(limits: Limits) -> World {
    World::with(ManagerConfig { limits, ..ManagerConfig::default() })
}

/// A worker with so many places for drivers.
fn worker(world: &mut World, name: &str, driver_places: usize) -> SessionId {
    let session = world.next_session();
    world.worker_as(session, Registration { driver_places, ..registration(name, "first", &[2]) });
    session
}

fn of_queue(name: &str, queue: &str) -> Submission {
    Submission { queue: queue.to_owned(), ..submission(name) }
}

const FULL: &str = "wait until some have ended (`firesteel jobs` lists them), or raise";

#[test]
fn jobs_wait_for_a_place_in_order_and_say_how_many_come_first() {
    let mut world = World::new();
    worker(&mut world, "a", 1);
    worker(&mut world, "b", 1);
    let jobs: Vec<JobId> = (0..5).map(|at| world.submit(&format!("j{at}")).0).collect();
    let waiting = "one of 2 places for drivers, all of which are taken:";
    assert_eq!(world.waiting_for(jobs[2]), format!("{waiting} it is the next"));
    assert_eq!(world.waiting_for(jobs[3]), format!("{waiting} 1 job comes first"));
    assert_eq!(world.waiting_for(jobs[4]), format!("{waiting} 2 jobs come first"));
    let told = world.cancel(jobs[0]);
    assert_eq!(told, ["w1 stop job1", "job1 ended", "answer job1", "w1 launch job3"]);
    assert_eq!(world.waiting_for(jobs[4]), format!("{waiting} 1 job comes first"));
    world.cancel(jobs[3]);
    assert_eq!(world.waiting_for(jobs[4]), format!("{waiting} it is the next"));
}

#[test]
fn places_are_shared_fairly_between_queues() {
    let mut world = World::new();
    worker(&mut world, "a", 2);
    for at in 0..4 {
        world.submit_it(of_queue(&format!("etl{at}"), "etl"));
    }
    // Two of etl run, and two wait; the jobs of other queues come before these.
    world.submit_it(of_queue("a0", "adhoc"));
    world.submit_it(of_queue("a1", "adhoc"));
    let before: Vec<usize> = (3..=6).map(|job| world.machine.jobs_before()[&JobId(job)]).collect();
    assert_eq!(before, [2, 3, 0, 1]);
    assert_eq!(world.cancel(JobId(1))[3..], ["w1 launch job5"]);
    // Each queue has one place: the oldest job is next.
    assert_eq!(world.cancel(JobId(5))[3..], ["w1 launch job6"]);
    assert_eq!(world.cancel(JobId(2))[3..], ["w1 launch job3"]);
}

#[test]
fn a_place_is_free_again_when_its_job_ends_or_its_worker_is_lost() {
    let mut world = World::new();
    let a = worker(&mut world, "a", 1);
    let (first, _) = world.submit("first");
    let (second, told) = world.submit("second");
    assert_eq!(told, ["answer job2"]);
    world.worker_says(a, WorkerEvent::Leaving { reason: "it stops".to_owned() });
    assert_eq!(world.state(first), JobState::Queued, "it is launched once more");
    assert_eq!(world.waiting_for(second), "a worker to run its driver: none is registered");
    let b = world.next_session();
    let told = world.worker_says(
        b,
        WorkerEvent::Register(Registration { driver_places: 1, ..registration("b", "first", &[2]) }),
    );
    assert_eq!(told, ["w2 registered", "w2 launch job1 for the 2. time"]);
    let waiting = "the one place for a driver, which is taken: it is the next";
    assert_eq!(world.waiting_for(second), waiting);
}

#[test]
fn a_job_that_no_worker_would_run_is_refused_and_waits_when_there_is_none() {
    let mut world = World::new();
    let (early, told) = world.submit("early");
    assert_eq!(told, ["answer job1"]);
    worker(&mut world, "a", 0);
    assert_eq!(world.waiting_for(early), "a worker to run its driver: none of those that are there runs any");
    let told = world.submit_it(submission("late"));
    assert_eq!(told, ["answer: no worker of this cluster runs drivers of submitted jobs"]);
    let hint = Refusal::NoDrivers.hint().unwrap();
    assert_eq!(hint, "run the driver here with --deploy-mode client, or raise worker.drivers");
    worker(&mut world, "b", 1);
    assert_eq!(world.state(early), JobState::Queued);
    assert_eq!(world.waiting_for(early), "its driver to start on worker 'b'");
    assert_eq!(world.submit_it(submission("later")), ["answer job2"]);
}

#[test]
fn jobs_that_wait_are_bounded_and_those_that_run_do_not_count() {
    let mut world = with(Limits { queued_jobs: 2, ..Limits::default() });
    worker(&mut world, "a", 1);
    for job in 1..=3 {
        assert_eq!(world.submit("job").1[0], format!("answer job{job}"));
    }
    let told = world.submit_it(submission("one more"));
    assert_eq!(told, ["answer: the manager takes no more than 2 jobs that wait for a driver"]);
    let refusal = world.machine.refusal_to_submit(&submission("one more")).unwrap();
    assert_eq!(refusal.hint().unwrap(), format!("{FULL} manager.queued_jobs on the manager"));
    world.cancel(JobId(1));
    assert_eq!(world.submit("now").1, ["answer job4"]);
}

#[test]
fn submissions_are_bounded_in_all_and_in_size() {
    let mut world = with(Limits { live_jobs: 1, ..Limits::default() });
    assert_eq!(world.submit("one").1, ["answer job1"]);
    let told = world.submit_it(submission("two"));
    assert_eq!(told, ["answer: the manager takes no more than 1 jobs at a time"]);

    let mut world = with(Limits { sql_bytes: 20, conf_bytes: 10, name_bytes: 8, ..Limits::default() });
    let told = world.submit_it(Submission { sql: "select 'long long long'".to_owned(), ..submission("s") });
    assert_eq!(told, ["answer: the job's SQL text is longer than 20 bytes"]);
    let conf = BTreeMap::from([("key".to_owned(), "value and more".to_owned())]);
    let told = world.submit_it(Submission { conf, ..submission("c") });
    assert_eq!(told, ["answer: the text of the job's settings is longer than 10 bytes"]);
    let told = world.submit_it(of_queue("q", "a queue with a long name"));
    assert_eq!(told, ["answer: the name of the job, its user or its queue is longer than 8 bytes"]);
}

#[test]
fn what_all_jobs_take_is_bounded_and_freed_when_they_end() {
    let mut world = with(Limits { live_bytes: 100, ..Limits::default() });
    let large = || Submission { sql: "x".repeat(60), ..submission("large") };
    assert_eq!(world.submit_it(large()), ["answer job1"]);
    let told = world.submit_it(large());
    let full =
        "answer: the manager takes no more than 100B of SQL texts and settings of jobs that have not ended";
    assert_eq!(told, [full]);
    world.cancel(JobId(1));
    assert_eq!(world.machine.jobs.live_bytes(), 0);
    assert_eq!(world.submit_it(large()), ["answer job2"]);
}

#[test]
fn jobs_of_clients_are_bounded_and_those_of_the_cluster_do_not_count() {
    let mut world = with(Limits { open_jobs: 1, ..Limits::default() });
    worker(&mut world, "a", 2);
    world.submit("submitted");
    let (d, first) = world.job();
    let told = world.driver_says(d, DriverEvent::OpenJob(open_job()));
    let refused = "the manager takes no more than 1 jobs at a time whose driver is in a client";
    let hint = format!("\n  hint: {FULL} manager.open_jobs on the manager");
    assert_eq!(told, ["d2 opened job3", "job3 ended", &format!("d2 cancel job3: {refused}{hint}")]);
    assert_eq!(world.state(first), JobState::Queued, "the other jobs of the driver go on");
    world.driver_says(d, DriverEvent::CloseJob { job: first, ending: Ending::Succeeded { rows: 1 } });
    world.open(d, 1);
}

#[test]
fn a_demand_that_no_executor_can_hold_is_refused_and_waits_when_there_is_none() {
    let mut world = World::new();
    let (d, job) = world.job();
    let wide = Demand { cores_per_task: 4, ..demand(job) };
    assert_eq!(world.driver_says(d, DriverEvent::Demand(wide.clone())), [""; 0]);
    assert_eq!(world.waiting_for(job), "slots for 1 tasks: no executor is up");
    // It could fit until a worker that is there shows that it cannot.
    let a = world.next_session();
    world.worker_as(a, registration("a", "first", &[4]));
    assert_eq!(world.held(job), 4);
    let heavy = Demand { stage: StageId(1), memory_per_task: 64 * GIB, ..demand(job) };
    let told = world.driver_says(d, DriverEvent::Demand(heavy));
    assert_eq!(
        told,
        [
            "d1 refused job1/s1: a task takes 1 cores and 64GiB of memory, but no executor has both: the largest ones \
          have 4 cores, 4GiB"
        ]
    );
}

#[test]
fn how_a_job_ended_is_remembered_in_brief() {
    let mut world = with(Limits { ended_text_bytes: 8, ..Limits::default() });
    let (d, job) = world.job();
    world.driver_says(d, DriverEvent::CloseJob { job, ending: failed("a very long story of a failure") });
    assert_eq!(world.failure(job), "a very l…");
}

#[test]
fn a_thousand_jobs_at_once_all_get_their_place_in_turn() {
    let mut world = World::new();
    for name in ["a", "b"] {
        worker(&mut world, name, 4);
    }
    let mut launched: Vec<u64> = Vec::new();
    let mut told: Vec<String> = (0..1000).flat_map(|_| world.submit("tiny").1).collect();
    assert_eq!(world.machine.jobs_before().len(), 1000 - 8);
    while let Some(line) = told.iter().find(|line| line.contains(" launch ")).cloned() {
        told.retain(|other| *other != line);
        let job: JobId = line.rsplit_once(' ').unwrap().1.parse().unwrap();
        launched.push(job.0);
        told.extend(world.cancel(job));
    }
    assert_eq!(launched, (1..=1000).collect::<Vec<_>>());
    assert_eq!(world.machine.jobs.live_count(), 0);
}

#[test]
fn what_is_heard_together_is_settled_once() {
    let mut world = World::new();
    world.worker("a", &[2]);
    let (d, job) = world.job();
    let mut effects = Vec::new();
    let submitted = Event::Client(Ticket(1), Rights::All, ClientRequest::Submit(submission("s")));
    let wanted = |tasks| Event::Driver(d, DriverEvent::Demand(Demand { tasks, ..demand(job) }));
    for event in [wanted(1), submitted, wanted(2)] {
        world.machine.hear(world.now, event, &mut effects);
    }
    world.machine.settle(world.now, &mut effects);
    world.machine.check();
    let told: Vec<String> = effects.iter().filter_map(tell).collect();
    assert_eq!(told, ["answer job2", "w1 launch job2", "d2 grant lease1 job1/s0 a/e0 x2"]);
}
