//! Executors and managers that go away while jobs run.

use std::sync::Arc;
use std::time::Duration;

use firesteel_driver::{ConnectOptions, Phase};

use crate::support::{Cluster, LONG, SHORT, Tables, failure, local, number, partitions, until};

/// Several stages, and enough to do that executors can go in between.
const SQL: &str = "select sum(n * s) from (\
    select a.v, count(*) as n, sum(b.v) as s from t a join t b on a.v = b.v where a.g < 5 group by a.v)";

async fn answer(tables: &Tables) -> i64 {
    let (session, _scratch) = local(2).await;
    tables.register(&session).await;
    let answer = number(&session, SQL).await;
    session.close().await;
    answer
}

#[tokio::test]
async fn an_executor_that_stops_in_the_middle_of_a_job_costs_time_but_no_rows() {
    let tables = Tables::make(200_000).await;
    let right = answer(&tables).await;
    let cluster = Cluster::start(2, 1).await;
    let session = cluster.session(partitions(8)).await;
    tables.register(&session).await;
    let query = {
        let session = session.clone();
        tokio::spawn(async move { number(&session, SQL).await })
    };
    // It holds output that the job still needs.
    let doomed = Arc::clone(&cluster.executors[1]);
    until(&session, |_| doomed.status().blocks.blocks > 0).await;
    doomed.shutdown(SHORT).await;
    cluster.workers[1].leave("its host is needed elsewhere");
    assert_eq!(tokio::time::timeout(LONG, query).await.expect("it ends").unwrap(), right);
    let progress = until(&session, |progress| progress.phase == Phase::Succeeded).await;
    assert!(progress.stages.len() > 1, "{progress:?}");
    session.close().await;
    cluster.executors[0].shutdown(SHORT).await;
}

#[tokio::test]
async fn an_executor_that_only_the_driver_cannot_reach_is_left_out() {
    let tables = Tables::make(5000).await;
    let right = answer(&tables).await;
    let cluster = Cluster::start(2, 1).await;
    let session = cluster.session(partitions(4)).await;
    tables.register(&session).await;
    // The manager is not told.
    cluster.executors[1].shutdown(SHORT).await;
    assert_eq!(number(&session, SQL).await, right);
    session.close().await;
    cluster.executors[0].shutdown(SHORT).await;
}

#[tokio::test]
async fn without_the_manager_queries_fail_clearly_and_not_at_once() {
    let cluster = Cluster::start(1, 1).await;
    let options =
        ConnectOptions { manager_away_max: Duration::from_millis(500), ..ConnectOptions::default() };
    let session = cluster.session(options).await;
    assert_eq!(number(&session, "select count(*) from generate_series(1, 10)").await, 10);
    cluster.manager.stop().await;
    let (_, error) = failure(&session, "select count(*) from generate_series(1, 10)").await;
    assert!(error.message.contains("the manager was lost and did not come back"), "{error}");
    session.close().await;
    cluster.stop().await;
}
