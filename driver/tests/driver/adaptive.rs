//! What the sizes of blocks decide while a query runs: shown by EXPLAIN ANALYZE, and never to be seen in the answer.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Int64Array};
use datafusion::common::hash_utils::create_hashes;
use datafusion::physical_plan::repartition::REPARTITION_RANDOM_STATE;
use firesteel_driver::{ConnectOptions, Session};
use firesteel_engine::datafusion;
use firesteel_shuffle::partition::hash_assignment;

use crate::support::{Cluster, QUERIES, Tables, rows};

async fn set(session: &Session, settings: &[(&str, &str)]) {
    for (name, value) in settings {
        rows(session, &format!("set firesteel.{name} = '{value}'")).await;
    }
}

/// What EXPLAIN ANALYZE says was decided.
async fn decided(session: &Session, sql: &str) -> Vec<String> {
    let lines = rows(session, &format!("explain analyze {sql}")).await;
    let decisions = lines.iter().filter_map(|line| line.split_once("adapted: "));
    decisions.map(|(_, decision)| decision.trim_matches(['|', ' ']).to_owned()).collect()
}

/// Asserts that the query is answered as it is without any decision, and returns what was decided.
async fn adapted(session: &Session, sql: &str) -> Vec<String> {
    set(session, &[("adaptive", "false")]).await;
    let expected = rows(session, sql).await;
    assert_eq!(decided(session, sql).await, [""; 0], "{sql}");
    set(session, &[("adaptive", "true")]).await;
    assert_eq!(rows(session, sql).await, expected, "{sql}");
    decided(session, sql).await
}

async fn cluster(tables: &Tables) -> (Cluster, Session) {
    let cluster = Cluster::start(2, 2).await;
    let session = cluster.session(ConnectOptions::default()).await;
    tables.register(&session).await;
    (cluster, session)
}

async fn close(cluster: Cluster, session: Session) {
    session.close().await;
    cluster.assert_empty();
    cluster.stop().await;
}

#[tokio::test]
async fn small_partitions_are_read_together() {
    let tables = Tables::make(20_000).await;
    let (cluster, session) = cluster(&tables).await;
    let decisions = adapted(&session, "select g, count(*) as n, sum(v) as s from t group by g").await;
    assert!(
        decisions[0].starts_with("4 partitions of ") && decisions[0].ends_with(" read as 1"),
        "{decisions:?}"
    );
    close(cluster, session).await;
}

#[tokio::test]
async fn a_skewed_partition_is_read_by_several_lanes() {
    let tables = Tables::make(20_000).await;
    let (cluster, session) = cluster(&tables).await;
    let settings =
        [("broadcast_threshold", "0B"), ("merge_partitions_below", "0B"), ("split_partitions_above", "1KiB")];
    set(&session, &settings).await;
    let skewed = "select case when k % 10 < 9 then 1 else k end as key, v from t";
    let few = "select k, g from t where k < 4000";
    for (select, decides) in
        [("b.g, count(*) as n, max(a.key) as m", " group by b.g"), ("a.key, a.v, b.g", " where a.v < 300")]
    {
        let sql = format!("select {select} from ({skewed}) a join ({few}) b on a.key = b.k{decides}");
        let decisions = adapted(&session, &sql).await;
        let is_divided = |decision: &String| decision.ends_with("a skewed one by several lanes");
        assert!(decisions.iter().any(is_divided), "{sql}: {decisions:?}");
    }
    // Each row of the skewed side must meet no other part of it: rows that none matches are told apart.
    for join in ["left", "right", "full"] {
        let sql = format!("select a.key, a.v, b.g from ({skewed}) a {join} join ({few}) b on a.key = b.k");
        adapted(&session, &sql).await;
    }
    close(cluster, session).await;
}

/// Numbers that the exchange brings into the same one of four partitions.
fn keys_of_one_partition(count: usize) -> Vec<i64> {
    let keys: Vec<i64> = (0..1000).collect();
    let column: ArrayRef = Arc::new(Int64Array::from(keys.clone()));
    let (mut hashes, mut partitions) = (vec![0; keys.len()], Vec::new());
    create_hashes(&[column], REPARTITION_RANDOM_STATE.random_state(), &mut hashes).unwrap();
    hash_assignment(&hashes, 4, &mut partitions);
    let of_one = keys.into_iter().zip(partitions).filter(|(_, partition)| *partition == 2);
    of_one.map(|(key, _)| key).take(count).collect()
}

#[tokio::test]
async fn a_skewed_partition_is_divided_by_key_where_all_rows_of_a_key_must_meet() {
    let tables = Tables::make(20_000).await;
    let (cluster, session) = cluster(&tables).await;
    let settings =
        [("broadcast_threshold", "0B"), ("merge_partitions_below", "0B"), ("split_partitions_above", "1KiB")];
    set(&session, &settings).await;
    let keys = keys_of_one_partition(9);
    let whens = (0..).zip(&keys).map(|(nth, key)| format!("when {nth} then {key} ")).collect::<String>();
    let skewed = format!("(select case k % 10 {whens} else k end as key, k, v from t)");
    for sql in [
        format!("select key, median(v), count(distinct v), count(distinct k) from {skewed} group by key"),
        format!("select key, k, row_number() over (partition by key order by k) as n from {skewed}"),
        format!(
            "select a.key, a.k, b.v from {skewed} a full join (select * from {skewed} where k < 400) b \
             on a.key = b.key and a.k < b.k"
        ),
        format!(
            "select a.key, count(*), sum(b.g) from {skewed} a left join (select k, g from t where k < 900) b on a.key = b.k group by a.key"
        ),
    ] {
        let decisions = adapted(&session, &sql).await;
        let is_divided = |decision: &String| decision.contains("divided by key");
        assert!(decisions.iter().any(is_divided), "{sql}: {decisions:?}");
    }
    close(cluster, session).await;
}

#[tokio::test]
async fn an_empty_side_ends_a_join_early() {
    let tables = Tables::make(20_000).await;
    let (cluster, session) = cluster(&tables).await;
    set(&session, &[("broadcast_threshold", "0B")]).await;
    // No file can be left out by its bounds: that no row is left is seen by reading them.
    let none = "select k, g from t where v * 2 = 1 and k % 3 = 0";
    for select in ["count(*)", "count(*), sum(b.v)"] {
        let sql = format!("select {select} from ({none}) a join t b on a.k = b.k");
        adapted(&session, &sql).await;
    }
    for join in ["left", "right", "full"] {
        let sql = format!("select count(*), sum(b.v) from ({none}) a {join} join t b on a.k = b.k");
        adapted(&session, &sql).await;
    }
    close(cluster, session).await;
}

#[tokio::test]
async fn whatever_is_decided_answers_stay_the_same() {
    let tables = Tables::make(20_000).await;
    let (cluster, session) = cluster(&tables).await;
    for settings in [
        &[("merge_partitions_below", "4KiB"), ("split_partitions_above", "256B")][..],
        &[("merge_partitions_below", "0B"), ("split_partitions_above", "1B"), ("broadcast_threshold", "0B")],
        &[("merge_partitions_below", "1GiB"), ("broadcast_threshold", "1KiB")],
    ] {
        set(&session, settings).await;
        for sql in QUERIES {
            adapted(&session, sql).await;
        }
    }
    close(cluster, session).await;
}
