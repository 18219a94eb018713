//! Drivers and executors that outlive a connection, or the manager.

use super::*;
use crate::machine::job::{Job, Launch, Phase};

const SECOND: Duration = Duration::from_secs(1);

fn held(lease: u64, on: &str, epoch: u64, tasks: u32) -> HeldLease {
    HeldLease {
        lease: LeaseId(lease),
        stage: StageId(0),
        executor: executor(on),
        epoch: Epoch(epoch),
        tasks,
        cores_per_task: 1,
        memory_per_task: 0,
    }
}

fn resume(job: JobId, leases: Vec<HeldLease>) -> DriverEvent {
    let resumes = Some(Resumed { job, leases, gone: Vec::new(), only_to_close: false });
    DriverEvent::OpenJob(OpenJob { resumes, ..open_job() })
}

impl World {
    /// A manager after another one, whose epochs ended at 200 and leases at 1000.
    fn after(jobs: Vec<Job>) -> Self {
        Self::after_with(ManagerConfig::default(), jobs)
    }

    fn after_with(config: ManagerConfig, jobs: Vec<Job>) -> Self {
        let config = ManagerConfig { epoch_seed: 200, lease_seed: 1000, ..config };
        Self { machine: Machine::restore(config, jobs, 0, Timestamp(0)), now: Timestamp(0), sessions: 0 }
    }

    /// A worker whose executors have their epochs, from 101 on, from before.
    fn worker_back(&mut self, name: &str, slots: &[u32]) -> (SessionId, Vec<String>) {
        let session = self.next_session();
        self.worker_says(session, WorkerEvent::Register(registration(name, "first", slots)));
        let mut told = Vec::new();
        for index in 0..u32::try_from(slots.len()).unwrap() {
            let epoch = Epoch(101 + u64::from(index));
            told.extend(
                self.worker_says(session, WorkerEvent::ExecutorBack { up: up(name, index, 1), epoch }),
            );
        }
        (session, told)
    }
}

/// A job of a client's driver that ran under an earlier manager.
fn kept(number: u64, incarnation: &str) -> Job {
    let phase = Phase::Detached { until: Timestamp(0) };
    let mut job = Job::new("q1".to_owned(), "select 1".to_owned(), "ana".to_owned(), phase, Timestamp(0));
    job.id = JobId(number);
    job.incarnation = incarnation.to_owned();
    job.started = Some(Timestamp(0));
    job
}

fn of_cluster(job: Job, worker: &str, launches: u32) -> Job {
    let launch = Launch {
        conf: BTreeMap::new(),
        seed: Seed::default(),
        worker: Some(worker.parse().unwrap()),
        worker_address: Some(format!("{worker}:7410")),
        worker_incarnation: Some("first".to_owned()),
        launches,
        driver_ended: None,
        result_address: None,
    };
    Job { launch: Some(launch), ..job }
}

#[test]
fn a_driver_that_comes_back_in_time_finds_its_job_and_its_leases() {
    let mut world = World::new();
    world.worker("a", &[4]);
    let (d, job) = world.job();
    world.demand(d, job, 3);
    world.driver_says(d, DriverEvent::StreamLost);
    let again = world.driver();
    // It has given one back that the manager did not hear of.
    assert_eq!(
        world.driver_says(again, resume(job, vec![held(1, "a/e0", 101, 2)])),
        ["d3 resumed job1 [lease1]"]
    );
    assert_eq!((world.state(job), world.held(job)), (JobState::Running, 2));
    assert_eq!(world.demand(again, job, 9), ["d3 grant lease2 job1/s0 a/e0 x2"]);
    assert_eq!(world.pass(4 * SECOND), [""; 0]);
    // What it does not claim any more is free.
    world.driver_says(again, DriverEvent::StreamLost);
    let once_more = world.driver();
    world.driver_says(once_more, resume(job, vec![held(2, "a/e0", 101, 2)]));
    assert_eq!(world.held(job), 2);
}

#[test]
fn a_driver_takes_its_job_from_a_session_of_its_own_that_hangs() {
    let mut world = World::new();
    world.worker("a", &[4]);
    let (d, job) = world.job();
    world.demand(d, job, 3);
    let again = world.driver();
    assert_eq!(
        world.driver_says(again, resume(job, vec![held(1, "a/e0", 101, 3)])),
        ["d3 resumed job1 [lease1]"]
    );
    assert_eq!(world.demand(d, job, 9), [""; 0], "what the old session says is stale");
    assert_eq!(world.driver_says(d, DriverEvent::StreamLost), ["end 2: its connection ended"]);
    assert_eq!((world.state(job), world.held(job)), (JobState::Running, 3));
}

