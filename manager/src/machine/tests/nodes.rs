//! Workers and executors: how they come, come back, fall silent and go.

use super::*;
use crate::Limits;
use crate::machine::node::NodeState;

const SECOND: Duration = Duration::from_secs(1);

fn state(world: &World, name: &str) -> NodeState {
    world.machine.nodes.get(&name.parse().unwrap()).unwrap().state.clone()
}

#[test]
fn a_worker_registers_and_its_executor_gets_an_epoch() {
    let mut world = World::new();
    let a = world.next_session();
    assert_eq!(
        world.worker_says(a, WorkerEvent::Register(registration("a", "first", &[4]))),
        ["w1 registered"]
    );
    assert_eq!(world.worker_says(a, WorkerEvent::ExecutorUp(up("a", 0, 1))), ["w1 executor 0 is in e101"]);
    assert_eq!(state(&world, "a"), NodeState::Alive);
}

#[test]
fn an_id_in_use_by_a_live_worker_is_refused_by_name() {
    let mut world = World::new();
    world.worker("a", &[4]);
    let other = world.next_session();
    let told = world.worker_says(other, WorkerEvent::Register(registration("a", "other", &[2])));
    assert_eq!(told, ["refuse 2: the worker id 'a' is in use by a live worker at a:7410"]);
    assert_eq!(world.worker_says(other, WorkerEvent::ExecutorUp(up("a", 0, 9))), [""; 0], "it is nobody");
}

#[test]
fn silent_workers_keep_their_id_while_their_stream_is_there() {
    let mut world = World::new();
    world.worker("a", &[4]);
    world.pass(6 * SECOND);
    assert_eq!(state(&world, "a"), NodeState::Suspect);
    let other = world.next_session();
    let told = world.worker_says(other, WorkerEvent::Register(registration("a", "other", &[2])));
    assert!(told[0].starts_with("refuse 2"), "{told:?}");
}

#[test]
fn the_same_incarnation_comes_back_and_keeps_its_executors() {
    let mut world = World::new();
    let a = world.worker("a", &[4]);
    let (d, job) = world.job();
    world.demand(d, job, 2);
    assert_eq!(world.worker_says(a, WorkerEvent::StreamLost), [""; 0]);
    assert_eq!(state(&world, "a"), NodeState::Suspect);
    let back = world.next_session();
    assert_eq!(
        world.worker_says(back, WorkerEvent::Register(registration("a", "first", &[4]))),
        ["w3 registered"]
    );
    assert_eq!(world.worker_says(back, WorkerEvent::ExecutorUp(up("a", 0, 1))), ["w3 executor 0 is in e101"]);
    assert_eq!((state(&world, "a"), world.held(job)), (NodeState::Alive, 2));
}

#[test]
fn a_reconnection_replaces_a_stream_that_nobody_saw_end() {
    let mut world = World::new();
    let a = world.worker("a", &[4]);
    let back = world.next_session();
    let told = world.worker_says(back, WorkerEvent::Register(registration("a", "first", &[4])));
    assert_eq!(told, ["end 1: the worker came back on another connection", "w2 registered"]);
    assert_eq!(world.worker_says(a, WorkerEvent::StreamLost), [""; 0], "the old stream's end is stale");
    assert_eq!(state(&world, "a"), NodeState::Alive);
}

#[test]
fn a_restarted_worker_takes_its_name_over_once_the_old_stream_is_gone() {
    let mut world = World::new();
    let a = world.worker("a", &[4]);
    let (d, job) = world.job();
    world.demand(d, job, 4);
    world.worker_says(a, WorkerEvent::StreamLost);
    let anew = world.next_session();
    let told = world.worker_says(anew, WorkerEvent::Register(registration("a", "second", &[4])));
    assert_eq!(
        told,
        [
            "d2 gone a/e0 e101: worker 'a' is lost: its worker was started anew",
            "w3 registered",
            "d2 cluster [-a/e0]",
        ]
    );
    assert_eq!(world.held(job), 0);
    let told = world.worker_says(anew, WorkerEvent::ExecutorUp(up("a", 0, 5)));
    assert_eq!(told, ["w3 executor 0 is in e102", "d2 cluster [+a/e0x4]"]);
}

