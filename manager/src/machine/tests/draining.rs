//! Workers that are drained: what is still lent there, what is waited for, and when they may go.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

impl World {
    fn drain(&mut self, worker: &str, deadline: Option<Duration>, force: bool) -> Vec<String> {
        let worker = worker.parse().unwrap();
        self.step(Event::Client(Ticket(3), Rights::All, ClientRequest::Drain { worker, deadline, force }))
    }

    fn undrain(&mut self, worker: &str) -> Vec<String> {
        let worker = worker.parse().unwrap();
        self.step(Event::Client(Ticket(4), Rights::All, ClientRequest::Undrain { worker }))
    }

    /// The worker has heard that order.
    fn confirm(&mut self, session: SessionId, order: u64) -> Vec<String> {
        self.worker_says(session, WorkerEvent::Drain(report(order)))
    }

    /// Its executor has answered so often, and uses this much.
    fn beat(
        &mut self,
        session: SessionId,
        answers: u64,
        running_attempts: u32,
        block_bytes: u64,
    ) -> Vec<String> {
        let usage = Usage { index: 0, running_attempts, memory_used: 0, block_bytes, answers };
        self.worker_says(session, WorkerEvent::Heartbeat(vec![usage]))
    }

    fn left(&mut self, driver: SessionId, job: JobId, worker: &str, outputs: u32) -> Vec<String> {
        let left = LeftThere { attempts: 0, outputs, bytes: 100 * u64::from(outputs) };
        self.driver_says(driver, DriverEvent::Left { job, worker: worker.parse().unwrap(), left })
    }
}

fn report(order: u64) -> DrainReport {
    DrainReport { order, draining: true, reason: "an operator's order".to_owned(), ..DrainReport::default() }
}

/// Two workers; a job has two slots on each.
fn two_workers() -> (World, SessionId, SessionId, JobId) {
    let mut world = World::new();
    let a = world.worker("a", &[2]);
    world.worker("b", &[2]);
    let (d, job) = world.job();
    let told = world.demand(d, job, 4);
    assert_eq!(told, ["d3 grant lease1 job1/s0 a/e0 x2", "d3 grant lease2 job1/s0 b/e0 x2"]);
    (world, a, d, job)
}

#[test]
fn a_worker_that_is_drained_gets_nothing_and_what_was_lent_is_asked_back() {
    let (mut world, _, d, job) = two_workers();
    assert_eq!(
        world.drain("a", Some(600 * SECOND), false),
        ["w1 drain 101 within 600s", "answer a", "d3 cluster [without a]", "d3 revoke lease1 x2",]
    );
    let nothing: [&str; 0] = [];
    assert_eq!(world.demand(d, job, 3), nothing);
    world.driver_says(d, DriverEvent::Release { lease: LeaseId(1), tasks: 2 });
    assert_eq!(world.held(job), 2, "what was given back is not lent again");
    let told = world.driver_says(d, DriverEvent::Release { lease: LeaseId(2), tasks: 1 });
    assert_eq!(told, ["d3 grant lease3 job1/s0 b/e0 x1"]);
    let later = world.driver();
    assert_eq!(later, SessionId(4));
    assert_eq!(world.drain("a", None, false), ["w1 drain 102", "answer a"], "another deadline");
}

#[test]
fn it_may_go_when_nothing_runs_and_nobody_needs_what_lies_there() {
    let (mut world, a, d, job) = two_workers();
    world.drain("a", None, false);
    world.confirm(a, 101);
    world.driver_says(d, DriverEvent::Release { lease: LeaseId(1), tasks: 2 });
    let nothing: [&str; 0] = [];
    assert_eq!(world.beat(a, 7, 0, 500), nothing);
    assert_eq!(world.left(d, job, "a", 2), nothing);
    assert_eq!(world.beat(a, 8, 0, 500), nothing);
    assert_eq!(world.beat(a, 9, 0, 500), nothing, "two outputs are to move");
    assert_eq!(world.left(d, job, "a", 0), ["w1 leave"]);
    assert_eq!(world.beat(a, 10, 0, 500), nothing, "it was told");
    assert_eq!(
        world.undrain("a"),
        ["answer: worker 'a' was drained, and leaves: start it again to have it back"]
    );
    let told = world.worker_says(a, WorkerEvent::Leaving { reason: "it was drained".to_owned() });
    assert_eq!(told[0], "d3 gone a/e0 e101: worker 'a' left: it was drained");
    assert_eq!(told[2], "d3 cluster [-a/e0]");
}

