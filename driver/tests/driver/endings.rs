//! How queries end early, and what is left then.

use std::sync::Arc;

use firesteel_base::Class;
use firesteel_base::version;
use firesteel_driver::{ConnectOptions, Phase};
use firesteel_protocol::v1;
use futures::StreamExt;

use crate::support::{Cluster, LONG, SHORT, local, number, told, until};

/// Computes for longer than any test waits.
const ENDLESS: &str = "select count(*) from generate_series(1, 1000000) a, generate_series(1, 1000000) b where a.value % 7 = b.value % 11";

#[tokio::test]
async fn a_cancelled_query_ends_with_the_reason_and_the_session_goes_on() {
    let (session, _scratch) = local(1).await;
    let frame = session.sql(ENDLESS).await.unwrap();
    let query = tokio::spawn(frame.collect());
    until(&session, |progress| progress.stages.iter().any(|stage| stage.running > 0)).await;
    session.cancel("enough");
    let ended = tokio::time::timeout(LONG, query).await.expect("it ends").unwrap();
    let (class, error) = told(&ended.unwrap_err());
    assert_eq!(class, Class::Cancelled);
    assert_eq!(error.detail.as_deref(), Some("enough"));
    assert_eq!(number(&session, "select 41 + 1").await, 42);
    session.close().await;
}

#[tokio::test]
async fn dropping_the_stream_cancels_the_job() {
    let cluster = Cluster::start(1, 1).await;
    let session = cluster.session(ConnectOptions::default()).await;
    let mut stream = session
        .sql("select * from generate_series(1, 3000000)")
        .await
        .unwrap()
        .execute_stream()
        .await
        .unwrap();
    let first = tokio::time::timeout(LONG, stream.next()).await.expect("rows come").unwrap().unwrap();
    assert!(first.num_rows() > 0);
    drop(stream);
    until(&session, |progress| progress.phase == Phase::Cancelled).await;
    session.close().await;
    cluster.assert_empty();
    cluster.stop().await;
}

#[tokio::test]
async fn closing_the_session_ends_its_queries() {
    let cluster = Cluster::start(2, 1).await;
    let session = cluster.session(ConnectOptions::default()).await;
    let query = tokio::spawn(session.sql(ENDLESS).await.unwrap().collect());
    until(&session, |progress| progress.stages.iter().any(|stage| stage.running > 0)).await;
    session.close().await;
    cluster.assert_empty();
    let ended = tokio::time::timeout(SHORT, query).await.expect("it has ended").unwrap();
    assert_eq!(told(&ended.unwrap_err()).0, Class::Cancelled);
    cluster.stop().await;
}

#[tokio::test]
async fn the_manager_may_cancel_a_job() {
    let cluster = Cluster::start(1, 1).await;
    let session = cluster.session(ConnectOptions::default()).await;
    let query = tokio::spawn(session.sql(ENDLESS).await.unwrap().collect());
    let progress = until(&session, |progress| progress.stages.iter().any(|stage| stage.running > 0)).await;
    let job = progress.job.expect("a running job has a number").0;
    let request = v1::CancelJobRequest { wire_version: version::WIRE, job };
    cluster.manager.cancel_job(request).await.unwrap();
    let ended = tokio::time::timeout(LONG, query).await.expect("it ends").unwrap();
    assert_eq!(told(&ended.unwrap_err()).0, Class::Cancelled);
    let request = v1::WaitJobRequest { wire_version: version::WIRE, job, max_wait_ms: 10_000 };
    let info = cluster.manager.wait_job(request).await.unwrap();
    assert_eq!(info.state(), v1::JobState::Cancelled);
    assert_eq!(info.slots_held, 0);
    // The slots are free: another query runs.
    assert_eq!(number(&session, "select count(*) from generate_series(1, 10)").await, 10);
    session.close().await;
    cluster.assert_empty();
    cluster.stop().await;
}

#[tokio::test]
async fn a_dropped_session_gives_everything_back() {
    let cluster = Cluster::start(1, 1).await;
    let session = cluster.session(ConnectOptions::default()).await;
    let query = tokio::spawn(session.sql(ENDLESS).await.unwrap().collect());
    let progress = until(&session, |progress| progress.stages.iter().any(|stage| stage.running > 0)).await;
    query.abort();
    drop(session);
    let request =
        v1::WaitJobRequest { wire_version: version::WIRE, job: progress.job.unwrap().0, max_wait_ms: 20_000 };
    let info = Arc::clone(&cluster.manager).wait_job(request).await.unwrap();
    assert_eq!(info.state(), v1::JobState::Cancelled);
    cluster.stop().await;
}