#[test]
fn nobody_takes_the_job_of_another_driver() {
    let mut world = World::new();
    world.worker("a", &[4]);
    let (d, job) = world.job();
    world.demand(d, job, 3);
    for lost in [false, true] {
        if lost {
            world.driver_says(d, DriverEvent::StreamLost);
        }
        let other = world.driver_called("another");
        let told = world.driver_says(other, resume(job, vec![held(1, "a/e0", 101, 3)]));
        assert!(told[0].contains(" opened job") && !told[0].ends_with("job1"), "{told:?}");
        assert_eq!(world.held(job), 3);
    }
}

#[test]
fn a_job_that_was_cancelled_meanwhile_is_cancelled_when_its_driver_comes_back() {
    let mut world = World::new();
    world.worker("a", &[4]);
    let (d, job) = world.job();
    world.driver_says(d, DriverEvent::StreamLost);
    world.cancel(job);
    assert_eq!(world.state(job), JobState::Cancelled);
    let again = world.driver();
    let told = world.driver_says(again, resume(job, Vec::new()));
    assert_eq!(told, ["d3 resumed job1 []", "d3 cancel job1: cancelled on request"]);
}

#[test]
fn who_comes_back_too_late_opens_another_job() {
    let mut world = World::new();
    let (d, job) = world.job();
    world.driver_says(d, DriverEvent::StreamLost);
    assert_eq!(world.pass(5 * SECOND), ["job1 ended"]);
    let again = world.driver();
    assert_eq!(world.driver_says(again, resume(job, Vec::new())), ["d2 opened job2"]);
}

#[test]
fn a_new_manager_takes_in_what_executors_and_drivers_tell_in_either_order() {
    for worker_first in [true, false] {
        let mut world = World::after(vec![kept(7, "the first")]);
        assert_eq!(world.state(JobId(7)), JobState::Running);
        let resumed = vec![held(40, "a/e0", 101, 3), held(41, "a/e1", 102, 1)];
        let mut told = Vec::new();
        if worker_first {
            told.extend(world.worker_back("a", &[4, 2]).1);
        }
        let d = world.driver();
        told.extend(world.driver_says(d, resume(JobId(7), resumed)));
        if !worker_first {
            told.extend(world.worker_back("a", &[4, 2]).1);
        }
        let resumed = format!("d{} resumed job7 [lease40 lease41]", d.0);
        assert!(told.contains(&resumed), "{told:?}");
        assert!(told.iter().any(|line| line.ends_with("executor 0 is in e101")), "{told:?}");
        assert_eq!(world.held(JobId(7)), 4, "{told:?}");
        // Its own are given out past all numbers of before, and new jobs are numbered on.
        assert_eq!(world.open(d, 1), JobId(8));
        world.worker("b", &[1]);
        let told = world.demand(d, JobId(8), 1);
        assert_eq!(told, [format!("d{} grant lease1001 job8/s0 b/e0 x1", d.0)]);
        assert_eq!(world.machine.nodes.life(&executor("b/e0")).unwrap().epoch, Epoch(201));
        // What the driver gives back is free.
        world.driver_says(d, DriverEvent::Release { lease: LeaseId(40), tasks: 3 });
        assert_eq!(world.held(JobId(7)), 1);
    }
}

#[test]
fn slots_that_a_driver_may_still_claim_are_lent_to_nobody() {
    let mut world = World::after(vec![kept(7, "the first")]);
    let (a, _) = world.worker_back("a", &[4]);
    let other = world.driver_called("another");
    let job = world.open(other, 1);
    assert_eq!(world.demand(other, job, 4), [""; 0]);
    // The time for claims is over, but a job of before has not come back.
    for _ in 0..3 {
        world.worker_says(a, WorkerEvent::Heartbeat(Vec::new()));
        world.driver_says(other, DriverEvent::Heartbeat(Vec::new()));
        assert_eq!(world.pass(2 * SECOND), [""; 0]);
    }
    let d = world.driver();
    world.driver_says(d, resume(JobId(7), vec![held(40, "a/e0", 101, 3)]));
    // Then they are shared as always.
    let told =
        [format!("d{} grant lease1001 job8/s0 a/e0 x1", other.0), format!("d{} revoke lease40 x1", d.0)];
    assert_eq!(world.pass(SECOND), told);
    assert_eq!((world.held(JobId(7)), world.held(job)), (3, 1));
}

