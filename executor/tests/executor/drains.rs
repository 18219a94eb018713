//! A worker that is drained, as its manager sees it. No executor of it is ever ready.

use std::time::Duration;

use firesteel_base::version;
use firesteel_protocol::v1;
use v1::manager_to_worker::Message as ToWorker;

use crate::manager::{FakeManager, Worker, config, run, script};

/// A worker, and the scratch folder that it has.
fn worker(manager: &FakeManager, drain: Duration) -> (Worker, tempfile::TempDir) {
    let scratch = tempfile::tempdir().unwrap();
    let mut config =
        config(&manager.address, scratch.path(), script("exec cat >/dev/null"), script("exit 1"));
    config.drain = drain;
    (run(config), scratch)
}

fn order(order: u64, draining: bool, deadline_ms: Option<u64>) -> ToWorker {
    ToWorker::Drain(v1::DrainWorker { order, draining, deadline_ms })
}

#[tokio::test(flavor = "multi_thread")]
async fn it_leaves_when_the_manager_lets_it_go() {
    let mut manager = FakeManager::start().await;
    let (worker, _scratch) = worker(&manager, Duration::from_secs(30));
    let mut session = manager.session_in(version::WIRE).await;
    let first = session.hear_drain().await;
    assert_eq!((first.is_first, first.draining, first.order), (true, false, 0));
    session.say(order(3, true, Some(600_000)));
    let told = session.hear_drain().await;
    assert_eq!((told.order, told.draining, told.is_first), (3, true, false));
    assert!(told.left_ms.is_some_and(|left| (500_000..=600_000).contains(&left)), "{told:?}");
    assert!(session.hear_drain().await.draining, "it is said again and again");
    session.say(ToWorker::Leave(v1::LeaveCluster {}));
    assert_eq!(session.hear_leaving().await, "it was drained");
    worker.ended().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_at_the_deadline_is_given_up() {
    let mut manager = FakeManager::start().await;
    let (worker, _scratch) = worker(&manager, Duration::from_secs(30));
    let mut session = manager.session_in(version::WIRE).await;
    session.say(order(1, true, Some(50)));
    let why = session.hear_leaving().await;
    assert_eq!(why, "it was drained, and what was left was given up at the deadline");
    worker.ended().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn it_stays_when_it_is_told_so_in_time() {
    let mut manager = FakeManager::start().await;
    let (worker, _scratch) = worker(&manager, Duration::from_secs(30));
    let mut session = manager.session_in(version::WIRE).await;
    session.say(order(1, true, Some(200)));
    session.say(order(2, false, None));
    // Too late, as if they had crossed.
    session.say(ToWorker::Leave(v1::LeaveCluster {}));
    while session.hear_drain().await.order < 2 {}
    tokio::time::sleep(Duration::from_millis(300)).await;
    worker.stop().await.unwrap();
    assert_eq!(session.hear_leaving().await, "the worker was told to stop");
}

/// There is nothing that anybody could need, and nobody to say so.
#[tokio::test(flavor = "multi_thread")]
async fn an_empty_worker_that_is_drained_does_not_wait_for_its_manager_to_come_back() {
    let mut manager = FakeManager::start().await;
    let (worker, _scratch) = worker(&manager, Duration::from_secs(30));
    let mut session = manager.session_in(version::WIRE).await;
    session.say(order(5, true, None));
    while !session.hear_drain().await.draining {}
    drop(session);
    worker.ended().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_drains_it_for_as_long_as_is_configured() {
    let mut manager = FakeManager::start().await;
    let (mut worker, _scratch) = worker(&manager, Duration::from_secs(40));
    let mut session = manager.session_in(version::WIRE).await;
    session.hear_drain().await;
    worker.drain();
    let told = session.hear_drain().await;
    assert!(told.draining && told.left_ms.is_some_and(|left| (30_000..=40_000).contains(&left)), "{told:?}");
    assert_eq!((told.reason.as_str(), told.order), ("a signal to its worker", 0));
    worker.stop().await.unwrap();
    assert_eq!(session.hear_leaving().await, "the worker was told to stop");
}

/// It would go on to send tasks there.
#[tokio::test(flavor = "multi_thread")]
async fn a_manager_of_the_version_before_is_not_told_and_not_waited_for() {
    let mut manager = FakeManager::start().await;
    let (mut worker, _scratch) = worker(&manager, Duration::from_secs(40));
    let mut session = manager.session().await;
    session.hear_beat().await;
    worker.drain();
    let last = session.hear().await;
    assert!(matches!(last, v1::worker_to_manager::Message::Leaving(_)), "{last:?}");
    worker.ended().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_manager_an_empty_worker_goes_at_once() {
    let mut manager = FakeManager::start().await;
    let (mut worker, _scratch) = worker(&manager, Duration::from_secs(40));
    // It was never registered, so nothing was started.
    worker.drain();
    worker.ended().await.unwrap();
    drop(manager.session());
}
