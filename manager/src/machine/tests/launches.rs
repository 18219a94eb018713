//! Cluster deploy mode.

use super::*;
use crate::Limits;

const SECOND: Duration = Duration::from_secs(1);

fn adopt(world: &mut World, job: JobId) -> (SessionId, Vec<String>) {
    let driver = world.driver();
    let open = OpenJob { submitted_job: Some(job), ..open_job() };
    (driver, world.driver_says(driver, DriverEvent::OpenJob(open)))
}

fn ended(job: JobId, succeeded: bool, reason: &str) -> WorkerEvent {
    WorkerEvent::DriverEnded { job, launch: None, succeeded, reason: reason.to_owned() }
}

#[test]
fn a_submitted_job_runs_on_the_worker_with_the_fewest_drivers() {
    let mut world = World::new();
    let a = world.worker("a", &[2]);
    world.worker("b", &[2]);
    let (first, told) = world.submit("first");
    assert_eq!(told, ["answer job1", "w1 launch job1"]);
    assert_eq!(world.submit("second").1, ["answer job2", "w2 launch job2"]);
    assert_eq!(world.submit("third").1, ["answer job3", "w1 launch job3"]);
    assert_eq!(world.state(first), JobState::Queued);

    let (d, told) = adopt(&mut world, first);
    assert_eq!(told, ["d3 opened job1"]);
    assert_eq!(world.demand(d, first, 1), ["d3 grant lease1 job1/s0 a/e0 x1"]);
    assert_eq!(world.state(first), JobState::Running);
    world.driver_says(d, DriverEvent::CloseJob { job: first, ending: Ending::Succeeded { rows: 1 } });
    assert_eq!(world.worker_says(a, ended(first, true, "")), [""; 0]);
    let job = world.machine.job(first).unwrap();
    assert_eq!(job.state(), JobState::Succeeded);
    assert_eq!(job.launch.as_ref().unwrap().result_address.as_deref(), Some("a:7410"));
    assert_eq!(job.driver_host, "laptop", "as its driver says");
}

#[test]
fn without_a_worker_it_stays_queued_and_says_why() {
    let mut world = World::new();
    let (job, told) = world.submit("early");
    assert_eq!(told, ["answer job1"]);
    let waiting = |world: &World| world.machine.waiting_for(world.machine.job(job).unwrap()).unwrap();
    assert_eq!(waiting(&world), "a worker to run its driver: none is registered");
    let a = world.next_session();
    assert_eq!(
        world.worker_says(a, WorkerEvent::Register(registration("a", "first", &[2]))),
        ["w1 registered", "w1 launch job1"]
    );
    assert_eq!(waiting(&world), "its driver to start on worker 'a'");
    world.worker_says(a, WorkerEvent::StreamLost);
    let (late, _) = world.submit("late");
    let reason = world.machine.waiting_for(world.machine.job(late).unwrap()).unwrap();
    assert_eq!(reason, "a worker to run its driver: none is alive");
}

#[test]
fn a_driver_that_ends_without_a_word_is_launched_once_more() {
    let mut world = World::new();
    let a = world.worker("a", &[2]);
    let (job, _) = world.submit("job");
    world.worker_says(a, ended(job, false, "exit code 101"));
    assert_eq!(world.state(job), JobState::Queued, "its last words may be on their way");
    assert_eq!(world.pass(2 * SECOND), ["w1 launch job1 for the 2. time"]);
    world.worker_says(a, ended(job, false, "exit code 101"));
    assert_eq!(world.pass(2 * SECOND), ["job1 ended"]);
    assert_eq!(world.failure(job), "the driver was lost 2 times detail: exit code 101");
}

#[test]
fn last_words_that_come_after_the_end_count() {
    let mut world = World::new();
    let a = world.worker("a", &[2]);
    let (job, _) = world.submit("job");
    world.worker_says(a, ended(job, false, "exit code 1"));
    let (d, _) = adopt(&mut world, job);
    world.driver_says(d, DriverEvent::CloseJob { job, ending: failed("table 'x' does not exist") });
    assert_eq!(world.failure(job), "table 'x' does not exist");
    assert_eq!(world.pass(2 * SECOND), [""; 0]);
}