#[test]
fn a_driver_that_never_comes_back_frees_what_it_may_have_held() {
    let mut world = World::after(vec![kept(7, "the first")]);
    let (a, _) = world.worker_back("a", &[4]);
    let other = world.driver_called("another");
    let job = world.open(other, 1);
    world.demand(other, job, 4);
    let mut told = Vec::new();
    for _ in 0..17 {
        world.worker_says(a, WorkerEvent::Heartbeat(Vec::new()));
        world.driver_says(other, DriverEvent::Heartbeat(Vec::new()));
        told.extend(world.pass(SECOND));
    }
    assert_eq!(told, ["job7 ended", "d2 grant lease1001 job8/s0 a/e0 x4"]);
    assert_eq!(world.failure(JobId(7)), "the driver went away detail: its connection ended");
}

/// It keeps what it has finished; what it held, others may have by then.
#[test]
fn a_driver_that_is_waited_for_too_long_is_not_waited_for() {
    let config = ManagerConfig { returning_wait: 2 * SECOND, ..ManagerConfig::default() };
    let mut world = World::after_with(config, vec![kept(7, "the first")]);
    world.worker_back("a", &[4]);
    let other = world.driver_called("another");
    let job = world.open(other, 1);
    assert_eq!(world.demand(other, job, 4), [""; 0]);
    assert_eq!(world.pass(4 * SECOND), [format!("d{} grant lease1001 job8/s0 a/e0 x4", other.0)]);
    let d = world.driver();
    let told = world.driver_says(d, resume(JobId(7), vec![held(40, "a/e0", 101, 3)]));
    assert_eq!(told, [format!("d{} resumed job7 []", d.0)]);
    assert_eq!((world.held(JobId(7)), world.held(job)), (0, 4));
}

#[test]
fn claims_never_exceed_an_executor() {
    let mut world = World::after(vec![kept(7, "the first")]);
    let d = world.driver();
    // One number is told twice, one lease was never given out before this manager, one does not fit.
    let leases = vec![held(40, "a/e0", 101, 3), held(40, "a/e0", 101, 2), held(5000, "a/e0", 101, 1)];
    let leases = [leases, vec![held(41, "a/e0", 101, 2), held(42, "a/e0", 300, 1)]].concat();
    let told = world.driver_says(d, resume(JobId(7), leases));
    assert_eq!(
        told,
        ["d1 resumed job7 [lease40 lease41 lease5000]"],
        "an epoch past its own is not believed"
    );
    let (_, told) = world.worker_back("a", &[3]);
    let asked_back: Vec<_> = told.iter().filter(|line| line.contains("revoke")).collect();
    assert_eq!(asked_back, ["d1 revoke lease41 x2", "d1 revoke lease5000 x1"], "{told:?}");
    assert_eq!(world.held(JobId(7)), 2);
}

#[test]
fn an_executor_that_was_started_anew_while_there_was_no_manager_is_gone_for_its_drivers() {
    let mut world = World::after(vec![kept(7, "the first")]);
    let d = world.driver();
    world.driver_says(d, resume(JobId(7), vec![held(40, "a/e0", 101, 3)]));
    let session = world.next_session();
    world.worker_says(session, WorkerEvent::Register(registration("a", "first", &[4])));
    let told = world.worker_says(session, WorkerEvent::ExecutorUp(up("a", 0, 2)));
    assert!(told.contains(&"d1 gone a/e0 e101: another process took its place".to_owned()), "{told:?}");
    assert_eq!(world.held(JobId(7)), 0);
    // One that is down is told by its worker.
    let session = world.next_session();
    world.worker_says(session, WorkerEvent::Register(registration("b", "first", &[4])));
    let down = WorkerEvent::ExecutorDown { index: 0, epoch: Epoch(150), reason: "signal 9".to_owned() };
    assert_eq!(world.worker_says(session, down), ["d1 gone b/e0 e150: signal 9"]);
}

