//! Cluster-mode drivers of a worker, and the results they leave.

use std::collections::HashMap;

use firesteel_base::version;
use firesteel_certs::Security;
use firesteel_protocol::channel::{Server, connect};
use firesteel_protocol::v1;
use futures::TryStreamExt;
use tonic::{Code, Status};
use v1::manager_to_worker::Message as ToWorker;
use v1::worker_client::WorkerClient;

use crate::manager::{FakeManager, Session, Worker, config, run, script};

/// A worker whose drivers run `driver`, as they are called: `--job N --manager HOST:PORT --result FILE`.
async fn start(scratch: &tempfile::TempDir, driver: &str) -> (Worker, Session) {
    let mut manager = FakeManager::start().await;
    let mut config = config(&manager.address, scratch.path(), script("exit 1"), script(driver));
    config.restart.ends_max = 1;
    let worker = run(config);
    let session = manager.session().await;
    (worker, session)
}

fn launch(session: &Session, job: u64) {
    launch_again(session, job, 1);
}

fn launch_again(session: &Session, job: u64, launch: u32) {
    session.say(ToWorker::LaunchDriver(v1::LaunchDriver {
        job,
        name: "nightly".to_owned(),
        sql: "select 'a\nb'".to_owned(),
        conf: HashMap::from([("k".to_owned(), "v".to_owned())]),
        launch,
        secret: format!("fsd_{job}_s"),
        result_ticket: String::new(),
    }));
}

async fn fetch(session: &Session, job: u64) -> Result<Vec<u8>, Status> {
    let channel = connect(&Security::default(), Server::Worker, &session.registration.address).await.unwrap();
    let request = v1::FetchResultRequest { wire_version: version::WIRE, job, ticket: String::new() };
    let chunks = WorkerClient::new(channel).fetch_result(request).await?.into_inner();
    let chunks: Vec<_> = chunks.try_collect().await?;
    Ok(chunks.iter().flat_map(|chunk| chunk.data.to_vec()).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_hears_what_to_run_and_its_result_is_kept() {
    let scratch = tempfile::tempdir().unwrap();
    let (worker, mut session) = start(&scratch, r#"read -r line; printf '%s %s' "$2" "$line" > "$6""#).await;
    launch(&session, 4);
    let ended = session.hear_driver_ended().await;
    assert_eq!((ended.job, ended.succeeded, ended.reason.as_str()), (4, true, ""));
    let result = String::from_utf8(fetch(&session, 4).await.unwrap()).unwrap();
    assert_eq!(
        result,
        r#"4 {"name":"nightly","sql":"select 'a\nb'","conf":{"k":"v"},"launch":1,"memory_bytes":536870912,"secret":"fsd_4_s","security":{"Plain":{"anywhere":false}}}"#
    );
    worker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_result_comes_in_chunks() {
    let scratch = tempfile::tempdir().unwrap();
    let (worker, mut session) = start(&scratch, r#"read line; head -c 3500000 /dev/zero > "$6""#).await;
    launch(&session, 1);
    assert!(session.hear_driver_ended().await.succeeded);
    assert_eq!(fetch(&session, 1).await.unwrap().len(), 3_500_000);
    worker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_freed_result_is_not_found() {
    let scratch = tempfile::tempdir().unwrap();
    let (worker, mut session) = start(&scratch, r#"read line; echo rows > "$6""#).await;
    launch(&session, 1);
    assert!(session.hear_driver_ended().await.succeeded);
    session.say(ToWorker::FreeResult(v1::FreeResult { job: 1 }));
    // Commands are obeyed in order: when the second driver has run, the first one's result is freed.
    launch(&session, 2);
    assert_eq!(session.hear_driver_ended().await.job, 2);
    assert_eq!(fetch(&session, 1).await.unwrap_err().code(), Code::NotFound);
    worker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_driver_says_why_and_leaves_no_result() {
    let scratch = tempfile::tempdir().unwrap();
    let driver =
        r#"read line; echo half > "$6"; echo log >&2; echo '{"message":"no such table"}' >&2; exit 1"#;
    let (worker, mut session) = start(&scratch, driver).await;
    launch(&session, 1);
    let ended = session.hear_driver_ended().await;
    assert_eq!((ended.succeeded, ended.reason.as_str()), (false, "no such table"));
    assert_eq!(fetch(&session, 1).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(std::fs::read_dir(scratch.path().join("results")).unwrap().count(), 0);
    worker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_stops_when_told() {
    let scratch = tempfile::tempdir().unwrap();
    let (worker, mut session) = start(&scratch, "read line; exec cat >/dev/null").await;
    launch(&session, 1);
    session.say(ToWorker::StopDriver(v1::StopDriver { job: 1 }));
    let ended = session.hear_driver_ended().await;
    assert_eq!((ended.succeeded, ended.reason.as_str()), (false, "stopped on request"));
    worker.stop().await.unwrap();
}

/// The manager had given the first one up, and launches it where it still runs.
#[tokio::test(flavor = "multi_thread")]
async fn a_later_launch_begins_when_the_driver_before_has_ended() {
    let scratch = tempfile::tempdir().unwrap();
    let driver =
        r#"read -r line; case "$line" in *'"launch":1'*) exec cat >/dev/null;; esac; echo rows > "$6""#;
    let (worker, mut session) = start(&scratch, driver).await;
    launch(&session, 1);
    launch_again(&session, 1, 2);
    launch(&session, 1);
    let first = session.hear_driver_ended().await;
    assert_eq!((first.launch, first.succeeded, first.reason.as_str()), (1, false, "stopped on request"));
    let second = session.hear_driver_ended().await;
    assert_eq!((second.launch, second.succeeded), (2, true), "{}", second.reason);
    assert_eq!(fetch(&session, 1).await.unwrap(), b"rows\n");
    worker.stop().await.unwrap();
}