#[test]
fn a_driver_process_that_ends_early_is_launched_once_more_when_its_stream_ends() {
    for stream_first in [false, true] {
        let mut world = World::new();
        let a = world.worker("a", &[2]);
        let (job, _) = world.submit("job");
        let (d, _) = adopt(&mut world, job);
        world.demand(d, job, 2);
        let told = if stream_first {
            world.driver_says(d, DriverEvent::StreamLost);
            assert_eq!((world.state(job), world.held(job)), (JobState::Running, 2), "its worker knows more");
            world.worker_says(a, ended(job, false, "killed by signal 9"))
        } else {
            world.worker_says(a, ended(job, false, "killed by signal 9"));
            assert_eq!(world.state(job), JobState::Running);
            world.driver_says(d, DriverEvent::StreamLost)
        };
        assert_eq!(told.last().unwrap(), "w1 launch job1 for the 2. time");
        assert_eq!(world.held(job), 0, "what the one before had is nobody's");
    }
}

#[test]
fn a_driver_that_loses_the_manager_for_good_fails_its_job() {
    let mut world = World::new();
    let a = world.worker("a", &[2]);
    let (job, _) = world.submit("job");
    let (d, _) = adopt(&mut world, job);
    world.driver_says(d, DriverEvent::StreamLost);
    for _ in 0..2 {
        world.pass(5 * SECOND);
        world.worker_says(a, WorkerEvent::Heartbeat(Vec::new()));
    }
    assert_eq!(world.pass(5 * SECOND), ["w1 stop job1", "job1 ended"]);
    assert_eq!(world.failure(job), "the driver went away detail: its connection ended");
}

#[test]
fn a_driver_lost_with_its_worker_is_launched_once_more() {
    let mut world = World::new();
    world.worker("a", &[2]);
    let (job, _) = world.submit("job");
    let (d, _) = adopt(&mut world, job);
    world.demand(d, job, 2);
    world.driver_says(d, DriverEvent::StreamLost);
    world.now = world.now + 10 * SECOND;
    let b = world.worker("b", &[2]);
    assert_eq!(
        world.pass(5 * SECOND),
        ["end 1: worker 'a' is lost: nothing was heard of it for 15.0s", "w3 launch job1 for the 2. time"]
    );
    let (again, told) = adopt(&mut world, job);
    assert_eq!(told, ["d4 opened job1"]);
    assert_eq!(world.demand(again, job, 1), ["d4 grant lease2 job1/s0 b/e0 x1"]);
    let told = world.worker_says(b, WorkerEvent::Leaving { reason: "bye".to_owned() });
    assert_eq!(
        told,
        [
            "d4 gone b/e0 e102: worker 'b' left: bye",
            "end 3: worker 'b' left: bye",
            "d4 cancel job1: worker 'b' left: bye",
            "job1 ended",
            "d4 cluster [-b/e0]",
        ]
    );
    assert_eq!(world.failure(job), "the driver was lost 2 times detail: worker 'b' left: bye");
}

/// The first one lives on behind a cut network, and so does the worker that runs it.
#[test]
fn what_an_earlier_launch_says_is_not_taken_for_the_later_ones() {
    let mut world = World::new();
    world.worker("a", &[2]);
    let (job, _) = world.submit("job");
    world.pass(15 * SECOND);
    let a = world.worker("a", &[2]);
    let open = |launch| DriverEvent::OpenJob(OpenJob { submitted_job: Some(job), launch, ..open_job() });
    let earlier = world.driver();
    let told = world.driver_says(earlier, open(Some(1)));
    assert!(
        told.contains(&format!(
            "d{} cancel job1: this driver was not launched for it, or its time to start is over",
            earlier.0
        )),
        "{told:?}"
    );
    let ended = |launch| WorkerEvent::DriverEnded { job, launch, succeeded: false, reason: "no".to_owned() };
    world.worker_says(a, ended(Some(1)));
    assert_eq!(world.state(job), JobState::Queued);
    world.pass(3 * SECOND);
    let later = world.driver();
    assert_eq!(world.driver_says(later, open(Some(2))), [format!("d{} opened job1", later.0)]);
    assert_eq!(world.machine.job(job).unwrap().driver(), Some(later));
}

