//! The 99 queries of TPC-DS give the right answers, in local mode and on a cluster.

use std::time::Instant;

use firesteel_base::ByteSize;
use firesteel_bench::Benchmark;
use firesteel_bench::queries::{Query, TPCDS, tables_sql};
use firesteel_bench::verify::{Answer, Expected, Rules, compare};
use firesteel_engine::datafusion::arrow::array::AsArray;
use firesteel_testing::cluster::{ClusterOptions, files_below};
use firesteel_testing::data;

use crate::engines::{Engine, cluster, runtime};

/// What the largest groupings and sorts do not fit in.
const LITTLE: ByteSize = ByteSize(96 << 20);
const LITTLE_FOR_TWO: ByteSize = ByteSize(256 << 20);

async fn register(engine: &Engine) {
    for statement in tables_sql(Benchmark::Tpcds, &data::tpcds().unwrap()) {
        engine.rows(&statement).await.unwrap();
    }
}

async fn check(engine: &Engine, query: &Query) -> Result<(), String> {
    let (_, batches) = engine.rows(query.sql).await.map_err(|error| error.to_string())?;
    let answer = Answer::from_batches(&batches).map_err(|error| error.to_string())?;
    let expected = Expected::stored(Benchmark::Tpcds, 1.0, query.name).unwrap();
    compare(&expected, &answer, &Rules::of(query.sql)).map_err(|mismatch| mismatch.to_string())
}

/// Asks `engine` the queries and tells all that are answered wrongly; how many bytes they spilled.
async fn check_all<'a>(engine: &Engine, queries: impl Iterator<Item = &'a Query>) -> u64 {
    register(engine).await;
    let (mut asked, mut spilled, mut wrong) = (0, 0, Vec::new());
    for query in queries {
        let start = Instant::now();
        let checked = check(engine, query).await;
        println!(
            "{} {:.2} s {}",
            query.name,
            start.elapsed().as_secs_f64(),
            if checked.is_ok() { "right" } else { "WRONG" }
        );
        wrong.extend(checked.err().map(|why| format!("{}: {why}", query.name)));
        asked += 1;
        spilled += engine.spilled().await;
    }
    assert!(wrong.is_empty(), "{} of {asked} queries are wrong:\n{}", wrong.len(), wrong.join("\n"));
    spilled
}

#[test]
fn one_local_2_cores() {
    runtime().block_on(async {
        let engine = Engine::local(2).await.unwrap();
        check_all(&engine, TPCDS.iter()).await;
        engine.0.close().await;
    });
}

#[test]
fn one_cluster() {
    let cluster = cluster(ClusterOptions::default());
    runtime().block_on(async {
        let engine = Engine::connect(cluster.address()).await.unwrap();
        check_all(&engine, TPCDS.iter()).await;
        engine.0.close().await;
    });
    cluster.stop().unwrap();
}

/// The largest build sides and little else fit in.
#[test]
fn one_local_spills() {
    let scratch = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let engine = Engine::local_within(2, LITTLE_FOR_TWO, scratch.path()).await.unwrap();
        let spilled = check_all(&engine, TPCDS.iter()).await;
        assert!(spilled > 0, "nothing spilled");
        engine.0.close().await;
    });
    let left = files_below(scratch.path()).unwrap();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn one_cluster_spills() {
    let cluster = cluster(ClusterOptions { memory: LITTLE, ..ClusterOptions::default() });
    runtime().block_on(async {
        let engine = Engine::connect(cluster.address()).await.unwrap();
        let spilled = check_all(&engine, TPCDS.iter()).await;
        assert!(spilled > 0, "nothing spilled");
        engine.0.close().await;
    });
    cluster.stop().unwrap();
}

/// The stages of a query, without what makes them long: where the data lies and what the scans skip.
async fn stage_graph(engine: &Engine, query: &Query, data: &str) -> String {
    let (_, batches) = engine.rows(&format!("EXPLAIN {}", query.sql)).await.unwrap();
    let mut graph = String::new();
    for batch in &batches {
        let (kinds, plans) = (batch.column(0).as_string::<i32>(), batch.column(1).as_string::<i32>());
        for (kind, plan) in kinds.iter().zip(plans) {
            if kind == Some("stage_graph") {
                graph = plan.unwrap().replace(data.trim_start_matches('/'), "$data");
            }
        }
    }
    let short = |line: &str| line.split(", pruning_predicate=").next().unwrap().trim_end().to_owned() + "\n";
    graph.lines().map(short).collect()
}

/// A change of planning shows as a diff.
#[test]
fn stage_graphs_are_frozen() {
    let cluster = cluster(ClusterOptions::default());
    let data = data::tpcds().unwrap();
    runtime().block_on(async {
        let engine = Engine::connect(cluster.address()).await.unwrap();
        register(&engine).await;
        for query in &TPCDS {
            let graph = stage_graph(&engine, query, data.to_str().unwrap()).await;
            insta::with_settings!({ snapshot_path => "tpcds", prepend_module_to_snapshot => false }, {
                insta::assert_snapshot!(query.name, graph);
            });
        }
        engine.0.close().await;
    });
    cluster.stop().unwrap();
}