/// A driver of the version before says nothing of what it has there.
#[test]
fn of_a_driver_that_does_not_say_what_it_has_the_blocks_are_waited_for() {
    let (mut world, a, d, _) = two_workers();
    world.drain("a", None, false);
    world.confirm(a, 101);
    world.driver_says(d, DriverEvent::Release { lease: LeaseId(1), tasks: 2 });
    world.beat(a, 1, 0, 500);
    let nothing: [&str; 0] = [];
    assert_eq!(world.beat(a, 5, 0, 500), nothing);
    assert_eq!(world.beat(a, 6, 0, 0), ["w1 leave"]);
}

/// What an executor said before the last slot came back tells nothing of what ran in it.
#[test]
fn old_answers_of_an_executor_are_not_believed() {
    let (mut world, a, d, _) = two_workers();
    world.beat(a, 7, 0, 0);
    world.drain("a", None, false);
    world.confirm(a, 101);
    let nothing: [&str; 0] = [];
    assert_eq!(world.driver_says(d, DriverEvent::Release { lease: LeaseId(1), tasks: 2 }), nothing);
    assert_eq!(world.beat(a, 7, 0, 0), nothing, "the same answer once more");
    assert_eq!(world.beat(a, 8, 1, 0), nothing);
    assert_eq!(world.beat(a, 9, 0, 0), nothing);
    assert_eq!(world.beat(a, 11, 0, 0), ["w1 leave"]);
}

#[test]
fn what_executors_that_are_gone_have_left_is_waited_for_and_drivers_that_run_there_are() {
    let mut world = World::new();
    let a = world.worker("a", &[2]);
    world.worker("b", &[2]);
    world.drain("a", None, false);
    world.worker_says(a, WorkerEvent::Drain(DrainReport { kept_bytes: 9, drivers: 1, ..report(101) }));
    world.beat(a, 1, 0, 0);
    let nothing: [&str; 0] = [];
    assert_eq!(world.beat(a, 3, 0, 0), nothing);
    assert_eq!(world.worker_says(a, WorkerEvent::Drain(DrainReport { drivers: 1, ..report(101) })), nothing);
    assert_eq!(world.confirm(a, 101), ["w1 leave"]);
}

/// Until its worker says so, nobody knows how much an executor that is gone has left.
#[test]
fn what_an_executor_leaves_that_ends_during_the_drain_is_waited_for() {
    let (mut world, a, d, job) = two_workers();
    world.drain("a", None, false);
    world.confirm(a, 101);
    world.left(d, job, "a", 0);
    world.driver_says(d, DriverEvent::Release { lease: LeaseId(1), tasks: 2 });
    world.beat(a, 1, 0, 0);
    world.left(d, job, "a", 1);
    let down = WorkerEvent::ExecutorDown { index: 0, epoch: Epoch(101), reason: "killed".to_owned() };
    let told = world.worker_says(a, down);
    assert!(!told.contains(&"w1 leave".to_owned()), "{told:?}");
    let nothing: [&str; 0] = [];
    assert_eq!(
        world.worker_says(a, WorkerEvent::Drain(DrainReport { kept_bytes: 9, ..report(101) })),
        nothing
    );
    assert_eq!(world.left(d, job, "a", 0), ["w1 leave"]);
}

#[test]
fn the_last_worker_is_drained_only_if_that_is_meant() {
    let mut world = World::new();
    world.worker("a", &[2]);
    world.worker("b", &[2]);
    world.drain("b", None, false);
    let refused = "answer: no other worker than 'a' takes tasks: without it jobs wait until one comes";
    assert_eq!(world.drain("a", None, false), [refused]);
    assert_eq!(world.drain("a", None, true), ["w1 drain 102", "answer a"]);
    let (d, job) = world.job();
    world.demand(d, job, 1);
    let job = world.machine.job(job).unwrap();
    let why = world.machine.waiting_for(job).unwrap();
    assert_eq!(why, "slots for 1 tasks: every worker that is there is being drained");
}