/// Its connection broke, and with it the manager's word, or the manager died before it said it.
#[test]
fn a_worker_that_comes_back_is_told_to_launch_what_it_may_not_have_heard_of() {
    let mut world = World::new();
    let a = world.worker("a", &[2]);
    let (job, told) = world.submit("job");
    assert_eq!(told, ["answer job1", "w1 launch job1"]);
    world.worker_says(a, WorkerEvent::StreamLost);
    let again = world.next_session();
    let registered = WorkerEvent::Register(registration("a", "first", &[2]));
    let told = world.worker_says(again, registered.clone());
    assert!(told.contains(&format!("w{} launch job1", again.0)), "{told:?}");
    let (d, _) = adopt(&mut world, job);
    world.worker_says(again, WorkerEvent::StreamLost);
    let once_more = world.next_session();
    let told = world.worker_says(once_more, registered);
    assert!(!told.iter().any(|told| told.contains("launch")), "its driver has opened the job: {told:?}");
    assert_eq!(world.machine.job(job).unwrap().driver(), Some(d));
}

/// The word that it was opened was lost with the connection.
#[test]
fn a_driver_that_opens_its_job_a_second_time_has_it() {
    let mut world = World::new();
    world.worker("a", &[2]);
    let (job, _) = world.submit("job");
    let open = || DriverEvent::OpenJob(OpenJob { submitted_job: Some(job), launch: Some(1), ..open_job() });
    let (first, second) = (world.driver_called("one"), world.driver_called("one"));
    world.driver_says(first, open());
    world.driver_says(first, DriverEvent::StreamLost);
    assert_eq!(world.driver_says(second, open()), [format!("d{} opened job1", second.0)]);
    assert_eq!(world.machine.job(job).unwrap().driver(), Some(second));
}

/// It was given up with its worker, lives on, and comes back while another one is about to start.
#[test]
fn the_driver_of_an_earlier_launch_does_not_take_the_job_up_again() {
    let mut world = World::new();
    world.worker("a", &[2]);
    let (job, _) = world.submit("job");
    let earlier = world.driver_called("one");
    let open = |launch| OpenJob { submitted_job: Some(job), launch: Some(launch), ..open_job() };
    world.driver_says(earlier, DriverEvent::OpenJob(open(1)));
    world.driver_says(earlier, DriverEvent::StreamLost);
    world.now = world.now + 10 * SECOND;
    let b = world.worker("b", &[2]);
    assert!(world.pass(5 * SECOND).contains(&format!("w{} launch job1 for the 2. time", b.0)));
    let back = world.driver_called("one");
    for only_to_close in [false, true] {
        let resumes = Some(Resumed { job, leases: Vec::new(), gone: Vec::new(), only_to_close });
        world.driver_says(back, DriverEvent::OpenJob(OpenJob { resumes, ..open(1) }));
        assert_eq!(world.machine.job(job).unwrap().driver(), None, "{only_to_close}");
    }
    let ending = Ending::Succeeded { rows: 1 };
    world.driver_says(back, DriverEvent::CloseJob { job, ending });
    assert_eq!(world.state(job), JobState::Queued, "what it says counts no more");
    let later = world.driver_called("two");
    world.driver_says(later, DriverEvent::OpenJob(open(2)));
    assert_eq!(world.machine.job(job).unwrap().driver(), Some(later));
}