#[test]
fn silence_makes_suspect_then_lost() {
    let mut world = World::new();
    world.worker("a", &[4]);
    let (d, job) = world.job();
    world.demand(d, job, 2);
    world.pass(5 * SECOND);
    assert_eq!(state(&world, "a"), NodeState::Alive);
    world.pass(SECOND);
    assert_eq!(state(&world, "a"), NodeState::Suspect);
    world.driver_says(d, DriverEvent::Heartbeat(Vec::new()));
    assert_eq!(world.demand(d, job, 2), [""; 0], "a suspect worker gets nothing new");
    let told = world.pass(9 * SECOND);
    assert_eq!(
        told,
        [
            "d2 gone a/e0 e101: worker 'a' is lost: nothing was heard of it for 15.0s",
            "end 1: worker 'a' is lost: nothing was heard of it for 15.0s",
            "d2 cluster [-a/e0]",
        ]
    );
    assert!(matches!(state(&world, "a"), NodeState::Lost { .. }));
}

#[test]
fn a_heartbeat_makes_a_suspect_alive_and_waiting_demands_are_met() {
    let mut world = World::new();
    let a = world.worker("a", &[4]);
    let (d, job) = world.job();
    world.pass(6 * SECOND);
    assert_eq!(world.demand(d, job, 2), [""; 0]);
    assert_eq!(world.worker_says(a, WorkerEvent::Heartbeat(Vec::new())), ["d2 grant lease1 job1/s0 a/e0 x2"]);
}

#[test]
fn the_same_incarnation_back_from_lost_gets_new_epochs() {
    let mut world = World::new();
    world.worker("a", &[4]);
    world.pass(15 * SECOND);
    let back = world.next_session();
    assert_eq!(
        world.worker_says(back, WorkerEvent::Register(registration("a", "first", &[4]))),
        ["w2 registered"]
    );
    assert_eq!(world.worker_says(back, WorkerEvent::ExecutorUp(up("a", 0, 1))), ["w2 executor 0 is in e102"]);
}

#[test]
fn an_executor_that_ends_is_gone_for_every_driver_and_its_leases_end() {
    let mut world = World::new();
    let a = world.worker("a", &[4]);
    let (d, job) = world.job();
    let idle = world.driver();
    world.demand(d, job, 4);
    let down = |epoch| WorkerEvent::ExecutorDown {
        index: 0,
        epoch: Epoch(epoch),
        reason: "it was killed".to_owned(),
    };
    assert_eq!(world.worker_says(a, down(100)), [""; 0], "an older life's end is stale");
    assert_eq!(world.held(job), 4);
    assert_eq!(
        world.worker_says(a, down(101)),
        [
            "d2 gone a/e0 e101: it was killed",
            "d3 gone a/e0 e101: it was killed",
            "d2 cluster [-a/e0]",
            "d3 cluster [-a/e0]",
        ]
    );
    assert_eq!(world.held(job), 0);
    assert_eq!(world.worker_says(a, down(101)), [""; 0], "it ends once");
    assert_eq!(idle, SessionId(3));
}

#[test]
fn blocks_of_a_dead_executor_are_kept_by_a_worker_that_lives_until_their_job_ends() {
    let mut world = World::new();
    let a = world.next_session();
    let keeper = Registration { keeper_address: "a:7411".to_owned(), ..registration("a", "first", &[4]) };
    world.worker_as(a, keeper);
    let (d, job) = world.job();
    let other = world.open(d, 2);
    let close = |job| DriverEvent::CloseJob { job, ending: Ending::Succeeded { rows: 0 } };
    assert_eq!(world.driver_says(d, close(job)), [format!("{job} ended")], "nothing is kept yet");
    let reason = "it was killed".to_owned();
    let told = world.worker_says(a, WorkerEvent::ExecutorDown { index: 0, epoch: Epoch(101), reason });
    assert!(told.contains(&"d2 gone a/e0 e101: it was killed, blocks at a:7411".to_owned()), "{told:?}");
    let told = world.worker_says(a, WorkerEvent::ExecutorUp(up("a", 0, 2)));
    assert!(told.contains(&"w1 executor 0 is in e102".to_owned()), "{told:?}");
    let told = world.driver_says(d, close(other));
    assert!(told.contains(&format!("w1 free what is kept of {other}")), "{told:?}");
    // With its worker an executor is gone for good.
    let told = world.worker_says(a, WorkerEvent::Leaving { reason: "maintenance".to_owned() });
    assert!(
        told.iter().any(|told| told.contains("gone a/e0 e102") && !told.contains("blocks at")),
        "{told:?}"
    );
}