#[test]
fn a_life_that_a_driver_has_given_up_ends() {
    let mut world = World::after(vec![kept(7, "the first")]);
    let (a, _) = world.worker_back("a", &[4]);
    let d = world.driver();
    let gone = vec![(executor("a/e0"), Epoch(101))];
    let resumes = Some(Resumed { job: JobId(7), leases: Vec::new(), gone, only_to_close: false });
    let told = world.driver_says(d, DriverEvent::OpenJob(OpenJob { resumes, ..open_job() }));
    assert!(told.contains(&format!("w{} executor 0 is in e201", a.0)), "{told:?}");
    assert!(told.iter().any(|line| line.contains("gone a/e0 e101")), "{told:?}");
}

#[test]
fn an_epoch_that_this_manager_gave_out_and_ended_is_not_taken_up() {
    let mut world = World::new();
    let a = world.worker("a", &[4]);
    world.worker_says(a, WorkerEvent::StreamLost);
    world.pass(15 * SECOND);
    let again = world.next_session();
    world.worker_says(again, WorkerEvent::Register(registration("a", "first", &[4])));
    let told = world.worker_says(again, WorkerEvent::ExecutorBack { up: up("a", 0, 1), epoch: Epoch(101) });
    assert_eq!(told, ["w2 executor 0 is in e102"]);
}

/// Its drivers take that life for ended: they would give back whatever is lent there, for ever.
#[test]
fn a_life_of_an_earlier_manager_that_this_one_has_given_up_is_not_taken_up_again() {
    let mut world = World::after(vec![kept(7, "the first")]);
    let (a, told) = world.worker_back("a", &[4]);
    assert!(told.iter().any(|line| line.ends_with("executor 0 is in e101")), "{told:?}");
    world.worker_says(a, WorkerEvent::StreamLost);
    world.pass(15 * SECOND);
    let (_, told) = world.worker_back("a", &[4]);
    assert!(told.iter().any(|line| line.ends_with("executor 0 is in e201")), "{told:?}");
}

/// As one that counts by another journal has given out.
#[test]
fn an_executor_with_an_epoch_past_all_of_this_manager_gets_a_later_one() {
    let mut world = World::new();
    let session = world.next_session();
    world.worker_says(session, WorkerEvent::Register(registration("a", "first", &[4])));
    let told =
        world.worker_says(session, WorkerEvent::ExecutorBack { up: up("a", 0, 1), epoch: Epoch(5000) });
    assert_eq!(told, ["w1 executor 0 is in e5001"]);
}

#[test]
fn a_job_that_nothing_was_kept_of_is_known_from_its_driver() {
    let mut world = World::after(Vec::new());
    world.worker_back("a", &[4]);
    let d = world.driver();
    let told = world.driver_says(d, resume(JobId(7), vec![held(40, "a/e0", 101, 3)]));
    assert_eq!(told, ["d2 resumed job7 [lease40]"]);
    assert_eq!((world.state(JobId(7)), world.held(JobId(7))), (JobState::Running, 3));
    // A number that nobody can have given out is not believed.
    let told = world.driver_says(d, resume(JobId(u64::MAX), Vec::new()));
    assert_eq!(told, ["d2 opened job8"]);
}

#[test]
fn submitted_jobs_outlive_the_manager() {
    let waiting = Job { phase: Phase::Submitted, launch: None, ..kept(1, "") };
    let waiting = Job { launch: of_cluster(kept(0, ""), "x", 0).launch, ..waiting };
    let mut jobs =
        vec![waiting, of_cluster(kept(2, "launched"), "a", 1), of_cluster(kept(3, "gone"), "b", 1)];
    jobs.push(Job {
        phase: Phase::Ended(Ending::Succeeded { rows: 5 }),
        ended: Some(Timestamp(9)),
        ..kept(4, "x")
    });
    let mut world = World::after(jobs);
    assert_eq!(world.state(JobId(4)), JobState::Succeeded);
    // The one that waited is launched as soon as there is a worker.
    let session = world.next_session();
    let told = world.worker_says(session, WorkerEvent::Register(registration("a", "first", &[4])));
    assert_eq!(told, ["w1 registered", "w1 launch job1"]);
    // The driver that runs goes on.
    let d = world.driver_called("launched");
    let resumes = Some(Resumed { job: JobId(2), leases: Vec::new(), gone: Vec::new(), only_to_close: false });
    let open = OpenJob { submitted_job: Some(JobId(2)), resumes, ..open_job() };
    assert_eq!(world.driver_says(d, DriverEvent::OpenJob(open)), ["d2 resumed job2 []"]);
    // The one whose worker does not come back is launched once more.
    let mut told = Vec::new();
    for _ in 0..15 {
        world.worker_says(session, WorkerEvent::Heartbeat(Vec::new()));
        world.driver_says(d, DriverEvent::Heartbeat(Vec::new()));
        told.extend(world.pass(SECOND));
    }
    assert_eq!(told, ["w1 launch job3 for the 2. time"]);
}

