//! A skewed partition is divided by its keys among processes.

use firesteel_engine::datafusion::arrow::util::pretty::pretty_format_batches;
use firesteel_testing::cluster::ClusterOptions;

use crate::engines::{Engine, cluster, runtime};

/// Rows of which nine in ten have keys that the hash of an exchange brings into the same one of four partitions: what a key
/// hashes to is stored in `engine/tests/session/key_hashes.rs`.
const SKEWED: &str = "(select case value % 10 when 0 then 1 when 1 then 4 when 2 then 8 when 3 then 10 when 4 then 13 \
    when 5 then 20 when 6 then 26 when 7 then 29 when 8 then 38 else value end as key, value as v \
    from generate_series(1, 60000))";

async fn text(engine: &Engine, sql: &str) -> String {
    let (_, batches) = engine.rows(sql).await.unwrap_or_else(|fault| panic!("{sql}: {fault}"));
    pretty_format_batches(&batches).unwrap().to_string()
}

#[test]
fn a_skewed_partition_is_divided_by_key_where_all_rows_of_a_key_must_meet() {
    let cluster = cluster(ClusterOptions::default());
    runtime().block_on(async {
        let engine = Engine::connect(cluster.address()).await.unwrap();
        for (name, value) in [
            ("partitions", "4"),
            ("broadcast_threshold", "'0B'"),
            ("merge_partitions_below", "'0B'"),
            ("split_partitions_above", "'1KiB'"),
        ] {
            text(&engine, &format!("set firesteel.{name} = {value}")).await;
        }
        for sql in [
            format!(
                "select count(*), sum(m), sum(d + e) from (select key, median(v) as m, count(distinct v % 1000) as d, \
                 count(distinct v % 7) as e from {SKEWED} group by key)"
            ),
            format!(
                "select sum(n * v), max(n) from (select v, row_number() over (partition by key order by v) as n \
                 from {SKEWED})"
            ),
            format!(
                "select count(*), sum(a.v), sum(b.v) from {SKEWED} a \
                 full join (select * from {SKEWED} where v < 300) b on a.key = b.key"
            ),
        ] {
            text(&engine, "set firesteel.adaptive = false").await;
            let planned = text(&engine, &sql).await;
            text(&engine, "set firesteel.adaptive = true").await;
            assert_eq!(text(&engine, &sql).await, planned, "{sql}");
            let analyzed = text(&engine, &format!("explain analyze {sql}")).await;
            assert!(analyzed.contains("a skewed one by several lanes, divided by key"), "{sql}:\n{analyzed}");
        }
        engine.0.close().await;
    });
    cluster.stop().unwrap();
}