#[test]
fn a_worker_that_was_given_up_and_lived_on_is_told_of_jobs_that_end() {
    let mut world = World::new();
    let a = world.next_session();
    let keeper = Registration { keeper_address: "a:7411".to_owned(), ..registration("a", "first", &[4]) };
    world.worker_as(a, keeper.clone());
    let (d, job) = world.job();
    let reason = "it was killed".to_owned();
    world.worker_says(a, WorkerEvent::ExecutorDown { index: 0, epoch: Epoch(101), reason });
    for _ in 0..3 {
        world.pass(5 * SECOND);
        world.driver_says(d, DriverEvent::Heartbeat(Vec::new()));
    }
    assert!(matches!(state(&world, "a"), NodeState::Lost { .. }));
    let again = world.next_session();
    world.worker_as(again, keeper);
    let told = world.driver_says(d, DriverEvent::CloseJob { job, ending: Ending::Succeeded { rows: 0 } });
    assert!(told.contains(&format!("w{} free what is kept of {job}", again.0)), "{told:?}");
}

#[test]
fn another_process_of_an_executor_is_another_life() {
    let mut world = World::new();
    let a = world.worker("a", &[4]);
    assert_eq!(world.worker_says(a, WorkerEvent::ExecutorUp(up("a", 0, 1))), ["w1 executor 0 is in e101"]);
    let d = world.driver();
    assert_eq!(
        world.worker_says(a, WorkerEvent::ExecutorUp(up("a", 0, 2))),
        [
            "d2 gone a/e0 e101: another process took its place",
            "w1 executor 0 is in e102",
            "d2 cluster [+a/e0x4]",
        ]
    );
    assert_eq!(d, SessionId(2));
}

#[test]
fn an_executor_that_was_not_registered_ends_the_session() {
    let mut world = World::new();
    let a = world.worker("a", &[4]);
    let told = world.worker_says(a, WorkerEvent::ExecutorUp(up("a", 3, 2)));
    assert_eq!(told, ["end 1: a/e3 is none of those that worker 'a' registered"]);
    assert_eq!(state(&world, "a"), NodeState::Suspect);
}

#[test]
fn a_worker_that_leaves_is_not_missed() {
    let mut world = World::new();
    let a = world.worker("a", &[4]);
    let d = world.driver();
    let told = world.worker_says(a, WorkerEvent::Leaving { reason: "upgrade".to_owned() });
    assert_eq!(
        told,
        [
            "d2 gone a/e0 e101: worker 'a' left: upgrade",
            "end 1: worker 'a' left: upgrade",
            "d2 cluster [-a/e0]"
        ]
    );
    assert_eq!(state(&world, "a"), NodeState::Left { reason: "upgrade".to_owned() });
    assert_eq!(world.worker_says(a, WorkerEvent::StreamLost), [""; 0]);
    world.driver_says(d, DriverEvent::Heartbeat(Vec::new()));
    let again = world.next_session();
    assert_eq!(
        world.worker_says(again, WorkerEvent::Register(registration("a", "second", &[4]))),
        ["w3 registered"]
    );
}

#[test]
fn a_worker_registers_once_in_a_session() {
    let mut world = World::new();
    let a = world.worker("a", &[4]);
    let told = world.worker_says(a, WorkerEvent::Register(registration("a", "first", &[4])));
    assert_eq!(told, ["end 1: a worker registers once in a session"]);
}

#[test]
fn tables_of_workers_are_bounded() {
    let limits = Limits { nodes: 2, gone_nodes: 1, executors_per_node: 2, ..Limits::default() };
    let mut world = World::with(ManagerConfig { limits, ..ManagerConfig::default() });
    let a = world.worker("a", &[1]);
    let b = world.worker("b", &[1]);
    let refused = |world: &mut World, slots: &[u32]| {
        let c = world.next_session();
        world.worker_says(c, WorkerEvent::Register(registration("c", "first", slots)))
    };
    assert_eq!(refused(&mut world, &[1]), ["refuse 3: the manager takes no more than 2 workers"]);
    for session in [a, b] {
        world.worker_says(session, WorkerEvent::Leaving { reason: "test".to_owned() });
    }
    let names: Vec<String> = world.machine.nodes.iter().map(|node| node.id.to_string()).collect();
    assert_eq!(names, ["b"], "the one that left first is forgotten");
    let told = refused(&mut world, &[1, 1, 1]);
    assert_eq!(told, ["refuse 4: the manager takes no more than 2 executors of one worker"]);
}
