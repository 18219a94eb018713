//! Sorts that all core threads of a cluster merge together, each a range of the keys.

use std::sync::Arc;

use datafusion::arrow::util::pretty::pretty_format_batches;
use firesteel_driver::{ConnectOptions, JobProgress, Session};
use firesteel_engine::datafusion;

use crate::support::{Cluster, LONG, SHORT, Tables, partitions, rows, until};

/// The rows in the order in which they come, as lines of text.
async fn in_order(session: &Session, sql: &str) -> Vec<String> {
    let batches = session.sql(sql).await.unwrap().collect().await.unwrap();
    pretty_format_batches(&batches).unwrap().to_string().lines().map(str::to_owned).collect()
}

/// The answers of one task that merges, and of all core threads.
async fn both_ways(session: &Session, sql: &str) -> [Vec<String>; 2] {
    rows(session, "set firesteel.range_sorts_above = '1KiB'").await;
    rows(session, "set firesteel.range_sorts = 'false'").await;
    let one = in_order(session, sql).await;
    rows(session, "set firesteel.range_sorts = 'true'").await;
    let plan = rows(session, &format!("explain {sql}")).await;
    assert!(plan.iter().any(|line| line.contains("by=range(")), "{sql}: {plan:?}");
    [one, in_order(session, sql).await]
}

#[tokio::test]
async fn ranges_come_one_after_the_other_whatever_the_lanes() {
    let tables = Tables::make(40_000).await;
    for (cores, options) in
        [(1, ConnectOptions::default()), (2, ConnectOptions::default()), (2, partitions(5))]
    {
        let cluster = Cluster::start(2, cores).await;
        let session = cluster.session(options).await;
        tables.register(&session).await;
        for sql in [
            "select v, k, g from t order by v desc, k",
            "select g, v, count(*) as n, max(k) as last from t group by g, v order by n desc, last",
            "select g from t order by g",
            "select k from t where k % 1000 = 17 order by k desc",
        ] {
            let [one, ranges] = both_ways(&session, sql).await;
            assert!(one == ranges, "{sql}");
        }
        session.close().await;
        cluster.assert_empty();
        cluster.stop().await;
    }
}

#[tokio::test]
async fn an_executor_that_goes_while_rows_are_sorted_costs_no_row() {
    const SQL: &str = "select v, k, g from t order by v desc, k";
    let tables = Tables::make(200_000).await;
    let cluster = Cluster::start(2, 1).await;
    let session = cluster.session(partitions(6)).await;
    tables.register(&session).await;
    rows(&session, "set firesteel.range_sorts = 'false'").await;
    let right = in_order(&session, SQL).await;
    let before = session.progress().borrow().job;
    rows(&session, "set firesteel.range_sorts = 'true'").await;
    let query = {
        let session = session.clone();
        tokio::spawn(async move { in_order(&session, SQL).await })
    };
    // It has sorted rows that ranges are merged from.
    let doomed = Arc::clone(&cluster.executors[1]);
    let has_sorted = |progress: &JobProgress| {
        progress.job != before && progress.stages.first().is_some_and(|stage| stage.done > 0)
    };
    until(&session, has_sorted).await;
    doomed.shutdown(SHORT).await;
    cluster.workers[1].leave("its host is needed elsewhere");
    match tokio::time::timeout(LONG, query).await.expect("it ends") {
        Ok(found) => assert!(found == right),
        // Rows that were handed out cannot be taken back, and ranges of two runs are never mixed: it is said so.
        Err(failed) => assert!(format!("{failed:?}").contains("was handed out already"), "{failed:?}"),
    }
    session.close().await;
    cluster.executors[0].shutdown(SHORT).await;
}