#[test]
fn whom_nobody_knows_who_is_away_or_too_old_is_not_drained() {
    let mut world = World::new();
    let a = world.worker("a", &[2]);
    let old = world.next_session();
    world.worker_as(
        old,
        Registration { wire: 4, release: "0.0.9".to_owned(), ..registration("old", "first", &[1]) },
    );
    assert_eq!(world.drain("c", None, false), ["answer: there is no worker 'c'; there are a, old"]);
    let refused =
        "answer: worker 'old' is of release 0.0.9, which cannot be drained: SIGTERM stops it at once";
    assert_eq!(world.drain("old", None, false), [refused]);
    assert_eq!(world.undrain("a"), ["answer: worker 'a' is not being drained"]);
    world.worker_says(a, WorkerEvent::StreamLost);
    let refused = "answer: worker 'a' is not connected at the moment, and cannot be told";
    assert_eq!(world.drain("a", None, false), [refused]);
}

#[test]
fn a_drain_that_is_taken_back_leaves_nothing_behind() {
    let (mut world, a, d, job) = two_workers();
    world.drain("a", None, false);
    world.confirm(a, 101);
    assert_eq!(world.undrain("a"), ["w1 stay 102", "answer a", "d3 cluster []"]);
    let nothing: [&str; 0] = [];
    assert_eq!(world.confirm(a, 101), nothing, "it was said before the order came");
    world.worker_says(a, WorkerEvent::Drain(DrainReport { order: 102, ..DrainReport::default() }));
    world.driver_says(d, DriverEvent::Release { lease: LeaseId(1), tasks: 2 });
    assert_eq!(world.demand(d, job, 1), ["d3 grant lease3 job1/s0 a/e0 x1"]);
}

/// The worker knows; a manager that comes after the one that ordered it hears so.
#[test]
fn a_drain_outlives_the_manager_and_a_connection() {
    let (mut world, a, d, _) = two_workers();
    world.drain("a", Some(60 * SECOND), false);
    world.worker_says(a, WorkerEvent::StreamLost);
    let back = world.next_session();
    world.worker_says(back, WorkerEvent::Register(registration("a", "first", &[2])));
    world.now = world.now + 20 * SECOND;
    let first = |order, draining| DrainReport { is_first: true, draining, ..report(order) };
    let told = world.worker_says(back, WorkerEvent::Drain(first(0, false)));
    assert_eq!(told, ["w4 drain 101 within 40s"], "the order was lost with the connection");
    world.driver_says(d, DriverEvent::StreamLost);

    let mut next = World::with(ManagerConfig { epoch_seed: 200, ..ManagerConfig::default() });
    let a = next.next_session();
    next.worker_says(a, WorkerEvent::Register(registration("a", "first", &[2])));
    let left = Some(30 * SECOND);
    let told = next.worker_says(a, WorkerEvent::Drain(DrainReport { left, ..first(101, true) }));
    assert_eq!(told, [""; 0], "it has not told of its executors");
    next.worker_says(a, WorkerEvent::ExecutorBack { up: up("a", 0, 1), epoch: Epoch(101) });
    next.worker("b", &[2]);
    let (d, job) = next.job();
    assert_eq!(next.demand(d, job, 4), ["d3 grant lease1 job1/s0 b/e0 x2"]);
    let told = next.worker_says(a, WorkerEvent::Drain(report(101)));
    assert_eq!(told, [""; 0], "drivers may still claim what they hold there");
    assert!(next.machine.drains.get(&"a".parse().unwrap()).unwrap().confirmed);
}

/// A signal to its process is as good as an order.
#[test]
fn a_worker_may_be_drained_by_its_own_word() {
    let (mut world, a, _, _) = two_workers();
    let told = world.confirm(a, 0);
    assert_eq!(told, ["d3 cluster [without a]", "d3 revoke lease1 x2"]);
}

#[test]
fn no_driver_is_launched_on_a_worker_that_is_drained() {
    let mut world = World::new();
    world.worker("a", &[2]);
    world.worker("b", &[2]);
    world.drain("a", None, false);
    let told = (0..3).flat_map(|n| world.submit(&format!("q{n}")).1).collect::<Vec<_>>();
    let launched: Vec<_> = told.iter().filter(|line| line.contains("launch")).collect();
    assert_eq!(launched, ["w2 launch job1", "w2 launch job2", "w2 launch job3"]);
}
