//! Drivers, their jobs and their leases.

use super::*;
use crate::Limits;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_driver_is_welcomed_with_the_cluster_and_gets_what_it_demands() {
    let mut world = World::new();
    world.worker("a", &[2, 2]);
    let d = world.next_session();
    assert_eq!(world.driver_says(d, hello()), ["d2 welcome [a/e0x2 a/e1x2]"]);
    assert_eq!(world.driver_says(d, DriverEvent::OpenJob(open_job())), ["d2 opened job1"]);
    assert_eq!(world.state(JobId(1)), JobState::Queued);
    assert_eq!(
        world.demand(d, JobId(1), 3),
        ["d2 grant lease1 job1/s0 a/e0 x2", "d2 grant lease2 job1/s0 a/e1 x1"]
    );
    assert_eq!(world.state(JobId(1)), JobState::Running);
    let told =
        world.driver_says(d, DriverEvent::CloseJob { job: JobId(1), ending: Ending::Succeeded { rows: 3 } });
    assert_eq!(told, ["job1 ended"]);
    assert_eq!((world.state(JobId(1)), world.held(JobId(1))), (JobState::Succeeded, 0));
}

#[test]
fn the_latest_demand_of_a_stage_replaces_the_one_before() {
    let mut world = World::new();
    let (d, job) = world.job();
    world.demand(d, job, 100);
    world.demand(d, job, 3);
    let a = world.next_session();
    world.worker_says(a, WorkerEvent::Register(registration("a", "first", &[8])));
    let told = world.worker_says(a, WorkerEvent::ExecutorUp(up("a", 0, 1)));
    assert_eq!(told[2..], ["d1 grant lease1 job1/s0 a/e0 x3"]);
    world.demand(d, job, 9);
    world.demand(d, job, 0);
    assert_eq!(
        world.driver_says(d, DriverEvent::Release { lease: LeaseId(1), tasks: 3 }),
        [""; 0],
        "it is withdrawn"
    );
}

#[test]
fn released_slots_go_to_whoever_waits() {
    let mut world = World::new();
    world.worker("a", &[4]);
    let (d, job) = world.job();
    world.demand(d, job, 6);
    assert_eq!(world.held(job), 4);
    let release = |lease, tasks| DriverEvent::Release { lease: LeaseId(lease), tasks };
    assert_eq!(world.driver_says(d, release(1, 1)), ["d2 grant lease2 job1/s0 a/e0 x1"]);
    assert_eq!(
        world.driver_says(d, release(1, 99)),
        ["d2 grant lease3 job1/s0 a/e0 x1"],
        "no more than it had"
    );
    assert_eq!(world.held(job), 2);
    assert_eq!(world.driver_says(d, release(1, 1)), [""; 0], "that lease has ended");
    assert_eq!(world.driver_says(d, release(77, 1)), [""; 0]);
    assert_eq!(world.held(job), 2);
}

#[test]
fn a_driver_cannot_touch_what_is_anothers() {
    let mut world = World::new();
    world.worker("a", &[4]);
    let (d, job) = world.job();
    world.demand(d, job, 2);
    let other = world.driver();
    world.driver_says(other, DriverEvent::Release { lease: LeaseId(1), tasks: 2 });
    world.driver_says(other, DriverEvent::CloseJob { job, ending: failed("no") });
    assert_eq!(world.demand(other, job, 2), [""; 0]);
    assert_eq!((world.state(job), world.held(job)), (JobState::Running, 2));
}

#[test]
fn a_driver_whose_stream_ends_and_that_does_not_come_back_takes_its_leases_and_jobs_with_it() {
    let mut world = World::new();
    let a = world.worker("a", &[4]);
    let (d, job) = world.job();
    world.demand(d, job, 4);
    let (waiting, next) = world.job();
    world.demand(waiting, next, 4);
    assert_eq!(world.driver_says(d, DriverEvent::StreamLost), ["end 2: its connection ended"]);
    assert_eq!((world.state(job), world.held(job)), (JobState::Running, 4));
    world.pass(4 * SECOND);
    world.worker_says(a, WorkerEvent::Heartbeat(Vec::new()));
    assert_eq!(world.pass(SECOND), ["job1 ended", "d3 grant lease2 job2/s0 a/e0 x4"]);
    assert_eq!(world.failure(job), "the driver went away detail: its connection ended");
    assert_eq!(world.driver_says(d, DriverEvent::StreamLost), [""; 0]);
}