/// The driver of a launch that was given up has written a result all the same, or of a job that was cancelled meanwhile.
#[test]
fn a_result_that_nobody_will_ask_for_is_freed() {
    let mut world = World::new();
    world.worker("a", &[2]);
    let (job, _) = world.submit("job");
    world.now = world.now + 10 * SECOND;
    let b = world.worker("b", &[2]);
    world.pass(5 * SECOND);
    let a = world.next_session();
    world.worker_says(a, WorkerEvent::Register(registration("a", "first", &[2])));
    let told = world.worker_says(a, ended(job, true, ""));
    assert_eq!(told, [format!("w{} free result of job1", a.0)]);
    world.cancel(job);
    assert_eq!(world.worker_says(b, ended(job, true, "")), [format!("w{} free result of job1", b.0)]);
    assert_eq!(world.worker_says(b, ended(JobId(9), true, "")), [format!("w{} free result of job9", b.0)]);
}

#[test]
fn a_driver_that_does_not_start_in_time_fails_its_job() {
    let mut world = World::new();
    let a = world.worker("a", &[2]);
    let (job, _) = world.submit("job");
    for _ in 0..11 {
        world.pass(5 * SECOND);
        world.worker_says(a, WorkerEvent::Heartbeat(Vec::new()));
    }
    assert_eq!(world.pass(5 * SECOND), ["w1 stop job1", "job1 ended"]);
    assert_eq!(world.failure(job), "the driver did not start in time detail: worker 'a' was asked 1m ago");
    let (_, told) = adopt(&mut world, job);
    assert_eq!(told, ["d2 opened job1", "d2 cancel job1: the job has ended, or there never was one"]);
}

#[test]
fn cancelling_stops_the_driver_wherever_the_job_stands() {
    let mut world = World::new();
    let (queued, _) = world.submit("queued");
    assert_eq!(world.cancel(queued), ["job1 ended", "answer job1"]);

    let a = world.worker("a", &[2]);
    let (launching, _) = world.submit("launching");
    assert_eq!(world.cancel(launching), ["w1 stop job2", "job2 ended", "answer job2"]);

    let (running, _) = world.submit("running");
    let (d, _) = adopt(&mut world, running);
    assert_eq!(
        world.cancel(running),
        ["d2 cancel job3: cancelled on request", "w1 stop job3", "answer job3"]
    );
    assert_eq!(world.driver_says(d, DriverEvent::StreamLost), ["end 2: its connection ended", "job3 ended"]);
    assert_eq!(world.worker_says(a, ended(running, false, "stopped")), [""; 0]);

    let (detached, _) = world.submit("detached");
    let (d, _) = adopt(&mut world, detached);
    world.driver_says(d, DriverEvent::StreamLost);
    assert_eq!(world.cancel(detached), ["w1 stop job4", "job4 ended", "answer job4"]);
    for job in [queued, launching, running, detached] {
        assert_eq!(world.state(job), JobState::Cancelled);
    }
}

#[test]
fn a_driver_cannot_take_a_job_it_was_not_launched_for() {
    let mut world = World::new();
    world.worker("a", &[2]);
    let (job, _) = world.submit("job");
    adopt(&mut world, job);
    let other = world.driver_called("another");
    let open = OpenJob { submitted_job: Some(job), ..open_job() };
    let told = world.driver_says(other, DriverEvent::OpenJob(open));
    assert_eq!(
        told,
        [
            "d3 opened job1",
            "d3 cancel job1: this driver was not launched for it, or its time to start is over"
        ]
    );
    assert_eq!(world.machine.job(job).unwrap().driver(), Some(SessionId(2)));
}

#[test]
fn a_forgotten_jobs_result_is_freed() {
    let limits = Limits { ended_jobs: 1, ..Limits::default() };
    let mut world = World::with(ManagerConfig { limits, ..ManagerConfig::default() });
    world.worker("a", &[2]);
    let mut told = Vec::new();
    for name in ["first", "second"] {
        let (job, _) = world.submit(name);
        let (d, _) = adopt(&mut world, job);
        told = world.driver_says(d, DriverEvent::CloseJob { job, ending: Ending::Succeeded { rows: 1 } });
    }
    assert_eq!(told, ["job2 ended", "w1 free result of job1"]);
}
