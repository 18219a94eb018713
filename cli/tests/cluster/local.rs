//! Local mode as a library.

use firesteel_engine::datafusion::arrow::util::display::array_value_to_string;
use firesteel_engine::datafusion::functions_aggregate::expr_fn::sum;
use firesteel_engine::datafusion::prelude::{col, lit};
use firesteel_testing::cluster::files_below;
use firesteel_testing::oracle::tpch::Scale;
use futures::StreamExt;

use crate::engines::{Engine, runtime};
use crate::tpch::register;

/// The first value of the answer.
async fn one_number(engine: &Engine, sql: &str) -> String {
    let (_, batches) = engine.rows(sql).await.unwrap();
    let rows = batches.iter().find(|batch| batch.num_rows() > 0).unwrap();
    array_value_to_string(rows.column(0), 0).unwrap()
}

#[test]
fn the_dataframe_api_and_sql_see_the_same_tables() {
    runtime().block_on(async {
        let engine = Engine::local(2).await.unwrap();
        register(&engine, Scale::Tenth).await;
        let frame = engine.0.context().table("nation").await.unwrap();
        let frame = frame.filter(col("n_regionkey").eq(lit(3))).unwrap();
        let frame = frame.aggregate(vec![], vec![sum(col("n_nationkey")).alias("keys")]).unwrap();
        engine.0.context().register_table("europe", frame.into_view()).unwrap();
        let right = one_number(&engine, "SELECT sum(n_nationkey) FROM nation WHERE n_regionkey = 3").await;
        assert_eq!(one_number(&engine, "SELECT keys FROM europe").await, right);
        engine.0.close().await;
    });
}

#[test]
fn a_dropped_result_stream_leaves_the_session_usable() {
    runtime().block_on(async {
        let engine = Engine::local(2).await.unwrap();
        register(&engine, Scale::Tenth).await;
        for _ in 0..3 {
            let frame = engine.0.sql("SELECT * FROM lineitem").await.unwrap();
            let mut rows = frame.execute_stream().await.unwrap();
            assert!(rows.next().await.unwrap().unwrap().num_rows() > 0);
        }
        assert_eq!(one_number(&engine, "SELECT count(*) FROM lineitem").await, "600572");
        engine.0.close().await;
    });
}

#[test]
fn queries_of_one_session_run_side_by_side() {
    runtime().block_on(async {
        let engine = Engine::local(2).await.unwrap();
        register(&engine, Scale::Tenth).await;
        let queries = (1..=7).map(|n| format!("SELECT count(*) FROM lineitem WHERE l_linenumber = {n}"));
        let queries: Vec<_> = queries.collect();
        let found = futures::future::join_all(queries.iter().map(|sql| one_number(&engine, sql))).await;
        let found: Vec<u64> = found.iter().map(|count| count.parse().unwrap()).collect();
        assert_eq!(found.iter().sum::<u64>(), 600_572);
        // Every order has a first line, and fewer have a second, and so on.
        assert!(found.is_sorted_by(|a, b| a > b), "{found:?}");
        engine.0.close().await;
    });
}

#[test]
fn nothing_is_left_on_scratch() {
    let scratch = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let engine = Engine::local_within(2, "1GiB".parse().unwrap(), scratch.path()).await.unwrap();
        register(&engine, Scale::Tenth).await;
        assert_eq!(one_number(&engine, "SELECT count(DISTINCT l_comment) > 0 FROM lineitem").await, "true");
        engine.0.close().await;
    });
    let left = files_below(scratch.path()).unwrap();
    assert!(left.is_empty(), "{left:?}");
}