#[test]
fn heartbeats_renew_leases_and_silence_ends_them() {
    let mut world = World::new();
    let a = world.worker("a", &[4]);
    let (d, job) = world.job();
    world.demand(d, job, 4);
    for _ in 0..10 {
        world.pass(5 * SECOND);
        world.worker_says(a, WorkerEvent::Heartbeat(Vec::new()));
        world.driver_says(d, DriverEvent::Heartbeat(Vec::new()));
    }
    assert_eq!(world.held(job), 4);
    for _ in 0..2 {
        world.pass(5 * SECOND);
        world.worker_says(a, WorkerEvent::Heartbeat(Vec::new()));
    }
    assert_eq!(world.held(job), 4);
    assert_eq!(world.pass(5 * SECOND), ["end 2: nothing was heard of it for 15.0s", "job1 ended"]);
    assert_eq!(world.held(job), 0);
    assert_eq!(world.demand(d, job, 4), [""; 0], "what still comes is stale");
}

/// After it the first tick comes before anything that was said meanwhile.
#[test]
fn nobody_is_given_up_because_the_manager_stood_still() {
    let mut world = World::new();
    let a = world.worker("a", &[4]);
    let (d, job) = world.job();
    world.demand(d, job, 4);
    world.pass(SECOND);
    world.now = world.now + 60 * SECOND;
    world.step(Event::Absence(60 * SECOND));
    assert_eq!(world.step(Event::Tick), [""; 0]);
    assert_eq!((world.state(job), world.held(job)), (JobState::Running, 4));
    // Who says nothing from then on is given up as always.
    world.worker_says(a, WorkerEvent::Heartbeat(Vec::new()));
    assert_eq!(world.pass(14 * SECOND), ["end 2: nothing was heard of it for 15.0s", "job1 ended"]);
}

#[test]
fn progress_is_kept_for_showing() {
    let mut world = World::new();
    let (d, job) = world.job();
    let stage = StageProgress { stage: StageId(1), tasks: 4, done: 3, ..StageProgress::default() };
    world.driver_says(d, DriverEvent::Heartbeat(vec![(job, vec![stage]), (JobId(99), vec![stage])]));
    assert_eq!(world.machine.job(job).unwrap().stages, [stage]);
}

#[test]
fn a_cancelled_job_is_its_drivers_to_end() {
    let mut world = World::new();
    world.worker("a", &[4]);
    let (d, job) = world.job();
    world.demand(d, job, 9);
    assert_eq!(world.cancel(job), ["d2 cancel job1: cancelled on request", "answer job1"]);
    assert_eq!(world.cancel(job), ["answer job1"], "once is enough");
    assert_eq!((world.state(job), world.held(job)), (JobState::Running, 4));
    assert_eq!(
        world.driver_says(d, DriverEvent::Release { lease: LeaseId(1), tasks: 1 }),
        [""; 0],
        "it gets no more"
    );
    world.driver_says(d, DriverEvent::CloseJob { job, ending: failed("an attempt was stopped") });
    assert_eq!((world.state(job), world.held(job)), (JobState::Cancelled, 0));
    assert_eq!(world.cancel(job), ["answer job1"]);
}

#[test]
fn a_cancelled_job_whose_driver_does_not_care_ends_all_the_same() {
    let mut world = World::new();
    let a = world.worker("a", &[4]);
    let (d, job) = world.job();
    world.demand(d, job, 4);
    world.cancel(job);
    for _ in 0..2 {
        world.pass(7 * SECOND);
        world.worker_says(a, WorkerEvent::Heartbeat(Vec::new()));
        world.driver_says(d, DriverEvent::Heartbeat(Vec::new()));
    }
    assert_eq!(world.pass(SECOND), ["job1 ended"]);
    assert_eq!((world.state(job), world.held(job)), (JobState::Cancelled, 0));
}

#[test]
fn an_unknown_job_cannot_be_cancelled() {
    let mut world = World::new();
    assert_eq!(
        world.cancel(JobId(7)),
        ["answer: there is no job7, or it ended too long ago to be remembered"]
    );
}

#[test]
fn without_any_executor_a_demand_waits_and_says_so() {
    let mut world = World::new();
    let (d, job) = world.job();
    assert_eq!(world.demand(d, job, 4), [""; 0]);
    let waiting = |world: &World| world.machine.waiting_for(world.machine.job(job).unwrap());
    assert_eq!(waiting(&world).unwrap(), "slots for 4 tasks: no executor is up");
    world.worker("a", &[3]);
    assert_eq!(waiting(&world).unwrap(), "slots for 1 tasks: 3 of the cluster's 3 cores are in use");
}

