//! The worker and its executor processes. A shell script stands for the process; where it matters, the gRPC service that
//! the script names is a real executor in the test.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use firesteel_base::Epoch;
use firesteel_certs::Security;
use firesteel_executor::worker::{ChildCommand, WorkerLimits};
use firesteel_executor::{Executor, Limits, shell};
use firesteel_protocol::v1;
use tonic::Status;
use v1::manager_to_worker::Message as ToWorker;
use v1::worker_to_manager::Message as FromWorker;

use crate::driver::{self, eventually};
use crate::manager::{FakeManager, config, run, script};

/// A process that says it is ready at `control` and lives until its input ends.
fn ready_at(control: &str) -> ChildCommand {
    script(&format!("{}; exec cat >/dev/null", say_ready(control)))
}

fn say_ready(control: &str) -> String {
    format!(r#"read config; printf '{{"control":"{control}","shuffle":"127.0.0.1:1","pid":%d}}\n' $$"#)
}

fn unused_driver() -> ChildCommand {
    script("exit 1")
}

/// A real executor behind gRPC, without an epoch.
async fn serve_executor(scratch: &Path) -> (Arc<Executor>, String) {
    let config = driver::config(1, firesteel_base::ByteSize(64 << 20), Limits::default(), scratch.to_owned());
    let executor = Executor::start(config).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(shell::serve(Arc::clone(&executor), listener, Security::default(), std::future::pending()));
    (executor, address)
}

fn is_running(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_executor_comes_up_and_learns_its_epoch() {
    let scratch = tempfile::tempdir().unwrap();
    let (executor, control) = serve_executor(&scratch.path().join("real")).await;
    let mut manager = FakeManager::start().await;
    let worker = run(config(&manager.address, scratch.path(), ready_at(&control), unused_driver()));
    let mut session = manager.session().await;
    assert_eq!((session.registration.worker.as_str(), session.registration.rack.as_str()), ("host1", "r1"));
    assert_eq!(session.registration.executors.len(), 1);
    assert_eq!(session.registration.executors[0].slots, 1);
    let up = session.hear_up().await;
    assert_eq!((up.index, up.control_address.as_str()), (0, control.as_str()));
    session.say(ToWorker::ExecutorEpoch(v1::ExecutorEpoch { index: 0, epoch: 5 }));
    eventually("the executor knows its epoch", || executor.epoch() == Some(Epoch(5))).await;
    assert_eq!(session.hear_usage().await.index, 0);
    worker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_executor_is_reported_and_started_again() {
    let scratch = tempfile::tempdir().unwrap();
    let (_executor, control) = serve_executor(&scratch.path().join("real")).await;
    let mut manager = FakeManager::start().await;
    let worker = run(config(&manager.address, scratch.path(), ready_at(&control), unused_driver()));
    let mut session = manager.session().await;
    let first = session.hear_up().await;
    session.say(ToWorker::ExecutorEpoch(v1::ExecutorEpoch { index: 0, epoch: 5 }));
    session.hear_usage().await;
    let pid = rustix::process::Pid::from_raw(i32::try_from(first.pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let down = session.hear_down().await;
    assert_eq!((down.index, down.epoch), (0, 5));
    assert!(down.reason.contains("SIGKILL"), "{}", down.reason);
    assert_ne!(session.hear_up().await.pid, first.pid);
    worker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_executor_that_keeps_dying_is_given_up() {
    let scratch = tempfile::tempdir().unwrap();
    let mut manager = FakeManager::start().await;
    let worker = run(config(&manager.address, scratch.path(), script("exit 3"), unused_driver()));
    let mut session = manager.session().await;
    let down = session.hear_down().await;
    assert!(down.reason.starts_with("ended 3 times within"), "{}", down.reason);
    assert!(down.reason.contains("exit status: 3 before it was ready"), "{}", down.reason);
    worker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_executor_that_falls_silent_is_killed() {
    let scratch = tempfile::tempdir().unwrap();
    let mut manager = FakeManager::start().await;
    // Nothing listens there.
    let mut config = config(&manager.address, scratch.path(), ready_at("127.0.0.1:1"), unused_driver());
    config.limits.silence_max = Duration::from_millis(50);
    let worker = run(config);
    let mut session = manager.session().await;
    let up = session.hear_up().await;
    let down = session.hear_down().await;
    assert!(down.reason.starts_with("silent for"), "{}", down.reason);
    assert!(!is_running(up.pid));
    worker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_executor_that_never_is_ready_is_killed() {
    let scratch = tempfile::tempdir().unwrap();
    let mut manager = FakeManager::start().await;
    // Its output stays open, and says nothing.
    let silent = script("cat >/dev/null; true");
    let mut config = config(&manager.address, scratch.path(), silent, unused_driver());
    config.limits = WorkerLimits { ready_timeout: Duration::from_millis(20), ..WorkerLimits::default() };
    config.restart.ends_max = 1;
    let worker = run(config);
    let mut session = manager.session().await;
    let down = session.hear_down().await;
    assert!(down.reason.contains("not ready within 20ms"), "{}", down.reason);
    worker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_manager_is_found_again_and_hears_who_is_up() {
    let scratch = tempfile::tempdir().unwrap();
    let (_executor, control) = serve_executor(&scratch.path().join("real")).await;
    let mut manager = FakeManager::start().await;
    let worker = run(config(&manager.address, scratch.path(), ready_at(&control), unused_driver()));
    let mut session = manager.session().await;
    let up = session.hear_up().await;
    let incarnation = session.registration.incarnation.clone();
    drop(session);
    let mut again = manager.session().await;
    assert_eq!(again.registration.incarnation, incarnation);
    assert_eq!(again.hear_up().await, up);
    assert!(is_running(up.pid));
    worker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_stops_says_so_and_ends_its_executors() {
    let scratch = tempfile::tempdir().unwrap();
    let (_executor, control) = serve_executor(&scratch.path().join("real")).await;
    let mut manager = FakeManager::start().await;
    let worker = run(config(&manager.address, scratch.path(), ready_at(&control), unused_driver()));
    let mut session = manager.session().await;
    let up = session.hear_up().await;
    let (stopped, last) = tokio::join!(worker.stop(), session.hear());
    stopped.unwrap();
    assert!(matches!(last, FromWorker::Leaving(_)), "{last:?}");
    assert!(!is_running(up.pid));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_executor_that_ignores_sigterm_is_killed() {
    let scratch = tempfile::tempdir().unwrap();
    let (_executor, control) = serve_executor(&scratch.path().join("real")).await;
    let mut manager = FakeManager::start().await;
    let deaf = script(&format!("trap '' TERM; {}; while true; do sleep 1; done", say_ready(&control)));
    let mut config = config(&manager.address, scratch.path(), deaf, unused_driver());
    config.limits.stop_timeout = Duration::from_millis(50);
    let worker = run(config);
    let mut session = manager.session().await;
    let up = session.hear_up().await;
    worker.stop().await.unwrap();
    assert!(!is_running(up.pid));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_refused_ends_with_the_reason() {
    let scratch = tempfile::tempdir().unwrap();
    let manager =
        FakeManager::refusing(Status::already_exists("worker 'host1' is registered from elsewhere")).await;
    let mut config = config(&manager.address, scratch.path(), script("exit 1"), unused_driver());
    // It asks for a while: the manager may not have seen yet that the process before this one is gone.
    config.limits.in_use_max = Duration::from_millis(300);
    let begun = Instant::now();
    let worker = run(config);
    let fault = worker.ended().await.unwrap_err();
    assert_eq!(fault.message, "worker 'host1' is registered from elsewhere");
    assert!(begun.elapsed() >= Duration::from_millis(300));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_share_neither_scratch_folder_nor_port() {
    let scratch = tempfile::tempdir().unwrap();
    let mut manager = FakeManager::start().await;
    let first_config = config(&manager.address, scratch.path(), script("exit 1"), unused_driver());
    let first = run(first_config.clone());
    let session = manager.session().await;
    let fault = run(first_config.clone()).ended().await.unwrap_err();
    assert!(fault.message.contains("another worker uses the scratch folder"), "{fault}");
    let elsewhere = tempfile::tempdir().unwrap();
    let mut second = config(&manager.address, elsewhere.path(), script("exit 1"), unused_driver());
    second.listen = session.registration.address.parse().unwrap();
    let fault = run(second).ended().await.unwrap_err();
    assert!(fault.message.contains("cannot listen on 127.0.0.1:"), "{fault}");
    first.stop().await.unwrap();
}
