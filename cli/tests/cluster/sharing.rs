//! Many jobs on one cluster.

use std::time::Duration;

use firesteel_bench::queries::{tpch, tpch_script, tpch_tables_sql};
use firesteel_driver::Phase;
use firesteel_testing::cluster::{ClusterOptions, ProcessCluster, Running};
use firesteel_testing::data;
use firesteel_testing::oracle::Answer;
use firesteel_testing::oracle::tpch::{Scale, check};
use futures::StreamExt;

use crate::engines::{Engine, cluster, runtime};
use crate::tpch::register;

/// Longer than any of these tests lets it run.
pub const ENDLESS: &str = "SELECT sum(a.l_orderkey * b.l_partkey) FROM lineitem a CROSS JOIN lineitem b";

#[test]
fn ten_concurrent_jobs_all_end_right() {
    let mut cluster = cluster(ClusterOptions::default());
    let names = ["q01", "q03", "q04", "q05", "q07", "q10", "q12", "q13", "q18", "q21"];
    runtime().block_on(async {
        futures::future::join_all(names.map(|name| answers_right(cluster.address(), name))).await;
    });
    cluster.wait_for("all slots and blocks to be free", |cluster| cluster.is_idle()).unwrap();
    cluster.stop().unwrap();
}

async fn answers_right(manager: &str, name: &str) {
    let engine = Engine::connect(manager).await.unwrap();
    register(&engine, Scale::Tenth).await;
    let (_, batches) = engine.rows(tpch(name).unwrap().sql).await.unwrap();
    check(Scale::Tenth, name, &Answer::from_batches(&batches).unwrap()).unwrap();
    engine.0.close().await;
}

#[test]
fn jobs_of_ten_commands_all_end_right() {
    let mut cluster = cluster(ClusterOptions::default());
    let data = data::tpch(Scale::Tenth).unwrap();
    let names = ["q02", "q06", "q08", "q09", "q11", "q14", "q15", "q17", "q19", "q22"];
    let started = names.map(|name| {
        let script = tpch_script(&data, &tpch(name).unwrap());
        let arguments = ["sql", "--name", name, "--format", "csv", "-q", "-c", &script];
        (name, Running::start(cluster.client(&arguments)).unwrap())
    });
    for (name, command) in started {
        let printed = command.finish().unwrap().succeeded().unwrap();
        check(Scale::Tenth, name, &Answer::from_csv(&printed).unwrap()).unwrap();
    }
    cluster.wait_for("all slots and blocks to be free", |cluster| cluster.is_idle()).unwrap();
    cluster.stop().unwrap();
}

#[test]
fn a_cancelled_job_frees_its_slots_and_blocks_and_leaves_the_others_alone() {
    let mut cluster = cluster(ClusterOptions::default());
    let data = data::tpch(Scale::Tenth).unwrap();
    let script: String = tpch_tables_sql(&data).join(";\n") + ";\n" + ENDLESS;
    let endless = Running::start(cluster.client(&["sql", "--name", "endless", "-c", &script])).unwrap();
    let mut job = None;
    // Between two of its stages it may hold no slot: the job that was seen is the one to remember.
    let seen = |cluster: &ProcessCluster| {
        job = running(cluster, "endless")?;
        Ok(job.is_some())
    };
    cluster.wait_for("the endless job to run", seen).unwrap();
    let job = job.unwrap();
    cluster.run(&["jobs", "cancel", &job]).unwrap().succeeded().unwrap();

    // Exit code 4: cancelled by somebody else.
    let told = endless.finish().unwrap().failed_with(4).unwrap();
    assert!(told.contains("cancelled"), "{told}");
    cluster.wait_for("all slots and blocks to be free", |cluster| cluster.is_idle()).unwrap();
    let shown = cluster.run(&["jobs", "--json", "show", &job]).unwrap().succeeded().unwrap();
    assert!(shown.contains("cancelled"), "{shown}");
    assert_eq!(cluster.sql("SELECT 1 AS one").unwrap(), "one\n1\n");
    cluster.stop().unwrap();
}

/// The job of that name, once it has slots.
fn running(cluster: &ProcessCluster, name: &str) -> anyhow::Result<Option<String>> {
    let text = cluster.run(&["jobs", "--json"])?.succeeded()?;
    let answer: serde_json::Value = serde_json::from_str(&text)?;
    let found = answer
        .as_array()
        .into_iter()
        .flatten()
        .find(|job| job["name"] == name && job["slots_held"].as_u64() > Some(0));
    Ok(found.and_then(|job| Some(job["job"].as_str()?.to_owned())))
}

#[test]
fn a_dropped_result_stream_cancels_its_job() {
    let mut cluster = cluster(ClusterOptions::default());
    runtime().block_on(async {
        let engine = Engine::connect(cluster.address()).await.unwrap();
        register(&engine, Scale::Tenth).await;
        let frame = engine.0.sql(ENDLESS).await.unwrap();
        let mut rows = frame.execute_stream().await.unwrap();
        let mut progress = engine.0.progress();
        let asked = tokio::spawn(async move { rows.next().await.map(drop) });
        let ran =
            progress.wait_for(|now| now.phase == Phase::Running && now.stages.iter().any(|s| s.running > 0));
        tokio::time::timeout(Duration::from_secs(60), ran).await.unwrap().unwrap();
        asked.abort();
        assert!(asked.await.unwrap_err().is_cancelled());
        let (_, batches) = engine.rows("SELECT count(*) FROM region").await.unwrap();
        assert_eq!(batches[0].num_rows(), 1);
        engine.0.close().await;
    });
    cluster.wait_for("all slots and blocks to be free", |cluster| cluster.is_idle()).unwrap();
    cluster.stop().unwrap();
}