#[test]
fn what_no_executor_can_ever_hold_is_refused_with_the_reason() {
    let mut world = World::new();
    world.worker("a", &[4]);
    world.worker("b", &[2, 8]);
    let (d, job) = world.job();
    let mut refuse = |wanted: Demand| world.driver_says(d, DriverEvent::Demand(wanted));
    assert_eq!(
        refuse(Demand { cores_per_task: 9, ..demand(job) }),
        [
            "d3 refused job1/s0: a task takes 9 cores and 0B of memory, but no executor has both: the largest ones have 8 cores, 8GiB"
        ]
    );
    assert_eq!(
        refuse(Demand { memory_per_task: 9 * GIB, ..demand(job) }),
        [
            "d3 refused job1/s0: a task takes 1 cores and 9GiB of memory, but no executor has both: the largest ones have 8 cores, 8GiB"
        ]
    );
    assert_eq!(
        refuse(Demand { cores_per_task: 5, excluded: vec![executor("b/e1")], ..demand(job) }),
        [
            "d3 refused job1/s0: every executor that could hold a task of 5 cores and 0B of memory is excluded for this stage"
        ]
    );
    assert_eq!(
        refuse(Demand { cores_per_task: 4, tasks: 4, gang: true, ..demand(job) }),
        [
            "d3 refused job1/s0: 4 tasks of 4 cores and 0B of memory each must run at once, but the cluster has room for 3"
        ]
    );
    assert_eq!(refuse(Demand { cores_per_task: 8, ..demand(job) }), ["d3 grant lease1 job1/s0 b/e1 x1"]);
}

#[test]
fn a_demand_is_judged_by_executors_that_are_restarting_too() {
    let mut world = World::new();
    world.worker("a", &[1]);
    let b = world.worker("b", &[8]);
    let (d, job) = world.job();
    let reason = "it was killed".to_owned();
    world.worker_says(b, WorkerEvent::ExecutorDown { index: 0, epoch: Epoch(102), reason });
    assert_eq!(
        world.driver_says(d, DriverEvent::Demand(Demand { cores_per_task: 8, ..demand(job) })),
        [""; 0]
    );
    let told = world.worker_says(b, WorkerEvent::ExecutorUp(up("b", 0, 2)));
    assert_eq!(told[2..], ["d3 grant lease1 job1/s0 b/e0 x1"]);
}

#[test]
fn drivers_and_jobs_are_bounded() {
    let limits = Limits {
        drivers: 1,
        live_jobs: 1,
        ended_jobs: 2,
        stages_per_job: 1,
        sql_bytes: 100,
        ended_text_bytes: 4,
        ..Limits::default()
    };
    let mut world = World::with(ManagerConfig { limits, ..ManagerConfig::default() });
    let d = world.driver();
    let other = world.next_session();
    assert_eq!(
        world.driver_says(other, hello()),
        ["refuse 2: the manager takes no more than 1 connected drivers"]
    );
    let job = world.open(d, 1);
    world.demand(d, job, 1);
    let second = Demand { stage: StageId(1), ..demand(job) };
    assert_eq!(
        world.driver_says(d, DriverEvent::Demand(second)),
        ["d1 refused job1/s1: the manager takes no more than 1 stages of a job with a demand"]
    );
    for _ in 0..3 {
        let job = JobId(world.machine.jobs.iter_live().next().unwrap().id.0);
        world.driver_says(d, DriverEvent::CloseJob { job, ending: Ending::Succeeded { rows: 0 } });
        world.open(d, 1);
    }
    let ended: Vec<u64> = world.machine.jobs.iter_ended().map(|job| job.id.0).collect();
    assert_eq!(ended, [2, 3], "the first to end is forgotten");
    assert_eq!(&*world.machine.job(JobId(3)).unwrap().sql, "sele…");
    assert_eq!(
        world.driver_says(d, DriverEvent::OpenJob(open_job())),
        [
            "d1 opened job5",
            "job5 ended",
            "d1 cancel job5: the manager takes no more than 1 jobs at a time\n  hint: wait until some have ended \
             (`firesteel jobs` lists them), or raise manager.jobs on the manager"
        ]
    );
}

#[test]
fn a_text_that_is_too_long_is_not_taken() {
    let limits = Limits { sql_bytes: 10, ..Limits::default() };
    let mut world = World::with(ManagerConfig { limits, ..ManagerConfig::default() });
    let d = world.driver();
    let sql = "select 12345".to_owned();
    let told = world.driver_says(d, DriverEvent::OpenJob(OpenJob { sql, ..open_job() }));
    let refused =
        ["d1 opened job1", "job1 ended", "d1 cancel job1: the job's SQL text is longer than 10 bytes"];
    assert_eq!(told, refused);
    assert_eq!(world.failure(JobId(1)), "the job's SQL text is longer than 10 bytes");
}

#[test]
fn a_driver_greets_once() {
    let mut world = World::new();
    let (d, job) = world.job();
    assert_eq!(world.driver_says(d, hello()), ["end 1: a driver greets once in a session", "job1 ended"]);
    assert_eq!(world.state(job), JobState::Failed);
}
