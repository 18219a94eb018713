//! With little memory, what can spill does, and the answers are the same.

use firesteel_base::ByteSize;
use firesteel_bench::queries::TPCH;
use firesteel_engine::datafusion::arrow::util::pretty::pretty_format_batches;
use firesteel_testing::cluster::{ClusterOptions, files_below};
use firesteel_testing::oracle::Answer;
use firesteel_testing::oracle::tpch::{Scale, check};

use crate::engines::{Engine, cluster, runtime};
use crate::tpch::{check_all, check_answers, register};

/// Holds neither all groups nor all rows to sort.
const LITTLE: ByteSize = ByteSize(384 << 20);
/// With joins that sort, less is enough for all of TPC-H, whose sorts and groupings then spill.
const LESS: ByteSize = ByteSize(128 << 20);
/// What the build sides of TPC-H do not fit in, on two one-core executors.
const LEAST: ByteSize = ByteSize(64 << 20);
/// The same for an executor of two core threads.
const LEAST_FOR_TWO: ByteSize = ByteSize(192 << 20);

/// A sort and an aggregation whose state is several times that.
const SORT: &str = "SELECT sum(l_orderkey % 7 * (rn % 5)) FROM \
    (SELECT l_orderkey, row_number() OVER (ORDER BY l_comment, l_orderkey, l_linenumber) AS rn, l_shipinstruct, l_partkey FROM lineitem)";
const GROUPS: &str = "SELECT count(*), sum(c), max(c) FROM \
    (SELECT l_comment, l_partkey, count(*) AS c FROM lineitem GROUP BY l_comment, l_partkey)";

async fn text(engine: &Engine, sql: &str) -> String {
    let (_, batches) = engine.rows(sql).await.unwrap();
    pretty_format_batches(&batches).unwrap().to_string()
}

/// Operators of the plan spill when it is run. What did not happen is not in the text.
async fn assert_spills(engine: &Engine, sql: &str) {
    let plan = text(engine, &format!("EXPLAIN ANALYZE {sql}")).await;
    assert!(spill_count(&plan) > 0, "nothing spilled:\n{plan}");
}

/// How often the operators of an analyzed plan spilled.
fn spill_count(plan: &str) -> u64 {
    let counts = plan.split("spill_count=").skip(1).map(|rest| {
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse::<u64>().unwrap()
    });
    counts.sum()
}

async fn compare(little: &Engine, plenty: &Engine) {
    for engine in [little, plenty] {
        register(engine, Scale::One).await;
    }
    for sql in [SORT, GROUPS] {
        assert_spills(little, sql).await;
        assert_eq!(text(little, sql).await, text(plenty, sql).await, "{sql}");
    }
}

#[test]
fn sorting_and_grouping_spill_in_local_mode() {
    let scratch = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let little = Engine::local_within(2, LITTLE, scratch.path()).await.unwrap();
        let plenty = Engine::local(2).await.unwrap();
        compare(&little, &plenty).await;
        little.0.close().await;
        plenty.0.close().await;
    });
    let left = files_below(scratch.path()).unwrap();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn sorting_and_grouping_spill_on_a_cluster() {
    let cluster = cluster(ClusterOptions { memory: LITTLE, ..ClusterOptions::default() });
    runtime().block_on(async {
        let little = Engine::connect(cluster.address()).await.unwrap();
        let plenty = Engine::local(2).await.unwrap();
        compare(&little, &plenty).await;
        little.0.close().await;
        plenty.0.close().await;
    });
    cluster.stop().unwrap();
}

/// Lets joins sort both sides instead of holding one of them.
async fn sort_for_joins(engine: &Engine) {
    register(engine, Scale::One).await;
    engine.rows("SET datafusion.optimizer.prefer_hash_join = false").await.unwrap();
}

/// Some of these queries spill when they are run.
async fn assert_some_spill(engine: &Engine, queries: &[&str]) {
    let mut spills = 0;
    for query in TPCH.iter().filter(|query| queries.contains(&query.name)) {
        spills += spill_count(&text(engine, &format!("EXPLAIN ANALYZE {}", query.sql)).await);
    }
    assert!(spills > 0, "nothing spilled");
}

#[test]
fn tpch_one_local_spills() {
    let queries = ["q03", "q10", "q12", "q17", "q18", "q20"];
    let scratch = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let engine = Engine::local_within(2, LITTLE, scratch.path()).await.unwrap();
        sort_for_joins(&engine).await;
        assert_some_spill(&engine, &queries).await;
        for query in TPCH.iter().filter(|query| queries.contains(&query.name)) {
            let (_, batches) = engine.rows(query.sql).await.unwrap();
            check(Scale::One, query.name, &Answer::from_batches(&batches).unwrap()).unwrap();
        }
        engine.0.close().await;
    });
}

#[test]
fn tpch_one_cluster_spills() {
    let cluster = cluster(ClusterOptions { memory: LESS, ..ClusterOptions::default() });
    runtime().block_on(async {
        let engine = Engine::connect(cluster.address()).await.unwrap();
        sort_for_joins(&engine).await;
        assert_some_spill(&engine, &["q03", "q10", "q17", "q20"]).await;
        check_answers(&engine, Scale::One).await;
        engine.0.close().await;
    });
    cluster.stop().unwrap();
}

/// Joins of these queries go on in files.
const JOINS: [&str; 5] = ["q03", "q05", "q09", "q18", "q21"];

/// Some hash joins of these queries spill when they are run.
async fn assert_joins_spill(engine: &Engine) {
    let mut spills = 0;
    for query in TPCH.iter().filter(|query| JOINS.contains(&query.name)) {
        let plan = text(engine, &format!("EXPLAIN ANALYZE {}", query.sql)).await;
        spills += plan.lines().filter(|line| line.contains("HashJoinExec")).map(spill_count).sum::<u64>();
    }
    assert!(spills > 0, "no join spilled");
}

#[test]
fn tpch_one_local_with_little_memory() {
    let scratch = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let engine = Engine::local_within(2, LEAST_FOR_TWO, scratch.path()).await.unwrap();
        check_all(&engine, Scale::One).await;
        assert_joins_spill(&engine).await;
        engine.0.close().await;
    });
    let left = files_below(scratch.path()).unwrap();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn tpch_one_cluster_with_little_memory() {
    let cluster = cluster(ClusterOptions { memory: LEAST, ..ClusterOptions::default() });
    runtime().block_on(async {
        let engine = Engine::connect(cluster.address()).await.unwrap();
        check_all(&engine, Scale::One).await;
        assert_joins_spill(&engine).await;
        engine.0.close().await;
    });
    cluster.stop().unwrap();
}