/// It died while there was no manager, and its driver with it.
#[test]
fn what_a_worker_ran_that_was_started_anew_is_launched_once_more() {
    let jobs = vec![of_cluster(kept(2, "launched"), "a", 1), of_cluster(kept(3, "lost"), "a", 2)];
    let mut world = World::after(jobs);
    let session = world.next_session();
    let told = world.worker_says(session, WorkerEvent::Register(registration("a", "second", &[4])));
    assert!(told.contains(&"w1 launch job2 for the 2. time".to_owned()), "{told:?}");
    assert_eq!(world.failure(JobId(3)), "the driver was lost 2 times detail: its worker was started anew");
    // The same process runs them still.
    let mut world = World::after(vec![of_cluster(kept(2, "launched"), "a", 1)]);
    let session = world.next_session();
    let told = world.worker_says(session, WorkerEvent::Register(registration("a", "first", &[4])));
    assert_eq!(told, ["w1 registered"]);
}

/// Its worker is slower to come back than the driver, and has the result all the same.
#[test]
fn a_result_is_where_the_driver_ran_though_its_worker_is_not_back_yet() {
    let mut world = World::after(vec![of_cluster(kept(2, "launched"), "a", 1)]);
    let d = world.driver_called("launched");
    let resumes = Some(Resumed { job: JobId(2), leases: Vec::new(), gone: Vec::new(), only_to_close: false });
    let open = OpenJob { submitted_job: Some(JobId(2)), resumes, ..open_job() };
    assert_eq!(world.driver_says(d, DriverEvent::OpenJob(open)), ["d1 resumed job2 []"]);
    world.driver_says(d, DriverEvent::CloseJob { job: JobId(2), ending: Ending::Succeeded { rows: 1 } });
    let job = world.machine.job(JobId(2)).unwrap();
    assert_eq!(job.state(), JobState::Succeeded);
    assert_eq!(job.launch.as_ref().unwrap().result_address.as_deref(), Some("a:7410"));
}

#[test]
fn a_job_that_is_only_to_be_closed_opens_no_other() {
    let mut world = World::after(vec![kept(7, "the first"), kept(8, "another")]);
    let d = world.driver();
    let close = |job| {
        let resumes = Some(Resumed { job, leases: Vec::new(), gone: Vec::new(), only_to_close: true });
        let ending = Ending::Succeeded { rows: 3 };
        [DriverEvent::OpenJob(OpenJob { resumes, ..open_job() }), DriverEvent::CloseJob { job, ending }]
    };
    for event in close(JobId(7)).into_iter().chain(close(JobId(8))) {
        world.driver_says(d, event);
    }
    assert_eq!((world.state(JobId(7)), world.state(JobId(8))), (JobState::Succeeded, JobState::Running));
    assert_eq!(world.machine.jobs(true).len(), 2);
}

/// The driver has given the executor up, whose worker is still cut off from the manager: what it gives back is nobody's when that
/// worker comes back.
#[test]
fn what_is_given_back_of_a_claim_is_not_held_when_the_executor_comes_back() {
    let mut world = World::after(vec![kept(7, "one")]);
    let d = world.driver_called("one");
    world.driver_says(d, resume(JobId(7), vec![held(900, "a/e0", 101, 2), held(901, "a/e0", 101, 1)]));
    let other = world.driver_called("two");
    world.driver_says(other, DriverEvent::Release { lease: LeaseId(901), tasks: 1 });
    world.driver_says(d, DriverEvent::Release { lease: LeaseId(900), tasks: 2 });
    world.worker_back("a", &[4]);
    assert_eq!(world.held(JobId(7)), 1, "what another driver says of it counts for nothing");
}
