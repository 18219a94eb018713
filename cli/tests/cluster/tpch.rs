//! The 22 queries of TPC-H give the right answers, wherever they run.

use firesteel_base::ByteSize;
use firesteel_bench::queries::{TPCH, tpch, tpch_script, tpch_tables_sql};
use firesteel_engine::datafusion::arrow::util::pretty::pretty_format_batches;
use firesteel_testing::cluster::ClusterOptions;
use firesteel_testing::data;
use firesteel_testing::oracle::Answer;
use firesteel_testing::oracle::tpch::{Scale, check};

use crate::engines::{Engine, cluster, runtime};

/// Makes the tables of `scale` known to `engine`.
pub async fn register(engine: &Engine, scale: Scale) {
    for statement in tpch_tables_sql(&data::tpch(scale).unwrap()) {
        engine.rows(&statement).await.unwrap();
    }
}

/// Asks `engine` all 22 queries and tells all that are answered wrongly.
pub async fn check_all(engine: &Engine, scale: Scale) {
    register(engine, scale).await;
    check_answers(engine, scale).await;
}

/// The same over tables that are known already.
pub async fn check_answers(engine: &Engine, scale: Scale) {
    let mut wrong = Vec::new();
    for query in TPCH {
        match engine.rows(query.sql).await {
            Ok((_, batches)) => {
                let answer = Answer::from_batches(&batches).unwrap();
                wrong.extend(check(scale, query.name, &answer).err().map(|mismatch| mismatch.to_string()));
            }
            Err(error) => wrong.push(format!("{}: {error}", query.name)),
        }
    }
    assert!(wrong.is_empty(), "{} of {} queries are wrong:\n{}", wrong.len(), TPCH.len(), wrong.join("\n"));
}

fn local(cores: u32, scale: Scale) {
    runtime().block_on(async {
        let engine = Engine::local(cores).await.unwrap();
        check_all(&engine, scale).await;
        engine.0.close().await;
    });
}

#[test]
fn tenth_local_1_core() {
    local(1, Scale::Tenth);
}

#[test]
fn tenth_local_2_cores() {
    local(2, Scale::Tenth);
}

#[test]
fn tenth_local_8_cores() {
    local(8, Scale::Tenth);
}

#[test]
fn one_local_1_core() {
    local(1, Scale::One);
}

#[test]
fn one_local_2_cores() {
    local(2, Scale::One);
}

#[test]
fn one_local_8_cores() {
    local(8, Scale::One);
}

fn on_cluster(options: ClusterOptions, scale: Scale) {
    let mut cluster = cluster(options);
    runtime().block_on(async {
        let engine = Engine::connect(cluster.address()).await.unwrap();
        check_all(&engine, scale).await;
        engine.0.close().await;
    });
    cluster.wait_for("all slots and blocks to be free", |cluster| cluster.is_idle()).unwrap();
    cluster.stop().unwrap();
}

#[test]
fn tenth_cluster_of_two_one_core_executors() {
    on_cluster(ClusterOptions::default(), Scale::Tenth);
}

#[test]
fn one_cluster_of_two_one_core_executors() {
    on_cluster(ClusterOptions::default(), Scale::One);
}

/// Every way of a block that is not the fastest: packed over TCP, and packed in files that system calls write.
#[test]
fn one_cluster_that_packs_everything_on_ways_that_are_forced() {
    let options = ClusterOptions { memory: ByteSize(256 << 20), ..ClusterOptions::default() }
        .set("executor.block_memory_fraction", "0.05")
        .set("executor.transport", "tcp")
        .set("executor.link_compression", "zstd")
        .set("executor.scratch_compression", "lz4")
        .set("executor.scratch_engine", "blocking")
        .set("executor.scratch_direct", "false");
    on_cluster(options, Scale::One);
}

/// Stages that begin while their inputs are still written, wherever that is possible.
pub const EARLY: [&str; 2] =
    ["SET firesteel.pipeline_above = '1B'", "SET firesteel.merge_partitions_below = '0B'"];

#[test]
fn tenth_cluster_of_three_one_core_executors_that_begin_early() {
    let mut cluster = cluster(ClusterOptions { workers: 3, ..ClusterOptions::default() });
    runtime().block_on(async {
        let engine = Engine::connect(cluster.address()).await.unwrap();
        for setting in EARLY {
            engine.rows(setting).await.unwrap();
        }
        check_all(&engine, Scale::Tenth).await;
        let mut early = 0;
        for query in TPCH {
            let (_, plan) = engine.rows(&format!("EXPLAIN ANALYZE {}", query.sql)).await.unwrap();
            let text = pretty_format_batches(&plan).unwrap().to_string();
            early += text.matches("pipelined: began when").count();
        }
        assert!(early > 5, "{early} stages began early");
        engine.0.close().await;
    });
    cluster.wait_for("all slots and blocks to be free", |cluster| cluster.is_idle()).unwrap();
    cluster.stop().unwrap();
}

/// Lanes and stages at once: tasks of two lanes that read the blocks of each other's lanes.
#[test]
fn tenth_cluster_of_two_two_core_executors() {
    on_cluster(ClusterOptions { cores_per_executor: 2, ..ClusterOptions::default() }, Scale::Tenth);
}

/// The command line prints what the library answers.
#[test]
fn the_sql_command_prints_right_answers() {
    let cluster = cluster(ClusterOptions::default());
    let data = data::tpch(Scale::Tenth).unwrap();
    for name in ["q01", "q03", "q16", "q18"] {
        let query = tpch(name).unwrap();
        let printed = cluster.sql(&tpch_script(&data, &query)).unwrap();
        check(Scale::Tenth, name, &Answer::from_csv(&printed).unwrap()).unwrap();
    }
    cluster.stop().unwrap();
}
